"""The port before the application has started."""

import asyncio
import contextlib
import socket

import aiohttp
import pytest
from aiohttp import web

from service_scaffold import features
from service_scaffold.http import cors, gate


@contextlib.asynccontextmanager
async def opened():
    lifecycle = features.Lifecycle(web.Application())
    bound = gate.bind('127.0.0.1', 0)
    entrance = gate.Gate(lifecycle, bound, '/plant', cors.Cors(['*']))
    await entrance.open()
    async with aiohttp.ClientSession(f'http://127.0.0.1:{bound[0].getsockname()[1]}') as client:
        yield client, entrance, bound
    await entrance.close()
    for one in bound:
        one.close()


@pytest.mark.parametrize(
    ('path', 'status'),
    [
        ('/_service/live', 200),
        ('/plant/_service/live', 200),
        ('/_service/status', 200),
        ('/_service/ready', 503),
        ('/plant/_service/ready', 503),
        ('/_service/metrics', 503),
        ('/other/_service/live', 503),
        ('/plant/anything', 503),
    ],
)
async def test_only_live_and_status_are_answered(path, status):
    async with opened() as (client, _, _), client.get(path) as answer:
        assert answer.status == status
        assert answer.headers['Access-Control-Allow-Origin'] == '*'
        if status == 503:
            assert answer.content_type == 'application/problem+json'
            assert answer.headers['Retry-After'] == '1'


async def test_only_options_is_a_preflight():
    headers = {'Origin': 'https://app.example', 'Access-Control-Request-Method': 'PUT'}

    async with opened() as (client, _, _):
        async with client.options('/plant/x', headers=headers) as preflight:
            assert preflight.status == 204
        async with client.get('/_service/live', headers=headers) as live:
            assert live.status == 200


async def test_connections_go_to_the_application_once_it_is_admitted():
    """Those that the gate has accepted before are answered by it, not dropped."""

    async def answer(request):
        return web.Response(text='application')

    async with opened() as (client, entrance, bound):
        reader, writer = await asyncio.open_connection(*bound[0].getsockname())
        async with client.get('/') as refused:
            assert refused.status == 503

        entrance.admit(web.Server(answer))

        async with client.get('/') as admitted:
            assert await admitted.text() == 'application'
        writer.write(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
        assert b'503' in await asyncio.wait_for(reader.readline(), timeout=1)
        writer.close()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf'127\.0\.0\.1:{port}: Address already in use'):
            gate.bind('127.0.0.1', port)


def test_what_is_no_host_name_is_named():
    with pytest.raises(OSError, match=r'Cannot listen on a\.\.b:0'):
        gate.bind('a..b', 0)


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(OSError, match=r'Cannot listen on nowhere\.invalid:80'):
        gate.bind('nowhere.invalid', 80)


def test_all_addresses_of_a_name_share_one_free_port():
    bound = gate.bind('localhost', 0)
    ports = {one.getsockname()[1] for one in bound}
    for one in bound:
        one.close()

    assert len(ports) == 1
