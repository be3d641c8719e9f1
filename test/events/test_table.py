"""Subscriptions at module level."""

from __future__ import annotations

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.testing import running
from test.events.conftest import MakeApp, until

table = events.SubscriptionTable()
seen: list[tuple[str, object]] = []


@table.on('plant', 'tank.*', group='g')
async def on_level(subscription: object, key: str, message: dict[str, int]) -> None:
    seen.append((key, message))


@table.on('plant', 'ask', reply=True, policy=events.Policy(dead_letter=False))
async def on_ask(subscription: object, key: str, message: object) -> object:
    return message


async def test_a_table_gives_each_listener_subscriptions_of_its_own(make_app: MakeApp) -> None:
    assert len(table) == 2
    first, second = make_app(), make_app()
    mine = events.get_listener(first).add_subscriptions(table)
    theirs = events.get_listener(second).add_subscriptions(table)
    assert not set(mine) & set(theirs)
    async with running(first) as plant:
        await plant.publisher.publish('plant', 'tank.level', {'litres': 3})
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=2) == 1
        await until(lambda: seen)
    assert seen == [('tank.level', {'litres': 3})]


def test_what_is_wrong_is_said_where_it_stands() -> None:
    with pytest.raises(ValueError, match='exchange'):
        table.on('a/b', '#')(on_level)


def test_the_function_stays_what_it_was(app: web.Application) -> None:
    assert on_level.__name__ == 'on_level'
