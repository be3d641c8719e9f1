"""Assets over HTTP: status codes, arguments of any name, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient

from service_scaffold import assets, service
from service_scaffold.testing import Running, memory_bus, running
from test.events.conftest import until

Client = TestClient[web.Request, web.Application]
BASE = '/plant/assets'


class Hall:
    """A service with an asset, and the way to it."""

    def __init__(self, running: Running, own: assets.OwnedAsset) -> None:
        self.app = running.app
        self.client = running.client
        self.own = own


async def move(x: float) -> float:
    return x


def fail() -> None:
    raise ZeroDivisionError('no way')


async def linger() -> None:
    await asyncio.sleep(0.3)


@pytest_asyncio.fixture
async def hall() -> AsyncIterator[Hall]:
    app = service.create_app('plant', raw_args=['--connect-timeout-s', '1'])
    assets.setup(app)
    service.furnish(app)
    async with running(app) as started:
        own = await assets.add(
            app,
            'hall:1.mill',
            kind='mill',
            path='hall/west',
            attributes={'wear': assets.sample(0.5, tag='Wear')},
            methods={'move': move, 'fail': fail, 'linger': linger},
        )
        yield Hall(started, own)


async def test_assets_and_their_attributes_are_read(hall: Hall) -> None:
    async with hall.client.get(f'{BASE}?available=true&kind=mill&path=hall') as response:
        found = (await response.json())['assets']
        head = {'id': 'hall:1.mill', 'kind': 'mill', 'path': 'hall/west', 'available': True}
        assert found == [head]
    async with hall.client.get(f'{BASE}/hall%3A1.mill') as response:
        body = await response.json()
        assert body['attributes']['wear']['value'] == 0.5
        assert (body['above'], body['available']) == ([], True)
    async with hall.client.get(f'{BASE}/hall:1.mill/wear') as response:
        assert (await response.json())['tag'] == 'Wear'


async def test_an_attribute_of_any_name_is_read_one_level_down(hall: Hall) -> None:
    """`events` would be the stream of events, one level higher."""
    names = ('events', 'methods', 'attributes', 'wear')
    await hall.own.set_many({name: f'the {name}' for name in names})
    for name in names:
        async with hall.client.get(f'{BASE}/hall:1.mill/attributes/{name}') as response:
            assert (response.status, response.content_type) == (200, 'application/json')
            assert (await response.json())['value'] == f'the {name}'
    async with hall.client.get(f'{BASE}/hall:1.mill/events?attribute=events') as response:
        assert response.content_type == 'text/event-stream'
        assert await _events(response, 1) == [('events', 'the events')]


@pytest.mark.parametrize(
    ('path', 'status'),
    [
        ('/nobody', 404),
        ('/nobody/attributes/wear', 404),
        ('/hall:1.mill/attributes/nothing', 404),
        ('/no%20body', 404),
        ('/a%2Fb', 404),
        ('/..%2f', 404),
        ('/hall:1.mill/nothing', 404),
        ('?available=yes', 422),
        ('/hall:1.mill/events?kind=nothing', 422),
    ],
)
async def test_what_is_not_there_or_not_allowed_is_told(hall: Hall, path: str, status: int) -> None:
    async with hall.client.get(BASE + path) as response:
        assert response.status == status, await response.text()


@pytest.mark.parametrize(
    ('method', 'body', 'status', 'text'),
    [
        ('move', '{"x": 1}', 200, '1.0'),
        ('move', '{"x": 1, "queue": 1, "timeout_s": 3}', 422, 'queue: unknown argument'),
        ('move', '{"x": 1, "self": 3, "method": 4}', 422, 'self: unknown argument'),
        ('move', '', 422, 'x: missing'),
        ('move', '[1]', 422, 'object'),
        ('move', '{"x"', 400, 'JSON'),
        ('move?timeout_s=0', '{"x": 1}', 422, 'timeout_s'),
        ('move?timeout_s=nan', '{"x": 1}', 422, 'timeout_s'),
        ('move?queue=perhaps', '{"x": 1}', 422, 'queue'),
        ('nothing', '', 404, 'has no method'),
        ('no.thing', '', 404, 'has no method'),
        ('fail', '', 502, 'ZeroDivisionError: no way'),
        ('linger?timeout_s=0.05', '', 504, 'has not answered'),
    ],
)
async def test_calls_end_with_their_status(
    hall: Hall, method: str, body: str, status: int, text: str
) -> None:
    async with hall.client.post(f'{BASE}/hall:1.mill/methods/{method}', data=body) as response:
        answer = await response.text()
        assert (response.status, text in answer) == (status, True), answer


async def test_an_asset_that_is_away_is_503_and_its_values_stay(hall: Hall) -> None:
    await hall.own.close()
    async with hall.client.post(f'{BASE}/hall:1.mill/methods/move', json={'x': 1}) as response:
        assert response.status == 503
    async with hall.client.get(f'{BASE}/hall:1.mill/wear') as response:
        assert (await response.json())['quality'] == 'stale'


async def test_without_a_bus_what_was_known_is_told_and_nothing_waits_for_ever() -> None:
    app = service.create_app(
        'plant', raw_args=['--connect-timeout-s', '0.2', '--eventbus-url', 'mqtt://127.0.0.1:9']
    )
    assets.setup(app)
    service.furnish(app)
    async with running(app) as started:
        for path in ('', '/mill', '/mill/wear', '/mill/events'):
            async with started.client.get(BASE + path) as response:
                assert response.status == 503, path
                assert 'are not known within' in await response.text()


async def test_what_is_known_is_told_while_the_bus_is_away(hall: Hall) -> None:
    bus = memory_bus(hall.app)
    bus.down()
    async with hall.client.get(f'{BASE}/hall:1.mill/wear') as response:
        assert (response.status, (await response.json())['value']) == (200, 0.5)
    bus.up()


async def _events(response: aiohttp.ClientResponse, count: int) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            line = await response.content.readline()
            assert line, 'the stream has ended'
            if line.startswith(b'data: '):
                one = json.loads(line[6:])
                found.append((one['id'], one['value']))
    return found


async def test_a_stream_has_the_present_state_then_each_change_and_ends_with_the_service(
    hall: Hall,
) -> None:
    async with hall.client.get(f'{BASE}/hall:1.mill/events?kind=sample') as response:
        assert response.content_type == 'text/event-stream'
        assert await _events(response, 1) == [('wear', 0.5)]
        for number in range(50):
            await hall.own.set_many({'wear': number, 'mode': 'RUN'})
        assert await _events(response, 50) == [('wear', number) for number in range(50)]
        assets.get_assets(hall.app).stopping.set()
        async with asyncio.timeout(5):
            assert (await response.content.read()).strip() == b''


async def test_many_changes_at_once_are_no_reason_to_hang_up(hall: Hall) -> None:
    async with hall.client.get(f'{BASE}/hall:1.mill/events?kind=sample') as response:
        assert await _events(response, 1) == [('wear', 0.5)]
        for number in range(5000):
            hall.own.assign('wear', number)
        assert await _events(response, 5000) == [('wear', number) for number in range(5000)]


async def test_a_client_that_goes_is_let_go_without_a_word(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    view = assets.get_assets(hall.app).mirror.view('hall:1.mill')
    response = await hall.client.get(f'{BASE}/hall:1.mill/events')
    await _events(response, 1)
    assert len(view.watches) == 1
    response.close()
    async with asyncio.timeout(5):
        while view.watches:
            await hall.own.set('wear', 1.5)
            await asyncio.sleep(0.01)
    assert 'Traceback' not in caplog.text
    assert 'ERROR' not in caplog.text


async def _deaf(hall: Hall) -> socket.socket:
    """Return a connection that follows the asset, and is never read."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, ('127.0.0.1', hall.client.port))
    await loop.sock_sendall(
        deaf, f'GET {BASE}/hall:1.mill/events HTTP/1.1\r\nHost: x\r\n\r\n'.encode()
    )
    return deaf


async def test_a_client_that_does_not_read_is_hung_up_on_when_it_falls_behind(
    hall: Hall,
) -> None:
    view = assets.get_assets(hall.app).mirror.view('hall:1.mill')
    deaf = await _deaf(hall)
    await until(lambda: len(view.watches) == 1)
    for number in range(20_000):
        hall.own.assign('wear', f'{number}' + 'x' * 900)
        if number % 100 == 0:
            await asyncio.sleep(0)
        if not view.watches:
            break
    await until(lambda: not view.watches)
    deaf.close()


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(hall: Hall) -> None:
    view = assets.get_assets(hall.app).mirror.view('hall:1.mill')
    deaf = await _deaf(hall)
    await until(lambda: len(view.watches) == 1)
    for number in range(900):
        await hall.own.set('wear', f'{number}' + 'x' * 20_000)
    assert len(view.watches) == 1
    assets.get_assets(hall.app).stopping.set()
    await until(lambda: not view.watches)
    await hall.client.close()
    async with asyncio.timeout(5):
        await hall.client.server.close()
    deaf.close()
