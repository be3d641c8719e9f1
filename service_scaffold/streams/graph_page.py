"""The graph of an application over HTTP."""

from __future__ import annotations

from aiohttp import web

from service_scaffold import features
from service_scaffold.http import health, problems
from service_scaffold.http.prefix import PREFIX
from service_scaffold.streams import description
from service_scaffold.streams.topology import Topology


def add_route(app: web.Application) -> None:
    """Serve `GET /_service/topology`: the graph as JSON, `?format=mermaid` as a flowchart."""

    async def get_topology(request: web.Request) -> web.Response:
        found = await description.describe(features.get(request, Topology))
        kind = request.query.get('format', 'json')
        if kind == 'mermaid':
            return web.Response(text=description.mermaid(found))
        if kind != 'json':
            raise problems.ProblemError(400, f'There is no format {kind!r}; json or mermaid.')
        return web.json_response(found.to_dict())

    summary = 'How topics, agents and tables are connected'
    health.add_route(app, app.get(PREFIX, ''), 'topology', get_topology, summary=summary)
