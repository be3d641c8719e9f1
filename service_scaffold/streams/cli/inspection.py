"""`agents`, `tables`, `topology`: what is declared. Neither a worker nor a broker is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from service_scaffold.streams import description
from service_scaffold.streams.cli.flags import json_option
from service_scaffold.streams.cli.group import as_json, prepared, show
from service_scaffold.streams.cli.program import Program


def agents(program: Program) -> click.Command:
    """Return the command that lists agents."""

    @click.command()
    def agents() -> None:
        """List the agents."""
        topology = program.topology
        asyncio.run(topology.discover())
        found = [
            {
                'name': agent.name,
                'topic': str(agent.topic),
                'reads': [str(topic) for topic in agent.plan.inputs],
                'sinks': [description.sink_name(sink) for sink in agent.sinks],
                **description.agent_details(agent),
            }
            for agent in topology.agents.values()
        ]
        show(found, columns(('name', 'topic', 'concurrency', 'sinks', 'help'), found))

    return _listing(program, agents)


def tables(program: Program) -> click.Command:
    """Return the command that lists tables."""

    @click.command()
    def tables() -> None:
        """List the tables."""
        found = [
            {'name': table.name, **description.table_details(table)}
            for table in program.topology.tables.values()
            if not description.is_own(table)
        ]
        show(found, columns(('name', 'partitions', 'changelog', 'window', 'help'), found))

    return _listing(program, tables)


def topology(program: Program) -> click.Command:
    """Return the command that prints the graph."""

    @click.command()
    @click.option(
        '--format',
        'kind',
        type=click.Choice(['text', 'json', 'mermaid']),
        default='text',
        show_default=True,
        help='Lines for people, JSON, or a Mermaid flowchart.',
    )
    def topology(kind: str) -> None:
        """Show how topics, agents and tables are connected."""
        found = asyncio.run(description.describe(program.topology))
        if kind == 'json' or as_json():
            click.echo(json.dumps(found.to_dict(), indent=2))
        elif kind == 'mermaid':
            click.echo(description.mermaid(found), nl=False)
        else:
            click.echo(description.text(found), nl=False)

    return _listing(program, topology)


def _listing(program: Program, command: click.Command) -> click.Command:
    command.params.append(json_option())
    return prepared(program, command)


def columns(names: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield lines of equal columns; a column that is empty in every row is left out."""
    cells = [[_cell(row[name]) for name in names] for row in rows]
    used = [i for i, _ in enumerate(names) if any(row[i] for row in cells)] or [0]
    table = [[names[i].upper() for i in used], *([row[i] for i in used] for row in cells)]
    widths = [max(len(row[i]) for row in table) for i, _ in enumerate(used)]
    for row in table:
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield '  '.join(line).rstrip()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ', '.join(map(str, value))
    return '' if value is None else str(value)
