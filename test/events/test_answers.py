"""Answers by hand, in another content type, or none at all; and what middlewares know."""

from __future__ import annotations

import pytest

from service_scaffold import errors, events, options
from service_scaffold.testing import running
from test.events.conftest import Inbox, until


async def test_no_reply_leaves_the_requester_without_an_answer(app):
    async def keep_silent(subscription, key: str, message: object) -> object:
        return events.NO_REPLY

    events.get_listener(app).subscribe('plant', '#', on_message=keep_silent, reply=True)
    async with running(app) as service:
        with pytest.raises(TimeoutError):
            await service.publisher.request('plant', 'q', 1, timeout_s=0.2)


async def test_a_reply_may_have_another_content_type(app):
    async def answer(subscription, key: str, message: object) -> object:
        return events.Reply({'litres': 3}, 'application/msgpack')

    events.get_listener(app).subscribe('plant', '#', on_message=answer, reply=True)
    async with running(app) as service:
        envelope = await service.publisher.ask('plant', 'q', 1)
        assert envelope.content_type == 'application/msgpack'
        assert await service.publisher.request('plant', 'q', 1) == {'litres': 3}


async def test_an_answer_by_hand_comes_before_the_handler_ends(app):
    inbox = Inbox()
    inbox.close()

    async def answer(subscription, key: str, message: object) -> object:
        await events.get_listener(app).reply(events.current_message(), 'now')
        await inbox(subscription, key, message)
        return events.NO_REPLY

    events.get_listener(app).subscribe('plant', '#', on_message=answer, reply=True)
    async with running(app) as service:
        assert await service.publisher.request('plant', 'q', 1) == 'now'
        assert inbox.finished == []
        inbox.open.set()


async def test_what_is_no_request_cannot_be_answered(app):
    failures: list[str] = []

    async def answer(subscription, key: str, message: object) -> None:
        try:
            await events.get_listener(app).reply(events.current_message(), 'now')
        except ValueError as error:
            failures.append(str(error))

    events.get_listener(app).subscribe('plant', '#', on_message=answer)
    async with running(app) as service:
        await service.publisher.publish('plant', 'q', 1)
        await until(lambda: failures)

    assert 'is no request' in failures[0]


async def test_ask_gives_the_envelope_and_takes_headers(app):
    async def answer(subscription, key: str, message: object) -> object:
        return events.current_message().headers['who']

    events.get_listener(app).subscribe('plant', '#', on_message=answer, reply=True)
    async with running(app) as service:
        envelope = await service.publisher.ask('plant', 'q', 1, headers={'who': 'me'})
        assert (envelope.body, envelope.content_type) == (b'"me"', 'application/json')


async def test_ask_raises_what_the_responder_raised(app):
    async def answer(subscription, key: str, message: object) -> object:
        raise events.Reject('no')

    events.get_listener(app).subscribe('plant', '#', on_message=answer, reply=True)
    async with running(app) as service:
        with pytest.raises(errors.RemoteError, match='Reject: no'):
            await service.publisher.ask('plant', 'q', 1)


async def test_a_consume_middleware_knows_the_subscription(app):
    seen: list[object] = []

    def watch(following):
        async def handle(message):
            seen.append(events.current_subscription())
            return await following(message)

        return handle

    events.use(app, consume=watch)
    listener = events.get_listener(app)
    one = listener.subscribe('plant', '#', on_message=Inbox(), group='one')
    two = listener.subscribe('plant', '#', on_message=Inbox())
    async with running(app) as service:
        await service.publisher.publish('plant', 'q', 1)
        await until(lambda: len(seen) == 2)

    assert set(seen) == {one, two}


async def test_the_publisher_is_waited_for_until_it_is_connected(app):
    async with running(app) as service:
        service.bus.down()
        with pytest.raises(TimeoutError, match=r'not connected after 0\.1 s'):
            await service.publisher.wait_connected(timeout_s=0.1)
        service.bus.up()
        await service.publisher.wait_connected()
        assert service.publisher.connected
    with pytest.raises(RuntimeError, match='not running'):
        await service.publisher.wait_connected()


async def test_options_that_were_read_again_count_at_the_start(app, unique):
    """As a ready-made app reads its flags after its features were made."""
    options.get_config(app)['eventbus_url'] = f'memory://{unique}'
    events.get_listener(app).subscribe('plant', '#', on_message=Inbox())
    async with running(app) as service:
        assert unique in str(service.publisher.health().detail['eventbus'])
        assert unique in str(service.listener.health().detail['eventbus'])
