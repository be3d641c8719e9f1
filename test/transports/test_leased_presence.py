"""Signs of life and their judge on a clock moved by hand, over a board in memory."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.transports.leased_presence import Board, LeasedPresence
from service_scaffold.transports.leases import Leases, Sign

LEASE_S = 9.0
BEAT_S = 3.0


class ListBoard(Board):
    """Writes down what it is asked to carry; fails with `error` if there is one."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        self.error: Exception | None = None
        self.leases: Leases | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self, id: str, sign: bytes) -> None:
        self._send('enter', id, sign)

    async def beat(self, id: str, sign: bytes) -> None:
        self._send('beat', id, sign)

    async def leave(self, id: str) -> None:
        self._send('leave', id, b'')

    async def observe(self, leases: Leases) -> NoReturn:
        self.leases = leases
        leases.open()
        await self.failed
        raise AssertionError('unreachable')

    def take(self) -> list[tuple[str, str, bytes]]:
        sent, self.sent = self.sent, []
        return sent

    def _send(self, what: str, id: str, sign: bytes) -> None:
        self.sent.append((what, id, Sign.decode(sign).payload if sign else b''))
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def board() -> ListBoard:
    return ListBoard()


@pytest.fixture
def ends() -> list[Exception]:
    """Why the transport was to end."""
    return []


@pytest.fixture
async def presence(board, clock, ends):
    made = LeasedPresence(board, LEASE_S, clock, ends.append)
    yield made
    board.error = None
    await made.close(good=False)


async def test_an_announcement_is_entered_once_and_then_kept_alive(presence, board, clock):
    presence.announce('mill', b'1')
    assert board.take() == []
    await presence.connected()
    assert board.take() == [('enter', 'mill', b'1')]
    await clock.advance(3 * BEAT_S)
    assert board.take() == [('beat', 'mill', b'1')] * 3


async def test_what_is_announced_later_is_entered_soon(presence, board, clock):
    await presence.connected()
    presence.announce('mill', b'1')
    await clock.advance(0)
    assert board.take() == [('enter', 'mill', b'1')]
    presence.announce('mill', b'2')
    await clock.advance(0)
    assert board.take() == [('enter', 'mill', b'2')]


async def test_an_announcement_that_was_refused_is_entered_with_the_next_sign(
    presence, board, clock, ends, caplog
):
    await presence.connected()
    board.error = errors.PublishError('full')
    presence.announce('mill', b'1')
    await clock.advance(0)
    board.error = None
    await clock.advance(BEAT_S)
    assert board.take() == [('enter', 'mill', b'1')] * 2
    assert 'full' in caplog.text
    assert ends == []


async def test_a_connection_lost_while_giving_a_sign_ends_the_transport(
    presence, board, clock, ends
):
    presence.announce('mill', b'1')
    await presence.connected()
    board.error = errors.ConnectionLost('gone')
    await clock.advance(BEAT_S)
    assert [str(end) for end in ends] == ['gone']


async def test_leaving_is_the_last_sign(presence, board, clock):
    presence.announce('mill', b'1')
    presence.announce('drill', b'2')
    await presence.connected()
    board.take()
    await presence.leave('mill')
    await clock.advance(BEAT_S)
    assert board.take() == [('leave', 'mill', b''), ('beat', 'drill', b'2')]


async def test_closing_leaves_for_all_that_may_have_been_entered(presence, board, clock):
    presence.announce('mill', b'1')
    await presence.connected()
    board.error = errors.PublishError('full')
    presence.announce('drill', b'2')
    await clock.advance(0)
    board.error = None
    board.take()
    await presence.close(good=True)
    assert sorted(board.take()) == [('leave', 'drill', b''), ('leave', 'mill', b'')]


async def test_closing_a_bad_connection_sends_nothing(presence, board):
    presence.announce('mill', b'1')
    await presence.connected()
    board.take()
    await presence.close(good=False)
    assert board.take() == []


async def test_silence_is_judged_by_the_clock(presence, board, clock):
    lost: list[str] = []
    presence.watch(lambda id, payload: lost.append(id))
    await presence.connected()
    await presence.caught_up()
    board.leases.see('mill', Sign(LEASE_S, b'1').encode())
    await clock.advance(1.2 * LEASE_S)
    assert lost == []
    await clock.advance(0.2 * LEASE_S)
    assert lost == ['mill']


async def test_when_we_stand_still_nobody_is_lost_for_it(presence, board):
    """The clock jumps, as after SIGSTOP: what was said meanwhile is read first."""

    class Jumping(ManualClock):
        def jump(self, seconds: float) -> None:
            self._now += seconds

    clock = Jumping()
    lost: list[str] = []
    presence = LeasedPresence(board, LEASE_S, clock, lambda error: None)
    presence.watch(lambda id, payload: lost.append(id))
    await presence.connected()
    await presence.caught_up()
    board.leases.see('mill', Sign(LEASE_S, b'1').encode())
    clock.jump(10 * LEASE_S)
    await clock.advance(1.0)
    board.leases.see('mill', Sign(LEASE_S, b'1').encode())
    await clock.advance(LEASE_S)
    assert lost == []
    await presence.close(good=False)


async def test_a_board_that_fails_ends_the_transport_and_the_wait(presence, board, ends):
    presence.watch(lambda id, payload: None)
    await presence.connected()
    await presence.caught_up()
    board.failed.set_exception(errors.ConnectionLost('gone'))
    for _ in range(3):
        await asyncio.sleep(0)
    assert [str(end) for end in ends] == ['gone']


async def test_nobody_can_catch_up_without_a_connection(presence):
    presence.watch(lambda id, payload: None)
    with pytest.raises(errors.ConnectionLost):
        await presence.caught_up()
