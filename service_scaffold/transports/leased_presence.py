"""Presence by signs of life: what is the same over all brokers."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.transports.leases import Leases, Sign, Watch
from service_scaffold.transports.presence import PresenceCallback
from service_scaffold.transports.state import check_part

LOGGER = logging.getLogger(__name__)

BEATS = 3
"""Signs of life in one lease."""
CHECKS = 16
"""How often in the shortest lease it is looked for those whose time is over."""
LEAVE_LIMIT_S = 0.4


class Board(ABC):
    """How signs of life go over one broker, on one connection."""

    @abstractmethod
    async def enter(self, id: str, sign: bytes) -> None:
        """Store an announcement, so that who comes later knows of it.

        Raises:
            PublishError: The broker does not take it.
            ConnectionLost: The connection has ended.
        """

    async def beat(self, id: str, sign: bytes) -> None:
        """Give a sign of life of one that has entered; as `enter` if there is no cheaper way."""
        await self.enter(id, sign)

    @abstractmethod
    async def leave(self, id: str) -> None:
        """Take an announcement back; no sign of life of it comes after that."""

    @abstractmethod
    async def observe(self, leases: Leases) -> NoReturn:
        """Tell `leases` what is stored, call its `open`, then tell it of each sign as it comes.

        Raises:
            TransportError: The connection has ended, or the broker refuses it.
        """


class LeasedPresence:
    """The presence part of a transport whose broker carries signs of life; see `Presence`.

    Args:
        board: How they are carried.
        lease_s: How long we may be silent before we are lost.
        clock: What times are taken from.
        lose: Ends the transport, when nothing can be heard any more.
    """

    def __init__(
        self, board: Board, lease_s: float, clock: Clock, lose: Callable[[Exception], None]
    ) -> None:
        self._board = board
        self._lease_s = lease_s
        self._clock = clock
        self._lose = lose
        self._leases = Leases(lease_s, clock.monotonic, self._settled)
        self._announced: dict[str, bytes] = {}
        self._entered: dict[str, bytes | None] = {}  # None: perhaps, or with another payload
        self._news = asyncio.Event()
        self._beating = asyncio.Lock()  # none of our own signs comes after our leaving
        self._watched = False
        self._caught_up: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = False

    @property
    def in_use(self) -> bool:
        """Whether anything was announced or is watched."""
        return self._watched or bool(self._announced)

    @property
    def first(self) -> tuple[str, bytes] | None:
        """The first announcement, with its payload."""
        return next(iter(self._announced.items()), None)

    def announce(self, id: str, payload: bytes) -> None:
        """Say that `id` is there."""
        check_part(id)
        self._announced[id] = payload
        self._news.set()
        self._start()

    def watch(self, lost: PresenceCallback, present: PresenceCallback | None = None) -> None:
        """Tell how it stands with each id, now and from now on."""
        self._leases.watch(Watch(lost, present))
        self._watched = True
        self._start()

    async def caught_up(self) -> None:
        """Return when the watchers have been told how it stood when they began.

        Raises:
            ConnectionLost: The connection has ended.
        """
        if not self._up:
            raise errors.ConnectionLost('Presence: the connection is not up')
        if self._caught_up is not None:
            await asyncio.shield(self._caught_up)

    async def leave(self, id: str) -> None:
        """Withdraw an announcement.

        Raises:
            ConnectionLost: The connection has ended.
        """
        async with self._beating:
            self._announced.pop(id, None)
            if id in self._entered:
                await self._board.leave(id)
                del self._entered[id]

    async def connected(self) -> None:
        """The connection is up: make what was announced known, and begin to watch."""
        self._up = True
        await self._beat()
        self._start()

    async def close(self, *, good: bool) -> None:
        """End all that runs; on a good connection leave first, which takes 0.4 s at most."""
        self._up = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_LIMIT_S)
        if good and self._entered:
            try:
                async with asyncio.timeout(LEAVE_LIMIT_S):
                    for id in list(self._entered):
                        await self.leave(id)
            except (errors.ScaffoldError, TimeoutError) as error:
                LOGGER.debug('Leaving was not confirmed: %s', error)
        self._failed(errors.ConnectionLost('The connection was closed'))

    # What runs while the connection is up

    def _start(self) -> None:
        """Start what is needed by now and does not run."""
        if not self._up:
            return
        running = {task.get_name() for task in self._tasks}
        if self._announced and 'beats' not in running:
            self._spawn(self._keep_beating(), 'beats')
        if self._watched and self._caught_up is None:
            self._caught_up = asyncio.get_running_loop().create_future()
            self._spawn(self._observe(), 'observe')
            self._spawn(self._judge(), 'judge')

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_beating(self) -> None:
        pause_s = self._lease_s / BEATS
        while True:
            await self._pause(pause_s)
            try:
                async with asyncio.timeout(pause_s):
                    await self._beat()
            except errors.ConnectionLost as error:
                self._lose(error)
                return
            except (errors.ScaffoldError, TimeoutError) as error:
                LOGGER.warning(
                    'No sign of life could be given, and we may count as lost: %s',
                    str(error) or f'no confirm within {pause_s:g} s',
                )

    async def _pause(self, seconds: float) -> None:
        """Wait, or until there is something new to announce."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({sleeping, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            news.cancel()

    async def _beat(self) -> None:
        """Give a sign of life of each that is announced; that one is refused ends no other."""
        refused: Exception | None = None
        async with self._beating:
            self._news.clear()
            for id, payload in list(self._announced.items()):
                try:
                    await self._beat_of(id, payload)
                except errors.PublishError as error:
                    refused = error
        if refused is not None:
            raise refused

    async def _beat_of(self, id: str, payload: bytes) -> None:
        sign = Sign(self._lease_s, payload).encode()
        if self._entered.get(id) == payload:
            await self._board.beat(id, sign)
        else:
            self._entered[id] = None
            await self._board.enter(id, sign)
            self._entered[id] = payload

    async def _observe(self) -> None:
        try:
            await self._board.observe(self._leases)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is heard any more
            self._failed(error)
            self._lose(error)

    async def _judge(self) -> None:
        while True:
            pause_s = self._leases.shortest_s / CHECKS
            due = self._clock.monotonic() + pause_s
            await self._clock.sleep(pause_s)
            late_s = self._clock.monotonic() - due
            if late_s > pause_s:
                # We stood still, not they: what they have said meanwhile has not been read yet.
                self._leases.forgive(late_s + pause_s)
            self._leases.expire()

    def _failed(self, error: Exception) -> None:
        caught_up = self._caught_up
        if caught_up is not None and not caught_up.done():
            caught_up.set_exception(error)
            caught_up.exception()  # nobody need be waiting

    def _settled(self) -> None:
        if self._caught_up is not None and not self._caught_up.done():
            self._caught_up.set_result(None)
