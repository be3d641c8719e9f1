"""One MQTT connection: opened, watched, used for publishing and subscribing, ended."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress, Settings
from service_scaffold.transports.mqtt_client import (
    KEEPALIVE_S,
    NOBODY,
    NOT_AUTHORIZED,
    REFUSED,
    TAKEN_OVER,
    Callbacks,
    Client,
    Session,
    Terms,
)
from service_scaffold.transports.mqtt_outbox import Encode, Outbox, Outgoing
from service_scaffold.transports.mqtt_packets import Incoming, decode_publish
from service_scaffold.transports.mqtt_questions import Questions
from service_scaffold.transports.mqtt_stream import Stream

LOGGER = logging.getLogger(__name__)

MAX_IN_FLIGHT = 1000
"""How many publishes wait for their confirm at most, where the broker allows as many."""

_CLOSE_S = 1.0
_TICK_S = 1.0
_SILENCE = 1.5  # of the keep-alive: a ping and half as long again for its answer
_UNCONFIRMED = 2.0  # of the publisher's limit: longer than any caller should wait for a confirm
_PACKET_OVERHEAD = 16


class Connection:
    """One connection; not used again once `lost` is set.

    Args:
        on_message: Takes each message; to be acknowledged with `ack`.
        on_lost: Told once why the connection has ended, unless by `close`.

    Attributes:
        lost: Why it has ended (also after `close`), None while it is good.
        terms: What the broker has answered to CONNECT.
    """

    def __init__(
        self,
        settings: Settings,
        session: Session,
        on_message: Callable[[Incoming], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._settings = settings
        self._session = session
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._stream = Stream(self._take, self._read, self._end, self._drained)
        self._outbox = Outbox(self._send, lambda: self._stream.congested)
        self._questions = Questions(self.check)
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self.lost: errors.EventError | None = None
        self.terms = Terms()
        callbacks = Callbacks(
            self._confirmed, self._questions.answered, self._ended, self._write_soon
        )
        self._client = Client(settings, session, self._stream, callbacks)

    def __str__(self) -> str:
        return str(self._settings.address)

    def check(self) -> None:
        """Raise `ConnectionLost` (or `SessionTakenOver`) when the connection has ended."""
        if self.lost is not None:
            raise type(self.lost)(str(self.lost)) from self.lost

    # Opening and ending

    async def open(self) -> None:
        """Connect and wait for the broker's answer.

        Raises:
            BrokerUnreachable: Nobody there, or not speaking MQTT 5.
            AccessRefused: The credentials are refused.
        """
        opened = False
        try:
            await self._open_stream()
            await self._client.connect()
            opened = True
        except OSError as error:
            if isinstance(error, errors.TransportError):
                raise
            raise errors.BrokerUnreachable(
                f'No MQTT 5 broker at {self}: {str(error) or type(error).__name__}'
            ) from error
        finally:
            if not opened:
                self._forget(errors.ConnectionLost(f'The connection to {self} was not opened'))
                self._stream.abort()
        self.terms = self._client.terms or self.terms
        self._outbox.window = min(self.terms.receive_maximum, MAX_IN_FLIGHT)
        self._watch_later()

    async def close(self, *, end_session: bool = False) -> None:
        """Send what is waiting, say good-bye and end; after a second by force."""
        good = self.lost is None
        self._forget(errors.ConnectionLost(f'The connection to {self} is closed'))
        try:
            if good:
                self._stream.go_on()  # or the broker's answer to the good-bye is never seen
                self._client.disconnect(end_session=end_session)
                self._flush()
                async with asyncio.timeout(_CLOSE_S):
                    await asyncio.shield(self._stream.closed)
        except TimeoutError:
            LOGGER.debug('%s does not take our good-bye', self)
        finally:
            self._stream.abort()

    async def _open_stream(self) -> None:
        hosts = self._settings.address.hosts
        context = _tls(self._settings)
        for position, (host, port) in enumerate(hosts, 1):
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s / len(hosts)):
                    await self._loop.create_connection(
                        lambda: self._stream, host, port, ssl=context
                    )
                return
            except OSError:
                if position == len(hosts):
                    raise

    def lose(self, reason: errors.EventError) -> None:
        """End the connection because of `reason`; only the first one counts."""
        if self.lost is None:
            self._forget(reason)
            self._stream.abort()
            self._on_lost(reason)

    def _forget(self, reason: errors.EventError) -> None:
        """End whatever waits for the broker; it looks at `lost`."""
        if self.lost is not None:
            return
        self.lost = reason
        if self._timer is not None:
            self._timer.cancel()
        self._outbox.end()
        self._questions.end()
        self._client.fail(ConnectionResetError(str(reason)))

    def taken_over(self) -> errors.SessionTakenOver:
        """Return the error of a session that another process uses."""
        return errors.SessionTakenOver(
            f'Another process has taken over the MQTT session {self._session.client_id!r};'
            ' give each instance its own --instance'
        )

    # Watching

    def _watch_later(self) -> None:
        due = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(due, self._watch, due)

    def _watch(self, due: float) -> None:
        """Let the library ping, and notice a connection on which nothing comes any more."""
        now = self._loop.time()
        silent_s = 0.0 if self._stream.held else now - self._stream.received_at
        if now - due > _TICK_S:
            LOGGER.debug('The event loop stood still: whether %s is silent is not known', self)
        elif self.terms.keepalive_s and silent_s > _SILENCE * self.terms.keepalive_s:
            self.lose(errors.ConnectionLost(f'{self} has been silent for {silent_s:.0f} s'))
            return
        elif (stuck_s := self._outbox.stuck_s(now)) > self._stuck_limit_s:
            self.lose(
                errors.ConnectionLost(
                    f'{self} has not confirmed a message for {stuck_s:.0f} s, though it is not'
                    ' silent: the confirm seems to be lost'
                )
            )
            return
        else:
            self._client.tick()
        if self.lost is None:
            self._watch_later()

    @property
    def _stuck_limit_s(self) -> float:
        """After so long a confirm will not come: its place in the window would be lost for good."""
        patience_s = _SILENCE * (self.terms.keepalive_s or KEEPALIVE_S)
        return max(patience_s, _UNCONFIRMED * self._settings.publish_timeout_s)

    def _ended(self, code: int, name: str) -> None:
        if code == TAKEN_OVER:
            self.lose(self.taken_over())
        else:
            self.lose(errors.ConnectionLost(f'{self} has ended the connection: {name}'))

    def _end(self, reason: Exception | None) -> None:
        self.lose(errors.ConnectionLost(f'The connection to {self} has ended: {reason or "EOF"}'))

    # Bytes

    def hold(self) -> None:
        """Read nothing more until `go_on`, except where a caller waits for the broker's answer.

        Pings are sent all the same; that the broker is silent is not noticed meanwhile.
        """
        if not self._questions.asking:
            self._stream.hold()

    def go_on(self) -> None:
        """Read again what the broker sends."""
        self._stream.go_on()

    def _take(self, flags: int, data: bytes) -> None:
        if self.lost is None:
            self._on_message(decode_publish(flags, data))

    def _read(self) -> None:
        self._client.read()

    def _write_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._client.write()
        self._stream.flush()
        if not self._stream.congested:
            self._outbox.written()

    def _drained(self) -> None:
        self._outbox.written()
        self._outbox.pump()

    # Publishing and acknowledging

    async def publish(
        self,
        messages: Sequence[Message],
        encode: Encode,
        progress: Progress,
        *,
        mandatory: bool = False,
    ) -> dict[int, Exception]:
        """Publish with QoS 1, all on their way at once; return what was refused, by position.

        Args:
            mandatory: What no subscription matches counts as refused, where the broker says so.

        Raises:
            ConnectionLost: The connection has ended.
        """
        self.check()
        before = progress.confirmed
        failed = await self._outbox.publish(messages, encode, progress, mandatory=mandatory)
        if len(failed) + progress.confirmed - before < len(messages):
            self.check()
        return failed

    def ack(self, incoming: Incoming) -> None:
        """Acknowledge a message, so that the broker forgets it."""
        if incoming.qos and self.lost is None:
            self._client.ack(incoming.packet_id)

    def _send(self, outgoing: Outgoing) -> int:
        topic, body, properties, _ = outgoing
        size = len(topic.encode()) + len(body) + len(properties) + _PACKET_OVERHEAD
        if size > self.terms.maximum_packet:
            raise errors.PublishError(
                f'{size} bytes; {self} takes {self.terms.maximum_packet} in one packet'
            )
        return self._client.publish(outgoing)

    def _confirmed(self, packet_id: int, code: int, name: str) -> None:
        refusal = None
        if code >= REFUSED:
            refusal = errors.PublishError(
                f'{self} refused the message: {name}', phase='confirm', maybe_sent=False
            )
        self._outbox.confirm(packet_id, refusal, heard=code != NOBODY)

    # Subscribing

    async def subscribe(
        self, wanted: Mapping[str, int | None], on_granted: Callable[[str], None] | None = None
    ) -> dict[str, Exception]:
        """Subscribe to filters, each with its subscription identifier; return those refused.

        Args:
            on_granted: Told of each filter as soon as it counts: before its first message.
        """
        identifiers = wanted if self.terms.identifiers else dict.fromkeys(wanted)
        self._stream.go_on()
        codes = await self._questions.ask(
            list(wanted),
            lambda text: self._client.subscribe(text, identifiers[text]),
            on_granted,
        )
        return {text: self._refusal(text, code) for text, code in codes.items() if code >= REFUSED}

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from filters, and wait until that counts."""
        self._stream.go_on()
        await self._questions.ask(filters, self._client.unsubscribe)

    def unsubscribe_soon(self, text: str) -> None:
        """Unsubscribe from a filter without waiting."""
        if self.lost is None:
            self._client.unsubscribe(text)

    def _refusal(self, text: str, code: int) -> Exception:
        kind = errors.AccessRefused if code == NOT_AUTHORIZED else errors.BindingRefused
        return kind(f'{self} refuses the subscription to {text!r} (reason code {code:#x})')


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None:
            # With no pass phrase the library would ask for one at the terminal, and wait.
            context.load_cert_chain(settings.cert, settings.key, password='')
    except OSError as error:
        files = [name for name in (settings.ca, settings.cert, settings.key) if name]
        raise errors.BrokerUnreachable(
            f'Cannot use the TLS files {", ".join(files)}: {error}'
        ) from error
    return context
