"""Sockets by themselves: configurations, providers, queues."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from google.protobuf.wrappers_pb2 import Int32Value

from service_scaffold import errors
from service_scaffold.apps import (
    AmqpConfig,
    BusConfig,
    KafkaConfig,
    MemoryConfig,
    MqttConfig,
    SocketProvider,
    TopicMessage,
    socket_provider,
)
from service_scaffold.transports import memory
from test.apps.plants import until

# Configurations


@pytest.mark.parametrize(
    ('config', 'url'),
    [
        (AmqpConfig(), 'amqp://localhost'),
        (
            AmqpConfig(
                host='::1', port=5, user='a@b', password='p/w:', virtual_host='/v', tls=True
            ),
            'amqps://a%40b:p%2Fw%3A@[::1]:5/%2Fv',
        ),
        (KafkaConfig(), 'kafka://localhost:9092'),
        (
            KafkaConfig(
                bootstrap_servers=['a:1', 'b:2'], user='u', password='p', sasl='PLAIN', tls=True
            ),
            'kafka+ssl://u:p@a:1,b:2?sasl=PLAIN',
        ),
        (MqttConfig(host='h', port=1), 'mqtt://h:1'),
        (MqttConfig(host='[::1]', port=1), 'mqtt://[::1]:1'),
        (MqttConfig(user='u', password='p', tls=True), 'mqtts://u:p@localhost'),
        (MemoryConfig(bus='x'), 'memory://x'),
        (BusConfig(url='amqp://h'), 'amqp://h'),
    ],
)
def test_a_configuration_is_a_url(config, url):
    assert config.url == url
    config.create_socket()  # which reads it


@pytest.mark.parametrize('kind', [AmqpConfig, KafkaConfig, MqttConfig, MemoryConfig, BusConfig])
def test_an_unknown_key_is_an_error_with_the_nearest(kind):
    with pytest.raises(TypeError, match="has no 'topic'; did you mean 'topics'"):
        kind(topic='a')
    with pytest.raises(TypeError, match='qos'):
        kind(qos=1)
    with pytest.raises(TypeError, match="'topic'"):
        kind().replace(topic='a')


@pytest.mark.parametrize('kind', [AmqpConfig, KafkaConfig, MqttConfig])
def test_a_password_without_a_user_is_refused(kind):
    with pytest.raises(ValueError, match='a password without a user') as refusal:
        kind(password='sesame')

    assert 'sesame' not in str(refusal.value)


async def test_a_content_type_that_nobody_knows_is_refused_at_the_start(unique):
    with pytest.raises(errors.ConfigError, match=r'application/jsn.*known are application/json'):
        async with MemoryConfig(bus=unique, content_type='application/jsn').create_socket():
            pytest.fail('nothing could be published')


def test_what_is_no_group_and_no_server_is_refused_where_it_stands():
    with pytest.raises(ValueError, match="Not a group name: 'all of us'"):
        MemoryConfig(topics='q', group='all of us')
    with pytest.raises(ValueError, match='name at least one host:port'):
        KafkaConfig(bootstrap_servers=[])
    with pytest.raises(TypeError, match="KafkaConfig has no 'url'"):
        KafkaConfig().replace(url='kafka://elsewhere')
    with pytest.raises(TypeError, match=r'AmqpConfig.__init__\(\) takes 1 positional'):
        AmqpConfig('broker')


def test_a_password_is_never_shown():
    config = AmqpConfig(user='u', password='secret')

    assert 'secret' not in repr(config)
    assert 'secret' not in repr(BusConfig(url='amqp://u:secret@h'))
    assert pickle.loads(pickle.dumps(config)) == config


def test_topics_are_one_or_several():
    assert MqttConfig(topics='a/b').topics == ('a/b',)
    assert MqttConfig(topics=['a/b', 'c']).topics == ('a/b', 'c')
    assert MqttConfig().topics == ()
    with pytest.raises(ValueError, match='Not a topic'):
        MqttConfig(topics='a//b')


def test_a_provider_is_copied_with_changes():
    provider = socket_provider('memory://x', topics='a')
    other = provider.replace(topics=['b', 'c'])

    assert (provider.topics, other.topics) == (('a',), ('b', 'c'))
    assert other.url == provider.url
    assert MqttConfig(host='h').replace(port=5).url == 'mqtt://h:5'
    assert socket_provider(other) is other
    assert isinstance(provider, SocketProvider)
    with pytest.raises(TypeError, match='neither the URL'):
        socket_provider(3)  # type: ignore[arg-type]


@pytest.mark.parametrize('url', ['nonsense', 'redis://h', 'amqp://h?qos=1', 'amqp://h:many'])
async def test_a_wrong_url_is_an_error_that_names_it(url):
    with pytest.raises(errors.ConfigError):
        async with socket_provider(url).create_socket():
            pass


def test_the_environment_has_no_part_in_it(monkeypatch, unique):
    monkeypatch.setenv('SERVICE_EVENTBUS_URL', 'amqp://elsewhere')
    monkeypatch.setenv('SERVICE_EVENTBUS_HOST', 'elsewhere')
    monkeypatch.setattr('sys.argv', ['x', '--no-such-flag'])

    socket = MemoryConfig(bus=unique).create_socket()

    assert socket._app['config']['eventbus_url'] == f'memory://{unique}'


# Queues


async def test_what_comes_goes_into_the_queue(unique):
    config = MemoryConfig(bus=unique, topics=['a', 'b/*'])
    queue = asyncio.Queue()
    async with config.create_socket(queue) as socket:
        await socket.publish('a', 1)
        await socket.publish('b/x', 2)
        await socket.publish('b/x/y', 3)
        found = [await asyncio.wait_for(queue.get(), 5) for _ in range(2)]

    assert [(message.topic, message.value) for message in found] == [('a', 1), ('b/x', 2)]
    assert queue.empty()


async def test_every_socket_sees_all_unless_they_are_a_group(unique):
    async def numbers(config):
        one, two = asyncio.Queue(), asyncio.Queue()
        async with config.create_socket(one) as socket, config.create_socket(two):
            for number in range(10):
                await socket.publish('a', number)
            await until(lambda: one.qsize() + two.qsize() == (10 if config.group else 20))
        return one.qsize(), two.qsize()

    config = MemoryConfig(bus=unique, topics='a')
    assert await numbers(config) == (10, 10)
    shared = await numbers(config.replace(bus=f'{unique}x', group='g'))
    assert sum(shared) == 10


@pytest.mark.parametrize('group', [None, 'g'])
async def test_a_full_queue_holds_back_the_bus_and_nothing_is_lost(unique, group):
    config = MemoryConfig(bus=unique, topics='a', group=group)
    queue = asyncio.Queue(maxsize=2)
    found, most = [], 0
    async with config.create_socket(queue) as socket:
        for number in range(200):
            await socket.publish('a', number)
        while len(found) < 200:
            most = max(most, queue.qsize())
            found.append((await asyncio.wait_for(queue.get(), 5)).value)
            await asyncio.sleep(0)

    assert found == list(range(200))
    assert most <= 2


async def test_what_a_group_could_not_put_into_its_queue_goes_back(unique):
    config = MemoryConfig(bus=unique, topics='a', group='g')
    queue = asyncio.Queue(maxsize=2)
    loop = asyncio.get_running_loop()
    async with config.create_socket(queue) as socket:
        for number in range(10):
            await socket.publish('a', number)
        await until(lambda: socket._putting)
        began = loop.time()
    assert loop.time() - began < 2

    rest = asyncio.Queue()
    async with config.create_socket(rest):
        await until(lambda: queue.qsize() + rest.qsize() == 10)

    values = [queue.get_nowait().value for _ in range(2)]
    values += [rest.get_nowait().value for _ in range(8)]
    assert values == list(range(10))


async def test_it_asks_and_answers(unique):
    provider = socket_provider(f'memory://{unique}')

    async def double(message):
        return message.value * 2

    async with provider.create_socket() as socket:
        await socket.subscribe('q', double)
        assert (await socket.request('q', 4)).value == 8


async def test_values_are_encoded_as_the_configuration_says(unique):
    config = MemoryConfig(bus=unique, topics='a', content_type='application/msgpack')
    queue = asyncio.Queue()
    async with config.create_socket(queue) as socket:
        await socket.publish('a', {'x': 1})
        message = await asyncio.wait_for(queue.get(), 5)

    assert (message.content_type, message.value) == ('application/msgpack', {'x': 1})


async def test_topics_are_added_and_taken_away(unique):
    queue = asyncio.Queue()
    async with MemoryConfig(bus=unique).create_socket(queue) as socket:
        await socket.subscribe('a')
        await socket.publish('a', 1)
        await until(lambda: queue.qsize() == 1)
        await socket.unsubscribe('a')
        await socket.subscribe(['b', 'c/*'])
        await socket.publish('a', 2)
        await socket.publish('c/x', 3)
        await until(lambda: queue.qsize() == 2)
        await socket.unsubscribe()

    assert [queue.get_nowait().value for _ in range(2)] == [1, 3]


async def test_it_is_there_again_after_the_bus_was_away(unique):
    bus = memory.broker(f'memory://{unique}')
    queue = asyncio.Queue()
    async with MemoryConfig(bus=unique, topics='a').create_socket(queue) as socket:
        bus.down()
        with pytest.raises(errors.PublishError):
            await socket.publish('a', 1)
        bus.up()
        await socket.subscribe('b')
        await until(lambda: all(s.active for s in socket._own.subscriptions))
        await socket.publish('a', 2)
        assert (await asyncio.wait_for(queue.get(), 5)).value == 2


async def test_a_request_from_the_queue_is_answered_by_whoever_takes_it(unique):
    """In another task than it came in, and not in the order of coming."""
    config, queue = MemoryConfig(bus=unique, topics='q'), asyncio.Queue()
    async with config.create_socket(queue) as socket, config.create_socket() as other:
        asking = [asyncio.ensure_future(other.request('q', number, 5)) for number in range(2)]
        taken = [await asyncio.wait_for(queue.get(), 5) for _ in range(2)]
        for message in reversed(taken):
            await socket.publish(message.reply_to, message.value * 10)

        assert [(await answer).value for answer in asking] == [0, 10]


async def test_nothing_is_left_of_a_socket_that_was_not_entered(unique):
    memory.broker(f'memory://{unique}').down()
    before = asyncio.all_tasks()
    socket = MemoryConfig(bus=unique, topics='q').create_socket(asyncio.Queue())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(socket.__aenter__(), 0.1)

    assert asyncio.all_tasks() == before


async def test_all_or_nothing_is_unsubscribed(unique):
    async def take(message): ...

    async with MemoryConfig(bus=unique).create_socket() as socket:
        await socket.subscribe('a', take)
        with pytest.raises(ValueError, match="not subscribed to 'b'"):
            await socket.unsubscribe(['a', 'b'])
        await socket.unsubscribe('a')
        with pytest.raises(ValueError, match="not subscribed to 'a'"):
            await socket.unsubscribe('a')
        with pytest.raises(ValueError, match='empty word'):
            await socket.subscribe('a//b', take)

        assert not socket._others


async def test_subscribing_again_waits_as_well(unique):
    bus = memory.broker(f'memory://{unique}')
    bus.down()
    async with MemoryConfig(bus=unique).create_socket(asyncio.Queue()) as socket:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await socket.subscribe('a', timeout_s=0.05)
        bus.up()
        await socket.subscribe('a')

        assert [s.active for s in socket._own.subscriptions] == [True]


async def test_in_another_event_loop_it_says_so(unique):
    """As in a plain function, which runs in a thread."""
    async with MemoryConfig(bus=unique).create_socket() as socket:

        def publish():
            asyncio.run(socket.publish('q', 1))

        with pytest.raises(RuntimeError, match='run_coroutine_threadsafe'):
            await asyncio.to_thread(publish)


async def test_an_answer_is_decoded_into_what_is_wanted(unique):
    config = MemoryConfig(bus=unique, content_type='application/protobuf')

    async def double(message: TopicMessage[Int32Value]):
        return Int32Value(value=message.value.value * 2)

    async with config.create_socket() as socket:
        await socket.subscribe('q', double)
        answer = await socket.request('q', Int32Value(value=4), value_type=Int32Value)
        assert answer.value == Int32Value(value=8)
        with pytest.raises(errors.DecodeError, match='who declares its message class'):
            await socket.request('q', Int32Value(value=4))
        assert await socket.request('q', Int32Value(value=4), default=None) is None
