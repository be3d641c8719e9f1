"""An application as its command line sees it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from service_scaffold import errors, options
from service_scaffold.journal.base import Journal
from service_scaffold.streams.feature import connection_of, get_streams, journal_of
from service_scaffold.streams.topology import Topology

SPELLINGS = {
    '--no-web': '--no-web-enabled',
    '--without-web': '--no-web-enabled',
    '--with-web': '--web-enabled',
    '--web-port': '--port',
    '--web-bind': '--host',
    '--loglevel': '--log-level',
    '-l': '--log-level',
    '--logfile': '--output',
    '-f': '--output',
}
"""Other names of flags, as keywords and users of Faust have them."""


class Program:
    """Reads flags, opens the log, and runs an application.

    Args:
        app: A `StreamApp`; a service that `streams.setup(app)` was called for; or a `Topology`,
            which can be described and no more. Only the first has flags, and can be run: it has
            `parser`, `read_arguments(args)`, `run(args)` and `discover_modules()`.

    Raises:
        UnknownFeature: It has no streams.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._application: web.Application | None = (
            app if isinstance(app, web.Application) else getattr(app, 'application', None)
        )
        self._declared = app if isinstance(app, Topology) else None

    @property
    def topology(self) -> Topology:
        """What is declared.

        Raises:
            UnknownFeature: It has no streams.
        """
        if self._declared is not None:
            return self._declared
        if self._application is None:
            raise errors.UnknownFeature(f'{self._app!r} is no application with streams')
        return get_streams(self._application)

    @property
    def parser(self) -> options.OptionParser | None:
        """What knows its options, None where there are no flags."""
        found: options.OptionParser | None = getattr(self._app, 'parser', None)
        return found

    @property
    def flags(self) -> dict[str, argparse.Action]:
        """Each flag that its parser knows, in all spellings."""
        actions = () if self.parser is None else self.parser._actions
        known = {flag: action for action in actions for flag in action.option_strings}
        other = {flag: known[usual] for flag, usual in SPELLINGS.items() if usual in known}
        return other | known

    def discover(self) -> None:
        """Import the modules that declare more of it, where it names some.

        Raises:
            ConfigError: One cannot be imported.
        """
        discover = getattr(self._app, 'discover_modules', None)
        if discover is not None:
            discover()

    def read_arguments(self, args: Sequence[str], command: str) -> None:
        """Read flags; a usage error ends the process with status 2.

        Args:
            command: What was typed before them, for help and errors.
        """
        parser = self.parser
        if parser is None:
            return
        parser.prog = command
        parser.usage = f'{command} [OPTIONS]'  # all of them would be seventy lines
        try:
            self._app.read_arguments(self._usual(args))
        except errors.ConfigError as error:
            parser.error(str(error))
        self.discover()

    def open_journal(self) -> Journal:
        """Return a connection to the log, not yet connected.

        Raises:
            ConfigError: There is no log behind the URL, or no application to have one.
        """
        if self._application is None:
            raise errors.ConfigError(f'{self.topology.id} has no broker: it is a Topology alone')
        return journal_of(self._application)

    @property
    def in_memory(self) -> bool:
        """Whether the log is inside of each process."""
        return self._application is not None and (
            connection_of(self._application).address.scheme == 'memory'
        )

    def run(self, args: Sequence[str], command: str) -> None:
        """Read flags, and run a worker until it is told to stop.

        Args:
            command: What was typed before the flags.

        Raises:
            ConfigError: It is no `StreamApp`.
            SystemExit: With status 1 after a failure, 2 after a usage error.
        """
        if self.parser is None:
            raise errors.ConfigError(
                f'{self.topology.id} cannot be run from here: run its own program, or make it a'
                ' StreamApp'
            )
        self.read_arguments(args, command)
        self._app.run(self._usual(args))

    def _usual(self, args: Sequence[str]) -> list[str]:
        """Return arguments with each flag as the parser knows it."""
        known = set() if self.parser is None else set(self.parser._option_string_actions)
        found = []
        for arg in args:
            flag, equals, value = arg.partition('=')
            usual = SPELLINGS.get(flag, flag) if flag not in known else flag
            found.append(f'{usual}{equals}{value}')
        return found
