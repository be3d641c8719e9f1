"""A Kafka client that is cancelled while it connects, against a server that never answers."""

from __future__ import annotations

import asyncio
import gc
import struct
import warnings

import pytest

from service_scaffold.journal.kafka_client import Access, make_client, make_consumer, make_producer

API_VERSIONS = 18
METADATA = 3


@pytest.mark.parametrize('kind', ['client', 'consumer', 'producer'])
async def test_a_cancelled_start_leaves_no_connection_open(kind: str) -> None:
    gone = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say which requests are understood, and answer none of them."""
        while size := await reader.read(4):
            request = await reader.readexactly(int.from_bytes(size))
            key, _, number = struct.unpack('>hhi', request[:8])
            if key == API_VERSIONS:
                answer = struct.pack('>ihi', number, 0, 2)
                answer += struct.pack('>hhhhhh', API_VERSIONS, 0, 0, METADATA, 0, 5)
                writer.write(len(answer).to_bytes(4) + answer)
        writer.close()
        gone.set()

    server = await asyncio.start_server(swallow, '127.0.0.1', 0)
    access = Access(hosts=[server.sockets[0].getsockname()[:2]])
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter('always')
        async with server:
            if kind == 'client':
                client = make_client(access)
            elif kind == 'consumer':
                client = make_consumer(access)._client
            else:
                client = make_producer(access, None, 5).client
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.bootstrap()
            async with asyncio.timeout(2):
                await gone.wait()
            gc.collect()
    assert not [one for one in complaints if 'AIOKafkaConnection' in str(one.message)]
