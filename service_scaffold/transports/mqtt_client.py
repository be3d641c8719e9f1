"""The MQTT client library in plain terms; the only file that knows aiomqtt and paho below it.

aiomqtt makes the client and judges the broker's answer to CONNECT. Its own way of connecting
holds a thread of the default pool while TCP or TLS hang, its publish forgets the reason code,
and it acknowledges before anything is handled: so bytes go through our `Stream`, and publishing,
subscribing and acknowledging use the paho client inside. PUBLISH packets from the broker do not
come this way, see `mqtt_packets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from service_scaffold import errors
from service_scaffold.transports.base import Settings
from service_scaffold.transports.mqtt_outbox import Outgoing
from service_scaffold.transports.mqtt_packets import subscription_properties
from service_scaffold.transports.mqtt_stream import Stream

KEEPALIVE_S = 15

NOBODY = 0x10
"""Reason code of a message that the broker has taken, and that no subscription matches."""
REFUSED = 0x80
"""Reason codes from here on are failures."""
NOT_AUTHORIZED = 0x87
TAKEN_OVER = 0x8E
_ACCESS_CODES = frozenset({0x86, NOT_AUTHORIZED, 0x8A, 0x8C})
_MAX_EXPIRY_S = 0xFFFFFFFF
_MAX_RECEIVE = 65_535
_QOS_1 = SubscribeOptions(qos=1)

# What we touch beyond the public interface was read in these versions.
if aiomqtt.__version_tuple__[0] != 2 or not hasattr(paho.Client, '_create_socket'):
    raise errors.ConfigError(
        f'mqtt:// needs aiomqtt 2.5 to 2.x, not {aiomqtt.__version__}:'
        " pip install 'aiomqtt>=2.5,<3'"
    )


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes in our name.

    Attributes:
        expiry_s: How long it is retained.
    """

    topic: str
    body: bytes
    expiry_s: int


@dataclass(frozen=True, slots=True)
class Session:
    """How a connection is opened.

    Attributes:
        client_id: Who we are to the broker.
        kept: Continue the session of that id; else begin with nothing.
        expiry_s: How long the broker keeps the session when the connection has ended.
        receive_maximum: How many unacknowledged messages it may send.
        keepalive_s: How long we may be silent, before half as long again has it end the connection.
        will: What it publishes, retained, when the connection ends without a good-bye.
    """

    client_id: str
    kept: bool = False
    expiry_s: int = 0
    receive_maximum: int = _MAX_RECEIVE
    keepalive_s: int = KEEPALIVE_S
    will: Will | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What the broker has answered to CONNECT.

    Attributes:
        receive_maximum: How many unacknowledged publishes it takes.
        maximum_packet: Bytes of the largest packet it takes.
        keepalive_s: How long we may be silent; 0 is for ever.
        identifiers: It marks messages with our subscription identifiers.
    """

    receive_maximum: int = _MAX_RECEIVE
    maximum_packet: int = 268_435_455
    keepalive_s: int = KEEPALIVE_S
    identifiers: bool = True


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who is told what; reason codes are those of MQTT 5.

    Attributes:
        confirmed: A publish is answered: packet id, reason code, its name.
        answered: A subscribe or unsubscribe is answered: packet id, reason code.
        ended: The connection has ended: reason code, its name.
        to_write: Something waits for `write`.
    """

    confirmed: Callable[[int, int, str], None]
    answered: Callable[[int, int], None]
    ended: Callable[[int, str], None]
    to_write: Callable[[], None]


class _Packed:
    """Properties that are packed already, as the library takes them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pack(self) -> bytes:
        return self._data


class Client:
    """One use of the library, over a stream that is open.

    Attributes:
        terms: What the broker has answered, None before that.
    """

    def __init__(
        self, settings: Settings, session: Session, stream: Stream, callbacks: Callbacks
    ) -> None:
        self._stream = stream
        self._callbacks = callbacks
        self._address = settings.address
        self._keepalive_s = session.keepalive_s
        self._asyncio = aiomqtt.Client(
            settings.address.host,
            settings.address.port,
            username=settings.address.user,
            password=settings.address.password,
            identifier=session.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            keepalive=session.keepalive_s,
            will=_will(session.will),
            clean_start=not session.kept,
            properties=_connect_properties(session),
            max_inflight_messages=0,  # the window is the outbox's; theirs costs a scan a confirm
        )
        self._paho = self._asyncio._client
        self._attach()
        self.terms: Terms | None = None

    def _attach(self) -> None:
        """Put our stream below the library and our callbacks above it."""
        vars(self._paho)['_create_socket'] = lambda: self._stream
        self._paho.manual_ack_set(True)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_answer
        self._paho.on_unsubscribe = self._on_answer
        self._paho.on_socket_open = _nothing
        self._paho.on_socket_close = _nothing
        self._paho.on_socket_register_write = self._on_write
        self._paho.on_socket_unregister_write = _nothing

    async def connect(self) -> None:
        """Send CONNECT and wait for the answer.

        Raises:
            BrokerUnreachable: It is no, or the connection has ended.
            AccessRefused: The credentials are refused.
        """
        self._asyncio._client_connect()  # does not block: the stream is open
        try:
            await self._asyncio._connected
        except aiomqtt.MqttError as error:
            code = getattr(getattr(error, 'rc', None), 'value', None)
            if code in _ACCESS_CODES:
                raise errors.AccessRefused(
                    f'{self._address} refuses our credentials: {error}'
                ) from error
            raise errors.BrokerUnreachable(f'{self._address} refuses us: {error}') from error

    def fail(self, reason: Exception) -> None:
        """End a wait in `connect`."""
        connected = self._asyncio._connected
        if not connected.done():
            connected.set_exception(reason)
            connected.exception()  # nobody need be waiting

    def disconnect(self, *, end_session: bool) -> None:
        """Say good-bye, and whether the broker shall forget the session."""
        properties: Any = None
        if end_session:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._paho.disconnect(properties=properties)

    def publish(self, outgoing: Outgoing) -> int:
        """Publish with QoS 1; return the packet id.

        Raises:
            PublishError: The library does not take it.
        """
        topic, body, properties, retain = outgoing
        packed: Any = _Packed(properties)
        try:
            info = self._paho.publish(topic, body, 1, retain, packed)
            if info.rc == paho.MQTT_ERR_QUEUE_SIZE:  # the packet id is in use: take the next one
                info = self._paho.publish(topic, body, 1, retain, packed)
        except ValueError as error:
            raise errors.PublishError(f'Cannot be sent to {topic!r}: {error}') from error
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise errors.PublishError(f'Not sent to {self._address}: {paho.error_string(info.rc)}')
        return info.mid

    def subscribe(self, text: str, identifier: int | None) -> int | None:
        """Subscribe with QoS 1; return the packet id, None when the connection has ended."""
        packed: Any = _Packed(subscription_properties(identifier))
        return self._paho.subscribe(text, options=_QOS_1, properties=packed)[1]

    def unsubscribe(self, text: str) -> int | None:
        """Unsubscribe; return the packet id, None when the connection has ended."""
        return self._paho.unsubscribe(text)[1]

    def ack(self, packet_id: int) -> None:
        """Acknowledge a message of QoS 1."""
        self._paho.ack(packet_id, 1)

    def read(self) -> None:
        """Take in the packet that the stream has."""
        self._paho.loop_read()

    def write(self) -> None:
        """Give the stream what waits."""
        self._paho.loop_write()

    def tick(self) -> None:
        """Ping when it is time; to be called about once a second."""
        if self._stream.held:
            self._paho._ping_t = 0  # the answer is among what we do not read
        self._paho.loop_misc()

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.value < REFUSED:
            told = vars(properties).get
            usual = Terms(keepalive_s=self._keepalive_s)
            self.terms = Terms(
                receive_maximum=told('ReceiveMaximum', usual.receive_maximum),
                maximum_packet=told('MaximumPacketSize', usual.maximum_packet),
                keepalive_s=told('ServerKeepAlive', usual.keepalive_s),
                identifiers=bool(told('SubscriptionIdentifierAvailable', 1)),
            )
        self._asyncio._on_connect(client, userdata, flags, reason, properties)

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._callbacks.ended(reason.value, str(reason))

    def _on_publish(
        self, client: paho.Client, userdata: Any, packet_id: int, reason: Any, properties: Any
    ) -> None:
        code = reason.value
        self._callbacks.confirmed(packet_id, code, str(reason) if code >= REFUSED else '')

    def _on_answer(
        self, client: paho.Client, userdata: Any, packet_id: int, reasons: Any, properties: Any
    ) -> None:
        self._callbacks.answered(packet_id, reasons[0].value)

    def _on_write(self, *_: object) -> None:
        self._callbacks.to_write()


def _will(will: Will | None) -> aiomqtt.Will | None:
    if will is None:
        return None
    properties: Any = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = min(will.expiry_s, _MAX_EXPIRY_S)
    return aiomqtt.Will(will.topic, will.body, qos=1, retain=True, properties=properties)


def _connect_properties(session: Session) -> Properties:
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = min(session.expiry_s, _MAX_EXPIRY_S)
    properties.ReceiveMaximum = min(max(session.receive_maximum, 1), _MAX_RECEIVE)
    return properties  # type: ignore[no-any-return] # the library is untyped here


def _nothing(*_: object) -> None:
    """Take a callback of the library that asyncio makes needless."""
