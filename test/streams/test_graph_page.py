"""The graph of a running application over HTTP."""

from __future__ import annotations

import json

import aiohttp
import pytest

from service_scaffold.apps.stream import StreamApp
from service_scaffold.streams.description import describe


@pytest.fixture
async def app():
    """A running application."""
    app = StreamApp('shop', broker='memory://', web_port=0)
    counts = app.Table('counts', default=int)

    @app.agent(app.topic('orders', partitions=1))
    async def count(stream):
        async for order in stream.group_by(str, name='text'):
            counts[order] += 1

    await app.start()
    yield app
    await app.stop()


async def ask(app: StreamApp, query: str = '', status: int = 200) -> str:
    host, port = app.address
    url = f'http://{host}:{port}/_service/topology{query}'
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.status == status
        return await answer.text()


async def test_as_json(app):
    found = json.loads(await ask(app))

    assert found == (await describe(app)).to_dict()
    assert {'source': 'agent:count', 'target': 'table:counts', 'kind': 'uses'} in found['edges']


async def test_as_a_flowchart(app):
    assert (await ask(app, '?format=mermaid')).startswith('flowchart LR\n')


async def test_another_format_is_refused(app):
    assert 'json or mermaid' in await ask(app, '?format=svg', 400)


async def test_looking_disturbs_nothing(app):
    """A running application is not discovered again."""
    movers = list(app.movers)

    await ask(app)

    assert app.movers == movers
