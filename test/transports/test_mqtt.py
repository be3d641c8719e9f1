"""The MQTT transport on a real Mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections import deque

import pytest

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Binding, IntakeSpec, Progress, Settings
from service_scaffold.transports.mqtt import MqttTransport
from test.brokers.mosquitto import Mosquitto
from test.conftest import require_broker
from test.transports.mqtt_swallower import Swallower

WAIT_S = 5.0
QUIET_S = 0.2


class Bench:
    """Makes transports for one exchange and closes them all."""

    def __init__(self, url: str, exchange: str) -> None:
        self.url = url
        self.exchange = exchange
        self.made: list[MqttTransport] = []

    async def connect(self, url: str | None = None, **settings: object) -> MqttTransport:
        settings = {'name': 'svc', 'instance': self.exchange} | settings
        transport = MqttTransport(Settings(Address.parse(url or self.url), **settings))
        self.made.append(transport)
        await transport.connect()
        return transport

    async def live(self, transport, *patterns, exchange_type='topic'):
        intake = await transport.intake(IntakeSpec())
        assert not await intake.bind([self.binding(p, exchange_type) for p in patterns])
        return intake

    async def group(self, transport, *patterns, group='g', prefetch=32):
        spec = IntakeSpec(group=group, exchange=self.exchange, prefetch=prefetch)
        intake = await transport.intake(spec)
        assert not await intake.bind([self.binding(pattern) for pattern in patterns])
        return intake

    def binding(self, pattern, exchange_type='topic'):
        return Binding(self.exchange, exchange_type, pattern)

    def message(self, routing, body=b'{}', **fields):
        return Message(self.exchange, routing, body, **fields)

    async def publish(self, transport, *routings, body=b'{}'):
        messages = [self.message(routing, body) for routing in routings]
        assert not await transport.publish(messages, Progress())


@pytest.fixture
async def bench(mosquitto, unique):
    made = Bench(mosquitto.url, unique)
    yield made
    for transport in made.made:
        await transport.close()


async def take(intake, count):
    """Fetch `count` deliveries."""
    found = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await intake.fetch(count - len(found))
    return found


async def nothing(intake):
    """Tell that nothing comes for a moment."""
    try:
        async with asyncio.timeout(QUIET_S):
            found = await intake.fetch(10)
    except TimeoutError:
        return True
    return not found


def routings(deliveries):
    return [delivery.routing for delivery in deliveries]


def foreign_publish(broker, topic, *options):
    """Publish with Mosquitto's own client, MQTT 3.1.1 unless told otherwise."""
    command = ['mosquitto_pub', '-h', broker.host, '-p', str(broker.port), '-t', topic, '-q', '1']
    subprocess.run([*command, *options], check=True, timeout=10)


# What is published arrives


async def test_who_asks_is_told_that_nobody_takes_it(bench):
    """Patterns, groups and groups of those who are away count; events need nobody."""
    transport = await bench.connect()
    away = await bench.connect(instance=f'{bench.exchange}-away')
    await bench.live(transport, 'live.*')
    await bench.group(transport, 'group.#')
    await bench.group(away, 'away')
    await away.close()
    asked = ['live.a', 'group', 'group.a', 'away']
    unheard = ['live', 'live.a.b', 'away.b', 'nobody']
    messages = [bench.message(routing) for routing in asked + unheard]

    refused = await transport.publish(messages, progress := Progress(), mandatory=True)

    assert {position: type(error) for position, error in refused.items()} == dict.fromkeys(
        range(len(asked), len(messages)), errors.NoResponder
    )
    assert f'{bench.exchange}/live.a.b' in str(refused[len(asked) + 1])
    assert progress.confirmed == len(asked)
    assert not await transport.publish(messages, Progress())


async def test_envelope_comes_back_whole(bench):
    """Everything beside the body travels, control characters and other scripts included."""
    transport = await bench.connect()
    live = await bench.live(transport, '#')
    headers = {'größe': '日本 😀', 'x-death-error': 'line\nline\x00\ufeff', 'n': ''}
    sent = bench.message(
        'tank.level',
        b'\0\xff',
        key='tank-1',
        headers=headers,
        content_type='application/octet-stream',
        correlation_id='c-1',
        reply_to='me/1',
        timestamp=1763729462.125,
    )

    await transport.publish([sent], Progress())

    [delivery] = await take(live, 1)
    got = transport.envelope(delivery)
    assert (delivery.exchange, delivery.routing) == (bench.exchange, 'tank.level')
    assert (delivery.key, delivery.special) == ('tank-1', True)
    for name in ('body', 'key', 'message_id', 'content_type', 'correlation_id', 'timestamp'):
        assert getattr(got, name) == getattr(sent, name)
    assert (got.headers, got.reply_to, got.retained) == (headers, 'me/1', False)


@pytest.mark.parametrize('body', [b'', b'\0\xff\x80', b'x' * 1_000_000], ids=['0', 'binary', '1M'])
async def test_bodies_are_bytes(bench, body):
    """Bodies come as they went, whatever is in them."""
    transport = await bench.connect()
    live = await bench.live(transport, '#')
    group = await bench.group(transport, '#')

    await bench.publish(transport, 'a', body=body)

    assert [d.body for d in await take(live, 1) + await take(group, 1)] == [body, body]


@pytest.mark.parametrize(
    ('pattern', 'exchange_type', 'expected'),
    [
        ('tank.*', 'topic', ['tank.level']),
        ('tank.#', 'topic', ['tank', 'tank.level', 'tank.level.max']),
        ('#', 'topic', ['', 'tank', 'tank.level', 'tank.level.max', 'v1%2E2']),
        ('*', 'topic', ['tank', 'v1%2E2']),
        ('', 'topic', ['']),
        ('v1%2E2', 'topic', ['v1%2E2']),
        ('#.max', 'topic', ['tank.level.max']),
        ('tank.level', 'direct', ['tank.level']),
        ('ignored', 'fanout', ['', 'tank', 'tank.level', 'tank.level.max', 'v1%2E2']),
    ],
)
async def test_patterns(bench, pattern, exchange_type, expected):
    """A group gets what the one pattern language says, in the order of publishing."""
    transport = await bench.connect()
    spec = IntakeSpec(group='g', exchange=bench.exchange, exchange_type=exchange_type)
    group = await transport.intake(spec)
    binding = bench.binding(pattern, exchange_type)
    await group.bind([binding])

    everything = ['', 'tank', 'tank.level', 'tank.level.max', 'v1%2E2']
    await bench.publish(transport, *everything)

    found = await take(group, len(expected))
    assert routings(found) == expected
    assert {delivery.binding for delivery in found} == {binding}
    assert await nothing(group)


async def test_overlapping_live_views_get_one_delivery(bench):
    """The broker sends a copy for each filter; one is handed on, before and after a change."""
    transport = await bench.connect()
    live = await bench.live(transport, '#', 'tank.*', 'tank.level')

    await bench.publish(transport, 'tank.level', 'tank.level')
    assert len(await take(live, 2)) == 2
    assert await nothing(live)

    await live.unbind([bench.binding('#')])
    await live.bind([bench.binding('#')])
    await bench.publish(transport, 'tank.level', 'pump')
    assert sorted(routings(await take(live, 2))) == ['pump', 'tank.level']
    assert await nothing(live)


async def test_unbound_live_view_gets_nothing(bench):
    """After `unbind` nothing comes, and the others are not affected."""
    transport = await bench.connect()
    live = await bench.live(transport, 'a', 'b')

    await live.unbind([bench.binding('a')])
    await bench.publish(transport, 'a', 'b')

    assert routings(await take(live, 1)) == ['b']
    assert await nothing(live)


async def test_group_gets_a_copy_for_each_binding(bench):
    """Two patterns of a group that match are two deliveries, each with its binding."""
    transport = await bench.connect()
    group = await bench.group(transport, 'tank.*', 'tank.#', '#.level', '#.max')

    await bench.publish(transport, 'tank.level')

    found = await take(group, 3)
    assert {d.binding.pattern for d in found} == {'tank.*', 'tank.#', '#.level'}
    assert await nothing(group)
    group.settle(found[:1])
    group.settle(found[1:])
    await group.close()
    assert await nothing(await bench.group(transport, 'tank.*', 'tank.#', '#.level', '#.max'))


async def test_ten_thousand_bindings(unique):
    """Many bindings are made quickly, over one connection."""
    require_broker(Mosquitto)
    with Mosquitto(persistence=False) as broker:
        bench = Bench(broker.url, unique)
        transport = await bench.connect()
        began = time.monotonic()
        live = await bench.live(transport, *(f'a.{n}.*' for n in range(10_000)))
        took_s = time.monotonic() - began

        await bench.publish(transport, 'a.0.x', 'a.9999.x', 'b.0.x')

        assert routings(await take(live, 2)) == ['a.0.x', 'a.9999.x']
        assert took_s < 20
        await transport.close()


async def test_malformed_pattern_is_refused_alone(bench):
    """A binding that MQTT cannot express leaves the others alone."""
    transport = await bench.connect()
    live = await transport.intake(IntakeSpec())

    refused = await live.bind([bench.binding('a\n'), bench.binding('b')])
    await live.bind([bench.binding('b')])

    assert list(refused) == [bench.binding('a\n')]
    assert isinstance(refused[bench.binding('a\n')], errors.BindingRefused)
    await bench.publish(transport, 'b')
    assert len(await take(live, 1)) == 1
    assert await nothing(live)


# Groups


async def test_group_is_kept_while_its_instance_is_away(bench):
    """What is published meanwhile waits for the same instance."""
    transport = await bench.connect()
    group = await bench.group(transport, 'tank.*')
    await group.close()

    await bench.publish(transport, 'tank.a', 'tank.b')

    again = await bench.connect()
    assert routings(await take(await bench.group(again, 'tank.*'), 2)) == ['tank.a', 'tank.b']


async def test_instances_share_a_group(bench):
    """Each message goes to one member; every live view gets all of them."""
    one, two = await bench.connect(instance='one'), await bench.connect(instance='two')
    members = [await bench.group(one, '#'), await bench.group(two, '#')]
    lives = [await bench.live(one, '#'), await bench.live(two, '#')]

    await bench.publish(one, *(f'n{number}' for number in range(20)))

    shares = [await take(member, 10) for member in members]
    assert sorted(routings(shares[0] + shares[1])) == sorted(f'n{n}' for n in range(20))
    assert [len(await take(live, 20)) for live in lives] == [20, 20]


async def test_acknowledged_in_order_of_arrival(bench):
    """A later message that is done first is acknowledged once the earlier ones are."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    await bench.publish(transport, 'a', 'b', 'c')
    a, b, _ = await take(group, 3)

    group.settle([b])
    await group.close()
    again = await bench.group(transport, '#')
    found = await take(again, 3)
    assert routings(found) == ['a', 'b', 'c']
    assert all(transport.envelope(delivery).redelivered for delivery in found)

    again.settle([found[1]])
    again.settle([found[0]])
    await again.close()
    last = await bench.group(transport, '#')
    assert routings(await take(last, 1)) == ['c']
    assert await nothing(last)
    assert not group.alive(a)


async def test_requeued_comes_again_on_this_connection(bench):
    """What is handed back while consuming is fetched once more, and then can be settled."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    await bench.publish(transport, 'a', 'b')
    deliveries = await take(group, 2)

    group.requeue(deliveries)

    again = await take(group, 2)
    assert routings(again) == ['a', 'b']
    group.settle(again)
    await group.close()
    assert await nothing(await bench.group(transport, '#'))


async def test_paused_hands_back_what_was_not_fetched(bench):
    """After `pause` what was fetched can still be settled; the rest waits for the next life."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    await bench.publish(transport, 'a', 'b', 'c')
    [first] = await take(group, 1)

    await group.pause()
    group.settle([first])
    await group.close()

    assert routings(await take(await bench.group(transport, '#'), 2)) == ['b', 'c']


async def test_prefetch_bounds_what_is_unsettled(bench):
    """The broker sends no more than the window, and goes on as it is settled."""
    transport = await bench.connect()
    group = await bench.group(transport, '#', prefetch=4)
    await bench.publish(transport, *(f'n{number}' for number in range(10)))

    window = await take(group, 4)
    assert await nothing(group)
    group.settle(window)

    assert len(await take(group, 4)) == 4


async def test_twice_the_prefetch_is_the_most(bench):
    """Whatever the broker makes of it: Mosquitto 2.0.11 sends as much again after each PUBACK."""
    transport = await bench.connect()
    group = await bench.group(transport, '#', prefetch=4)
    await bench.publish(transport, *(f'n{number}' for number in range(40)))
    held = deque(await take(group, 4))
    came, most = 4, 4

    while held:
        group.settle([held.popleft()])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05 if held else WAIT_S):
                while came < 40:
                    held += (found := await group.fetch(40))
                    came += len(found)
        most = max(most, len(held))

    assert came == 40
    assert most <= 8


async def test_forgotten_group_ends_its_session(bench):
    """Who unsubscribes for good leaves no queue that grows."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    await group.close(forget=True)

    await bench.publish(transport, 'a')

    assert await nothing(await bench.group(transport, '#'))


async def test_stale_subscription_of_a_kept_session_is_ended(bench, caplog):
    """A pattern that a newer version does not have any more does not double its messages."""
    transport = await bench.connect()
    old = await bench.group(transport, 'tank.*')
    await old.close()
    await bench.publish(transport, 'tank.old')

    new = await bench.group(transport, 'tank.#')
    [kept] = await take(new, 1)
    assert (kept.routing, kept.binding) == ('tank.old', None)
    new.settle([kept])
    assert '$share/g/' in caplog.text
    await asyncio.sleep(QUIET_S)  # the broker takes note that it is ended

    await bench.publish(transport, 'tank.new')
    assert [d.binding for d in await take(new, 1)] == [bench.binding('tank.#')]
    assert await nothing(new)


async def test_stale_message_that_nobody_wants_is_acknowledged(bench):
    """It must not stand in the way of what comes after it."""
    transport = await bench.connect()
    await (await bench.group(transport, 'pump.*')).close()
    await bench.publish(transport, 'pump.a')

    new = await bench.group(transport, 'tank.*')
    await bench.publish(transport, 'tank.a')
    assert routings(await take(new, 1)) == ['tank.a']
    assert new.unclaimed == 1


async def test_taken_over_session_is_no_fight(bench):
    """The member that was there first is told, by an error that says what to do."""
    first, second = await bench.connect(), await bench.connect()
    group = await bench.group(first, '#')
    fetching = asyncio.ensure_future(group.fetch(1))

    taker = await bench.group(second, '#')

    with pytest.raises(errors.SessionTakenOver, match='--instance'):
        await asyncio.wait_for(fetching, WAIT_S)
    with pytest.raises(errors.SessionTakenOver):
        await group.bind([bench.binding('a')])
    assert not first.lost.done()
    await bench.publish(first, 'a')
    assert len(await take(taker, 1)) == 1


async def test_cancelled_fetch_loses_nothing(bench):
    """A caller's time limit costs no delivery."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    for number in range(20):
        fetching = asyncio.ensure_future(group.fetch(1))
        await asyncio.sleep(0)
        publishing = asyncio.ensure_future(bench.publish(transport, f'n{number}'))
        await asyncio.sleep(0.001 * (number % 4))
        if not fetching.cancel():
            group.requeue(await fetching)
        await publishing
        await asyncio.gather(fetching, return_exceptions=True)

    assert len(await take(group, 20)) == 20


# Foreign clients


async def test_foreign_publisher(bench, mosquitto):
    """An MQTT 3.1.1 client needs to know nothing of us."""
    transport = await bench.connect()
    live, group = await bench.live(transport, '#'), await bench.group(transport, '#')

    foreign_publish(mosquitto, f'{bench.exchange}/v1.2/level', '-V', '311', '-m', '{"a": 1}')

    for intake in (live, group):
        [delivery] = await take(intake, 1)
        envelope = transport.envelope(delivery)
        assert (delivery.routing, delivery.body) == ('v1%2E2.level', b'{"a": 1}')
        assert (envelope.content_type, envelope.headers, envelope.key) == (None, {}, 'v1%2E2.level')
        assert envelope.message_id == transport.envelope(delivery).message_id
        assert abs(envelope.timestamp - time.time()) < 60


async def test_foreign_byte_order_mark_does_not_cost_the_connection(bench, mosquitto):
    """The client library would end the connection for it, at each redelivery anew."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')

    option = ['-V', '5', '-m', 'x', '-D', 'publish', 'user-property', 'bom', '\ufeffvalue']
    foreign_publish(mosquitto, f'{bench.exchange}/a', *option)

    [delivery] = await take(group, 1)
    assert transport.envelope(delivery).headers == {'bom': '\ufeffvalue'}


async def test_foreign_message_of_qos_0_reaches_a_group(bench, mosquitto):
    """It has nothing to acknowledge, and settling it does no harm."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')

    foreign_publish(mosquitto, f'{bench.exchange}/a', '-m', 'x', '-q', '0')
    group.settle(await take(group, 1))

    await bench.publish(transport, 'b')
    assert routings(await take(group, 1)) == ['b']


async def test_retained_goes_to_the_view_that_is_new(bench, mosquitto):
    """A view that is there already does not get a stored message a second time."""
    foreign_publish(mosquitto, f'{bench.exchange}/tank/level', '-m', '1', '-r')
    transport = await bench.connect()
    live = await bench.live(transport, 'tank.*')
    [first] = await take(live, 1)

    await live.bind([bench.binding('#')])

    [second] = await take(live, 1)
    assert transport.envelope(first).retained
    assert first.binding == bench.binding('tank.*')
    assert second.binding == bench.binding('#')
    assert await nothing(live)


# Publishing


async def test_publish_reports_progress(bench):
    """Every confirm is told, and the phase is `confirm` when all has been written."""
    transport = await bench.connect()
    told = []
    progress = Progress(on_confirm=lambda: told.append(1))
    messages = [bench.message(f'n{number}') for number in range(1000)]

    failed = await transport.publish(messages, progress)

    assert not failed
    assert (progress.confirmed, len(told), progress.phase) == (1000, 1000, 'confirm')
    assert not progress.unconfirmed(1000)


async def test_publish_keeps_the_order(bench):
    """Messages arrive in the order of publishing, however many are on their way."""
    transport = await bench.connect()
    live = await bench.live(transport, '#')
    sent = [f'n{number}' for number in range(500)]

    await bench.publish(transport, *sent)

    assert routings(await take(live, 500)) == sent


async def test_message_that_mqtt_cannot_carry_fails_alone(bench):
    """Its position is told, the others are published, the connection stays."""
    transport = await bench.connect()
    live = await bench.live(transport, '#')
    messages = [
        bench.message('a'),
        bench.message('b\x07'),
        bench.message('c', headers={'h': 'x' * 70_000}),
        bench.message('d'),
    ]

    failed = await transport.publish(messages, Progress())

    assert sorted(failed) == [1, 2]
    assert routings(await take(live, 2)) == ['a', 'd']
    assert not transport.lost.done()


async def test_one_event_does_not_wait_for_a_large_batch(bench):
    """Callers take turns."""
    transport = await bench.connect()
    many = [bench.message('many') for _ in range(5000)]
    progress = Progress()
    batch = asyncio.ensure_future(transport.publish(many, progress))
    await asyncio.sleep(0)

    await bench.publish(transport, 'one')

    assert progress.confirmed < 2500
    await batch


async def test_cancelled_publish_sends_nothing_more(bench):
    """A time limit ends a batch, and the next publish is not held up by it."""
    transport = await bench.connect()
    progress = Progress()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await transport.publish([bench.message('many') for _ in range(50_000)], progress)

    await bench.publish(transport, 'next')

    assert progress.confirmed < 50_000


async def test_single_small_messages_are_fast(bench):
    """TCP_NODELAY is set: a single small message does not wait for an acknowledgement of TCP."""
    transport = await bench.connect()
    live = await bench.live(transport, '#')
    began = time.monotonic()

    for number in range(50):
        await bench.publish(transport, f'n{number}')
        await take(live, 1)

    assert (time.monotonic() - began) / 50 < 0.03


# Dead letters


async def test_dead_letters_are_retained_under_their_origin(bench):
    """A view that comes later sees each once, under the routing key it had."""
    transport = await bench.connect()
    headers = {'x-origin-routing': 'tank.level', 'x-death-error': 'ValueError: a\nb'}
    letter = bench.message('tank.level', b'\0', headers=headers, message_id='a/b', reply_to='r')

    await transport.dead_letter(letter)
    await transport.dead_letter(letter)

    store = f'{bench.exchange}.dlq'
    live = await transport.intake(IntakeSpec())
    for pattern in ('#', 'tank.*'):
        await live.bind([Binding(store, 'topic', pattern)])
        [delivery] = await take(live, 1)
        envelope = transport.envelope(delivery)
        assert (delivery.exchange, delivery.routing, delivery.body) == (store, 'tank.level', b'\0')
        assert (envelope.headers, envelope.message_id) == (headers, 'a/b')
        assert envelope.retained
        assert not delivery.special
    assert await nothing(live)


async def test_dead_letter_is_seen_while_watching(bench, mosquitto):
    """It comes when it dies, and its removal from the store is no event."""
    transport = await bench.connect()
    live = await transport.intake(IntakeSpec())
    await live.bind([Binding(f'{bench.exchange}.dlq', 'topic', pattern) for pattern in ('#', 'a')])

    await transport.dead_letter(bench.message('a', b'x', message_id='1'))
    assert routings(await take(live, 1)) == ['a']

    foreign_publish(mosquitto, f'{bench.exchange}.dlq/a/1', '-r', '-n')
    assert await nothing(live)


# Requests


async def test_request_and_answer(bench):
    """The answer comes to the address of this connection, with the correlation of the request."""
    asking, answering = await bench.connect(), await bench.connect()
    group = await bench.group(answering, '#')
    answers = asyncio.Queue()
    address = await asking.open_replies(answers.put_nowait)
    request = bench.message('calibrate', b'4', reply_to=address, correlation_id='c-1')

    await asking.publish([request], Progress())
    [delivery] = await take(group, 1)
    got = answering.envelope(delivery)
    await answering.reply(got, Message('', '', b'ok', headers={'h': '1'}, content_type='a/b'))

    answer = await asyncio.wait_for(answers.get(), WAIT_S)
    assert delivery.special
    assert (answer.body, answer.correlation_id) == (b'ok', 'c-1')
    assert (answer.headers, answer.content_type) == ({'h': '1'}, 'a/b')


async def test_foreign_requester_is_answered(bench, mosquitto):
    """`mosquitto_rr` asks with MQTT 5's own properties."""
    transport = await bench.connect()
    group = await bench.group(transport, '#')
    command = ['mosquitto_rr', '-h', mosquitto.host, '-p', str(mosquitto.port), '-V', '5']
    options = [
        '-t',
        f'{bench.exchange}/ask',
        '-e',
        f'{bench.exchange}-answer',
        '-m',
        '?',
        '-W',
        '5',
    ]
    asking = await asyncio.create_subprocess_exec(
        *command, *options, stdout=asyncio.subprocess.PIPE
    )

    [delivery] = await take(group, 1)
    request = transport.envelope(delivery)
    await transport.reply(request, Message('', '', b'yes'))

    output, _ = await asyncio.wait_for(asking.communicate(), WAIT_S)
    assert output.strip() == b'yes'


async def test_binary_correlation_comes_back(bench, mosquitto):
    """Correlation data of a foreign client need not be text."""
    asking, answering = await bench.connect(), await bench.connect()
    live = await bench.live(answering, '#')
    answers = asyncio.Queue()
    address = await asking.open_replies(answers.put_nowait)
    odd = b'\xff\0\x80'.decode(errors='surrogateescape')

    request = bench.message('ask', reply_to=address, correlation_id=odd)
    await asking.publish([request], Progress())
    [delivery] = await take(live, 1)
    await answering.reply(answering.envelope(delivery), Message('', '', b''))

    answer = await asyncio.wait_for(answers.get(), WAIT_S)
    assert answer.correlation_id == odd


@pytest.mark.parametrize('address', ['', 'a/#', '+', 'a\n'])
async def test_reply_to_what_is_no_topic(bench, address):
    """A foreign client's nonsense is an error, and the connection stays."""
    transport = await bench.connect()
    request = bench.message('ask', reply_to=address)

    with pytest.raises(errors.PublishError, match='Not a response topic'):
        await transport.reply(request, Message('', '', b''))
    assert not transport.lost.done()


# Faults


async def test_nobody_there(unique):
    """A refused connection is told at once."""
    bench = Bench('mqtt://127.0.0.1:9', unique)
    began = time.monotonic()

    with pytest.raises(errors.BrokerUnreachable, match=r'mqtt://127\.0\.0\.1:9'):
        await bench.connect()

    assert time.monotonic() - began < 1
    await bench.made[0].close()


async def test_not_an_mqtt_broker(unique):
    """Somebody who speaks something else is no broker."""

    async def greet(reader, writer):
        writer.write(b'HTTP/1.1 400 Bad Request\r\n\r\n')
        writer.close()

    server = await asyncio.start_server(greet, '127.0.0.1', 0)
    bench = Bench(f'mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}', unique)

    with pytest.raises(errors.BrokerUnreachable):
        await asyncio.wait_for(bench.connect(), WAIT_S)
    server.close()


async def test_cut_connection_is_told_at_once(bench, mosquitto):
    """The transport and its groups say so, and what is asked of them raises."""
    transport = await bench.connect(mosquitto.proxied_url)
    live, group = await bench.live(transport, '#'), await bench.group(transport, '#')
    await bench.publish(transport, 'a')
    [delivery] = await take(group, 1)
    await take(live, 1)
    waiting = [asyncio.ensure_future(intake.fetch(1)) for intake in (live, group)]
    await asyncio.sleep(0)

    mosquitto.proxy.drop_connections()

    assert isinstance(await asyncio.wait_for(transport.lost, WAIT_S), errors.ConnectionLost)
    with pytest.raises(errors.ConnectionLost):
        await asyncio.wait_for(waiting[0], WAIT_S)
    with pytest.raises(errors.IntakeLost):
        await asyncio.wait_for(waiting[1], WAIT_S)
    progress = Progress()
    with pytest.raises(errors.ConnectionLost):
        await transport.publish([bench.message('b')], progress)
    assert progress.phase == 'connect'
    assert not group.alive(delivery)
    group.settle([delivery])
    with pytest.raises(errors.ConnectionLost):
        await live.bind([bench.binding('b')])


async def test_publish_fails_with_the_connection(bench, mosquitto):
    """Those that wait for a confirm are told, with the phase they were in."""
    transport = await bench.connect(mosquitto.proxied_url)
    mosquitto.proxy.half_open()
    progress = Progress()
    publishing = asyncio.ensure_future(transport.publish([bench.message('a')], progress))
    await asyncio.sleep(QUIET_S)
    assert not publishing.done()

    mosquitto.proxy.drop_connections()

    with pytest.raises(errors.ConnectionLost):
        await asyncio.wait_for(publishing, WAIT_S)
    assert progress.phase == 'confirm'


async def test_swallowed_confirms_end_the_connection(bench, mosquitto):
    """Each would keep its place in the window for ever, and the window is Mosquitto's 20."""
    async with Swallower(mosquitto.host, mosquitto.port) as between:
        # Who watches presence has a keep-alive of two thirds of the lease: here 1 s.
        settings = {'name': 'svc', 'lease_s': 1.5, 'publish_timeout_s': 0.5}
        transport = MqttTransport(Settings(Address.parse(between.url), **settings))
        transport.presence.watch(lambda *_: None)
        await transport.connect()
        await transport.presence.caught_up()
        live = await bench.live(transport, '#')
        await bench.publish(transport, 'a')
        await take(live, 1)
        between.appetite = 20
        progress = Progress()
        messages = [bench.message('a', b'%d' % number) for number in range(30)]
        publishing = asyncio.ensure_future(transport.publish(messages, progress))

        assert len(await take(live, 20)) == 20
        with pytest.raises(errors.ConnectionLost, match=r'has not confirmed a message for \d+ s'):
            await asyncio.wait_for(publishing, 2 * WAIT_S)

        assert (between.swallowed, progress.confirmed) == (20, 0)
        assert progress.unconfirmed(30) == tuple(range(30))
        assert transport.lost.done()
        await transport.close()
        again = await bench.connect(between.url)
        await bench.publish(again, *['a'] * 30)
        await again.close()


async def test_half_open_holds_nobody(bench, mosquitto):
    """The caller's limit counts for everything, and closing takes no longer than two seconds."""
    transport = await bench.connect(mosquitto.proxied_url)
    live, group = await bench.live(transport, '#'), await bench.group(transport, '#')
    mosquitto.proxy.half_open()

    for work in (
        transport.publish([bench.message('a')], Progress()),
        live.bind([bench.binding('b')]),
        group.unbind([bench.binding('#')]),
        transport.intake(IntakeSpec(group='other', exchange=bench.exchange)),
        transport.dead_letter(bench.message('a')),
        bench.connect(mosquitto.proxied_url),
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await work
    began = time.monotonic()
    for made in bench.made:
        await made.close()

    assert time.monotonic() - began < 2


async def test_large_message_into_half_open(bench, mosquitto):
    """What the network does not take is not called written."""
    transport = await bench.connect(mosquitto.proxied_url)
    mosquitto.proxy.half_open()
    progress = Progress()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await transport.publish([bench.message('a', b'x' * 50_000_000)], progress)

    assert progress.phase == 'send'
    began = time.monotonic()
    await transport.close()
    assert time.monotonic() - began < 2


async def test_killed_broker_keeps_the_group(unique):
    """What was confirmed before a crash of the broker comes after it, ids included."""
    require_broker(Mosquitto)
    with Mosquitto() as broker:
        bench = Bench(broker.url, unique)
        first = await bench.connect()
        group = await bench.group(first, 'tank.*', 'tank.#')
        await group.close()
        await bench.publish(first, 'tank.a', 'tank.b')
        await asyncio.sleep(1.5)  # Mosquitto writes its database once a second
        broker.kill()
        await asyncio.wait_for(first.lost, WAIT_S)
        broker.start()

        second = await bench.connect()
        found = await take(await bench.group(second, 'tank.*', 'tank.#'), 4)

        expected = [(r, p) for r in ('tank.a', 'tank.b') for p in ('tank.#', 'tank.*')]
        assert sorted((d.routing, d.binding.pattern) for d in found) == expected
        await first.close()
        await second.close()


async def test_wrong_password_is_refused_without_showing_it(unique):
    """The error names the broker, not the credentials."""
    require_broker(Mosquitto)
    with Mosquitto(user='ada', password='s3cret') as broker:
        bench = Bench(broker.url.replace('s3cret', 'wr0ng'), unique)

        with pytest.raises(errors.AccessRefused) as caught:
            await bench.connect()

        assert 'wr0ng' not in str(caught.value)
        assert str(broker.port) in str(caught.value)
        good = await bench.connect(broker.url)
        await bench.publish(good, 'a')
        await good.close()


async def test_tls_with_a_client_certificate(unique):
    """Both sides are verified, and all kinds of connections use it."""
    require_broker(Mosquitto)
    with Mosquitto(tls=True, verify_client=True) as broker:
        bench = Bench(broker.url, unique)
        made = broker.certificates
        files = {
            'ca': str(made.ca),
            'cert': str(made.client_certificate),
            'key': str(made.client_key),
        }
        transport = await bench.connect(**files)
        live, group = await bench.live(transport, '#'), await bench.group(transport, '#')

        await bench.publish(transport, 'a', body=b'x' * 500_000)

        assert [len(d.body) for d in await take(live, 1) + await take(group, 1)] == [500_000] * 2
        with pytest.raises(errors.BrokerUnreachable):
            await bench.connect()
        with pytest.raises(errors.BrokerUnreachable):
            await bench.connect(ca='/nowhere.pem')
        for each in bench.made:
            await each.close()


async def test_close_is_idempotent_in_any_state(bench):
    """Before connecting, while connected, again."""
    await MqttTransport(Settings(Address.parse(bench.url))).close()
    transport = await bench.connect()
    group = await bench.group(transport, '#')

    await transport.close()
    await transport.close()
    await group.close()

    assert not transport.lost.done()
    with pytest.raises(errors.ConnectionLost):
        await transport.publish([bench.message('a')], Progress())
