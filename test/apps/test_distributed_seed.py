"""The documentation of spa-dat, pasted, with our names and the test's topics; on every bus.

Its four pages (consumer, producer, request, state) and what it says of resources and of its
classes; the topics are those of the test, and `logging` is a list that is looked at.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from service_scaffold.apps import (
    AbstractApplication,
    ApplicationLifeCycle,
    ConsumerApplication,
    DistributedApplication,
    KafkaConfig,
    MemoryConfig,
    MessageBuilder,
    MqttConfig,
    ProducerApplication,
    SocketProvider,
    TopicMessage,
    TopicSocket,
    socket_provider,
)
from test.apps.plants import started, until

LIMIT_S = 60


def configuration(request, unique):
    """The configurations of the documentation, and that of the bus built in."""
    if request.param == 'memory':
        return MemoryConfig(bus=unique)
    broker = request.getfixturevalue(request.param)
    if request.param == 'kafka':
        return KafkaConfig(bootstrap_servers=f'{broker.host}:{broker.port}')
    return MqttConfig(host=broker.host, port=broker.port)


config = pytest.fixture(params=['memory', 'mosquitto', 'kafka'])(configuration)


def declare(config: Any, unique: str, seen: list[Any]) -> SimpleNamespace:
    """Paste the blocks; return all that they have defined."""
    app = DistributedApplication(
        unique, eventbus_url=config, host='127.0.0.1', port=0, instance=unique
    )

    # Consumer

    @app.application(f'{unique}/spa-dat')
    async def consumer(
        message: TopicMessage,
        # socket: TopicSocket <- not needed but available if communication is required
    ):
        seen.append(f'Received message: {message.value}')

    # Producer

    @app.producer()
    async def producer(socket: TopicSocket, message_builder: MessageBuilder, **kwargs):
        for i in range(10):
            await socket.publish(
                message_builder(
                    payload=f'Producer Message {i}',
                    topic=f'{unique}/spa-dat',
                )
            )

    # Request

    @app.producer()
    async def requester(socket: TopicSocket, message_builder: MessageBuilder):
        for i in range(10):
            response = await socket.request(
                message_builder(
                    payload=f'Producer Message {i}',
                    topic=f'{unique}/spa-dat-producer',
                )
            )
            seen.append(f'Received Response: {response.value}')

    # State

    class ConsumerState:
        counter: int = 0

    @app.application(f'{unique}/spa-dat-producer', state=ConsumerState())
    async def responder(
        message: TopicMessage,
        message_builder: MessageBuilder,
        socket: TopicSocket,
        state: ConsumerState,
        **kwargs,
    ):
        state.counter += 1
        seen.append(f'Received Request: {state.counter}')

        # simulate long running request
        await asyncio.sleep(0.01)

        await socket.publish(
            message_builder(
                payload=f'Response Message for {message.value}',
                topic=message.reply_to,
            )
        )

    # Resources

    @asynccontextmanager
    async def database():
        seen.append('connected')
        yield 'database'
        seen.append('disconnected')

    @app.application(f'{unique}/stored', resources={'db': database})
    async def store(message: TopicMessage, db: str):
        seen.append(f'{db} has {message.value}')

    return SimpleNamespace(**locals())


async def test_the_blocks_run(config, unique):
    seen: list[str] = []
    blocks = declare(config, unique, seen)

    async with started(blocks.app) as socket:
        await socket.publish(f'{unique}/stored', 1)
        await until(lambda: 'database has 1' in seen, LIMIT_S)
        await until(lambda: seen.count('Received message: Producer Message 9') == 1, LIMIT_S)
        await until(lambda: sum('Received Response' in text for text in seen) == 10, LIMIT_S)

    for number in range(10):
        assert f'Received message: Producer Message {number}' in seen
        assert f'Received Response: Response Message for Producer Message {number}' in seen
        assert f'Received Request: {number + 1}' in seen
    assert seen[0] == 'connected'
    assert seen[-1] == 'disconnected'


async def test_its_classes_do_what_their_texts_say(config, unique):
    """`application`, `protocol` and `provider` of the reference."""
    told: list[str] = []
    provider = socket_provider(config, name=unique, instance=unique)
    assert isinstance(provider, SocketProvider)

    class Application(AbstractApplication):
        """It connects to a given message bus; how it behaves is left up to subclasses."""

        def setup(self):
            told.append('setup')

        async def run_async(self):
            told.append(await self.call(await self._queue_in.get()))

        def teardown(self):
            told.append('teardown')

    async def callback(message):
        return message.value

    async def once(socket):
        await socket.publish(f'{unique}/a', 'once')

    application = Application(callback, provider.replace(topics=f'{unique}/#'))
    assert isinstance(application, ApplicationLifeCycle)
    life = await application.start_async()
    assert told == ['setup']
    await (await ProducerApplication(once, provider.replace(instance='p')).start_async())
    await asyncio.wait_for(life, LIMIT_S)
    assert told == ['setup', 'once', 'teardown']


async def test_a_consumer_repeats_its_callback_on_each_message(config, unique):
    seen: list[int] = []

    async def callback(message):
        seen.append(message.value)
        return message.value

    provider = socket_provider(config, name=unique, instance=unique)
    consumer = ConsumerApplication(callback, provider.replace(topics=f'{unique}/a'))
    await consumer.start_async()
    try:
        for subscription in consumer.socket._own.subscriptions:
            await subscription.wait_active(LIMIT_S)
        for number in range(3):
            answer = await consumer.socket.request(f'{unique}/a', number, LIMIT_S)
            assert answer.value == number
    finally:
        await consumer.stop()

    assert seen == [0, 1, 2]


async def test_request_gives_none_if_that_is_wanted_and_nothing_came(config, unique):
    async with socket_provider(config, name=unique).create_socket() as socket:
        assert await socket.request(f'{unique}/none', 1, timeout_s=0.3, default=None) is None
