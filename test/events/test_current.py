"""The envelope inside a handler."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.clock import ManualClock
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp


async def test_it_has_everything_that_travels(make_app: MakeApp) -> None:
    app = make_app(clock=ManualClock(1700000000))
    inbox = Inbox()
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'tank.level', 3, key='k', headers={'x': 'ü'})
        await plant.bus.join()
        sent = plant.bus.published()[0]
    (message,) = inbox.messages
    assert (message.exchange, message.routing, message.key) == ('plant', 'tank.level', 'k')
    assert (message.headers, message.content_type) == ({'x': 'ü'}, 'application/json')
    assert (message.message_id, message.timestamp) == (sent.message_id, 1700000000)
    assert (message.attempt, message.redelivered, message.body) == (1, False, b'3')
    assert (message.reply_to, message.correlation_id) == (None, None)


async def test_it_is_the_same_in_a_task_of_the_handler(app: web.Application) -> None:
    ids: list[str] = []

    async def look() -> str:
        return events.current_message().message_id

    async def handle(subscription: object, key: str, message: object) -> None:
        ids.extend(await asyncio.gather(look(), look()))

    events.get_listener(app).subscribe('plant', '#', on_message=handle)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        assert ids == [plant.bus.published()[0].message_id] * 2


def test_outside_it_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match='handler'):
        events.current_message()
