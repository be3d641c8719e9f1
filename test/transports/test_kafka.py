"""The Kafka transport against a real broker."""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from service_scaffold import errors
from service_scaffold.journal.base import (
    NewRecord,
    RebalanceListener,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.message import Message
from service_scaffold.transports import open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import (
    Binding,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    Settings,
    Transport,
)
from service_scaffold.transports.kafka import open_journal
from service_scaffold.transports.kafka_live import LiveIntake
from test.brokers.kafka import Kafka
from test.conftest import require_broker

Connect = Callable[..., Awaitable[Transport]]


@pytest.fixture
async def connect(kafka: Kafka) -> AsyncIterator[Connect]:
    """Make connected transports, closed at the end: `connect(**settings)`."""
    made: list[Transport] = []

    async def connected(url: str | None = None, **options: object) -> Transport:
        transport = open_transport(Settings(Address.parse(url or kafka.url), **options))
        made.append(transport)
        await transport.connect()
        return transport

    yield connected
    await asyncio.gather(*(transport.close() for transport in made))


@pytest.fixture
async def journal(kafka: Kafka) -> AsyncIterator[KafkaJournal]:
    """A second way to the broker, to look behind the transport's back."""
    journal = open_journal(Settings(Address.parse(kafka.url)))
    await journal.connect()
    yield journal
    await journal.close()


async def publish(transport: Transport, exchange: str, *routings: str, **options: object) -> None:
    messages = [Message(exchange, r, r.encode(), **options) for r in routings]
    assert not await transport.publish(messages, Progress())


async def group(transport: Transport, exchange: str, name: str = 'g', **options: object) -> Intake:
    intake = await transport.intake(IntakeSpec(name, exchange, **options))
    assert not await intake.bind([Binding(exchange, 'topic', '#')])
    return intake


async def live(transport: Transport, *exchanges: str, keep: dict | None = None) -> Intake:
    intake = await transport.intake(IntakeSpec(keep={} if keep is None else keep))
    assert not await intake.bind([Binding(exchange, 'topic', '#') for exchange in exchanges])
    return intake


async def take(intake: Intake, count: int, timeout_s: float = 10) -> list[Delivery]:
    """Fetch exactly `count` deliveries."""
    taken: list[Delivery] = []
    async with asyncio.timeout(timeout_s):
        while len(taken) < count:
            taken += await intake.fetch(count - len(taken))
    return taken


async def nothing_comes(intake: Intake, for_s: float = 0.5) -> bool:
    try:
        async with asyncio.timeout(for_s):
            return not await intake.fetch(1)
    except TimeoutError:
        return True


def bodies(deliveries: Sequence[Delivery]) -> list[str]:
    return sorted(delivery.body.decode() for delivery in deliveries)


# What a message looks like


async def test_an_envelope_survives_the_way(connect, unique):
    """All attributes of a message arrive, whatever bytes and characters are in them."""
    transport = await connect()
    intake = await group(transport, unique)
    sent = Message(
        unique,
        'tänk.level',
        bytes(range(256)),
        key='klüc',
        headers={'x-color': 'grün', 'x-routing-key': 'not ours'},
        message_id='m-1',
        correlation_id='c-1',
        reply_to='answers',
        content_type='application/octet-stream',
        timestamp=1234567890.125,
    )
    assert not await transport.publish([sent], Progress())

    (delivery,) = await take(intake, 1)
    got = transport.envelope(delivery)

    assert delivery.special
    expected = sent.replace(headers={'x-color': 'grün'})
    assert [getattr(got, n) for n in Message.__slots__] == [
        getattr(expected, n) for n in Message.__slots__
    ]


async def test_json_needs_no_content_type(connect, journal, unique):
    """A JSON message has just the routing and the id as headers, and its key is the record key."""
    transport = await connect()
    message = Message(unique, 'a.b', b'{}', content_type='application/json', message_id='m-1')
    assert not await transport.publish([message], Progress())

    (record,) = await read(journal, unique)

    assert record.key == b'a.b'
    assert dict(record.headers) == {'x-routing-key': b'a.b', 'x-message-id': b'm-1'}


async def test_a_foreign_record_is_understood(connect, journal, unique):
    """Without our headers the record key is the routing, and the position the message's id."""
    transport = await connect()
    intake = await group(transport, unique)
    producer = await journal.producer()
    await producer.produce(
        [
            NewRecord(unique, b'1', b'tank.level', (('x', b'\xff'),), partition=0),
            NewRecord(unique, None, b'tank.gone', partition=0),
            NewRecord(unique, b'3', partition=0),
        ]
    )

    level, gone, keyless = [transport.envelope(d) for d in await take(intake, 3)]

    assert (level.routing, level.key, level.headers) == (
        'tank.level',
        'tank.level',
        {'x': '\ufffd'},
    )
    assert level.message_id == f'{unique}/0/0'
    assert (gone.routing, gone.body) == ('tank.gone', b'')
    assert (keyless.routing, keyless.body) == ('', b'3')


@pytest.mark.skipif(shutil.which('kcat') is None, reason='kcat is not installed')
async def test_kcat_reads_what_we_publish(connect, kafka, unique):
    """A foreign tool sees the plain body, the key and the headers."""
    transport = await connect()
    await publish(transport, unique, 'a.b', message_id='m-1')

    arguments = ['-C', '-b', kafka.bootstrap, '-t', unique, '-e', '-q', '-f', '%k|%s|%h']
    process = await asyncio.create_subprocess_exec(
        'kcat', *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(15):
        out, _ = await process.communicate()

    assert out == b'a.b|a.b|x-routing-key=a.b,x-message-id=m-1'


async def read(journal: KafkaJournal, topic: str) -> list:
    """Return what a topic holds."""
    count = (await journal.partitions([topic]))[topic]
    everything = [TopicPartition(topic, number) for number in range(count)]
    ends = await journal.offsets(everything, 'end')
    reader = await journal.reader()
    await reader.assign(await journal.offsets(everything, 'first'))
    records: list = []
    while any(reader.position(where) < ends[where] for where in everything):
        records += await reader.fetch(100, 1)
    await reader.close()
    return records


# Publishing


async def test_publish_reports_its_progress(connect, unique):
    """The phase is connect until a byte may have left; each confirm is counted."""
    transport = await connect()
    phases = set()
    progress = Progress(lambda: phases.add(progress.phase))
    messages = [Message(unique, f'k.{number % 7}', b'x' * 1000) for number in range(1000)]
    assert progress.phase == 'connect'

    assert not await transport.publish(messages, progress)

    assert (progress.phase, progress.confirmed) == ('confirm', 1000)
    assert not progress.unconfirmed(1000)
    assert phases <= {'send', 'confirm'}


async def test_order_per_key_is_that_of_the_items(connect, unique):
    """Many messages in one call, over many batches, keep their order within a key."""
    transport = await connect()
    intake = await group(transport, unique, prefetch=5000)
    messages = [
        Message(unique, f'k.{number % 10}', b'%06d' % number + b'x' * 200) for number in range(5000)
    ]
    assert not await transport.publish(messages, Progress())

    got = await take(intake, 5000)

    for key in range(10):
        of_key = [delivery.body for delivery in got if delivery.routing == f'k.{key}']
        assert of_key == sorted(of_key)
        assert len(of_key) == 500


async def test_a_key_keeps_its_partition_however_it_is_published(connect, unique):
    """One message alone and many at once find the same partition for a key."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, 'a.b')
    await publish(transport, unique, *['a.b'] * 20)

    assert len({delivery.raw.partition for delivery in await take(intake, 21)}) == 1


async def test_a_too_large_message_fails_alone(connect, unique):
    """What the broker refuses is an error at its position; the others are published."""
    transport = await connect()
    intake = await group(transport, unique)
    messages = [Message(unique, 'small', b'1'), Message(unique, 'large', b'x' * 1_100_000)]
    messages += [Message(unique, f'small.{number}', b'2') for number in range(8)]

    for some in (messages[:2], messages):
        progress = Progress()
        refused = await transport.publish(some, progress)

        assert list(refused) == [1]
        assert isinstance(refused[1], errors.PublishError)
        assert progress.unconfirmed(len(some)) == (1,)
    assert bodies(await take(intake, 10)) == ['1', '1', *'22222222']


async def test_a_megabyte_passes(connect, unique):
    """A body of a million bytes arrives."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, 'a' * 100)
    assert not await transport.publish([Message(unique, 'b', b'x' * 1_000_000)], Progress())

    assert sorted(len(delivery.body) for delivery in await take(intake, 2)) == [100, 1_000_000]


async def test_passive_creates_nothing(connect, journal, unique):
    """With `declare=passive` a missing topic is refused to both sides, and not made."""
    transport = await connect(declare='passive')
    binding = Binding(unique, 'topic', '#')

    refused = await transport.publish([Message(unique, 'a', b'')], Progress())
    intake = await transport.intake(IntakeSpec('g', unique))

    assert isinstance(refused[0], errors.BindingRefused)
    assert isinstance((await intake.bind([binding]))[binding], errors.BindingRefused)
    assert await journal.partitions([unique]) == {unique: None}


async def test_passive_binds_when_the_topic_has_come(connect, journal, unique):
    """A refused binding can be tried again."""
    transport = await connect(declare='passive')
    intake = await transport.intake(IntakeSpec('g', unique))
    binding = Binding(unique, 'topic', '#')
    assert await intake.bind([binding])

    await journal.create([TopicSpec(unique)])

    assert not await intake.bind([binding])
    await publish(transport, unique, 'a')
    assert bodies(await take(intake, 1)) == ['a']


async def test_one_bad_name_leaves_the_others(connect, unique):
    """A topic that the broker refuses does not keep others from being published or bound."""
    transport = await connect()
    bad = Binding('..', 'topic', '#')
    intake = await transport.intake(IntakeSpec())

    refused = await intake.bind([bad, Binding(unique, 'topic', '#')])
    failed = await transport.publish(
        [Message('..', 'a', b''), Message(unique, 'a', b'')], Progress()
    )

    assert list(refused) == [bad]
    assert list(failed) == [0]
    assert bodies(await take(intake, 1)) == ['']


async def test_a_deleted_topic_is_made_again(connect, journal, kafka, unique):
    """Publishing declares it once more, and its group misses nothing."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, 'before')
    intake.settle(await take(intake, 1))
    await intake.pause()
    await delete_topic(kafka, unique)

    await publish(transport, unique, 'after')
    await intake.close()  # else it may be given the partition, and it is paused

    intake = await group(transport, unique, start='first')
    assert bodies(await take(intake, 1)) == ['after']


async def delete_topic(kafka: Kafka, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


async def test_dead_letters_keep_key_routing_and_body(connect, unique):
    """The store is a topic beside the origin, and reads like any other."""
    transport = await connect()
    intake = await group(transport, f'{unique}.dlq')
    letter = Message(unique, 'a.b', b'\xff', key='k', headers={'x-death-reason': 'rejected'})
    await transport.dead_letter(letter)

    got = transport.envelope((await take(intake, 1))[0])

    assert (got.exchange, got.routing, got.key, got.body) == (f'{unique}.dlq', 'a.b', 'k', b'\xff')
    assert got.headers == {'x-death-reason': 'rejected'}


async def test_no_text_of_an_error_keeps_a_dead_letter_out(connect, unique):
    """An exception may name a file whose bytes are no UTF-8."""
    transport = await connect()
    intake = await group(transport, f'{unique}.dlq')
    await transport.dead_letter(
        Message(unique, 'a', b'', headers={'x-death-error': 'no file \udcff'})
    )

    got = transport.envelope((await take(intake, 1))[0])

    assert got.headers == {'x-death-error': r'no file \udcff'}


async def test_what_is_no_text_fails_alone(connect, unique):
    """A routing key that UTF-8 cannot express is an error at its position."""
    transport = await connect()
    messages = [Message(unique, routing, b'') for routing in ('a', 'a.\udcff', 'b')]

    refused = await transport.publish(messages, Progress())

    assert list(refused) == [1]
    assert isinstance(refused[1], errors.PublishError)
    assert not refused[1].maybe_sent


async def test_a_dead_letter_store_that_cannot_be_had_raises(connect, unique):
    """Without the store the caller is told, and nothing is made."""
    transport = await connect(declare='passive')

    with pytest.raises(errors.TransportError):
        await transport.dead_letter(Message(unique, 'a', b''))


# Live views


async def test_a_live_view_begins_at_the_end(connect, unique):
    """What was published before is not seen, what is published after `bind` is."""
    transport = await connect()
    await publish(transport, unique, 'old.1', 'old.2', 'old.3', 'old.4', 'old.5')
    intake = await live(transport, unique)
    await publish(transport, unique, 'new')

    assert bodies(await take(intake, 1)) == ['new']


async def test_live_views_of_two_instances_see_everything(connect, unique):
    """Every instance gets each message."""
    views = [await live(await connect(), unique) for _ in range(2)]
    await publish(await connect(), unique, 'a', 'b')

    assert [bodies(await take(view, 2)) for view in views] == [['a', 'b']] * 2


async def test_positions_are_kept_over_reconnects(connect, unique):
    """A live view sees after a reconnect what was published meanwhile."""
    keep: dict = {}
    transport = await connect()
    intake = await live(transport, unique, keep=keep)
    await publish(transport, unique, 'before')
    await take(intake, 1)
    await transport.close()

    transport = await connect()
    await publish(transport, unique, 'meanwhile')
    intake = await live(transport, unique, keep=keep)

    assert bodies(await take(intake, 1)) == ['meanwhile']


async def test_exchanges_come_and_go(connect, unique):
    """Binding and unbinding at run time; what was read goes on where it was."""
    transport = await connect()
    one, two = f'{unique}a', f'{unique}b'
    intake = await live(transport, one)
    await publish(transport, one, 'a1')
    await publish(transport, two, 'b1')
    assert not await intake.bind([Binding(two, 'topic', '#')])
    await publish(transport, two, 'b2')
    assert bodies(await take(intake, 2)) == ['a1', 'b2']

    await intake.unbind([Binding(one, 'topic', '#')])
    await publish(transport, one, 'a2')
    await publish(transport, two, 'b3')

    assert bodies(await take(intake, 1)) == ['b3']
    assert await nothing_comes(intake)


class Gated:
    """A journal whose answers about partitions wait, once `closed`, until `opened`."""

    def __init__(self, journal: KafkaJournal) -> None:
        self._journal = journal
        self.opened = asyncio.Event()
        self.opened.set()
        self.asked = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._journal, name)

    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int | None]:
        found = await self._journal.partitions(topics)
        if not self.opened.is_set() and not self.asked.is_set():
            self.asked.set()
            await self.opened.wait()
        return found


@pytest.fixture
async def gated(journal: KafkaJournal) -> AsyncIterator[tuple[Gated, LiveIntake]]:
    """A journal with a gate, and live views on it."""
    gated = Gated(journal)

    async def declare(topic: str) -> None:
        await journal.create([TopicSpec(topic, partitions=1)])

    intake = LiveIntake(gated, IntakeSpec(), declare)
    await intake.open()
    yield gated, intake
    await intake.close()


async def test_binding_while_partitions_are_looked_for(connect, gated, unique):
    """A topic that is bound in that moment is read, and what is fetched meanwhile goes on."""
    journal, intake = gated
    journal.opened.clear()
    fetching = asyncio.create_task(take(intake, 1))  # looks for new partitions first
    await journal.asked.wait()
    binding = asyncio.create_task(intake.bind([Binding(unique, 'topic', '#')]))
    await asyncio.wait({binding}, timeout=0.3)  # would be done, if it did not wait
    journal.opened.set()
    assert not await binding

    await publish(await connect(), unique, 'a')

    assert bodies(await fetching) == ['a']


async def test_a_view_that_comes_back_begins_at_the_end(connect, gated, unique):
    """Whatever arrives while it is being unbound: nothing old is delivered afterwards."""
    journal, intake = gated
    transport = await connect()
    both = [Binding(unique, 'topic', '#'), Binding(f'{unique}-b', 'topic', '#')]
    assert not await intake.bind(both)
    await publish(transport, unique, 'unread')
    journal.opened.clear()
    unbinding = asyncio.create_task(intake.unbind(both[:1]))
    await journal.asked.wait()
    assert await nothing_comes(intake)
    journal.opened.set()
    await unbinding
    await publish(transport, unique, 'missed')

    assert not await intake.bind(both[:1])
    await publish(transport, unique, 'new')

    assert bodies(await take(intake, 1)) == ['new']


async def test_a_consumer_that_has_ended_is_forgotten(connect, unique):
    """A group that is refused again and again costs no memory."""
    transport = await connect()
    ended = []
    for _ in range(3):
        intake = await group(transport, unique)
        ended.append(weakref.ref(intake))
        await intake.close()
        del intake
    gc.collect()

    assert [intake() is None for intake in ended] == [True, True, False]


async def test_a_view_without_bindings_can_be_cancelled(connect):
    """Waiting with nothing bound is no trap."""
    intake = await (await connect()).intake(IntakeSpec())

    assert await nothing_comes(intake, 0.1)


async def test_cancelled_fetches_lose_nothing(connect, unique):
    """However often a fetch is cancelled, every message is delivered once, in order."""
    transport = await connect()
    intake = await group(transport, unique, prefetch=1000)
    sending = asyncio.ensure_future(publish(transport, unique, *(f'k.{n:04}' for n in range(1000))))
    got: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(got) < 1000:
            try:
                async with asyncio.timeout(0.0005):
                    got += await intake.fetch(7)
            except TimeoutError:
                await asyncio.sleep(0.0005)
    await sending

    assert bodies(got) == [f'k.{n:04}' for n in range(1000)]


# Groups


async def committed(journal: KafkaJournal, exchange: str, name: str = 'g') -> int:
    """Return the sum of a group's committed offsets."""
    count = (await journal.partitions([exchange]))[exchange]
    member = await journal.member(f'{name}@{exchange}', Bystander())
    found = await member.committed([TopicPartition(exchange, n) for n in range(count)])
    await member.close()
    return sum(commit.offset for commit in found.values() if commit is not None)


class Bystander(RebalanceListener):
    async def on_revoked(self, partitions: object) -> None: ...
    async def on_assigned(self, partitions: object) -> None: ...


async def test_a_new_group_begins_after_its_first_subscription(connect, journal, unique):
    """The end is committed at once: what comes while nobody is there waits for the group."""
    transport = await connect()
    await publish(transport, unique, 'old.1', 'old.2')
    intake = await group(transport, unique)
    assert await committed(journal, unique) == 2
    await intake.close()
    await publish(transport, unique, 'new.1', 'new.2', 'new.3')

    intake = await group(transport, unique)

    assert bodies(await take(intake, 3)) == ['new.1', 'new.2', 'new.3']


async def test_a_group_can_begin_with_the_first_message(connect, unique):
    """`start='first'` reads what Kafka still has."""
    transport = await connect()
    await publish(transport, unique, 'old.1', 'old.2')

    intake = await group(transport, unique, start='first')

    assert bodies(await take(intake, 2)) == ['old.1', 'old.2']


async def test_two_groups_get_everything_each(connect, unique):
    """Groups on one exchange do not share."""
    transport = await connect()
    groups = [await group(transport, unique, name) for name in 'ab']
    await publish(transport, unique, 'x', 'y')

    assert [bodies(await take(intake, 2)) for intake in groups] == [['x', 'y']] * 2


async def test_one_name_on_two_exchanges_is_two_groups(connect, unique):
    """Members of a group on different exchanges do not disturb each other."""
    transport = await connect()
    intakes = [await group(transport, f'{unique}{letter}') for letter in 'ab']
    await publish(transport, f'{unique}a', 'a')
    await publish(transport, f'{unique}b', 'b')

    assert [bodies(await take(intake, 1)) for intake in intakes] == [['a'], ['b']]


async def test_commits_never_skip_an_unfinished_message(connect, journal, unique):
    """Settled out of order, only what lies below the lowest unfinished one is committed."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, *['same.key'] * 5)
    first, second, third, fourth, fifth = await take(intake, 5)

    intake.settle([second, third])
    intake.settle([fifth])
    await intake.pause()
    assert await committed(journal, unique) == 0

    intake.settle([first])
    await intake.pause()
    assert await committed(journal, unique) == 3

    intake.settle([fourth, third])
    await intake.close()
    assert await committed(journal, unique) == 5


async def test_settling_is_committed_soon(connect, journal, unique):
    """Nobody has to close anything for that."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, *['k'] * 10)
    intake.settle(await take(intake, 10))

    async with asyncio.timeout(2):
        while await committed(journal, unique) != 10:
            pass


async def test_unsettled_messages_come_again(connect, unique):
    """What a member leaves unsettled goes to the next one; what it has settled does not."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, *(f'{n}' for n in range(4)), key='k')
    got = await take(intake, 4)
    intake.settle(got[:2])
    await intake.close()

    intake = await group(transport, unique)

    assert bodies(await take(intake, 2)) == ['2', '3']


async def test_requeued_messages_come_again_at_once(connect, journal, unique):
    """A delivery that was handed back is delivered before later ones, and then committed."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, *(f'{n}' for n in range(4)), key='k')
    first, second, third = await take(intake, 3)
    intake.requeue([second])
    intake.requeue([second, first])
    intake.settle([third])

    again = await take(intake, 3)
    intake.settle(again)
    await intake.close()

    assert [delivery.body for delivery in again] == [b'0', b'1', b'3']
    assert await committed(journal, unique) == 4


async def test_members_share_the_partitions(connect, unique):
    """Each message goes to one member only."""
    one = await group(await connect(), unique)
    two = await group(await connect(), unique)
    publisher = await connect()
    routings = [f'k.{number}' for number in range(200)]
    received: dict[Intake, list[Delivery]] = {one: [], two: []}
    await balanced(publisher, unique, received)
    await publish(publisher, unique, *routings)
    async with asyncio.timeout(10):
        while len(received[one]) + len(received[two]) < 200:
            await asyncio.gather(*(fetch_into(intake, received[intake]) for intake in received))

    assert bodies(received[one] + received[two]) == sorted(routings)
    assert min(len(received[one]), len(received[two])) >= 50


async def fetch_into(intake: Intake, received: list[Delivery], for_s: float = 0.1) -> None:
    try:
        async with asyncio.timeout(for_s):
            got = await intake.fetch(500)
    except TimeoutError:
        return
    intake.settle(got)
    received += got


async def balanced(transport: Transport, exchange: str, received: dict[Intake, list]) -> None:
    """Publish until each member has got something, then forget what came."""
    async with asyncio.timeout(15):
        while not all(received.values()):
            await publish(transport, exchange, *(f'k.{number}' for number in range(20)))
            await asyncio.gather(*(fetch_into(intake, received[intake]) for intake in received))
        while any([await drain(intake) for intake in received]):
            pass
    for some in received.values():
        some.clear()


async def drain(intake: Intake) -> int:
    some: list[Delivery] = []
    await fetch_into(intake, some, 0.3)
    return len(some)


async def test_a_rebalance_waits_for_what_runs_and_commits_it(connect, journal, unique):
    """A message that is finished while partitions move is not delivered again."""
    one = await group(await connect(), unique)
    publisher = await connect()
    await publish(publisher, unique, *(f'k.{number}' for number in range(40)))
    running = await take(one, 40)
    joining = asyncio.ensure_future(group(await connect(), unique))
    await asyncio.sleep(2)  # longer than a heartbeat: the rebalance waits for us
    assert not joining.done()
    assert all(one.alive(delivery) for delivery in running)
    one.settle(running)

    two = await joining
    await publish(publisher, unique, *(f'n.{number}' for number in range(40)))
    received: dict[Intake, list[Delivery]] = {one: [], two: []}
    async with asyncio.timeout(10):
        while len(received[one]) + len(received[two]) < 40:
            await asyncio.gather(*(fetch_into(intake, received[intake]) for intake in received))

    assert bodies(received[one] + received[two]) == sorted(f'n.{number}' for number in range(40))
    assert received[two]


async def test_what_runs_too_long_goes_to_the_new_owner_only(connect, unique):
    """After the wait, deliveries of partitions that have gone are void, those that stay are not."""
    one = await group(await connect(), unique)
    publisher = await connect()
    await publish(publisher, unique, *(f'k.{number}' for number in range(40)))
    running = await take(one, 40)
    epoch = one.epoch

    two = await group(await connect(), unique)
    async with asyncio.timeout(10):
        while one.epoch == epoch:
            assert await nothing_comes(one, 0.1)

    void = [delivery for delivery in running if not one.alive(delivery)]
    assert 0 < len(void) < 40
    assert bodies(await take(two, len(void))) == bodies(void)
    assert await nothing_comes(one)
    assert await nothing_comes(two)


async def test_lost_offsets_are_an_error_and_never_a_jump(connect, journal, unique):
    """Committed offsets that the log no longer has end the intake, naming them."""
    await journal.create([TopicSpec(unique, 1)])
    member = await journal.member(f'g@{unique}', Bystander())
    await member.commit({TopicPartition(unique, 0): 1000})
    await member.close()

    intake = await group(await connect(), unique)

    with pytest.raises(errors.IntakeLost, match=f'{unique}/0 at 1000, the log has 0 to 0'):
        await take(intake, 1)


async def test_a_partition_made_later_is_new_from_its_first_message(connect, kafka, unique):
    """The end is only where a group begins, not where it finds new partitions."""
    transport = await connect()
    intake = await group(transport, unique)
    await add_partitions(kafka, unique, 8)
    publisher = await connect()
    await publish(publisher, unique, *(f'k.{number}' for number in range(100)))

    got = await take(intake, 100, timeout_s=25)

    assert {delivery.raw.partition for delivery in got} == set(range(8))


async def test_a_live_view_reads_later_partitions_from_their_beginning(connect, kafka, unique):
    """Nothing is missed in the time until new partitions are noticed."""
    transport = await connect()
    intake = await live(transport, unique)
    await add_partitions(kafka, unique, 8)
    publisher = await connect()
    await publish(publisher, unique, *(f'k.{number}' for number in range(100)))

    got = await take(intake, 100, timeout_s=25)

    assert {delivery.raw.partition for delivery in got} == set(range(8))


async def add_partitions(kafka: Kafka, topic: str, total: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(total)})
    await admin.close()


async def test_a_paused_intake_hands_nothing_out_but_settles(connect, journal, unique):
    """Pausing is for shutdown: what was fetched may still be settled."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, 'a', 'b', 'c', key='k')
    got = await take(intake, 2)

    await intake.pause()
    assert await nothing_comes(intake, 0.3)
    intake.settle(got)
    await intake.close()

    assert await committed(journal, unique) == 2


# Requests


async def test_replies_find_their_way(connect, unique):
    """An answer reaches every instance of the service, with the request's correlation id."""
    asker = await connect(name=unique)
    got: asyncio.Queue[Message] = asyncio.Queue()
    address = await asker.open_replies(got.put_nowait)
    responder = await connect()
    request = Message(unique, 'ask', b'', correlation_id='c-7', reply_to=address)

    await responder.reply(request, Message(unique, 'ask', b'42', headers={'x-error-type': 'E'}))

    async with asyncio.timeout(5):
        answer = await got.get()
    assert (answer.correlation_id, answer.body) == ('c-7', b'42')
    assert answer.headers == {'x-error-type': 'E'}


async def test_old_replies_are_not_seen(connect, unique):
    """The position is the end before the first request is sent."""
    first = await connect(name=unique)
    address = await first.open_replies(lambda answer: None)
    request = Message(unique, 'ask', b'', correlation_id='old', reply_to=address)
    await first.reply(request, Message(unique, 'ask', b'old'))

    got: asyncio.Queue[Message] = asyncio.Queue()
    second = await connect(name=unique)
    await second.open_replies(got.put_nowait)
    await first.reply(request, Message(unique, 'ask', b'new'))

    async with asyncio.timeout(5):
        assert (await got.get()).body == b'new'


async def test_an_answer_to_nowhere_raises_and_creates_nothing(connect, journal, unique):
    """A reply address that does not exist is an error of that answer."""
    transport = await connect()
    request = Message(unique, 'ask', b'', correlation_id='c', reply_to=f'{unique}.gone')

    with pytest.raises(errors.PublishError):
        await transport.reply(request, Message(unique, 'ask', b''))

    assert await journal.partitions([f'{unique}.gone']) == {f'{unique}.gone': None}


# Faults


async def test_nobody_there(unique):
    """A refused connection is said at once, with the address."""
    transport = open_transport(Settings(Address.parse('kafka://127.0.0.1:1')))

    with pytest.raises(errors.BrokerUnreachable, match=r'127\.0\.0\.1:1'):
        await transport.connect()
    await transport.close()


async def test_a_killed_broker_is_noticed(connect, kafka, unique):
    """The connection is lost within seconds, fetches end, and nothing settled stays alive."""
    transport = await connect()
    intake = await group(transport, unique)
    await publish(transport, unique, 'a')
    (delivery,) = await take(intake, 1)
    kafka.kill()
    began = time.monotonic()

    with pytest.raises(errors.ConnectionLost):
        await take(intake, 1, timeout_s=10)

    assert time.monotonic() - began < 5
    assert isinstance(transport.lost.result(), errors.ConnectionLost)
    assert not intake.alive(delivery)
    began = time.monotonic()
    await transport.close()
    assert time.monotonic() - began < 2


async def test_a_half_open_connection_is_noticed(connect, kafka, unique):
    """No answer for the session's time is a lost connection; publishes fail before."""
    transport = await connect(kafka.proxied_url, publish_timeout_s=2.0)
    intake = await group(transport, unique)
    await publish(transport, unique, 'a')
    await take(intake, 1)
    kafka.proxy.half_open()
    began = time.monotonic()
    progress = Progress()

    with pytest.raises(errors.ConnectionLost):
        await transport.publish([Message(unique, 'b', b'')], progress)
    assert progress.phase == 'confirm'
    assert time.monotonic() - began < 2.5
    with pytest.raises(errors.ConnectionLost):
        await take(intake, 1, timeout_s=15)

    assert time.monotonic() - began < 12
    began = time.monotonic()
    await transport.close()
    assert time.monotonic() - began < 2


async def test_close_is_short_in_mid_publish_of_a_dead_connection(connect, kafka, unique):
    """Closing gives up what is not confirmed, and the record does not come later."""
    transport = await connect(kafka.proxied_url)
    await publish(transport, unique, 'a')
    kafka.proxy.half_open()
    publishing = [
        asyncio.ensure_future(transport.publish([Message(unique, 'late', b'')] * n, Progress()))
        for n in (1, 50)
    ]
    await asyncio.sleep(0.3)
    began = time.monotonic()

    await transport.close()

    assert time.monotonic() - began < 2
    for result in await asyncio.gather(*publishing, return_exceptions=True):
        assert isinstance(result, errors.ConnectionLost)


async def test_a_group_goes_on_after_a_crash_of_the_broker(connect, kafka, unique):
    """What was confirmed before the kill is delivered after it, without waiting for our ghost."""
    keep: dict = {}
    transport = await connect()
    intake = await group(transport, unique, keep=keep)
    await publish(transport, unique, *(f'k.{number}' for number in range(20)))
    intake.settle(await take(intake, 5))
    await intake.pause()
    kafka.kill()
    await transport.lost
    await transport.close()
    kafka.start()

    transport = await connect()
    began = time.monotonic()
    intake = await group(transport, unique, keep=keep)
    got = await take(intake, 15)

    assert len(set(bodies(got))) == 15
    assert time.monotonic() - began < 5


# Access


@pytest.mark.parametrize('mechanism', ['PLAIN', 'SCRAM-SHA-256'])
async def test_credentials_and_tls(mechanism, unique):
    """SASL over TLS works with the right password; a wrong one is refused and not shown."""
    require_broker(Kafka)
    with Kafka(tls=True, user='anna', password='s3cr:t@x', sasl=mechanism) as broker:
        settings = Settings(Address.parse(broker.url), ca=str(broker.certificates.ca))
        transport = open_transport(settings)
        await transport.connect()
        await publish(transport, unique, 'a')
        await transport.close()

        wrong = broker.url.replace('s3cr', 'WRONG')
        transport = open_transport(Settings(Address.parse(wrong), ca=settings.ca))
        with pytest.raises(errors.AccessRefused) as refused:
            await transport.connect()
        await transport.close()

    assert 'WRONG' not in repr(refused.value)


async def test_an_unknown_mechanism_is_a_config_error():
    """A typing error in the URL is said at once."""
    with pytest.raises(errors.ConfigError, match='SCRAM-SHA-512'):
        open_transport(Settings(Address.parse('kafka://a:b@h:1?sasl=MAGIC')))
