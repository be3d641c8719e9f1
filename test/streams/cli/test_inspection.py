"""`agents`, `tables`, `topology`: what is declared, without a broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service_scaffold.streams import description
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import TumblingWindow


class Order(Record):
    account: str


@pytest.fixture
def app() -> Topology:
    """One of everything that stands in a graph."""
    app = Topology(StreamSettings('shop', guarantee='exactly_once'))
    orders = app.topic('orders', value_type=Order, partitions=8)
    payments = app.topic('payments', value_type=Order)
    audit, alarms = app.topic('audit'), app.topic('alarms')
    counts = app.Table('counts', default=int, help='Orders of an account.\n\nAll of them.')
    app.Table('recent', default=int, partitions=2, window=TumblingWindow(60, expires=3600))

    def shout(value: object) -> None: ...

    @app.agent(orders, sink=[audit, shout], concurrency=3)
    async def count(stream):
        """Count orders.

        Forever.
        """
        async for order in stream.group_by(Order.account):
            counts[order.account] += 1
            if counts[order.account] > 100:
                await alarms.send(value=order.account)
            yield counts[order.account]

    @app.agent()
    async def second(stream):
        async for _ in stream:
            pass

    joined = orders.stream().join(payments.stream(), within=10, name='paid')

    @app.agent(joined, name='settle')
    async def settle(stream):
        async for _ in stream:
            await second.cast(_)

    return app


async def graph(app: Topology) -> description.Description:
    return await description.describe(app)


def ends(found: description.Description, kind: str) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in found.edges if edge.kind == kind}


async def test_every_part_is_a_node(app):
    found = await graph(app)

    assert {id for id in found.nodes if not id.startswith('topic:shop-')} == {
        'topic:orders',
        'topic:payments',
        'topic:audit',
        'topic:alarms',
        'table:counts',
        'table:recent',
        'agent:count',
        'agent:second',
        'agent:settle',
        'mover:shop-count-account',
        'join:shop-paid',
        'sink:count/app.<locals>.shout',
    }
    assert found.guarantee == 'exactly_once'
    assert found.nodes['topic:orders'].details['partitions'] == 8
    assert found.nodes['table:counts'].details['changelog'] == 'shop-counts-changelog'


async def test_edges_follow_the_values(app):
    found = await graph(app)
    repartition, pairs = 'topic:shop-count-account-repartition', 'topic:shop-paid-pairs'

    assert ends(found, 'reads') == {
        ('topic:orders', 'mover:shop-count-account'),
        (repartition, 'agent:count'),
        (pairs, 'agent:settle'),
        ('topic:shop-second', 'agent:second'),
    }
    assert ends(found, 'moves') == {
        ('mover:shop-count-account', repartition),
        ('join:shop-paid', pairs),
    }
    assert ends(found, 'joins') == {
        ('topic:orders', 'join:shop-paid'),
        ('topic:payments', 'join:shop-paid'),
    }
    assert ends(found, 'uses') == {('agent:count', 'table:counts')}
    assert ends(found, 'sends') == {
        ('agent:count', 'topic:audit'),
        ('agent:count', 'sink:count/app.<locals>.shout'),
    }
    assert ends(found, 'names') == {
        ('agent:count', 'topic:alarms'),
        ('agent:settle', 'topic:shop-second'),
    }


async def test_a_join_of_tables_is_a_node(app):
    left, right = app.Table('left'), app.Table('right')

    @app.agent(left.join(right))
    async def both(stream):
        async for _ in stream:
            pass

    found = await graph(app)

    assert ends(found, 'joins') >= {
        ('table:left', 'join:shop-left-right-inner'),
        ('table:right', 'join:shop-left-right-inner'),
    }
    assert ('topic:shop-left-right-inner-pairs', 'agent:both') in ends(found, 'reads')


async def test_describing_twice_gives_the_same(app):
    first = (await graph(app)).to_dict()

    assert (await graph(app)).to_dict() == first


def test_the_graph_as_json(app, run):
    for args in (['topology', '--format', 'json'], ['topology', '--json'], ['--json', 'topology']):
        found: dict[str, Any] = json.loads(run(app, *args).stdout)

        assert found['id'] == 'shop'
        kinds = {node['name']: node['kind'] for node in found['nodes']}
        assert kinds['count'] == 'agent'
        assert {'source': 'agent:count', 'target': 'table:counts', 'kind': 'uses'} in found['edges']


def test_the_graph_as_mermaid(app, run):
    lines = run(app, 'topology', '--format', 'mermaid').stdout.splitlines()

    assert lines[0] == 'flowchart LR'
    (agent,) = (line.split('[')[0].strip() for line in lines if line.endswith('["count"]'))
    (table,) = (line.split('[')[0].strip() for line in lines if line.endswith('[("counts")]'))
    assert f'    {agent} <--> {table}' in lines


async def test_a_name_cannot_break_a_diagram():
    app = Topology(StreamSettings('shop'))

    @app.agent('orders', name='a"b')
    async def count(stream): ...

    assert '["a#quot;b"]' in description.mermaid(await graph(app))


def test_the_graph_for_people(app, run):
    lines = run(app, 'topology').stdout.splitlines()
    begin = lines.index('agent count')

    assert lines[0] == 'shop (exactly_once)'
    assert lines[begin + 1 : begin + 6] == [
        '  <-  topic shop-count-account-repartition',
        '  <-> table counts',
        '  ->  topic audit',
        '  ->  sink count/app.<locals>.shout',
        '  ->  topic alarms (named)',
    ]


def test_agents(app, run):
    lines = run(app, 'agents').stdout.splitlines()

    assert lines[0].split() == ['NAME', 'TOPIC', 'CONCURRENCY', 'SINKS', 'HELP']
    assert lines[1].startswith('count   orders')
    assert lines[1].endswith('Count orders.')
    count, _, settle = json.loads(run(app, 'agents', '--json').stdout)
    assert (count['concurrency'], count['reads']) == (3, ['shop-count-account-repartition'])
    assert settle['reads'] == ['shop-paid-pairs']


def test_tables(app, run):
    first, counts, recent = run(app, 'tables').stdout.splitlines()

    assert first.split() == ['NAME', 'PARTITIONS', 'CHANGELOG', 'WINDOW', 'HELP']
    assert counts.startswith('counts              shop-counts-changelog  ')
    assert counts.endswith('  Orders of an account.')
    assert recent.startswith('recent  2           shop-recent-changelog  TumblingWindow(size=60,')


def test_tables_of_joins_are_not_listed(app, run):
    run(app, 'topology')  # makes them

    assert [table['name'] for table in json.loads(run(app, 'tables', '--json').stdout)] == [
        'counts',
        'recent',
    ]


def test_a_body_that_fails_before_its_first_event_is_one_line(run):
    app = Topology(StreamSettings('shop'))

    @app.agent(app.topic('orders'))
    async def bad(stream):
        if stream is not None:
            raise ValueError('no database')
        async for _ in stream.group_by(len, name='n'):
            pass

    result = run(app, 'topology')

    assert result.exit_code == 1
    assert result.stderr == 'Error: bad fails before its first event: no database\n'


async def test_as_a_program_without_a_broker(start):
    """No worker runs, and nothing listens where the options say."""
    args = ('topology', '--format', 'mermaid', '--broker', 'kafka://127.0.0.1:1')
    program = await start('test.streams.cli.shop', *args)

    assert await program.ended() == 0
    assert program.output.startswith('flowchart LR\n')
    assert program.log == ''
