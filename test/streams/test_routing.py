"""Pages that any worker answers, on the log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from service_scaffold.clock import SystemClock
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.streams.forwarding import FORWARDED, STALE, url_of
from service_scaffold.streams.routing import table_route
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from test.streams.routes import CAME, DOOR, KEYS, PARTITIONS, counting, routes
from test.streams.several import Crew, Peer, SharedLog, crew_of, until


@pytest.fixture
def broker() -> MemoryBroker:
    """A log in memory."""
    return MemoryBroker('', SystemClock())


@pytest_asyncio.fixture
async def crew(broker) -> AsyncIterator[Crew]:
    """Two workers that share four partitions; every key was counted twice."""
    log = SharedLog('shop', lambda: MemoryJournal(broker, who='shop'))
    async with crew_of(log, counting, routes) as crew:
        first, second = await crew.join(), await crew.join()
        await until(lambda: len(first.owns('counts')) == len(second.owns('counts')) == 2)
        await crew.send('orders', *((key, b'1') for key in KEYS * 2))
        tables = [peer.topology.tables['counts'] for peer in crew.peers]
        await until(lambda: sum(sum(table.values()) for table in tables) == 2 * len(KEYS))
        await until(lambda: all(len(peer.copies) == 2 for peer in crew.peers))
        await until(lambda: all(knows_all(peer) for peer in crew.peers))
        yield crew


def knows_all(peer: Peer) -> bool:
    """Tell whether a worker knows where every partition is, and every copy."""
    assert peer.worker.session is not None
    registry = peer.worker.session.neighbours.registry
    return all(
        (owner := registry.owner('tables', 'counts', number)) is not None
        and owner.url is not None
        and registry.holders('counts', number)
        for number in range(PARTITIONS)
    )


async def test_any_worker_answers_for_any_key(crew):
    """The answer is the owner's, whoever is asked; it says how new it is."""
    for peer in crew.peers:
        for key in KEYS[:8]:
            status, found, _ = await crew.get(peer, f'/counts/{key}')
            assert (status, found['count']) == (200, 2)
            assert found['position']['partition'] in found['here']
            assert found['position']['copy'] is False
            assert found['position']['offset'] > 0


@pytest.mark.parametrize('path', ['/counts?key=k1', '/exact', '/topic/k1'])
async def test_the_key_may_stand_elsewhere(crew, path):
    """In the query, in the declaration; and a topic has owners, too."""
    answers = [await crew.get(peer, path) for peer in crew.peers]
    assert [status for status, _, _ in answers] == [200, 200]
    assert answers[0][1]['here'] == answers[1][1]['here'], 'one worker has answered both'


async def test_method_body_and_headers_pass(crew):
    """What goes to another worker and what comes back is not changed."""
    for peer in crew.peers:
        url = f'{peer.url}/echo?key=k1'
        async with crew.client.post(url, data=b'abc', headers={'X-Other': 'x'}) as answer:
            assert (answer.status, await answer.read()) == (201, b'cba')
            assert answer.headers['X-Method'] == 'POST'


async def test_a_missing_query_parameter_is_a_mistake_of_the_client(crew):
    """Not a 500, and not a key that nobody has."""
    async with crew.client.get(crew.peers[0].url + '/counts') as answer:
        assert answer.status == 400


def other_of(crew: Crew, key: str) -> tuple[Peer, Peer]:
    """Return who has a key, and who has not."""
    number = crew.peers[0].topology.tables['counts'].partition_of(key)
    first, second = crew.peers
    return (first, second) if number in first.owns('counts') else (second, first)


async def test_a_request_is_passed_on_once(crew):
    """Two workers that believe each other to be the owner do not play ball."""
    _, other = other_of(crew, 'k1')
    status, problem, headers = await crew.get(other, '/counts/k1', headers={FORWARDED: 'x'})
    assert status == 503
    assert 'is not here' in problem['detail']
    assert headers['Retry-After'] == '1'


async def test_a_worker_that_does_not_answer_is_not_waited_for(crew):
    """Bounded by the route's own limit; 503."""
    _owner, other = other_of(crew, 'k1')
    async with asyncio.timeout(3):
        status, problem, _ = await crew.get(other, '/slow?key=k1')
    assert status == 503
    assert 'cannot be reached' in problem['detail']


async def test_an_owner_that_goes_in_the_middle_of_its_answer_ends_the_connection(crew):
    """The client has half of it; nothing of another one may follow, nor that be taken for all."""
    _owner, other = other_of(crew, 'k1')
    came = b''
    async with crew.client.get(other.url + '/torn?key=k1') as answer:
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - whichever read it is
            while True:
                came += await answer.content.readany()
    assert (answer.status, came) == (200, b'half of it')
    assert (await crew.get(other, '/counts/k1'))[0] == 200


async def test_a_partition_that_moves_while_a_handler_waits_is_no_mistake_of_it(crew):
    """503, as if it had been asked for a moment later."""
    owner, other = other_of(crew, 'k1')
    door = asyncio.Event()
    owner.topology.tables['counts'].on_recover(door.wait)
    asking = asyncio.ensure_future(crew.get(other, '/late?key=k1'))
    async with asyncio.timeout(10):
        await owner.app[CAME].wait()
    session = owner.worker.session
    number = owner.topology.tables['counts'].partition_of('k1')
    await session.restart(session.tasks[PARTITIONS, number])
    owner.app[DOOR].set()
    status, _, headers = await asking
    door.set()
    assert status == 503
    assert 'Retry-After' in headers
    await until(lambda: number in owner.owns('counts'))
    assert (await crew.get(other, '/late?key=k1'))[0] == 200


async def test_a_copy_answers_where_that_is_allowed(crew):
    """The owner's server is gone, its worker is not: only the copy can answer, and says so."""
    owner, other = other_of(crew, 'k1')
    for site in list(owner.runner.sites):
        await site.stop()
    status, found, headers = await crew.get(other, '/counts?key=k1')
    assert (status, found['count'], headers[STALE]) == (200, 2, 'true')
    assert found['position']['copy'] is True
    status, _, headers = await crew.get(other, '/counts/k1')
    assert status == 503, 'not where it is not allowed'
    assert 'Retry-After' in headers


async def test_while_a_partition_is_recovered_the_answer_says_how_far_it_is(crew):
    """503, Retry-After and progress from the new owner; a copy elsewhere is of no use here."""
    owner, other = other_of(crew, 'k1')
    table = other.topology.tables['counts']
    door = asyncio.Event()

    @table.on_recover
    async def wait() -> None:
        await door.wait()

    await crew.leave(owner)
    number = table.partition_of('k1')

    def is_recovering() -> bool:
        assert other.worker.session is not None
        return (PARTITIONS, number) in other.worker.session.tasks

    await until(is_recovering)
    status, problem, headers = await crew.get(other, '/counts/k1')
    assert status == 503
    assert int(headers['Retry-After']) >= 1
    assert 'is being recovered' in problem['detail']
    assert problem['recovery']['percent'] == 100
    assert not other.worker.health().ready
    door.set()
    await until(lambda: len(table.here) == PARTITIONS)
    status, found, _ = await crew.get(other, '/counts/k1')
    assert (status, found['count']) == (200, 2)


async def test_the_assignment_is_shown(crew):
    """Every worker tells of all workers, and who has which partition."""
    ids = {peer.id for peer in crew.peers}
    for peer in crew.peers:
        status, found, _ = await crew.get(peer, '/_service/assignment')
        assert status == 200
        assert found['id'] == peer.id
        assert set(found['workers']) == ids
        counts = found['tables']['counts']
        assert [place['partition'] for place in counts] == list(range(PARTITIONS))
        assert {place['owner'] for place in counts} == ids
        for place in counts:
            assert place['copies'] == list(ids - {place['owner']})


async def test_while_the_broker_is_away_the_answer_is_503(crew, broker):
    """Without a connection nobody knows who has what; with it all is as before."""
    peer = crew.peers[0]
    broker.network.down()
    await until(lambda: peer.worker.session is None)
    status, _, headers = await crew.get(peer, '/counts/k1')
    assert (status, headers['Retry-After']) == (503, '1')
    broker.network.up()
    await until(lambda: peer.worker.health().ready)

    async def answers() -> bool:
        return (await crew.get(peer, '/counts/k1'))[0] == 200

    await until(answers)


def test_one_place_for_the_key_has_to_be_given():
    """None, or two of them, is a mistake in the program."""
    table = Topology(StreamSettings('shop')).Table('counts')
    with pytest.raises(TypeError, match='exactly one'):
        table_route(table)
    with pytest.raises(TypeError, match='exactly one'):
        table_route(table, query_param='key', match_info='key')


@pytest.mark.parametrize('path', ['/view/k1', '/page/k1'])
async def test_views_and_pages_are_handlers_too(crew, path):
    """The request is found in a view, and among other arguments."""
    for peer in crew.peers:
        status, found, _ = await crew.get(peer, path)
        assert (status, found['count']) == (200, 2)


async def test_without_a_request_it_cannot_be_used():
    """A decorated function that is given none says what is wrong."""

    @table_route(Topology(StreamSettings('shop')).Table('counts'), exact_key='k')
    async def page() -> None:
        pass

    with pytest.raises(TypeError, match='given a request'):
        await page()


@pytest.mark.parametrize(
    ('listens_on', 'url'),
    [
        (None, None),
        (('127.0.0.1', 80), 'http://127.0.0.1:80'),
        (('::1', 81), 'http://[::1]:81'),
    ],
)
def test_a_url_from_where_a_server_listens(listens_on, url):
    """As others write it."""
    assert url_of(listens_on) == url


def test_a_server_that_listens_everywhere_is_reached_by_name():
    """0.0.0.0 would be everybody's own machine."""
    found = url_of(('0.0.0.0', 80))
    assert found is not None
    assert '0.0.0.0' not in found
