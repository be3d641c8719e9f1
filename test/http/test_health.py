"""What probes see."""

import math
from datetime import date

import pytest

from service_scaffold import features
from test.http.serving import serving


class Pump(features.ServiceFeature):
    """Says what it is told to say."""

    said = None

    async def startup(self, app):
        pass

    async def shutdown(self, app):
        pass

    def health(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def with_pump(app):
    features.add(app, Pump(app))


async def get(client, path):
    answer = await client.get(path)
    return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize('prefix', ['', '/plant'])
async def test_all_is_well(prefix):
    """With and without the prefix."""
    async with serving(routes=with_pump) as client:
        assert await get(client, f'{prefix}/_service/status') == (200, {'status': 'ok'})
        assert (await get(client, f'{prefix}/_service/live'))[0] == 200
        assert (await get(client, f'{prefix}/_service/ready'))[0] == 200
        assert (await client.get(f'{prefix}/_service/metrics')).status == 200


async def test_a_feature_in_trouble_degrades_the_status():
    async with serving(routes=with_pump) as client:
        features.get(client.app, Pump).said = features.Health(ok=False, detail={'rpm': 0})

        assert await get(client, '/_service/status') == (
            200,
            {'status': 'degraded', 'features': {'Pump': {'rpm': 0}}},
        )
        assert (await get(client, '/_service/ready'))[0] == 200


@pytest.mark.parametrize(
    ('said', 'shown'),
    [
        (date(2026, 1, 2), '2026-01-02'),
        (math.inf, 'Infinity'),
        ('amqp://joe:hunter2@rabbit', 'amqp://***@rabbit'),
    ],
)
async def test_whatever_a_feature_says_is_shown_as_json_without_credentials(said, shown):
    async with serving(routes=with_pump) as client:
        pump = features.get(client.app, Pump)
        pump.said = features.Health(ok=False, ready=False, detail={'since': said})

        assert await get(client, '/_service/status') == (
            200,
            {'status': 'degraded', 'features': {'Pump': {'since': shown}}},
        )
        status, problem = await get(client, '/_service/ready')
        assert (status, problem['features']) == (503, {'Pump': {'since': shown}})


async def test_a_feature_can_hold_readiness():
    async with serving(routes=with_pump) as client:
        features.get(client.app, Pump).said = features.Health(ok=True, ready=False)

        status, problem = await get(client, '/plant/_service/ready')
        assert (status, problem['features']) == (503, {'Pump': {}})
        assert (await get(client, '/_service/live'))[0] == 200


async def test_a_health_that_fails_is_trouble_and_no_crash():
    async with serving(routes=with_pump) as client:
        features.get(client.app, Pump).said = ValueError('broken')

        status, body = await get(client, '/_service/status')
        assert (status, body['status']) == (200, 'degraded')


async def test_a_stopping_service_is_not_ready():
    async with serving() as client:
        features.get_lifecycle(client.app).begin_stop()

        assert (await get(client, '/_service/ready'))[0] == 503
        assert (await get(client, '/_service/live'))[0] == 200
        assert (await get(client, '/_service/status'))[1]['status'] == 'degraded'
