"""Publishing and subscribing by HTTP."""

from __future__ import annotations

import pytest
from aiohttp import web

from service_scaffold.testing import running
from test.events.conftest import MakeApp


@pytest.mark.parametrize('what', ['publish', 'subscribe'])
async def test_only_with_debug(app: web.Application, what: str) -> None:
    async with running(app) as plant:
        assert (await plant.client.post(f'/_debug/{what}', json={})).status == 404


async def test_what_is_subscribed_is_logged_when_it_comes(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    async with running(make_app('--debug')) as plant:
        where = {'exchange': 'plant', 'routing': 'a'}
        assert (await plant.client.post('/_debug/subscribe', json=where)).status == 200
        await plant.wait_active()
        sent = await plant.client.post('/_debug/publish', json={**where, 'message': {'b': 1}})
        assert sent.status == 200
        await plant.bus.join()
        assert plant.bus.published()[0].body == b'{"b":1}'
    assert '<live view plant/a> received a message' in caplog.text


@pytest.mark.parametrize(
    ('body', 'status'),
    [
        (b'{', 400),
        (b'{"exchange": "a"}', 422),
        (b'{"exchange": "a/b", "routing": "c"}', 422),
        (b'{"exchange": "a", "routing": "c", "more": 1}', 422),
    ],
)
async def test_what_is_wrong_is_refused(make_app: MakeApp, body: bytes, status: int) -> None:
    async with running(make_app('--debug')) as plant:
        for what in ('publish', 'subscribe'):
            assert (await plant.client.post(f'/_debug/{what}', data=body)).status == status


async def test_no_broker_is_a_bad_gateway(make_app: MakeApp) -> None:
    async with running(make_app('--debug')) as plant:
        plant.bus.down()
        body = {'exchange': 'a', 'routing': 'b'}
        assert (await plant.client.post('/_debug/publish', json=body)).status == 502
