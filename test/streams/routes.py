"""The application and the promises that hold on any log: pages that any worker answers."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from service_scaffold.streams import assignment
from service_scaffold.streams.routing import table_route, topic_route
from service_scaffold.streams.topology import Topology

PARTITIONS = 4
CAME = web.AppKey('came', asyncio.Event)
DOOR = web.AppKey('door', asyncio.Event)
KEYS = [f'k{n}' for n in range(24)]


def counting(app: Topology) -> None:
    orders = app.topic(f'{app.id}-orders', partitions=PARTITIONS)
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def count(stream):
        async for key, _ in stream.items():
            counts[key] += 1


def routes(app: web.Application, topology: Topology) -> None:
    counts = topology.tables['counts']

    def shown(key: str) -> web.Response:
        found: dict[str, Any] = {'count': counts[key], 'position': counts.position(key)}
        return web.json_response({**found, 'here': sorted(counts.here)})

    @table_route(counts, match_info='key')
    async def by_path(request: web.Request) -> web.Response:
        return shown(request.match_info['key'])

    @table_route(counts, query_param='key', stale=True, timeout_s=2.0)
    async def by_query(request: web.Request) -> web.Response:
        return shown(request.query['key'])

    @table_route(counts, exact_key='k1')
    async def exact(request: web.Request) -> web.Response:
        return shown('k1')

    @topic_route(topology.topics[f'{topology.id}-orders'], match_info='key')
    async def by_topic(request: web.Request) -> web.Response:
        return web.json_response({'here': sorted(counts.here)})

    @table_route(counts, query_param='key')
    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        return web.Response(status=201, body=body[::-1], headers={'X-Method': request.method})

    @table_route(counts, query_param='key', timeout_s=0.3)
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    @table_route(counts, query_param='key', stale=True)
    async def torn(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'Content-Length': '1000'})
        await response.prepare(request)
        await response.write(b'half of it')
        assert request.transport is not None
        request.transport.close()
        return response

    @table_route(counts, query_param='key')
    async def late(request: web.Request) -> web.Response:
        app[CAME].set()
        await app[DOOR].wait()
        return shown(request.query['key'])

    class View(web.View):
        @table_route(counts, match_info='key')
        async def get(self) -> web.Response:
            return shown(self.request.match_info['key'])

    @table_route(counts, match_info='key')
    async def page(tools: object, request: web.Request, key: str) -> web.Response:
        return shown(key)

    async def call_page(request: web.Request) -> web.Response:
        answer: web.Response = await page(web, request, **request.match_info)
        return answer

    app.router.add_view('/view/{key}', View)
    app.router.add_get('/page/{key}', call_page)
    app.router.add_get('/counts/{key}', by_path)
    app.router.add_get('/counts', by_query)
    app.router.add_get('/exact', exact)
    app.router.add_get('/topic/{key}', by_topic)
    app.router.add_post('/echo', echo)
    app.router.add_get('/slow', slow)
    app.router.add_get('/torn', torn)
    app.router.add_get('/late', late)
    app[CAME], app[DOOR] = asyncio.Event(), asyncio.Event()
    assignment.add_route(app)
