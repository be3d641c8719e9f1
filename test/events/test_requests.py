"""Requests: answered by `reply=True` only, with the value or the error, or failed in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.clock import ManualClock
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp, until


def answer(app: web.Application, handler: Any, **options: Any) -> events.EventSubscription:
    return events.get_listener(app).subscribe(
        'plant',
        'ask',
        on_message=handler,
        group='g',
        reply=True,
        **options,
    )


@pytest.mark.parametrize('value', [None, 4, 'text', {'a': [1]}])
@pytest.mark.parametrize('concurrency', [1, 3])
async def test_the_answer_is_what_the_handler_returns(
    app: web.Application, value: object, concurrency: int
) -> None:
    answer(app, Inbox(), policy=events.Policy(concurrency=concurrency))
    async with running(app) as plant:
        assert await plant.publisher.request('plant', 'ask', value, timeout_s=2) == value


async def test_a_live_view_answers_too_and_bytes_come_back_as_bytes(app: web.Application) -> None:
    events.get_listener(app).subscribe('plant', 'ask', on_message=Inbox(), reply=True)
    async with running(app) as plant:
        assert await plant.publisher.request('plant', 'ask', b'\x00', timeout_s=2) == b'\x00'


async def test_without_reply_nobody_answers(app: web.Application) -> None:
    events.get_listener(app).subscribe('plant', 'ask', on_message=Inbox(), group='g')
    async with running(app) as plant:
        with pytest.raises(TimeoutError, match=r'plant/ask within 0\.05 s'):
            await plant.publisher.request('plant', 'ask', 1, timeout_s=0.05)
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=0.05, default=7) == 7


async def test_reject_is_answered_at_once_and_another_error_after_the_last_attempt(
    app: web.Application,
) -> None:
    inbox = Inbox()
    answer(app, inbox, policy=events.Policy(retry=events.Retry(attempts=3, base_s=0)))
    async with running(app) as plant:
        inbox.errors = [events.Reject('never')]
        with pytest.raises(events.RemoteError) as raised:
            await plant.publisher.request('plant', 'ask', 1, timeout_s=2)
        assert (raised.value.type, raised.value.message) == ('Reject', 'never')
        assert len(inbox.values) == 1

        inbox.errors = [KeyError('a'), KeyError('b'), LookupError('c')]
        with pytest.raises(events.RemoteError, match='LookupError: c'):
            await plant.publisher.request('plant', 'ask', 2, timeout_s=2)
        assert len(inbox.values) == 4


async def test_a_body_of_the_wrong_shape_is_answered_with_the_error(app: web.Application) -> None:
    async def typed(subscription: object, key: str, message: int) -> int:
        return message

    answer(app, typed)
    async with running(app) as plant:
        with pytest.raises(events.RemoteError, match='InvalidBody'):
            await plant.publisher.request('plant', 'ask', 'no number', timeout_s=2)


class Odd:
    @property
    def model_dump(self) -> object:
        raise ZeroDivisionError('odd')


@pytest.mark.parametrize('odd', [object(), Odd()])
@pytest.mark.parametrize('concurrency', [1, 3])
async def test_an_answer_that_cannot_be_encoded_is_an_error_for_the_requester(
    app: web.Application, odd: object, concurrency: int
) -> None:
    """And no reason to handle the request again."""
    calls = []

    async def handle(subscription: object, key: str, message: object) -> object:
        calls.append(message)
        return odd

    answer(app, handle, policy=events.Policy(concurrency=concurrency))
    async with running(app) as plant:
        with pytest.raises(events.RemoteError):
            await plant.publisher.request('plant', 'ask', 1, timeout_s=2)
        await plant.bus.join()
    assert calls == [1]


async def test_nobody_there_is_known_at_once(app: web.Application) -> None:
    async with running(app) as plant:
        with pytest.raises(events.NoResponder):
            await plant.publisher.request('plant', 'nobody', 1)
        assert await plant.publisher.request('plant', 'nobody', 1, default=None) is None


async def test_an_answer_that_cannot_be_decoded_gives_the_default(app: web.Application) -> None:
    async def broken(subscription: object, key: str, message: object) -> None: ...

    answer(app, broken)
    async with running(app) as plant:
        boxes = plant.bus.replies

        async def undecodable(subscription: object, key: str, message: object) -> None:
            envelope = events.current_message()
            boxes.send(
                envelope.reply_to or '',
                envelope.replace(body=b'{', content_type=None, headers={}),
            )

        plant.listener.subscriptions[0].on_message = undecodable
        with pytest.raises(events.DecodeError):
            await plant.publisher.request('plant', 'ask', 1, timeout_s=2)
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=2, default=9) == 9


@pytest.mark.parametrize('phase', ['waiting', 'opening'])
async def test_a_connection_that_dies_fails_the_request_at_once(
    app: web.Application, phase: str
) -> None:
    inbox = Inbox()
    inbox.close()
    answer(app, inbox)
    async with running(app) as plant:
        await plant.publisher.publish('other', 'a', 1)
        if phase == 'opening':
            plant.bus.half_open()
        request = asyncio.ensure_future(plant.publisher.request('plant', 'ask', 1, timeout_s=5))
        if phase == 'waiting':
            await inbox.got(1)
        else:
            for _ in range(5):
                await asyncio.sleep(0)
        plant.bus.up()
        plant.bus.drop_connections(lambda who: who.startswith('publisher'))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(request, 1)
        inbox.open.set()
        assert await plant.publisher.request('plant', 'ask', 2, timeout_s=2) == 2


async def test_the_first_answer_wins_and_late_ones_are_counted(app: web.Application) -> None:
    first, second = Inbox(), Inbox()
    for inbox in (first, second):
        events.get_listener(app).subscribe('plant', 'ask', on_message=inbox, reply=True)
    second.close()
    async with running(app) as plant:
        assert await plant.publisher.request('plant', 'ask', 1, timeout_s=2) == 1
        second.open.set()
        await until(lambda: plant.publisher.stats.late_replies == 1)


async def test_a_request_is_not_started_after_its_deadline(make_app: MakeApp) -> None:
    clock = ManualClock(1000)
    app = make_app(clock=clock)
    inbox = Inbox()
    subscription = answer(app, inbox)
    async with running(app) as plant:
        await plant.bus.publish('plant', 'ask', b'1', headers={'x-deadline': '999.9'})
        await plant.bus.join()
        (letter,) = plant.bus.dead_letters('plant')
    assert inbox.values == []
    assert letter.headers['x-death-reason'] == 'expired'
    assert letter.headers['x-death-attempts'] == '0'
    assert subscription.stats.dead_lettered == 1


@pytest.mark.parametrize('concurrency', [1, 3])
async def test_an_answer_that_cannot_be_sent_is_no_reason_to_work_twice(
    app: web.Application, concurrency: int
) -> None:
    inbox = Inbox()
    answer(app, inbox, policy=events.Policy(concurrency=concurrency))
    async with running(app) as plant:
        await plant.bus.publish('plant', 'ask', b'1', reply_to='nobody:*/', correlation_id='c')
        await plant.bus.join()
    assert inbox.values == [1]
