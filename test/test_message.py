"""Tests of `service_scaffold.message`."""

from __future__ import annotations

import os
import subprocess
import sys

from service_scaffold.message import Handler, Message, compose, new_message_id


def test_defaults_of_an_event() -> None:
    message = Message('plant', 'tank.level', b'{}')

    assert message.key == 'tank.level'
    assert (message.headers, message.attempt, message.redelivered) == ({}, 1, False)
    assert message.reply_to is None
    assert message.message_id != Message('plant', 'tank.level', b'{}').message_id


def test_an_empty_ordering_key_is_kept() -> None:
    assert Message('plant', 'tank.level', b'', key='').key == ''


def test_replace_changes_a_copy() -> None:
    message = Message('plant', 'tank.level', b'{}', headers={'a': '1'}, content_type='text/plain')

    copy = message.replace(routing='tank.other', attempt=2)

    assert (copy.routing, copy.attempt, copy.body) == ('tank.other', 2, b'{}')
    assert (copy.message_id, copy.headers) == (message.message_id, message.headers)
    assert (message.routing, message.attempt) == ('tank.level', 1)


def test_it_shows_where_it_is_but_not_its_body() -> None:
    shown = repr(Message('plant', 'tank.level', b'secret'))

    assert 'plant/tank.level' in shown
    assert 'secret' not in shown


def test_ids_do_not_repeat_in_a_forked_process() -> None:
    """A child that continued its parent's counter would give the same ids."""
    script = (
        'import os\n'
        'from service_scaffold.message import new_message_id\n'
        'new_message_id()\n'
        'pid = os.fork()\n'
        'os.write(1, (new_message_id() + chr(10)).encode())\n'
        'if pid: os.waitpid(pid, 0)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=30, env=os.environ
    )

    ids = done.stdout.split()
    assert len(ids) == 2
    assert ids[0] != ids[1]


def test_ids_are_unique() -> None:
    assert len({new_message_id() for _ in range(1000)}) == 1000


async def test_the_first_middleware_is_the_outermost() -> None:
    def named(name: str) -> object:
        def middleware(following: Handler) -> Handler:
            async def call(message: Message) -> object:
                return f'{name}({await following(message)})'

            return call

        return middleware

    async def handler(message: Message) -> str:
        return message.routing

    chain = compose([named('a'), named('b')], handler)  # type: ignore[list-item]

    assert await chain(Message('plant', 'x', b'')) == 'a(b(x))'
    assert compose([], handler) is handler
