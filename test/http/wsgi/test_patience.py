"""Clients that take what is sent to them slowly, or not at all."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from test.http.serving import Client, UncancelledServer
from test.http.wsgi import mounted as plain
from test.http.wsgi.mounted import LIMIT_S, Closing, at_rest

BLOCK = b'x' * 16 * 2**20
"""More than the kernel takes off our hands on both sides of a connection."""


def whole():
    return [BLOCK]


def streamed():
    return iter([BLOCK, b'.'])


def ended_by_a_large_block():
    return iter([b'.', BLOCK])


mounted = partial(plain.mounted, server=UncancelledServer)


def serve(make_result):
    def app(environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return make_result()

    return app


@asynccontextmanager
async def asked(client: Client) -> AsyncIterator[socket.socket]:
    """A client with a small buffer that has asked for the block, and has its first byte."""
    loop = asyncio.get_running_loop()
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        asking.setblocking(False)
        async with asyncio.timeout(3 * LIMIT_S):
            await loop.sock_connect(asking, ('127.0.0.1', client.port))
            await loop.sock_sendall(asking, b'GET /site HTTP/1.1\r\nHost: a\r\n\r\n')
            await loop.sock_recv(asking, 1)
            yield asking


async def until_no_connection(client: Client) -> None:
    server = client.server.runner.server
    for _ in range(int(2 * LIMIT_S / 0.02)):
        if not server.connections:
            return
        await asyncio.sleep(0.02)
    raise AssertionError('the connection stays')


@pytest.mark.parametrize('result', [whole, streamed, ended_by_a_large_block])
async def test_a_slow_client_gets_all_of_a_large_block(result):
    async with mounted(serve(result), '--wsgi-stall-s', '0.5') as client, asked(client) as asking:
        received = 0
        while received < len(BLOCK):
            data = await asyncio.get_running_loop().sock_recv(asking, 2**18)
            assert data, f'cut off after {received} bytes'
            received += len(data)
            await asyncio.sleep(0.01)  # so that all takes some times the limit


@pytest.mark.parametrize('result', [whole, streamed, ended_by_a_large_block])
async def test_a_client_that_takes_nothing_is_given_up(result, caplog):
    async with mounted(serve(result), '--wsgi-stall-s', '0.1') as client, asked(client):
        await until_no_connection(client)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_leaves_while_we_wait_for_it_is_no_error(caplog):
    made = 0

    def blocks():
        nonlocal made
        while True:
            made += 1
            yield b'x' * 2**16

    result = Closing(blocks())
    async with mounted(serve(lambda: result)) as client:
        async with asked(client):
            await at_rest(lambda: made)
        await result.wait_closed()
        await until_no_connection(client)

    assert result.closes == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
