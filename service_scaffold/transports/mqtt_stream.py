"""The byte stream below the MQTT client library: asyncio's, given to it in place of a socket.

asyncio connects, so a connection attempt is cancelled at once where the library's would hold a
thread; it speaks TLS, sets TCP_NODELAY, and sends what was written in one turn in one piece.
PUBLISH packets are taken out of the stream; the library sees all others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from service_scaffold.transports.mqtt_packets import read_length

_PUBLISH = 3


class Stream(asyncio.Protocol):
    """What the client library reads from and writes to.

    Args:
        on_publish: Takes the flags and the rest of each PUBLISH packet.
        on_control: Called when another packet can be read.
        on_lost: Called once when the connection has ended, or what came is no MQTT.
        on_drained: Called when nothing written is waiting any more.

    Attributes:
        received_at: When the last byte came (`time.monotonic`).
        congested: What was written waits for the network: write nothing more.
        held: Nothing is read, and nothing handed out.
        closed: Done when the connection has ended, whoever ended it.
    """

    def __init__(
        self,
        on_publish: Callable[[int, bytes], None],
        on_control: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._on_publish = on_publish
        self._on_control = on_control
        self._on_lost = on_lost
        self._on_drained = on_drained
        self._transport: asyncio.Transport | None = None
        self._arrived = bytearray()  # a packet that is not complete yet
        self._needed = 0
        self._control = bytearray()
        self._written: list[bytes] = []
        self.received_at = time.monotonic()
        self.congested = False
        self.held = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport = stream
        # Any byte that waits is congestion. Not high=0: asyncio's TLS pauses at 0 bytes then.
        stream.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        self.received_at = time.monotonic()
        if self._arrived:
            self._arrived += data
            if self.held or len(self._arrived) < self._needed:
                return
            data = bytes(self._arrived)
            self._arrived.clear()
        try:
            done = self._hand_out(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the connection
            self.abort()
            self._on_lost(error)
        else:
            self._arrived += data[done:]

    def hold(self) -> None:
        """Read and hand out nothing more, until `go_on`."""
        transport = self._transport
        if transport is not None and not self.held and not transport.is_closing():
            self.held = True
            transport.pause_reading()

    def go_on(self) -> None:
        """End `hold`; what had come by then is handed out soon."""
        if not self.held:
            return
        self.held = False
        self.received_at = time.monotonic()  # the silence was ours
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self.closed.get_loop().call_soon(self.data_received, b'')

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_lost(exc)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self._on_drained()

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes of packets other than PUBLISH."""
        if not self._control:
            raise BlockingIOError
        taken = bytes(self._control[:size])
        del self._control[:size]
        return taken

    def send(self, data: bytes | bytearray) -> int:
        """Take all of `data`, for the next `flush`."""
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Send what was written since the last time."""
        if self._written and self._transport is not None:
            data = b''.join(self._written)
            self._written.clear()
            self._transport.write(data)

    def close(self) -> None:
        """Send what was written, and let the broker end the connection when it has read it.

        A broker that finds the connection gone may leave unread what came before, and deliver
        again what was acknowledged there.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # the library closes again when it is collected
        self.flush()
        if transport.can_write_eof():
            transport.write_eof()

    def abort(self) -> None:
        """End the connection now."""
        self._written.clear()
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        """Return what stands for "no file": asyncio watches the socket."""
        return -1

    def setblocking(self, flag: bool) -> None:
        """Accept what the library does to sockets."""

    def _hand_out(self, data: bytes) -> int:
        """Give each complete packet to whom it concerns; return how many bytes they have."""
        start = self._needed = 0
        while not self.held and (sized := read_length(data, start + 1)) is not None:
            length, body = sized
            end = body + length
            if end > len(data):
                self._needed = end - start
                break
            if data[start] >> 4 == _PUBLISH:
                self._on_publish(data[start] & 0xF, data[body:end])
            else:
                self._control += data[start:end]
                self._on_control()
            start = end
        return start
