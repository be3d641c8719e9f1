"""The way to the broker in memory, and everything that can be wrong with it.

Nothing here is real, but everything fails as on a real network: connections are refused, lost,
silent or slow, so that the code above meets in milliseconds what otherwise needs a broken broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from service_scaffold import errors
from service_scaffold.clock import Clock


class Connection:
    """One client's connection to the broker in memory.

    Args:
        network: The way to the broker.
        who: Names the client, for logs and for `Network.drop_connections`.
        on_lost: Called once when the connection ends otherwise than by `close`.
    """

    def __init__(
        self, network: Network, who: str, on_lost: Callable[[errors.ConnectionLost], None]
    ) -> None:
        self.network = network
        self.who = who
        self.loop: asyncio.AbstractEventLoop | None = None
        self._on_lost = on_lost
        self._ended = asyncio.Event()
        self._reason: str | None = f'Not connected to {network}'

    def __str__(self) -> str:
        return self.who

    @property
    def up(self) -> bool:
        """Whether the connection is made and not ended."""
        return self._reason is None

    async def open(self) -> None:
        """Make the connection.

        Raises:
            BrokerUnreachable: The broker is down.
        """
        self.loop = asyncio.get_running_loop()
        await self.network.admit(self)
        self._reason = None

    def check(self) -> None:
        """Raise ConnectionLost unless the connection is up."""
        if self._reason is not None:
            raise errors.ConnectionLost(self._reason)

    async def cross(self) -> None:
        """Travel to the broker: at once, after the delay, or never while it is half-open.

        Raises:
            ConnectionLost: The connection is not up, or ended on the way.
        """
        self.check()
        if self.network.state == 'half_open':
            await self._ended.wait()
        elif self.network.delay_s > 0:
            await self.network.clock.sleep(self.network.delay_s)
        self.check()

    async def answer(self, timeout_s: float) -> None:
        """Travel to the broker, but no longer than `timeout_s` seconds.

        Raises:
            ConnectionLost: As `cross`, or no answer in time.
        """
        self.check()
        if not self.network.faulty:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.cross()
        except TimeoutError:
            raise errors.ConnectionLost(
                f'No answer from {self.network} within {timeout_s:g} s'
            ) from None

    async def ended(self) -> None:
        """Wait until the connection ends."""
        await self._ended.wait()

    def close(self) -> None:
        """End the connection in good order. Idempotent."""
        self._end(f'The connection to {self.network} was closed')

    def sever(self, reason: str) -> None:
        """End the connection as a failing network does. Idempotent."""
        if self._end(reason):
            self._on_lost(errors.ConnectionLost(reason))

    def _end(self, reason: str) -> bool:
        was_up = self._reason is None
        self._reason = reason
        self.network.forget(self)
        if self.loop is None or not self.loop.is_closed():
            self._ended.set()
        return was_up


class Network:
    """All connections to one broker in memory, and the faults that tests switch on.

    Attributes:
        state: `up`, `down` (refuses, all connections lost) or `half_open` (silent: nothing is
            answered and nobody is told).
        delay_s: Seconds of the clock that each publish and each delivery takes.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.state: Literal['up', 'down', 'half_open'] = 'up'
        self.delay_s = 0.0
        self._connections: dict[Connection, None] = {}
        self._knocking: list[asyncio.Future[None]] = []
        self._refusals = 0

    def __str__(self) -> str:
        return f'memory://{self.name}'

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are up."""
        return tuple(self._connections)

    @property
    def faulty(self) -> bool:
        """Whether crossing takes time; else `Connection.check` is all there is to it."""
        return self.state != 'up' or self.delay_s > 0

    async def admit(self, connection: Connection) -> None:
        """Let a connection in, now or when the silence ends; BrokerUnreachable while down."""
        await asyncio.sleep(0)
        while self.state == 'half_open':
            knock = asyncio.get_running_loop().create_future()
            self._knocking.append(knock)
            await knock
        if self.state == 'down':
            raise errors.BrokerUnreachable(f'Nobody answers at {self}: the broker is down')
        for other in self.connections:
            if other.loop is not None and other.loop.is_closed():
                other.sever('Its event loop has ended')  # an earlier test left it behind
        self._connections[connection] = None

    def forget(self, connection: Connection) -> None:
        """Take a connection off the list."""
        self._connections.pop(connection, None)

    def down(self) -> None:
        """Lose all connections and refuse new ones until `up`."""
        self._become('down')
        self.drop_connections()

    def up(self) -> None:
        """Answer again. Connections from before a silence are lost, as by missed heartbeats."""
        silent = self.state == 'half_open'
        self._become('up')
        if silent:
            self.drop_connections()

    def half_open(self) -> None:
        """Fall silent: whatever is asked hangs, nothing is delivered, nobody is told."""
        self._become('half_open')

    def drop_connections(self, where: Callable[[str], bool] = lambda who: True) -> None:
        """Lose the connections whose client's name satisfies `where`; new ones are let in."""
        for connection in self.connections:
            if where(connection.who):
                connection.sever(f'The connection to {self} was lost')

    def slow(self, seconds: float) -> None:
        """Let each publish and each delivery take `seconds` of the clock; 0 ends it."""
        self.delay_s = seconds

    def fail_next_publish(self, n: int = 1) -> None:
        """Refuse the next `n` messages; the connection stays."""
        self._refusals = n

    @property
    def refusing(self) -> bool:
        """Whether a message would be refused now."""
        return self._refusals > 0

    def refuse(self) -> bool:
        """Tell whether this message is refused, and count it."""
        if self._refusals <= 0:
            return False
        self._refusals -= 1
        return True

    def _become(self, state: Literal['up', 'down', 'half_open']) -> None:
        self.state = state
        knocking, self._knocking = self._knocking, []
        for knock in knocking:
            if not knock.done() and not knock.get_loop().is_closed():
                knock.set_result(None)
