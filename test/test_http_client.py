"""Tests of `service_scaffold.http_client`."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service_scaffold import features, http_client


@pytest.fixture
def app() -> web.Application:
    application = web.Application()
    http_client.setup(application)
    return application


def test_setup_may_be_called_twice(app: web.Application) -> None:
    http_client.setup(app)

    assert http_client.get_client(app) is features.get(app, http_client.HTTPClient)
    assert len(features.get_lifecycle(app).features) == 1


def test_without_setup_it_is_a_key_error() -> None:
    with pytest.raises(KeyError, match='HTTPClient'):
        http_client.get_client(web.Application())


async def test_one_session_from_start_to_stop(app: web.Application) -> None:
    client = http_client.get_client(app)
    with pytest.raises(RuntimeError, match='not started'):
        client.session  # noqa: B018  # it is the access that raises

    async with TestServer(app):
        session = client.session
        assert session is client.session
        assert not session.closed

    assert session.closed
    with pytest.raises(RuntimeError, match='not started'):
        client.session  # noqa: B018  # it is the access that raises


async def test_it_raises_for_status(app: web.Application) -> None:
    async def ok(request: web.Request) -> web.Response:
        return web.Response(text='ok')

    app.router.add_get('/', ok)
    async with TestServer(app) as server:
        session = http_client.get_client(app).session

        async with session.get(server.make_url('/')) as response:
            assert await response.text() == 'ok'
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await session.get(server.make_url('/none'))

    assert caught.value.status == 404


async def test_handlers_find_it_with_their_request(app: web.Application) -> None:
    async def proxy(request: web.Request) -> web.Response:
        client = http_client.get_client(request)
        return web.Response(text=str(client is http_client.get_client(app)))

    app.router.add_get('/', proxy)
    async with (
        TestServer(app) as server,
        http_client.get_client(app).session.get(server.make_url('/')) as response,
    ):
        assert await response.text() == 'True'
