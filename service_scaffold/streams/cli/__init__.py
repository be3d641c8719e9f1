"""The command line of an application: ours, and the commands that it declares."""

from __future__ import annotations

from service_scaffold.streams.cli.entry import commands, main

__all__ = ['commands', 'main']
