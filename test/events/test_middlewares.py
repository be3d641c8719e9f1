"""`events.use`: in order of use, once a delivery, outside the retries."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service_scaffold import events, features
from service_scaffold.message import Handler, Message, Middleware
from service_scaffold.testing import running
from test.events.conftest import Inbox, until


def noting(name: str, notes: list[str]) -> Middleware:
    def middleware(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            notes.append(f'{name} in')
            try:
                return await next(message)
            finally:
                notes.append(f'{name} out')

        return call

    return middleware


async def test_in_order_of_use_once_a_delivery_also_for_later_subscriptions(
    app: web.Application,
) -> None:
    notes: list[str] = []
    first, later = Inbox(), Inbox()
    first.errors = [RuntimeError('again')]
    retry = events.Policy(retry=events.Retry(base_s=0))
    listener = events.get_listener(app)
    listener.subscribe('plant', 'first', on_message=first, group='g', policy=retry)
    events.use(app, consume=noting('a', notes))
    events.use(app, consume=noting('b', notes))
    async with running(app) as plant:
        await listener.subscribe('plant', 'later', on_message=later).wait_active(5)
        for routing in ('first', 'later'):
            await plant.publisher.publish('plant', routing, 1)
            await plant.bus.join()
            assert notes == ['a in', 'b in', 'b out', 'a out']
            notes.clear()
    assert len(first.values) == 2


async def test_around_publishing_single_many_and_requests(app: web.Application) -> None:
    notes: list[str] = []
    events.use(app, publish=noting('a', notes))

    def stamp(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            return await next(message.replace(headers={**message.headers, 'stamp': '1'}))

        return call

    events.use(app, publish=stamp)
    events.get_listener(app).subscribe('plant', 'ask', on_message=Inbox(), reply=True)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.publisher.publish_many('plant', [('a', 1)])
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=2) == 1
        assert [m.headers['stamp'] for m in plant.bus.published()] == ['1'] * 3
    assert notes == ['a in', 'a out'] * 3


async def test_the_publish_chain_is_composed_once_and_also_after_a_late_use(
    app: web.Application,
) -> None:
    composed: list[str] = []

    def counted(name: str) -> Middleware:
        def middleware(next: Handler) -> Handler:
            composed.append(name)
            return next

        return middleware

    events.use(app, publish=counted('a'))
    publisher = events.get_publisher(app)
    await publisher.startup(app)  # by hand, before the application
    events.use(app, publish=counted('b'))
    assert composed == ['a', 'b', 'a']
    composed.clear()
    async with running(app):
        assert composed == ['b', 'a']
        for number in range(3):
            await publisher.publish('plant', 'a', number)
        await publisher.publish_many('plant', [('a', 1)])
        assert composed == ['b', 'a']


async def test_a_middleware_may_publish_itself_and_elsewhere(app: web.Application) -> None:
    """Each message goes where its own call wants it, whatever is published on its way."""
    other = events.EventPublisher(app, 'memory://beside')
    features.add(app, other, key='beside')
    publisher = events.get_publisher(app)

    def tell(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            if message.exchange == 'plant':
                await publisher.publish('audit', message.routing, 'sent')
                await other.publish('audit', message.routing, 'sent')
            return await next(message)

        return call

    events.use(app, publish=tell)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', 1), ('b', 2)])
        await plant.publisher.publish('plant', 'c', 3)
        sent = [(m.exchange, m.routing) for m in plant.bus.published()]
        assert sorted(sent) == [(x, r) for x in ('audit', 'plant') for r in 'abc']
        assert publisher.stats.published == {'audit': 3, 'plant': 3}
        assert other.stats.published == {'audit': 3}


async def test_what_a_middleware_sends_from_its_own_task_is_not_lost(
    app: web.Application,
) -> None:
    """In a task begun by another call, or before any, and after `publish_many` has gone on."""
    waiting: asyncio.Queue[tuple[Handler, Message, asyncio.Future[object]]] = asyncio.Queue()

    async def work() -> None:
        while True:
            next, message, done = await waiting.get()
            done.set_result(await next(message))

    def by_worker(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            waiting.put_nowait((next, message, done))
            return None if message.routing == 'left' else await done

        return call

    events.use(app, publish=by_worker)
    async with running(app) as plant:
        worker = asyncio.create_task(work())
        try:
            await plant.publisher.publish('plant', 'a', 1)
            assert [m.routing for m in plant.bus.published()] == ['a']
            await plant.publisher.publish_many('plant', [('left', 2), ('b', 3)])
            await until(lambda: len(plant.bus.published()) == 3)
        finally:
            worker.cancel()


async def test_what_comes_out_after_publish_many_has_gone_on_is_sent(
    app: web.Application,
) -> None:
    late: list[asyncio.Future[object]] = []

    def later(next: Handler) -> Handler:
        async def call(message: Message) -> None:
            late.append(asyncio.ensure_future(next(message)))

        return call

    events.use(app, publish=later)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 2)])
        await asyncio.gather(*late)
        assert [m.body for m in plant.bus.published()] == [b'1', b'2']


async def test_a_middleware_sees_the_answer_and_may_swallow_the_error(
    app: web.Application,
) -> None:
    results: list[object] = []

    def watch(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            try:
                results.append(await next(message))
            except LookupError as error:
                results.append(error)
            return 'instead'

        return call

    inbox = Inbox()
    events.use(app, consume=watch)
    events.get_listener(app).subscribe('plant', 'ask', on_message=inbox, reply=True)
    async with running(app) as plant:
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=2) == 'instead'
        inbox.errors = [LookupError('lost')]
        assert await plant.publisher.request('plant', 'ask', 2, timeout_s=2) == 'instead'
    assert results[0] == 1
    assert isinstance(results[1], LookupError)


async def test_nothing_to_use_and_too_late_are_errors(app: web.Application) -> None:
    with pytest.raises(ValueError, match='consume'):
        events.use(app)
    async with running(app):
        with pytest.raises(RuntimeError, match='before'):
            events.use(app, consume=noting('a', []))
