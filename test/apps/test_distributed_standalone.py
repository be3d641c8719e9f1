"""Applications by themselves: consumers, producers, and those of a class of one's own."""

from __future__ import annotations

import asyncio
import signal

import pytest

from service_scaffold.apps import (
    AbstractApplication,
    ApplicationLifeCycle,
    ConsumerApplication,
    MemoryConfig,
    ProducerApplication,
)
from service_scaffold.apps.distributed.standalone import QUEUE_SIZE
from test.apps.plants import until
from test.apps.programs import program


class Pool:
    def __init__(self, told):
        self.told = told

    async def __aenter__(self):
        self.told.append('enter')
        return 'pool'

    async def __aexit__(self, kind, error, trace):
        self.told.append(f'leave {kind.__name__ if kind else None}')


async def test_a_consumer_and_a_producer_meet(unique):
    config, told = MemoryConfig(bus=unique), []

    async def take(message, state, pool, socket):
        told.append((message.topic, message.value, state, pool))
        return 'taken'

    async def send(socket, message_builder, state):
        answer = await socket.request(message_builder('q/a', 1))
        told.append((answer.value, state))

    consumer = ConsumerApplication(
        take, config.replace(topics='q'), state='mine', resources={'pool': Pool(told)}
    )
    producer = ProducerApplication(send, f'memory://{unique}', state=dict)
    assert (consumer.async_callback, consumer.state) == (take, 'mine')
    assert consumer.config == config.replace(topics='q')
    assert list(consumer.resources) == ['pool']

    life = await consumer.start_async()
    await until(lambda: all(s.active for s in consumer.socket._own.subscriptions))
    await (await producer.start_async())  # which ends by itself
    await consumer.stop()
    await life

    assert told == ['enter', ('q/a', 1, 'mine', 'pool'), ('taken', {}), 'leave None']


async def test_instances_of_a_consumer_share_the_messages(unique):
    seen = []

    async def take(message):
        seen.append(message.value)

    config = MemoryConfig(bus=unique, topics='q')
    one, other = (ConsumerApplication(take, config) for _ in range(2))
    await one.start_async()
    await other.start_async()
    for number in range(10):
        await one.socket.publish('q', number)
    await until(lambda: len(seen) == 10)
    await one.stop()
    await other.stop()

    assert sorted(seen) == list(range(10))


async def test_a_failing_message_ends_no_consumer_and_running_ones_finish(unique):
    seen, begun, go_on = [], asyncio.Event(), asyncio.Event()

    async def take(message):
        if message.value == 'bad':
            raise ValueError(message.value)
        begun.set()
        await go_on.wait()
        seen.append(message.value)

    consumer = ConsumerApplication(take, MemoryConfig(bus=unique, topics='q'))
    await consumer.start_async()
    await consumer.socket.publish('q', 'bad')
    await consumer.socket.publish('q', 'good')
    await begun.wait()
    stopping = asyncio.ensure_future(consumer.stop())
    go_on.set()
    await stopping

    assert seen == ['good']


async def test_a_failing_producer_leaves_its_resources_and_raises(unique):
    told = []

    async def send(pool):
        raise ValueError('no')

    producer = ProducerApplication(send, f'memory://{unique}', resources={'pool': Pool(told)})
    life = await producer.start_async()
    with pytest.raises(ValueError, match='no'):
        await life

    assert told == ['enter', 'leave ValueError']


async def test_a_class_of_ones_own_says_what_happens(unique):
    told = []

    class Batch(AbstractApplication):
        def setup(self):
            told.append('setup')

        async def run_async(self):
            message = await self._queue_in.get()
            told.append(await self.call(message))
            await self.stopping.wait()

        def teardown(self):
            told.append('teardown')

    async def double(message, pool, app):
        return message.value * 2, pool, isinstance(app, Batch)

    batch = Batch(
        double, MemoryConfig(bus=unique, topics='q'), resources={'pool': lambda: Pool(told)}
    )
    for _ in range(2):
        await batch.start_async()
        with pytest.raises(RuntimeError, match='runs already'):
            await batch.start_async()
        await batch.socket.publish('q', 4)
        await until(lambda: (8, 'pool', True) in told)
        await batch.stop()
        assert told == ['setup', 'enter', (8, 'pool', True), 'leave None', 'teardown']
        told.clear()
    with pytest.raises(RuntimeError, match='does not run'):
        _ = batch.socket


async def test_an_abstract_one_does_nothing(unique):
    application = AbstractApplication(print, f'memory://{unique}', state=1)
    assert (application.config, application.state) == (f'memory://{unique}', 1)
    with pytest.raises(NotImplementedError, match='has no run_async'):
        await (await application.start_async())


async def test_why_it_could_not_start_is_raised(unique):
    class Broken:
        async def __aenter__(self):
            raise OSError('no database')

        async def __aexit__(self, *facts): ...

    producer = ProducerApplication(print, f'memory://{unique}', resources={'db': Broken()})
    with pytest.raises(OSError, match='no database'):
        await producer.start_async()


def test_what_is_wrong_is_said_where_it_stands():
    async def take(message, other): ...

    async def listen(message): ...

    config = MemoryConfig(topics='q')
    with pytest.raises(TypeError, match="'ressources'; did you mean 'resources'"):
        ProducerApplication(print, config, ressources={})
    with pytest.raises(TypeError, match="declares 'other'"):
        ConsumerApplication(take, config)
    with pytest.raises(TypeError, match="declares 'message'"):
        ProducerApplication(take, config)
    with pytest.raises(ValueError, match='listen has no topics'):
        ConsumerApplication(listen, 'memory://')
    with pytest.raises(ValueError, match=r'Not a group name: .*<lambda>'):
        ConsumerApplication(lambda message: None, config)
    assert isinstance(ProducerApplication(print, config), ApplicationLifeCycle)


CONSUMER = """
import asyncio
from service_scaffold.apps import ConsumerApplication, MemoryConfig

class Pool:
    def __enter__(self):
        print('entered', flush=True)
    def __exit__(self, *facts):
        print('left', flush=True)

async def take(message, socket):
    print('begun', flush=True)
    await asyncio.sleep(0.5)
    print('handled', flush=True)

class Consumer(ConsumerApplication):
    async def run_async(self):
        await self.socket.publish('q', 1)
        await super().run_async()

Consumer(take, MemoryConfig(topics='q'), resources={'pool': Pool()}).start()
print('ended', flush=True)
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(number):
    async with program(CONSUMER) as process:
        await process.printed('begun')
        process.signal(number)
        assert await process.ended() == 0

    assert process.output.split() == ['entered', 'begun', 'handled', 'left', 'ended']


async def test_a_failing_producer_has_status_1():
    source = """
    from service_scaffold.apps import ProducerApplication
    async def send():
        raise ValueError('out of ink')
    ProducerApplication(send, 'memory://x').start()
    """
    async with program(source) as process:
        assert await process.ended() == 1

    assert 'out of ink' in process.log


async def test_a_producer_takes_nothing_of_what_its_configuration_names(unique):
    """One configuration for both: the messages are for the consumer."""
    config, seen = MemoryConfig(bus=unique, topics='q', group='g'), []

    async def take(message):
        seen.append(message.value)

    async def send(socket):
        for number in range(200):
            await socket.publish('q', number)

    consumer = ConsumerApplication(take, config)
    await consumer.start_async()
    producer = ProducerApplication(send, config)
    life = await producer.start_async()
    assert producer.socket.queue is None
    await life
    await until(lambda: len(seen) == 200)
    await consumer.stop()


async def test_what_its_full_queue_cannot_take_goes_back_at_once(unique):
    config = MemoryConfig(bus=unique, topics='q', group='g')

    class Idle(AbstractApplication):
        async def run_async(self):
            await self.stopping.wait()

    idle = Idle(lambda message: None, config)
    await idle.start_async()
    for number in range(QUEUE_SIZE + 2):
        await idle.socket.publish('q', number)
    await until(lambda: idle.socket._putting)
    await asyncio.wait_for(idle.stop(), 5)

    rest = asyncio.Queue()
    async with config.create_socket(rest):
        await until(lambda: rest.qsize() == 2)


async def test_a_start_that_is_cancelled_leaves_nothing(unique):
    told, entering = [], asyncio.Event()

    class Slow(Pool):
        async def __aenter__(self):
            entering.set()
            await asyncio.Event().wait()

    async def take(message): ...

    config = MemoryConfig(bus=unique, topics='q')
    consumer = ConsumerApplication(take, config, resources={'a': Pool(told), 'b': Slow(told)})
    before = asyncio.all_tasks()
    starting = asyncio.ensure_future(consumer.start_async())
    await entering.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert asyncio.all_tasks() == before
    assert told == ['enter', 'leave CancelledError']


async def test_a_producer_whose_wait_was_cancelled_has_failed(unique):
    async def send():
        nothing = asyncio.get_running_loop().create_future()
        nothing.cancel()
        await nothing

    life = await ProducerApplication(send, f'memory://{unique}').start_async()
    with pytest.raises(RuntimeError, match='send: what it awaited was cancelled'):
        await life


async def test_its_function_may_stop_it(unique):
    told = []

    async def take(message, app):
        await app.stop()
        told.append(message.value)

    consumer = ConsumerApplication(take, MemoryConfig(bus=unique, topics='q'))
    life = await consumer.start_async()
    await until(lambda: all(s.active for s in consumer.socket._own.subscriptions))
    await consumer.socket.publish('q', 1)
    await asyncio.wait_for(life, 5)
    await consumer.stop()

    assert told == [1]
