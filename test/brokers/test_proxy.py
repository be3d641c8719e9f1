"""The proxy's faults, seen by a plain TCP client of an echo server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from test.brokers.process import free_port
from test.brokers.proxy import Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except ConnectionResetError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, '127.0.0.1', 0)
    with Proxy('127.0.0.1', server.sockets[0].getsockname()[1]) as opened:
        yield opened
    server.close()


async def connect(proxy: Proxy) -> Streams:
    return await asyncio.open_connection(proxy.host, proxy.port)


async def ask(streams: Streams, data: bytes, timeout_s: float = 5) -> bytes:
    streams[1].write(data)
    return await asyncio.wait_for(streams[0].read(1000), timeout_s)


async def test_forwards_both_ways_and_counts(proxy):
    streams = await connect(proxy)

    assert await ask(streams, b'one') == b'one'
    assert (proxy.connections, proxy.accepted) == (1, 1)


async def test_forwards_the_end_of_a_connection(proxy):
    reader, writer = await connect(proxy)
    writer.write(b'last')
    writer.write_eof()

    assert await asyncio.wait_for(reader.read(), 5) == b'last'


async def test_down_cuts_and_refuses_until_up(proxy):
    streams = await connect(proxy)
    await ask(streams, b'one')

    proxy.down()
    with pytest.raises(ConnectionResetError):
        await ask(streams, b'two')
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)

    proxy.up()
    assert await ask(await connect(proxy), b'three') == b'three'


async def test_half_open_keeps_connections_silent_until_restored(proxy):
    old = await connect(proxy)
    await ask(old, b'one')

    proxy.half_open()
    new = await connect(proxy)
    for streams in (old, new):
        with pytest.raises(TimeoutError):
            await ask(streams, b'two', timeout_s=0.1)

    proxy.restore()
    assert await asyncio.wait_for(old[0].read(1000), 5) == b'two'
    assert await asyncio.wait_for(new[0].read(1000), 5) == b'two'


async def test_half_open_hides_the_end_of_the_target(proxy):
    reader, writer = await connect(proxy)
    await ask((reader, writer), b'one')

    proxy.half_open()
    writer.write_eof()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.1)


async def test_drop_connections_resets_the_old_and_takes_new_ones(proxy):
    streams = await connect(proxy)
    await ask(streams, b'one')

    proxy.drop_connections()

    with pytest.raises(ConnectionResetError):
        await ask(streams, b'two')
    assert await ask(await connect(proxy), b'three') == b'three'
    assert proxy.accepted == 2


async def test_slow_delays_without_holding_back_what_follows(proxy):
    streams = await connect(proxy)
    await ask(streams, b'one')
    loop = asyncio.get_running_loop()

    proxy.slow(0.1)
    began = loop.time()
    assert await ask(streams, b'two') == b'two'
    assert loop.time() - began >= 0.19

    proxy.restore()
    began = loop.time()
    assert await ask(streams, b'three') == b'three'
    assert loop.time() - began < 0.19


async def test_a_target_that_refuses_ends_the_connection(proxy):
    with Proxy(proxy.host, free_port()) as lonely:
        reader, _ = await connect(lonely)

        assert await asyncio.wait_for(reader.read(), 5) == b''
