"""Publishing: confirmed, or an error in time that tells how far it came."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiohttp import web

from service_scaffold import events, features, transports
from service_scaffold.message import Handler, Message
from service_scaffold.testing import running
from service_scaffold.transports.base import Progress
from service_scaffold.transports.memory import MemoryTransport
from test.events.conftest import Inbox, MakeApp, until

LIMIT_S = 0.1

pytestmark = pytest.mark.alone  # limits of tenths of a second, which a busy machine takes itself


@pytest.fixture
def quick(make_app: MakeApp) -> web.Application:
    return make_app(f'--publish-timeout-s={LIMIT_S}')


async def test_what_is_confirmed_is_in_every_queue(app: web.Application) -> None:
    events.get_listener(app).subscribe('plant', '#', on_message=Inbox(), group='g')
    async with running(app) as plant:
        events.get_listener(app).subscriptions[0].unsubscribe()
        await until(lambda: not plant.bus.worklist.consumers)
        await plant.publisher.publish('plant', 'tank.level', {'litres': 3})
        assert len(plant.bus.routing.queues['g@plant']) == 1


@pytest.mark.parametrize(
    ('exchange', 'routing'), [('a/b', 'x'), ('', 'x'), ('p', 'a/b'), ('p', 'a.*'), ('p', '#')]
)
async def test_names_not_allowed_are_value_errors(
    app: web.Application, exchange: str, routing: str
) -> None:
    async with running(app) as plant:
        with pytest.raises(ValueError, match='Not a'):
            await plant.publisher.publish(exchange, routing, 1)
        with pytest.raises(ValueError, match='Not a'):
            await plant.publisher.publish_many(exchange, [(routing, 1)])
        assert plant.bus.published() == []


async def test_before_the_start_and_after_the_stop_it_raises_clearly(app: web.Application) -> None:
    publisher = events.get_publisher(app)
    with pytest.raises(ConnectionError, match='not running'):
        await publisher.publish('plant', 'a', 1)
    async with running(app):
        await publisher.publish('plant', 'a', 1)
    with pytest.raises(ConnectionError, match='has stopped'):
        await publisher.publish('plant', 'a', 1)


async def test_broker_down_is_a_publish_error_in_phase_connect(quick: web.Application) -> None:
    async with running(quick) as plant:
        plant.bus.down()
        with pytest.raises(events.PublishError) as raised:
            await plant.publisher.publish('plant', 'a', 1)
        assert isinstance(raised.value, ConnectionError)
        assert (raised.value.phase, raised.value.maybe_sent) == ('connect', False)
        plant.bus.up()
        await plant.publisher.publish('plant', 'a', 2)
    assert [message.body for message in plant.bus.published()] == [b'2']


async def test_half_open_it_is_bounded_and_may_have_been_sent(quick: web.Application) -> None:
    async with running(quick) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.half_open()
        loop = asyncio.get_running_loop()
        for phase, maybe_sent in (('confirm', True), ('connect', False)):
            began = loop.time()
            with pytest.raises(events.PublishError) as raised:
                await plant.publisher.publish('plant', 'a', 2)
            assert (raised.value.phase, raised.value.maybe_sent) == (phase, maybe_sent)
            assert loop.time() - began < LIMIT_S + 0.5
        plant.bus.up()
        await plant.publisher.publish('plant', 'a', 3)


async def test_a_short_limit_that_runs_out_leaves_the_connection_to_the_others(
    app: web.Application,
) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.slow(0.2)
        patient = asyncio.ensure_future(plant.publisher.publish('plant', 'a', 2))
        with pytest.raises(events.PublishError, match='no confirm within') as raised:
            await plant.publisher.publish('plant', 'a', 3, timeout_s=0.05)
        assert (raised.value.phase, raised.value.maybe_sent) == ('confirm', True)
        await patient
        assert plant.publisher.connected
        assert plant.publisher.reconnects == 0
        assert [message.body for message in plant.bus.published()] == [b'1', b'2']


class Unconfirming(MemoryTransport):
    """Confirms its first message when nobody waits any more; the next ones at once."""

    first: Progress | None = None
    error: Exception | None = None

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        if type(self).first is not None:
            return await super().publish(messages, progress, mandatory=mandatory)
        type(self).first = progress
        progress.phase = 'confirm'
        if self.error is not None:
            raise self.error
        try:
            return await asyncio.Future()
        finally:
            progress.advance(1, (0,))  # in the very moment of the end


@pytest.mark.parametrize('error', [None, events.PublishError('not well')])
async def test_a_confirm_that_comes_too_late_disturbs_nobody(
    quick: web.Application, unique: str, error: Exception | None
) -> None:
    """It comes in the client's own task, which must not meet an error of ours."""
    transports.register('late', f'{__name__}:Unconfirming')
    Unconfirming.first, Unconfirming.error = None, error
    publisher = events.EventPublisher(quick, f'late://{unique}')
    try:
        async with running(quick):
            with pytest.raises(events.PublishError) as raised:
                await publisher.publish('plant', 'a', 1)
            assert raised.value.maybe_sent
            first: Progress | None = Unconfirming.first
            assert first is not None
            first.advance(1, (0,))
            await publisher.publish('plant', 'a', 2)
        assert publisher.stats.published == {'plant': 1}
    finally:
        del transports.SCHEMES['late']


async def test_who_has_waited_long_for_a_connection_leaves_it_to_the_others(
    make_app: MakeApp,
) -> None:
    """The limit is over soon after the connection is there: that is not the connection's fault."""
    async with running(make_app('--publish-timeout-s=0.5')) as plant:
        plant.bus.half_open()
        late = asyncio.ensure_future(plant.publisher.publish('plant', 'a', 1))
        await asyncio.sleep(0.35)
        plant.bus.slow(0.3)
        plant.bus.up()
        early = asyncio.ensure_future(plant.publisher.publish('plant', 'a', 2))
        with pytest.raises(events.PublishError, match='no confirm within') as raised:
            await late
        assert raised.value.phase == 'confirm'
        await early
        assert plant.publisher.reconnects == 0


async def test_a_full_limit_leaves_a_connection_on_which_others_are_confirmed(
    quick: web.Application,
) -> None:
    async with running(quick) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.slow(60)
        stuck = asyncio.ensure_future(plant.publisher.publish('plant', 'a', 2))
        await asyncio.sleep(LIMIT_S / 2)
        plant.bus.slow(0)
        await plant.publisher.publish('plant', 'a', 3)
        with pytest.raises(events.PublishError, match='no confirm within'):
            await stuck
        assert plant.publisher.connected
        assert plant.publisher.reconnects == 0


async def test_short_limits_in_a_row_notice_a_dead_connection_as_a_full_one_does(
    quick: web.Application,
) -> None:
    async with running(quick) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.half_open()
        phases: list[str] = []
        while 'connect' not in phases:
            with pytest.raises(events.PublishError) as raised:
                await plant.publisher.publish('plant', 'a', 2, timeout_s=LIMIT_S / 4)
            phases.append(raised.value.phase)
            assert len(phases) < 10
        assert phases.count('confirm') in (3, 4)
        plant.bus.up()
        await plant.publisher.publish('plant', 'a', 3)


async def test_short_limits_with_confirms_in_between_are_no_outage(quick: web.Application) -> None:
    """Nor are those of an earlier connection."""
    async with running(quick) as plant:
        for _ in range(3):
            for number in range(3):
                plant.bus.slow(0)
                if number:
                    await plant.publisher.publish('plant', 'a', 1)
                plant.bus.slow(60)
                with pytest.raises(events.PublishError) as raised:
                    await plant.publisher.publish('plant', 'a', 2, timeout_s=0.6 * LIMIT_S)
                assert raised.value.phase == 'confirm'
            assert plant.publisher.connected
            plant.bus.drop_connections()
        assert plant.publisher.reconnects == 2


@pytest.mark.parametrize('fault', ['down', 'half_open'])
async def test_a_hundred_at_once_fail_within_the_same_bound(
    quick: web.Application, fault: str
) -> None:
    async with running(quick) as plant:
        getattr(plant.bus, fault)()
        loop = asyncio.get_running_loop()
        began = loop.time()
        results = await asyncio.gather(
            *(plant.publisher.publish('plant', 'a', n) for n in range(100)),
            return_exceptions=True,
        )
        assert loop.time() - began < LIMIT_S + 0.5
        assert {type(result) for result in results} == {events.PublishError}
        plant.bus.up()
        await asyncio.gather(*(plant.publisher.publish('plant', 'a', n) for n in range(100)))
        assert len(plant.bus.published()) == 100
        assert plant.publisher.stats.published == {'plant': 100}
        assert plant.publisher.stats.failed == {'plant': 100}


async def test_a_connection_that_died_since_the_last_call_is_no_error(
    app: web.Application,
) -> None:
    async with running(app) as plant:
        for number in range(5):
            await plant.publisher.publish('plant', 'a', number)
            plant.bus.drop_connections()
        assert len(plant.bus.published()) == 5


async def test_a_refused_message_leaves_the_connection(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.fail_next_publish()
        with pytest.raises(events.PublishError, match='refuses'):
            await plant.publisher.publish('plant', 'a', 2)
        assert plant.publisher.connected
        await plant.publisher.publish('plant', 'a', 3)
        assert plant.publisher.reconnects == 0


async def test_another_exchange_type_is_a_publish_error(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        with pytest.raises(events.PublishError, match='topic') as raised:
            await plant.publisher.publish('plant', 'a', 1, 'fanout')
        assert raised.value.maybe_sent is False


async def test_the_key_is_the_routing_unless_given(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.publisher.publish('plant', 'a', 1, key='k')
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 1, 'k')])
        assert [m.key for m in plant.bus.published()] == ['a', 'k', 'a', 'k']


@pytest.mark.parametrize(
    ('value', 'content_type', 'body', 'sent_as'),
    [
        ({'a': 1}, None, b'{"a":1}', 'application/json'),
        ('text', None, b'"text"', 'application/json'),
        (None, None, b'null', 'application/json'),
        (b'\x00', None, b'\x00', 'application/octet-stream'),
        (b'{}', 'application/json', b'{}', 'application/json'),
        ('text', 'text/plain', b'text', 'text/plain'),
        ({'a': 1}, 'application/msgpack', b'\x81\xa1a\x01', 'application/msgpack'),
    ],
)
async def test_bodies_are_the_plain_payload(
    app: web.Application, value: object, content_type: str | None, body: bytes, sent_as: str
) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', value, content_type=content_type)
        (message,) = plant.bus.published()
        assert (message.body, message.content_type, message.headers) == (body, sent_as, {})


async def test_headers_are_strings(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1, headers={'x': 'y'})
        assert plant.bus.published()[0].headers == {'x': 'y'}
        with pytest.raises(ValueError, match='string'):
            await plant.publisher.publish('plant', 'a', 1, headers={'x': 1})  # type: ignore[dict-item]


async def test_publish_many_names_the_positions_that_failed(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('odd', 'a', 1)
        plant.bus.fail_next_publish(2)
        with pytest.raises(events.PublishError) as raised:
            await plant.publisher.publish_many('plant', [('a', n) for n in range(5)])
        assert raised.value.failed == (0, 1)
        plant.bus.down()
        with pytest.raises(events.PublishError) as raised:
            await plant.publisher.publish_many('plant', [('a', n) for n in range(3)])
        assert (raised.value.phase, raised.value.failed) == ('connect', (0, 1, 2))


async def test_positions_are_those_of_the_items_though_a_middleware_leaves_some_out(
    make_app: MakeApp,
) -> None:
    app = make_app()

    def leave_out_zero(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            return None if message.body == b'0' else await next(message)

        return call

    events.use(app, publish=leave_out_zero)
    async with running(app) as plant:
        plant.bus.fail_next_publish()
        with pytest.raises(events.PublishError) as raised:
            await plant.publisher.publish_many('plant', [('a', n) for n in range(3)])
        assert raised.value.failed == (1,)


async def test_one_wrong_item_publishes_nothing(app: web.Application) -> None:
    async with running(app) as plant:
        with pytest.raises(events.EncodeError):
            await plant.publisher.publish_many('plant', [('a', 1), ('a', object())])
        await plant.publisher.publish_many('plant', [])
        assert plant.bus.published() == []


async def test_no_error_tells_the_credentials(make_app: MakeApp) -> None:
    app = make_app('--eventbus-url=amqp://someone:hunter2@127.0.0.1:9/vhost')
    publisher = events.get_publisher(app)
    async with running(app):
        with pytest.raises(events.PublishError) as raised:
            await publisher.publish('plant', 'a', 1)
        error: BaseException | None = raised.value
        while error is not None:
            assert 'hunter2' not in f'{error} {error!r}'
            error = error.__cause__ or error.__context__
        shown = repr((publisher, events.get_listener(app), publisher.health()))
        assert 'hunter2' not in shown


async def test_several_pairs_have_connections_of_their_own(make_app: MakeApp) -> None:
    app = make_app()
    inbox = Inbox()
    other = events.EventPublisher(app, 'memory://other-bus')
    listener = events.EventListener(app, 'memory://other-bus')
    features.add(app, other, key='other publisher')
    features.add(app, listener, key='other listener')
    listener.subscribe('plant', '#', on_message=inbox)
    async with running(app) as plant:
        await listener.subscriptions[0].wait_active(5)
        await plant.publisher.publish('plant', 'a', 1)
        await other.publish('plant', 'a', 2)
        await inbox.got(1)
    assert inbox.values == [2]


async def test_a_message_waiting_at_the_stop_raises(app: web.Application) -> None:
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        plant.bus.half_open()
        waiting = asyncio.ensure_future(plant.publisher.publish('plant', 'a', 2))
        await asyncio.sleep(0)
    with pytest.raises(events.PublishError):
        await waiting
    plant.bus.up()
