"""Live views: every instance, at most once, and a slow handler disturbs nobody."""

from __future__ import annotations

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.clock import ManualClock
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp, until


async def test_every_instance_and_every_view_sees_every_message(make_app: MakeApp) -> None:
    url = '--eventbus-url=memory://every-view'
    inboxes = [Inbox() for _ in range(3)]
    first, second = make_app(url), make_app(url)
    events.get_listener(first).subscribe('plant', '#', on_message=inboxes[0])
    events.get_listener(first).subscribe('plant', 'a.*', on_message=inboxes[1])
    events.get_listener(second).subscribe('plant', 'a.b', on_message=inboxes[2])
    async with running(first) as plant, running(second):
        await plant.publisher.publish_many('plant', [('a.b', n) for n in range(300)])
        await plant.bus.join()
    assert [inbox.values for inbox in inboxes] == [list(range(300))] * 3


@pytest.mark.parametrize('concurrency', [1, 3])
@pytest.mark.parametrize('keys', [1, 7])
async def test_a_full_buffer_drops_the_oldest_counts_and_warns_once_a_minute(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, concurrency: int, keys: int
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    slow, quick = Inbox(), Inbox()
    listener = events.get_listener(app)
    policy = events.Policy(concurrency=concurrency, dead_letter=False)
    view = listener.subscribe('plant', '#', on_message=slow, policy=policy)
    listener.subscribe('plant', '#', on_message=quick)
    running_now = min(concurrency, keys)

    def warnings() -> int:
        return sum('too slow' in record.message for record in caplog.records)

    async with running(app) as plant:
        slow.close()
        items = [(f'k{n % keys}', n) for n in range(running_now)]
        await plant.publisher.publish_many('plant', items)
        await slow.got(running_now)
        for start in range(running_now, 1500 + running_now, 100):
            items = [(f'k{n % keys}', n) for n in range(start, start + 100)]
            await plant.publisher.publish_many('plant', items)
            await quick.got(start + 100)
        assert view.stats.dropped == 500
        assert warnings() == 1

        await clock.advance(61)
        await plant.publisher.publish('plant', 'k0', -1)
        await quick.got(1501 + running_now)
        assert warnings() == 2

        slow.open.set()
        await plant.bus.join()
    first_kept = running_now + 501
    assert sorted(slow.values[running_now:]) == [-1, *range(first_kept, 1500 + running_now)]  # type: ignore[type-var]


async def test_a_failing_handler_has_one_attempt_and_is_logged(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    inbox.errors = [RuntimeError('broken')]
    view = events.get_listener(app).subscribe('plant', '#', on_message=inbox)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 2)])
        await plant.bus.join()
        assert plant.bus.dead_letters('plant') == []
    assert (inbox.values, inbox.finished) == ([1, 2], [2])
    assert (view.stats.failed, view.stats.dropped, view.stats.consumed) == (1, 1, 2)
    assert [r.levelname for r in caplog.records if 'RuntimeError: broken' in r.message] == ['ERROR']


async def test_with_a_policy_it_is_retried(app: web.Application) -> None:
    inbox = Inbox()
    inbox.errors = [RuntimeError('broken')]
    policy = events.Policy(retry=events.Retry(attempts=2, base_s=0))
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, policy=policy)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
    assert inbox.finished == [1]


async def test_what_was_received_is_handled_though_the_connection_is_lost(
    app: web.Application,
) -> None:
    inbox = Inbox()
    view = events.get_listener(app).subscribe('plant', '#', on_message=inbox)
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 2)])
        await inbox.got(1)
        plant.bus.drop_connections()
        await view.wait_active(5)
        inbox.open.set()
        await inbox.got(2)
        await plant.publisher.publish('plant', 'a', 3)
        await inbox.got(3)
    assert inbox.finished == [1, 2, 3]


async def test_dead_letters_are_seen_by_a_plain_subscription(app: web.Application) -> None:
    """Under their original routing key; a request over its deadline and a replay as well."""
    listener = events.get_listener(app)
    bad, seen = Inbox(), Inbox()
    bad.errors = [events.Reject('no')] * 2
    listener.subscribe('plant', 'tank.*', on_message=bad, group='g')
    listener.subscribe('plant.dlq', '#', on_message=seen)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'tank.level', {'litres': 3})
        await plant.bus.publish('plant', 'tank.x', b'1', headers={'x-replay-group': 'g'})
        await plant.bus.publish('plant', 'tank.y', b'2', headers={'x-deadline': '1'})
        await seen.got(3)
    assert [message.routing for message in seen.messages] == ['tank.level', 'tank.x', 'tank.y']
    assert seen.values == [{'litres': 3}, 1, 2]


async def test_a_replay_for_a_group_is_skipped_by_everyone_else(app: web.Application) -> None:
    listener = events.get_listener(app)
    group, other, view = Inbox(), Inbox(), Inbox()
    listener.subscribe('plant', '#', on_message=group, group='g')
    skipping = listener.subscribe('plant', '#', on_message=other, group='h')
    listener.subscribe('plant', '#', on_message=view)
    async with running(app) as plant:
        await plant.bus.publish('plant', 'a', b'1', headers={'x-replay-group': 'g'})
        await plant.bus.join()
    assert (group.values, other.values, view.values) == ([1], [], [])
    assert skipping.stats.skipped == 1


async def test_one_slow_view_does_not_hold_up_another_or_a_group(app: web.Application) -> None:
    listener = events.get_listener(app)
    slow, quick, group = Inbox(), Inbox(), Inbox()
    listener.subscribe('plant', '#', on_message=slow)
    listener.subscribe('plant', '#', on_message=quick)
    listener.subscribe('plant', '#', on_message=group, group='g')
    async with running(app) as plant:
        slow.close()
        await plant.publisher.publish_many('plant', [('a', n) for n in range(50)])
        await quick.got(50)
        await group.got(50)
        assert len(slow.values) == 1
        slow.open.set()
        await until(lambda: len(slow.finished) == 50)


async def test_a_failed_view_does_not_get_what_another_one_has_bound(
    app: web.Application,
) -> None:
    listener = events.get_listener(app)
    good, bad = Inbox(), Inbox()
    listener.subscribe('plant', 'tank.*', on_message=good)
    async with running(app) as plant:
        failed = listener.subscribe('plant', '#', 'fanout', on_message=bad)
        await until(lambda: failed.state == 'failed')
        await plant.publisher.publish('plant', 'tank.level', 1)
        await good.got(1)
        await plant.bus.join()
        assert bad.values == []
        assert failed.stats.consumed == 0
