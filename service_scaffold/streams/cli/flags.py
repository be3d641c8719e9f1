"""Flags of a worker that every command takes, and `--json`."""

from __future__ import annotations

import argparse
from typing import Any

import click

from service_scaffold.streams.cli.program import Program

_GIVEN = 'flags'
_HELP = {'-h', '--help'}


def flags_of(program: Program, command: click.Command) -> list[click.Parameter]:
    """Return the application's flags, as hidden options that a command does not have itself."""
    taken = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | _HELP
    return [_flag(action, flag) for flag, action in program.flags.items() if flag not in taken]


def collected() -> list[str]:
    """Return those that were given, as they were, for the application's own parser."""
    return list(click.get_current_context().meta.get(_GIVEN, ()))


def _flag(action: argparse.Action, flag: str) -> click.Option:
    name = f'flag_{flag.lstrip("-").replace("-", "_")}_{len(flag)}'
    if action.nargs == 0:
        return click.Option(
            [flag, name], is_flag=True, hidden=True, expose_value=False, callback=_collect_switch
        )
    return click.Option(
        [flag, name],
        multiple=True,
        type=click.UNPROCESSED,
        hidden=True,
        expose_value=False,
        callback=_collect_values,
    )


def _collect_switch(ctx: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        ctx.meta.setdefault(_GIVEN, []).append(option.opts[0])


def _collect_values(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> None:
    flag = option.opts[0]
    for value in given:
        # Joined, so that a value which begins like a flag is none.
        joined = [f'{flag}={value}'] if flag.startswith('--') else [flag, value]
        ctx.meta.setdefault(_GIVEN, []).extend(joined)


def json_option() -> click.Option:
    """Return `--json`, which counts before a command and after it."""

    def note(ctx: click.Context, _: click.Parameter, given: bool) -> Any:
        if given:
            ctx.meta['json'] = True

    return click.Option(
        ['--json', 'as_json'],
        is_flag=True,
        expose_value=False,
        callback=note,
        help='Print JSON, for machines.',
    )
