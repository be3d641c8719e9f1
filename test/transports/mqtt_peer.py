"""A scripted MQTT broker, for what Mosquitto does not do or cannot be made to."""

from __future__ import annotations

import asyncio

from service_scaffold.transports.mqtt_packets import read_length

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT = 0x80, 0x90, 0xA0, 0xB0, 0xE0
PINGREQ = 0xC0


def packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([first, len(body)]) + body


class Peer:
    """Answers as it is told to; everything else as a broker that says yes.

    Args:
        connack: Reason code and properties of the answer to CONNECT.
        suback: Reason code for every subscription; None answers none.
        puback: Reason code for every message; None answers none.

    Attributes:
        pings: How many have come; none is answered.
        acknowledged: The packet ids of the acknowledgements that have come.
    """

    def __init__(self, *, connack=(0, b''), suback: int | None = 1, puback: int | None = 0) -> None:
        self.connack = connack
        self.suback = suback
        self.puback = puback
        self.published: list[bytes] = []
        self.pings = 0
        self.acknowledged: list[int] = []
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._serve, '127.0.0.1', 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f'mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}'

    def send(self, data: bytes) -> None:
        """Send a packet to the client that came last."""
        self.writers[-1].write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        data = b''
        while chunk := await reader.read(65_536):
            data += chunk
            while (sized := read_length(data, 1)) and sum(sized) <= len(data):
                length, start = sized
                self._answer(data[0] & 0xF0, data[start : start + length], writer)
                data = data[start + length :]
        writer.close()

    def _answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == CONNECT:
            code, properties = self.connack
            writer.write(packet(CONNACK, bytes([0, code, len(properties)]) + properties))
        elif kind in (SUBSCRIBE, UNSUBSCRIBE):
            answer = SUBACK if kind == SUBSCRIBE else UNSUBACK
            if self.suback is None:
                return
            writer.write(packet(answer, body[:2] + bytes([0, self.suback])))
        elif kind == PINGREQ:
            self.pings += 1
        elif kind == PUBACK:
            self.acknowledged.append(int.from_bytes(body[:2]))
        elif kind == PUBLISH:
            self.published.append(body)
            topic_end = 2 + int.from_bytes(body[:2])
            if self.puback is not None:
                packet_id = body[topic_end : topic_end + 2]
                writer.write(packet(PUBACK, packet_id + bytes([self.puback, 0])))
