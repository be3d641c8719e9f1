"""Finding out where bodies read from, before there are events."""

from __future__ import annotations

import asyncio
import functools
import os.path

import pytest

from service_scaffold import errors
from service_scaffold.streams import probe as probing
from service_scaffold.streams.driver import drive
from service_scaffold.streams.mentions import Mention, mention
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology

helper = None


@pytest.fixture
def app() -> Topology:
    return Topology(StreamSettings('shop', drain_s=0.1))


async def plain(stream): ...


async def texts(stream):
    print(', '.join([]), os.path.join('a', 'b'), helper.join([]))


async def some_text(stream):
    separator = ', '
    print(separator.join([]))


async def joins(stream):
    stream.join(helper, within=1)


async def filtered_joins(stream):
    stream.filter(bool).join(helper)


async def groups(stream):
    stream.group_by(str, name='text')


async def groups_within(stream):
    async def inner():
        async for _ in stream.group_by(str, name='text'):
            pass

    await inner()


class Called:
    async def __call__(self, stream):
        stream.group_by(str, name='text')


@pytest.mark.parametrize(
    ('body', 'wanted'),
    [
        (plain, Mention.NO),
        (texts, Mention.NO),
        (some_text, Mention.PERHAPS),
        (joins, Mention.PERHAPS),
        (filtered_joins, Mention.PERHAPS),
        (groups, Mention.CLEAR),
        (groups_within, Mention.CLEAR),
        (Called(), Mention.CLEAR),
        (functools.partial(groups), Mention.PERHAPS),
    ],
    ids=lambda one: getattr(one, '__name__', None) or getattr(one, 'name', type(one).__name__),
)
def test_the_code_tells_whether_events_may_be_moved(body, wanted):
    assert mention(body) is wanted


async def test_a_body_that_joins_texts_is_not_run_to_find_out(app):
    runs = 0

    @app.agent('values')
    async def work(stream):
        nonlocal runs
        runs += 1
        print(', '.join(['a', 'b']))
        async for _ in stream:
            pass

    async with drive(app) as t:
        await t.send('values', 1, key='k', partition=0)
        await t.settle()
    assert runs == 4  # once for each partition


async def test_a_body_that_only_may_join_is_free_to_fail_at_first(app):
    """As without `join` in its code: it is started again, with a pause."""
    runs, seen = 0, []
    separator = ', '

    @app.agent('values')
    async def work(stream):
        nonlocal runs
        runs += 1
        print(separator.join(['a', 'b']))
        if runs <= 6:
            raise OSError('not yet')
        async for value in stream:
            seen.append(value)

    async with drive(app) as t:
        await t.send('values', 1, key='k')
        await t.settle()
        await t.advance(60)
    assert seen == [1]


async def test_a_body_that_only_may_join_may_take_its_time(app, monkeypatch):
    monkeypatch.setattr(probing, 'PROBE_S', 0.05)
    begun = asyncio.Event()
    separator = ', '

    @app.agent('values')
    async def work(stream):
        print(separator.join(['a', 'b']))
        await begun.wait()
        async for _ in stream:
            pass

    async with drive(app):
        begun.set()


async def test_a_body_that_groups_and_fails_at_first_stops_the_start(app):
    @app.agent('values')
    async def work(stream):
        if helper is None:
            raise OSError('no database')
        async for _ in stream.group_by(str, name='text'):
            pass

    with pytest.raises(errors.StreamError, match='no database'):
        async with drive(app):
            pass


async def test_what_is_sent_before_the_first_event_is_sent_by_those_who_run(app):
    """The run that finds out sends nothing, and does not fail for that."""
    told, box = app.topic('told'), app.channel()

    @app.agent('values')
    async def work(stream):
        await told.send(value='begin')
        await box.put('begin')
        async for _ in stream.group_by(str, name='text'):
            pass

    async with drive(app) as t:
        await t.send('values', 1, key='k')
        await t.settle()
        assert len(t.read(told)) == 4
        taken = [await box.get(timeout=1) for _ in range(4)]
        assert taken == ['begin'] * 4
        assert box.empty()


async def test_a_body_that_does_not_end_is_waited_for_with_a_limit(app, monkeypatch):
    monkeypatch.setattr(probing, 'PROBE_S', 0.05)
    over = asyncio.Event()

    @app.agent('values')
    async def work(stream):
        try:
            async for _ in stream.group_by(str, name='text'):
                pass
        finally:
            await over.wait()

    with pytest.raises(errors.StreamError, match='does not end'):
        async with drive(app):
            pass
    over.set()
    await asyncio.sleep(0)
