"""The transport port: what one broker client must be able to do.

A transport is fragile by design: it connects once, raises when something fails, says through
`lost` when the connection has ended, and is thrown away then. Reconnecting, restoring, retrying
and settling are done above, once for all transports (`events.connection`, `events.pipeline`).
Everything moves in batches; the cost per message is what the broker's client costs.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from service_scaffold import errors
from service_scaffold.clock import Clock, SystemClock
from service_scaffold.message import Message
from service_scaffold.transports.address import Address
from service_scaffold.transports.presence import Presence
from service_scaffold.transports.state import State

LIVE_BUFFER = 1000
"""How many messages a live view holds before the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a transport is made from.

    Attributes:
        address: Where the broker is.
        name: The service's name; names reply topics and connections.
        instance: Unique and stable per instance; names kept MQTT sessions.
        role: What the connection is for (`listener`, `publisher`, …), for names and logs.
        connect_timeout_s: Seconds for one connection attempt.
        publish_timeout_s: Seconds that a publish may take; clients get limits below it.
        declare: `create` declares exchanges and topics, `passive` only checks that they exist.
        ca: PEM file of the authorities to trust; None means the system's.
        cert: PEM file with our certificate; None: no client certificate.
        key: PEM file with our private key.
        ssl_context: What to verify the broker with, instead of the three; only Kafka takes it.
        session_expiry_s: How long an MQTT broker keeps a group's session while we are away.
        namespace: What `state` and `presence` are kept under, by all services that share them.
        lease_s: How long one that was announced may be silent before it counts as lost.
        retention_s: How long RabbitMQ keeps what was put into `state`, at least; and all brokers
            that somebody was lost.
        clock: What timestamps are taken from.
        scope: Whose broker a bare `memory://` is: the application. Others ignore it.
    """

    address: Address
    name: str = 'service'
    instance: str = 'localhost'
    role: str = 'events'
    connect_timeout_s: float = 10.0
    publish_timeout_s: float = 5.0
    declare: Literal['create', 'passive'] = 'create'
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    session_expiry_s: int = 86400
    namespace: str = 'assets'
    lease_s: float = 15.0
    retention_s: int = 604_800
    clock: Clock = field(default_factory=SystemClock)
    scope: object | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a transport can do; a test that needs more is skipped with the reason.

    Attributes:
        group_order: Order per key holds over all instances of a group, not only inside one.
        group_redelivery: What a member leaves unsettled goes to the other members.
        history: A group can start with what was published before it (`start='first'`), and what
            is published before a group's first subscription is kept.
        knows_responders: `mandatory` messages that nobody takes are refused at once.
        checks_exchange_type: An exchange of another type is refused.
        copy_per_binding: Each matching binding of a group delivers its own copy, and the delivery
            names its `binding`.
    """

    group_order: bool = False
    group_redelivery: bool = True
    history: bool = False
    knows_responders: bool = False
    checks_exchange_type: bool = False
    copy_per_binding: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """Which messages are wanted: those of `exchange` whose routing matches `pattern`."""

    exchange: str
    exchange_type: str
    pattern: str

    def __str__(self) -> str:
        return f'{self.exchange}/{self.pattern}'


@dataclass(frozen=True, slots=True)
class IntakeSpec:
    """One consumer: a group on one exchange, or (group None) all live views of a listener.

    Attributes:
        group: Name of the group; None for live views, whose bindings may name any exchange.
        exchange: The group's exchange; empty for live views.
        exchange_type: The group's exchange type.
        prefetch: How many unsettled deliveries a group's consumer may hold.
        start: `new`: a new group begins with what comes after its first subscription; `first`:
            with the oldest that the broker has (where `history`).
        keep: Plain data that outlives the connection: whoever asks for the intake hands in the
            same dict at each reconnect, and a transport may keep positions in it.
    """

    group: str | None = None
    exchange: str = ''
    exchange_type: str = 'topic'
    prefetch: int = 32
    start: Literal['new', 'first'] = 'new'
    keep: dict[str, Any] = field(default_factory=dict, compare=False)


class Delivery(msgspec.Struct, gc=False):
    """One message as it came from the broker, before anyone asked for its envelope.

    Attributes:
        exchange: Exchange it was published to.
        routing: Routing key.
        body: The payload.
        content_type: MIME type; None means JSON.
        key: Ordering key, in whatever hashable form is cheap.
        special: It asks for an answer, has a deadline or is a replay: the envelope must be read
            before it is handled.
        raw: The client's own record, for `settle` and `envelope`.
        binding: The only binding it is for: where `copy_per_binding`, and for stored (retained)
            messages that a broker sends for a new live binding; None: all that match.
    """

    exchange: str
    routing: str
    body: bytes
    content_type: str | None
    key: Hashable
    special: bool
    raw: Any
    binding: Binding | None = None


class Intake(ABC):
    """One consumer on one connection.

    Attributes:
        epoch: Changes whenever deliveries that were handed out may have become void (a partition
            was revoked, the connection is gone): then `alive` tells for each.
    """

    epoch: int = 0

    @abstractmethod
    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        """Start taking messages of `bindings`, all or as many as the broker accepts.

        Returns when the broker has confirmed, so that what is published next arrives. Declares
        the exchanges. Returns the refused ones, each with a `BindingRefused` or `AccessRefused`.

        Raises:
            ConnectionLost: The connection ended meanwhile.
            IntakeLost: This consumer ended meanwhile.
        """

    @abstractmethod
    async def unbind(self, bindings: Sequence[Binding]) -> None:
        """Stop taking messages of `bindings`."""

    @abstractmethod
    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries and return 1 to `limit` of them, oldest first.

        Gives the event loop a turn even when some are there already. May be cancelled at any
        time without losing a delivery.

        Raises:
            ConnectionLost: The connection has ended.
            IntakeLost: This consumer has ended (queue deleted, offsets lost, session taken over).
        """

    def alive(self, delivery: Delivery) -> bool:
        """Tell whether a delivery handed out earlier is still ours to handle and settle."""
        return True

    def lag(self) -> int | None:
        """Return how many messages wait in the broker for this consumer; None: it does not tell.

        Called when metrics are read; must not ask the broker.
        """
        return None

    @abstractmethod
    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Mark deliveries as done, in any order; the broker is told soon, and before `close` ends.

        Deliveries that are not `alive` any more are ignored. Live views ignore it.
        """

    @abstractmethod
    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Hand deliveries back, not processed: the broker delivers them again, when it can."""

    @abstractmethod
    async def pause(self) -> None:
        """Take nothing more from the broker; hand back what was not fetched. Settling goes on."""

    @abstractmethod
    async def close(self, *, forget: bool = False) -> None:
        """Flush settlements and end. Idempotent, bounded in time, raises nothing.

        Args:
            forget: The listener has unsubscribed for good: leave the group at once. Queues,
                offsets and what is in them stay.
        """


class Progress:
    """How far a publish has come, kept by the transport for the publisher's error and limit.

    Attributes:
        phase: `connect`, `send` once a byte may have left, `confirm` when all has been written.
        confirmed: Number of confirms so far.
        on_confirm: Called after each (or each batch of) confirm.
    """

    __slots__ = ('_positions', 'confirmed', 'on_confirm', 'phase')

    def __init__(self, on_confirm: Callable[[], None] | None = None) -> None:
        self.phase: errors.Phase = 'connect'
        self.confirmed = 0
        self.on_confirm = on_confirm
        self._positions: set[int] = set()

    def unconfirmed(self, total: int) -> tuple[int, ...]:
        """Return the positions, of `total`, that are not known to be confirmed."""
        return tuple(position for position in range(total) if position not in self._positions)

    def advance(self, count: int = 1, positions: Iterable[int] = ()) -> None:
        """Count `count` more confirms, those of the messages at `positions`."""
        self.confirmed += count
        self._positions.update(positions)
        if self.on_confirm is not None:
            self.on_confirm()


ReplyCallback = Callable[[Message], None]


class Transport(ABC):
    """One connection to one broker.

    `connect` is called once; a transport is not used again after `close` or after `lost` is done.
    Every coroutine may be cancelled by its caller's time limit and must then leave nothing behind
    that `close` does not end.

    Attributes:
        capabilities: What this kind of transport can do.
        state: The latest-value part; None where a transport has none.
        presence: The presence part; None where a transport has none.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    state: State | None = None
    presence: Presence | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lost: asyncio.Future[Exception] | None = None

    @property
    def lost(self) -> asyncio.Future[Exception]:
        """Done, with the reason as its result, when the connection has ended by itself."""
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    def lose(self, reason: Exception) -> None:
        """Report that the connection has ended; only the first reason counts."""
        if not self.lost.done():
            self.lost.set_result(reason)

    @abstractmethod
    async def connect(self) -> None:
        """Make the connection. The caller bounds the time.

        Raises:
            BrokerUnreachable: Nobody there, or not speaking the protocol.
            AccessRefused: The credentials are refused.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the connection and all that belongs to it. Idempotent, ≤ 2 s, raises nothing."""

    @abstractmethod
    async def intake(self, spec: IntakeSpec) -> Intake:
        """Open one consumer, yet without bindings.

        Raises:
            BindingRefused: The broker refuses the exchange or the queue.
            AccessRefused: The credentials do not allow it.
            ConnectionLost: The connection ended meanwhile.
        """

    @abstractmethod
    def envelope(self, delivery: Delivery) -> Message:
        """Build the envelope of a delivery of this transport."""

    @abstractmethod
    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        """Publish messages, all on their way at once, and wait for the broker's confirms.

        Order per key is that of `messages`. Declares each exchange or topic once a connection,
        and again after the broker has said that it is missing.

        Args:
            progress: Told of the phase and of each confirm.
            mandatory: Refuse messages that nobody takes, where `knows_responders`.

        Returns:
            Position to error for each message that the broker did not accept, while the
            connection is still good (`PublishError`, `NoResponder`, `BindingRefused`).

        Raises:
            ConnectionLost: The connection ended; what was confirmed until then is in `progress`.
        """

    @abstractmethod
    async def dead_letter(self, message: Message) -> None:
        """Put a message into the dead-letter store of `message.exchange`, and wait for the confirm.

        Its headers already hold the `x-death-…` and `x-origin…` facts; its exchange is the origin.

        Raises:
            TransportError: The store did not take it.
        """

    @abstractmethod
    async def open_replies(self, on_reply: ReplyCallback) -> str:
        """Start receiving answers on this connection; return the address for `reply_to`.

        Called at most once a connection, before its first request. `on_reply` gets each answer's
        envelope, whose `correlation_id` names the request.
        """

    @abstractmethod
    async def reply(self, request: Message, answer: Message) -> None:
        """Send `answer` to `request.reply_to` with `request.correlation_id`."""
