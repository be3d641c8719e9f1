"""The group of all commands, and what each command of click gets from us."""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import click

from service_scaffold import errors, options
from service_scaffold.streams.cli.flags import collected, flags_of, json_option
from service_scaffold.streams.cli.program import Program
from service_scaffold.streams.client import Client
from service_scaffold.streams.commands import Command


class Commands(click.Group):
    """The command line of one application.

    Args:
        program: The application.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(
            help=f'Commands of {program.topology.id}. Each takes the options of a worker, too;'
            ' `worker --help` shows them.',
            context_settings={'help_option_names': ['-h', '--help']},
        )
        self.params.append(json_option())
        self.params += flags_of(program, self)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is told the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith('-'):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'see {ctx.command_path} --help'
            raise click.UsageError(f'There is no command {name!r}; {hint}', ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what fails in the world outside is told in one line."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has gone, which click knows
        except (errors.ScaffoldError, OSError) as error:  # a TimeoutError is an OSError
            text = str(error) or type(error).__name__
            raise click.ClickException(options.mask_text(text)) from error


def prepared(program: Program, command: click.Command) -> click.Command:
    """Return a command that takes the flags of a worker, too, and reads them before it runs."""
    command.params += flags_of(program, command)
    callback = command.callback
    assert callback is not None

    @functools.wraps(callback)
    def run(*args: Any, **keywords: Any) -> Any:
        program.read_arguments(collected(), click.get_current_context().command_path)
        return callback(*args, **keywords)

    command.callback = run
    return command


def declared(program: Program, command: Command) -> click.Command:
    """Return the command of click for one that an application has declared."""

    @functools.wraps(command.function)
    def run(*args: Any, **keywords: Any) -> None:
        answer = command.function(*args, **keywords)
        if inspect.isawaitable(answer):
            asyncio.run(_inside(program, answer))

    function: Any = run
    for option in reversed(command.options):
        function = option(function)
    make: Callable[[Any], click.Command] = click.command(
        command.name,
        cls=command.base or click.Command,
        help=command.help or None,
        **command.settings,
    )
    return prepared(program, make(function))


async def _inside(program: Program, answer: Any) -> None:
    """Await what a command does, where topics can be sent to and agents be asked."""
    async with Client(program.topology, program.open_journal):
        await answer


def show(value: Any, lines: Any) -> None:
    """Print a value as JSON if that is asked for, else lines for people."""
    if as_json():
        click.echo(json.dumps(value, indent=2, default=str))
        return
    for line in lines:
        click.echo(line)


def as_json() -> bool:
    """Return whether `--json` was given, before the command or after it."""
    return bool(click.get_current_context().meta.get('json'))
