"""Distributed applications on every bus: a pipeline, many requests, what cannot be handled."""

from __future__ import annotations

import asyncio
import random

import pytest

from service_scaffold import errors, events
from service_scaffold.apps import (
    DistributedApplication,
    ProducerApplication,
    TopicMessage,
    socket_provider,
)
from test.apps.plants import plant, started, until

KINDS = ['memory', 'rabbitmq', 'kafka', 'mosquitto']
LIMIT_S = 90


@pytest.fixture(params=KINDS)
def url(request, unique) -> str:
    """A bus of each kind."""
    if request.param == 'memory':
        return f'memory://{unique}'
    return request.getfixturevalue(request.param).url


class Pool:
    """A resource that tells what becomes of it."""

    def __init__(self, told: list[object]) -> None:
        self.told = told

    async def __aenter__(self) -> list[object]:
        self.told.append('entered')
        return self.told

    async def __aexit__(self, *facts: object) -> None:
        self.told.append('left')


async def test_a_pipeline_handles_everything_once_and_is_done(url, unique):
    """T20: a consumer of two topics and a producer, state and a resource; status 0."""
    told: list[object] = []
    app = plant(unique, eventbus_url=url, instance=unique, exit_when_done=True)

    @app.application(
        [f'{unique}a', f'{unique}b/north/#'], state=dict, resources={'pool': lambda: Pool(told)}
    )
    async def take(message, state, pool, socket):
        state[message.value] = state.get(message.value, 0) + 1
        pool.append(state[message.value])
        await socket.publish(f'{unique}c', message.topic)

    seen: list[str] = []

    @app.application(f'{unique}c')
    async def collect(message):
        seen.append(message.value)

    @app.producer()
    async def send(socket):
        for number in range(10):
            await socket.publish(f'{unique}a', number)
            await socket.publish(f'{unique}b/north/level', 100 + number)
            await socket.publish(f'{unique}b/south', 'not for us')

    assert await asyncio.wait_for(app.run_async(), LIMIT_S) == 0

    assert told == ['entered', *[1] * 20, 'left']
    assert sorted(seen) == [f'{unique}a'] * 10 + [f'{unique}b/north/level'] * 10


async def test_many_requests_get_each_its_own_answer(url, unique):
    """T21: a slow responder; nobody; a late answer."""
    app = plant(unique, eventbus_url=url, instance=unique)
    late = asyncio.Event()

    @app.application(f'{unique}q', policy=events.Policy(concurrency=50))
    async def double(message: TopicMessage[int]):
        await asyncio.sleep(random.random() / 4)
        return message.value * 2

    @app.application(f'{unique}slow')
    async def slow(message):
        await late.wait()
        return 'too late'

    @app.application(f'{unique}none')
    async def silent(message): ...

    async with started(app) as socket:
        answers = await asyncio.gather(
            *(socket.request(f'{unique}q/{number}', number, LIMIT_S) for number in range(50))
        )
        assert [answer.value for answer in answers] == [number * 2 for number in range(50)]
        with pytest.raises(TimeoutError):
            await socket.request(f'{unique}slow', 1, 0.5)
        late.set()
        publisher = events.get_publisher(app.application)
        await until(lambda: publisher.stats.late_replies == 1)
        assert await socket.request(f'{unique}none', 1, 0.3, default=None) is None
        with pytest.raises((TimeoutError, errors.NoResponder)):
            await socket.request(f'{unique}nobody', 1, 0.3)


async def test_what_cannot_be_handled_is_put_aside_and_the_rest_comes(url, unique):
    """T22: malformed bytes, a wrong shape, a failing call, then good ones; another is untouched."""
    app = plant(unique, eventbus_url=url, instance=unique)
    good, other, letters = [], [], []
    once = events.Policy(retry=events.Retry(attempts=1))

    @app.application(f'{unique}q', policy=once)
    async def take(message: TopicMessage[dict[str, int]]):
        if message.value['n'] < 0:
            raise ValueError('negative')
        good.append(message.value['n'])

    @app.application(f'{unique}r')
    async def hear(message):
        other.append(message.value)

    async def bury(message: TopicMessage[bytes]):
        letters.append((message.headers['x-death-reason'], message.topic))

    async with started(app) as socket:
        await socket.subscribe(f'{unique}q.dlq', bury, timeout_s=30)
        await socket.publish(f'{unique}q/a', b'{', content_type='application/json')
        await socket.publish(f'{unique}q/b', {'n': 'many'})
        await socket.publish(f'{unique}q/c', {'n': -1})
        for number in range(3):
            await socket.publish(f'{unique}q/d', {'n': number})
            await socket.publish(f'{unique}r', number)
        await until(lambda: len(good) == 3 and len(other) == 3 and len(letters) == 3)

    assert good == other == [0, 1, 2]
    assert sorted(reason for reason, _ in letters) == [
        'invalid',
        'retries_exhausted',
        'undecodable',
    ]


async def test_two_instances_share_and_one_of_them_stops(url, unique):
    seen: list[tuple[str, int]] = []

    def instance(name: str) -> DistributedApplication:
        app = plant(unique, eventbus_url=url, instance=f'{unique}{name}')

        @app.application(f'{unique}q')
        async def take(message):
            await asyncio.sleep(0.01)
            seen.append((name, message.value))

        return app

    one, other = instance('a'), instance('b')
    await one.start_async()
    async with started(other) as socket:
        for number in range(40):
            await socket.publish(f'{unique}q', number, key=str(number))
        await until(lambda: len(seen) >= 10)
        await one.stop()
        for number in range(40, 50):
            await socket.publish(f'{unique}q', number, key=str(number))
        if url.startswith('mqtt'):  # what it had not begun waits for it to come back
            await one.start_async()
        try:
            await until(lambda: len({value for _, value in seen}) == 50, LIMIT_S)
        finally:
            if url.startswith('mqtt'):
                await one.stop()

    assert {value for _, value in seen} == set(range(50))


async def test_a_request_by_another_service_is_answered(url, unique):
    """Over sockets of their own, with a queue on the other side."""
    provider = socket_provider(url, name=unique, instance=unique)
    queue: asyncio.Queue[TopicMessage] = asyncio.Queue(maxsize=2)
    app = plant(f'{unique}x', eventbus_url=url, instance=f'{unique}x')

    @app.application(f'{unique}q')
    async def double(message, socket):
        await socket.publish(message.reply_to, message.value * 2)
        await socket.publish(f'{unique}done', message.value)

    async with (
        started(app),
        provider.replace(topics=f'{unique}done').create_socket(queue) as socket,
    ):
        for number in range(10):
            answer = await socket.request(f'{unique}q', number, LIMIT_S)
            assert answer.value == number * 2
            assert (await asyncio.wait_for(queue.get(), LIMIT_S)).value == number


async def test_a_queue_is_answered_from_and_a_producer_leaves_it_alone(url, unique):
    """Whoever takes a request answers it, in any order; its producer takes none of them away."""
    config = socket_provider(url, name=unique, instance=unique, topics=f'{unique}q', group=unique)
    queue: asyncio.Queue[TopicMessage] = asyncio.Queue()
    answers: list[int] = []

    async def ask(socket):
        asking = [socket.request(f'{unique}q', number, LIMIT_S) for number in range(40)]
        answers.extend(answer.value for answer in await asyncio.gather(*asking))

    async with config.create_socket(queue) as socket:
        life = await ProducerApplication(ask, config.replace(instance=f'{unique}p')).start_async()
        taken = [await asyncio.wait_for(queue.get(), LIMIT_S) for _ in range(40)]
        for message in random.sample(taken, 40):
            await socket.publish(message.reply_to, message.value * 2)
        await life

    assert answers == [number * 2 for number in range(40)]


async def test_nothing_is_deleted_and_what_comes_meanwhile_waits(url, unique):
    """Its exchange, its group and their messages are there when it comes back."""
    seen: list[int] = []
    app = plant(unique, eventbus_url=url, instance=unique)

    @app.application(f'{unique}q')
    async def take(message):
        seen.append(message.value)

    async with socket_provider(url, name=f'{unique}x').create_socket() as other:
        async with started(app):
            await other.publish(f'{unique}q', 0)
            await until(lambda: seen == [0])
        for number in range(1, 5):
            await other.publish(f'{unique}q', number)
        async with started(app):
            await until(lambda: len(seen) == 5)

    assert seen == [0, 1, 2, 3, 4]
