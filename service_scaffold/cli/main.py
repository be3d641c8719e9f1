"""The program `service-scaffold` and its commands."""

from __future__ import annotations

import click

from service_scaffold import __version__
from service_scaffold.cli.assets import assets


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='service-scaffold')
def main() -> None:
    """Look at a running system, and act on it."""


main.add_command(assets)
