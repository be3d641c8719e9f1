"""`reset`: begin anew."""

from __future__ import annotations

import asyncio
import sys

import click

from service_scaffold.streams import reset as resets
from service_scaffold.streams.cli.flags import json_option
from service_scaffold.streams.cli.group import as_json, prepared, show
from service_scaffold.streams.cli.program import Program
from service_scaffold.streams.client import connected


def reset(program: Program) -> click.Command:
    """Return the command that deletes what is the application's own."""

    @click.command()
    @click.option('--dry-run', is_flag=True, help='Only show what would be deleted.')
    @click.option('--yes', '-y', is_flag=True, help='Do not ask.')
    def reset(dry_run: bool, yes: bool) -> None:
        """Delete changelogs, internal topics, commits and local stores.

        The next worker reads all topics from where a new application would. Topics of your own
        are left as they are. All workers have to be stopped before.
        """
        found = asyncio.run(_look(program))
        _show(found)
        if dry_run or found.empty:
            return
        resets.refuse(found)
        if not yes and not _confirmed(found.group):
            raise click.Abort
        asyncio.run(_reset(program, found))
        if not as_json():
            click.echo(f'{found.group} begins anew')

    reset.params.append(json_option())
    return prepared(program, reset)


def _show(found: resets.Reset) -> None:
    lines = list(found.lines()) or [f'There is nothing to be deleted of {found.group}']
    lines += [f'left       {name}: declared nowhere in {found.group}' for name in found.former]
    lines += [f'at work    {who}' for who in found.at_work()]
    show(found.to_dict(), lines)


def _confirmed(group: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError('There is nobody to ask; give --yes, or --dry-run')
    return click.confirm(f'Delete all this of {group}?', err=True)


async def _look(program: Program) -> resets.Reset:
    journal = await connected(program.open_journal)
    try:
        return await resets.look(program.topology, journal)
    finally:
        await journal.close()


async def _reset(program: Program, found: resets.Reset) -> None:
    journal = await connected(program.open_journal)
    try:
        await resets.reset(program.topology, journal, found)
    finally:
        await journal.close()
