"""`events.use`: in order of use, once a delivery, outside the retries."""

from __future__ import annotations

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.message import Handler, Message, Middleware
from service_scaffold.testing import running
from test.events.conftest import Inbox


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
