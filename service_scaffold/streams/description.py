"""What an application is made of, as a graph: for people, programs, and diagrams."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service_scaffold.streams.agent import Agent
from service_scaffold.streams.layout import used_by
from service_scaffold.streams.leader import lead
from service_scaffold.streams.plan import Hop, Plan
from service_scaffold.streams.tables.buffer import JoinBuffer
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.tables.table_join import TableJoin
from service_scaffold.streams.topic import Topic
from service_scaffold.streams.topology import Topology


@dataclass(frozen=True)
class Node:
    """One part of an application.

    Attributes:
        kind: `topic`, `channel`, `agent`, `mover`, `join`, `table` or `sink`.
        name: What it is called; unique among its kind.
        details: What else is known about it.
    """

    kind: str
    name: str
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def id(self) -> str:
        """Unique in the application: `agent:count`."""
        return f'{self.kind}:{self.name}'


@dataclass(frozen=True)
class Edge:
    """What two parts have to do with each other.

    Attributes:
        source, target: Ids of nodes, in the direction in which values go.
        kind: `reads`, `sends`, `moves`, `uses` (an agent and a table), `joins`, or `names`: the
            function names the topic, and so may send to it.
    """

    source: str
    target: str
    kind: str


class Description:
    """The graph of an application.

    Attributes:
        id: The application's.
        guarantee: What it guarantees.
        nodes: By their ids.
        edges: In the order in which they were found.
    """

    def __init__(self, id: str, guarantee: str) -> None:
        self.id = id
        self.guarantee = guarantee
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []

    def node(self, kind: str, name: str, **details: Any) -> str:
        """Add a part unless it is known, and return its id."""
        made = Node(kind, name, details)
        return self.nodes.setdefault(made.id, made).id

    def edge(self, source: str, target: str, kind: str) -> None:
        """Add an edge unless it is known."""
        made = Edge(source, target, kind)
        if made not in self.edges:
            self.edges.append(made)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, fit for JSON."""
        return {
            'id': self.id,
            'guarantee': self.guarantee,
            'nodes': [
                {'id': node.id, 'kind': node.kind, 'name': node.name, **node.details}
                for node in self.nodes.values()
            ],
            'edges': [
                {'source': edge.source, 'target': edge.target, 'kind': edge.kind}
                for edge in self.edges
            ],
        }


async def describe(topology: Topology) -> Description:
    """Return the graph of an application that need not run; no broker is asked.

    Bodies that name `group_by`, `through` or a join are run up to their first event.

    Raises:
        StreamError: One of them does not get there.
    """
    if topology.runtime is None:
        await topology.discover()
    found = Description(topology.id, topology.settings.guarantee)
    for topic in topology.topics.values():
        _source(found, topic)
    for table in topology.tables.values():
        if not is_own(table):
            _table(found, table)
    for agent in topology.agents.values():
        _agent(found, agent)
        for hop in agent.plan.all_hops:
            _hop(found, hop)
    for mover in topology.movers:
        if mover.body is lead:
            _leader(found, mover)
    for table in topology.tables.values():
        for join in table.joins:
            _table_join(found, table, join)
    return found


def _source(found: Description, source: Any) -> str:
    if not isinstance(source, Topic):
        return found.node('channel', str(source))
    details: dict[str, Any] = {
        'internal': source.internal,
        'partitions': source.options.partitions,
        'key_type': _type_name(source.key_type),
        'value_type': _type_name(source.value_type),
    }
    return found.node('topic', source.name, **details)


def _table(found: Description, table: Table) -> str:
    return found.node('table', table.name, **table_details(table))


def is_own(table: Table) -> bool:
    """Tell whether a table is part of a join, and nobody has declared it."""
    return isinstance(table, JoinBuffer)


def table_details(table: Table) -> dict[str, Any]:
    """Return what is known about a table before anything runs."""
    window = getattr(table, 'window', None)
    return {
        'partitions': table.partitions,
        'changelog': table.changelog,
        'window': None if window is None else repr(window),
        'help': first_line(table.help),
    }


def agent_details(agent: Agent) -> dict[str, Any]:
    """Return what is known about an agent before anything runs."""
    return {'concurrency': agent.concurrency, 'help': first_line(agent.help)}


def first_line(text: str) -> str:
    """Return the first line of a docstring."""
    return text.strip().partition('\n')[0]


def _agent(found: Description, agent: Agent) -> None:
    node = found.node('agent', agent.name, **agent_details(agent))
    for source in _inputs(agent.plan):
        found.edge(_source(found, source), node, 'reads')
    for table in used_by(agent):
        found.edge(node, _table(found, table), 'uses')
    for sink in agent.sinks:
        found.edge(node, _sink(found, agent, sink), 'sends')
    sent = {edge.target for edge in found.edges if edge.source == node}
    read = {source.name for source in agent.plan.topics}
    for topic in _named_topics(agent):
        target = _source(found, topic)
        if target not in sent and topic.name not in read:
            found.edge(node, target, 'names')


def _sink(found: Description, agent: Agent, sink: Any) -> str:
    if isinstance(sink, Agent):
        return _source(found, sink.topic)
    if isinstance(sink, Topic):
        return _source(found, sink)
    return found.node('sink', f'{agent.name}/{sink_name(sink)}')


def sink_name(sink: Any) -> str:
    """Return what a sink is called: a topic, an agent, or a function."""
    if isinstance(sink, Agent | Topic):
        return sink.name
    return str(getattr(sink, '__qualname__', type(sink).__name__))


def _named_topics(agent: Agent) -> Iterator[Any]:
    """Yield the topics that a body names, and those of the agents that it names."""
    try:
        names = inspect.getclosurevars(inspect.unwrap(agent.body))
    except TypeError:
        return
    for value in (*names.nonlocals.values(), *names.globals.values()):
        if isinstance(value, Agent):
            yield value.topic
        elif isinstance(value, Topic):
            yield value


def _inputs(plan: Plan) -> list[Any]:
    """Return the topics that are read, one by one."""
    return [one for source in plan.inputs for one in source.members or (source,)]


def _hop(found: Description, hop: Hop) -> None:
    changelog = None if hop.table is None else hop.table.changelog
    kind = 'join' if hop.joins else 'mover'
    details = {} if changelog is None else {'changelog': changelog}
    node = found.node(kind, hop.mover, **details)
    for source in _inputs(hop.plan):
        found.edge(_source(found, source), node, 'joins' if hop.joins else 'reads')
    for table in hop.plan.tables:
        if not is_own(table):
            found.edge(node, _table(found, table), 'uses')
    found.edge(node, _source(found, hop.target), 'moves')


def _leader(found: Description, mover: Agent) -> None:
    node = found.node('mover', mover.name)
    for source in mover.plan.inputs:
        found.edge(_source(found, source), node, 'reads')


def _table_join(found: Description, table: Table, join: TableJoin) -> None:
    node = found.node('join', join.topic.name.removesuffix('-pairs'))
    found.edge(_table(found, table), node, 'joins')
    found.edge(node, _source(found, join.topic), 'moves')


def _type_name(kind: Any) -> str | None:
    return None if kind is None else getattr(kind, '__qualname__', str(kind))


# As text

SHAPES = {
    'topic': ('([', '])'),
    'channel': ('(', ')'),
    'agent': ('[', ']'),
    'mover': ('[/', '/]'),
    'join': ('{{', '}}'),
    'table': ('[(', ')]'),
    'sink': ('>', ']'),
}


def mermaid(found: Description) -> str:
    """Return the graph as a Mermaid flowchart."""
    lines = ['flowchart LR']
    names = {id: f'n{number}' for number, id in enumerate(found.nodes)}
    for id, node in found.nodes.items():
        begin, end = SHAPES[node.kind]
        label = node.name.replace('&', '#amp;').replace('"', '#quot;')
        style = ':::internal' if node.details.get('internal') else ''
        lines.append(f'    {names[id]}{begin}"{label}"{end}{style}')
    for edge in found.edges:
        arrow = {'uses': '<-->', 'names': '-.->'}.get(edge.kind, '-->')
        lines.append(f'    {names[edge.source]} {arrow} {names[edge.target]}')
    lines.append('    classDef internal stroke-dasharray: 4 3')
    return '\n'.join(lines) + '\n'


def text(found: Description) -> str:
    """Return the graph as lines for people: each part with what it has to do with others."""
    lines = [f'{found.id} ({found.guarantee})']
    for node in found.nodes.values():
        if node.kind in ('topic', 'channel', 'sink', 'table'):
            continue
        lines.append(f'{node.kind} {node.name}')
        ins = [edge for edge in found.edges if edge.target == node.id]
        outs = [edge for edge in found.edges if edge.source == node.id]
        lines += _sides(found, '<-', ((edge.kind, edge.source) for edge in ins))
        lines += _sides(found, '->', ((edge.kind, edge.target) for edge in outs))
    return '\n'.join(lines) + '\n'


def _sides(found: Description, arrow: str, ends: Iterable[tuple[str, str]]) -> Iterator[str]:
    for kind, id in ends:
        node = found.nodes[id]
        shown = '<->' if kind == 'uses' else arrow
        yield f'  {shown:<3} {node.kind} {node.name}' + (' (named)' if kind == 'names' else '')
