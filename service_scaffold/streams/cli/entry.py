"""From arguments to a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from service_scaffold import errors, options
from service_scaffold.streams.cli.group import Commands, declared
from service_scaffold.streams.cli.inspection import agents, tables, topology
from service_scaffold.streams.cli.program import Program
from service_scaffold.streams.cli.resetting import reset
from service_scaffold.streams.cli.sending import send
from service_scaffold.streams.cli.working import worker


def main(app: Any, argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and end the process.

    The status is 0 when it has done its work, 1 after a failure, 2 for a usage error.

    Args:
        app: A `StreamApp`, a service with streams, or a `Topology`; see `Program`.
        argv: Arguments without the program's name; None means those of the process.

    Raises:
        SystemExit: Always.
    """
    try:
        group = commands(app)
    except errors.ScaffoldError as error:
        failure = click.ClickException(options.mask_text(str(error)))
        failure.show()
        sys.exit(failure.exit_code)
    group.main(sys.argv[1:] if argv is None else list(argv))
    raise AssertionError('click exits')


def commands(app: Any) -> Commands:
    """Return all commands of an application; its own win over ours of the same name.

    Args:
        app: As for `main`.
    """
    program = Program(app)
    program.discover()
    group = Commands(program)
    for make in (worker, agents, tables, topology, send, reset):
        group.add_command(make(program))
    for command in program.topology.commands.values():
        group.add_command(declared(program, command))
    return group
