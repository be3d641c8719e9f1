"""State and resources: entered before the first message, left after the last, however it ends."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service_scaffold import events, features
from service_scaffold.apps import TopicSocket
from test.apps.plants import plant, started, until


class Pool:
    """Tells what becomes of it; its entered value is another object."""

    def __init__(self, told: list[str], name: str = 'pool') -> None:
        self.told = told
        self.name = name
        self.failing: list[Exception] = []

    async def __aenter__(self):
        if self.failing:
            raise self.failing.pop()
        self.told.append(f'enter {self.name}')
        return self.name

    async def __aexit__(self, kind, error, trace):
        self.told.append(f'leave {self.name}')


@contextlib.contextmanager
def sync_manager(told: list[str]):
    told.append('enter sync')
    yield 'sync'
    told.append('leave sync')


@contextlib.asynccontextmanager
async def async_manager(told: list[str]):
    told.append('enter async')
    yield 'async'
    told.append('leave async')


async def test_all_kinds_are_entered_once_and_left_in_reverse():
    app, told = plant(), []

    async def coroutine_factory():
        return Pool(told, 'later')

    @app.application(
        'q',
        resources={
            'one': Pool(told),
            'two': sync_manager(told),
            'three': lambda: async_manager(told),
            'four': coroutine_factory,
        },
    )
    async def take(message, one, two, three, four):
        told.append(f'{message.value} {one} {two} {three} {four}')

    async with started(app) as socket:
        await socket.publish('q', 1)
        await socket.publish('q', 2)
        await until(lambda: len(told) == 6)

    assert told == [
        'enter pool',
        'enter sync',
        'enter async',
        'enter later',
        '1 pool sync async later',
        '2 pool sync async later',
        'leave later',
        'leave async',
        'leave sync',
        'leave pool',
    ]


async def test_they_are_left_after_the_last_message_and_the_bus_is_still_there():
    app, told = plant(), []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.application('q', resources={'pool': lambda: Pool(told)})
    async def take(message, pool, socket):
        begun.set()
        await go_on.wait()
        await socket.publish('r', 'handled')
        told.append('handled')

    async with started(app) as socket:
        await socket.publish('q', 1)
        await begun.wait()
        stopping = asyncio.ensure_future(app.stop())
        await until(lambda: features.get_lifecycle(app.application).state == 'stopping')
        assert told == ['enter pool']
        go_on.set()
        await stopping

    assert told == ['enter pool', 'handled', 'leave pool']


async def test_a_function_that_does_not_declare_it_has_it_entered_all_the_same():
    app, told = plant(), []

    @app.application('q', resources={'pool': Pool(told)})
    async def take(message): ...

    async with started(app):
        pass

    assert told == ['enter pool', 'leave pool']


async def test_each_function_has_its_own():
    app, told = plant(), []

    @app.application('q', resources={'pool': lambda: Pool(told, 'first')})
    async def first(message, pool): ...

    @app.application('q', resources={'pool': lambda: Pool(told, 'second')})
    async def second(message, pool): ...

    async with started(app):
        pass

    assert sorted(told) == ['enter first', 'enter second', 'leave first', 'leave second']


async def test_a_failing_message_leaves_nothing():
    app, told = plant(), []
    policy = events.Policy(retry=events.Retry(attempts=1))

    @app.application('q', resources={'pool': Pool(told)}, policy=policy)
    async def take(message, pool):
        told.append('called')
        if message.value == 'bad':
            raise ValueError(message.value)

    async with started(app) as socket:
        await socket.publish('q', 'bad')
        await socket.publish('q', 'good')
        await until(lambda: told.count('called') == 2)

    assert told == ['enter pool', 'called', 'called', 'leave pool']


async def test_those_of_a_producer_are_left_when_it_has_failed():
    app, told = plant(), []

    @app.producer(resources={'pool': Pool(told)})
    async def send(pool):
        raise ValueError('no paper')

    await app.start_async()
    await until(lambda: len(told) == 2)
    with pytest.raises(ValueError, match='no paper'):
        await app.stop()

    assert told == ['enter pool', 'leave pool']


async def test_those_of_a_producer_that_is_stopped_are_left():
    app, told = plant(), []

    @app.producer(resources={'pool': Pool(told)})
    async def send(pool, socket):
        told.append('begun')
        try:
            await asyncio.Event().wait()
        finally:
            await socket.publish('q', 'the end')
            told.append('ended')

    async with started(app):
        await until(lambda: 'begun' in told)

    assert told == ['enter pool', 'begun', 'ended', 'leave pool']


async def test_what_a_factory_makes_is_tried_again_and_the_others_work_meanwhile(caplog):
    app, told = plant(), []
    pool = Pool(told)
    pool.failing = [ConnectionError('no database')]

    @app.application('q', resources={'pool': lambda: pool})
    async def take(message, pool):
        return 'taken'

    @app.application('r')
    async def other(message):
        return 'other'

    running = asyncio.ensure_future(app.run_async())
    await until(lambda: app.functions['take'].error)
    health = app.health()
    assert not health.ok
    assert not health.ready
    assert 'no database' in health.detail['take']
    await until(lambda: app.functions['take'].state == 'running')
    await app.stop()

    assert await running == 0
    assert told == ['enter pool', 'leave pool']
    assert caplog.text.count('will keep trying') == 1


async def test_what_can_be_entered_only_once_fails_alone_and_shows_in_the_status():
    app, told = plant(), []
    pool = Pool(told)
    pool.failing = [ConnectionError('no database')]

    @app.application('q', resources={'pool': pool})
    async def take(message, pool): ...

    @app.application('r')
    async def other(message):
        return 'other'

    await app.start_async()
    await until(lambda: app.functions['take'].state == 'failed')
    assert (await TopicSocket(app.application).request('r', 1)).value == 'other'
    with pytest.raises(ConnectionError, match='no database'):
        await app.stop()


async def test_one_that_fails_to_be_left_makes_the_status_1():
    app = plant()

    @contextlib.asynccontextmanager
    async def stuck():
        yield
        raise OSError('the lock is stuck')

    @app.application('q', resources={'lock': stuck})
    async def take(message, lock): ...

    await app.start_async()
    with pytest.raises(OSError, match='lock is stuck'):
        await app.stop()


async def test_they_are_entered_and_left_in_one_task():
    """As task groups and time limits have to be."""
    app, told = plant(), []

    @contextlib.asynccontextmanager
    async def group():
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            told.append('left')

    @app.application('q', resources={'tasks': group})
    async def take(message, tasks):
        tasks.create_task(asyncio.sleep(0))
        return 'taken'

    async with started(app) as socket:
        assert (await socket.request('q', 1)).value == 'taken'

    assert told == ['left']


async def test_a_resource_that_breaks_ends_its_function_alone():
    app = plant()

    async def burst():
        raise OSError('the pipe has burst')

    @app.application('q', resources={'tasks': asyncio.TaskGroup})
    async def take(message, tasks):
        tasks.create_task(burst())

    @app.application('r')
    async def other(message):
        return 'other'

    await app.start_async()
    socket = TopicSocket(app.application)
    await socket.publish('q', 1)
    await until(lambda: app.functions['take'].state == 'failed')
    assert (await socket.request('r', 1)).value == 'other'
    listener = events.get_listener(app.application)
    assert [s.exchange_name for s in listener.subscriptions] == ['r']  # others may take the rest
    with pytest.raises(ExceptionGroup):
        await app.stop()


async def test_a_state_is_an_object_or_made_at_each_start():
    class Counter:
        def __init__(self):
            self.count = 0

    app, given, seen = plant(), Counter(), []

    @app.application('a', state=given)
    async def one(message, state):
        state.count += 1
        seen.append(state)

    @app.application('b', state=Counter)
    async def other(message, state):
        state.count += 1
        seen.append(state)

    for _ in range(2):
        async with started(app) as socket:
            seen.clear()
            for topic in ('a', 'b', 'a'):
                await socket.publish(topic, 1)
            await until(lambda: len(seen) == 3)

    assert given.count == 4
    assert {state.count for state in seen if state is not given} == {1}


def _generator():
    yield 1


async def _async_generator():
    yield 1


@pytest.mark.parametrize(
    ('resources', 'error', 'said'),
    [
        ({'db': 3}, TypeError, 'neither a context manager nor makes one'),
        ({'db': _generator}, TypeError, 'put @contextmanager'),
        ({'db': _async_generator}, TypeError, '@asynccontextmanager of contextlib'),
        ({'message': Pool([])}, ValueError, 'name is taken'),
        ({'a b': Pool([])}, ValueError, 'no function can declare'),
        ({'class': Pool([])}, ValueError, 'no function can declare'),
    ],
)
def test_what_is_none_is_refused_where_it_stands(resources, error, said):
    with pytest.raises(error, match=said):
        plant().add_application(print, 'q', resources=resources)


async def test_a_factory_that_makes_no_manager_is_told():
    app = plant()

    @app.producer(resources={'db': lambda: 3})
    async def send(db): ...

    await app.start_async()
    await until(lambda: app.functions['send'].state == 'failed')
    with pytest.raises(TypeError, match='has made 3, which is no context manager'):
        await app.stop()
