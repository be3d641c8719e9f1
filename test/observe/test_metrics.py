"""Metrics are plain numbers, rendered when scraped."""

import re

from aiohttp import web
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily

from service_scaffold.observe import metrics
from test.http.serving import serving


async def ok(request):
    return web.Response()


def add_routes(app):
    app.router.add_get('/tanks/{tank}', ok)


async def scrape(client, **headers):
    answer = await client.get('/_service/metrics', headers=headers)
    assert answer.status == 200
    return await answer.text()


def count(text, **labels):
    wanted = ','.join(f'{name}="{value}"' for name, value in labels.items())
    found = re.search(rf'http_request_duration_seconds_count{{{re.escape(wanted)}}} (\S+)', text)
    return float(found[1]) if found else None


async def test_requests_count_by_method_template_and_status():
    """Two paths of one route are one series."""
    async with serving(routes=add_routes) as client:
        await client.get('/plant/tanks/a')
        await client.get('/plant/tanks/b')
        await client.post('/plant/tanks/b')
        text = await scrape(client)

    assert count(text, method='GET', route='/plant/tanks/{tank}', status='200') == 2
    assert count(text, method='POST', route='', status='405') == 1


async def test_clients_cannot_make_series():
    """Neither unknown paths nor invented methods."""
    async with serving(routes=add_routes) as client:
        for number in range(3):
            await client.get(f'/made/up/{number}')
            await client.request(('MKCOL', 'PROPFIND', 'MOVE')[number], '/made/up')
        text = await scrape(client)

    assert count(text, method='GET', route='', status='404') == 3
    assert count(text, method='OTHER', route='', status='404') == 3


async def test_buckets_are_cumulative():
    async with serving(routes=add_routes) as client:
        await client.get('/plant/tanks/a')
        text = await scrape(client)

    line = re.compile(r'duration_seconds_bucket{le="([^"]+)",method="GET",route="/plant/t\S+ (\S+)')
    buckets = {bound: float(value) for bound, value in line.findall(text)}
    assert buckets['10.0'] == buckets['+Inf'] == 1
    assert list(buckets.values()) == sorted(buckets.values())


async def test_open_metrics_is_spoken_when_asked_for():
    async with serving() as client:
        text = await scrape(client, Accept='application/openmetrics-text; version=1.0.0')

    assert text.endswith('# EOF\n')


async def test_each_application_has_its_own_registry():
    """The same metric may be registered in two applications of one process."""
    async with serving() as one, serving() as two:
        for client in (one, two):
            registry = metrics.get_metrics(client.app).registry
            Counter('pumped_litres', 'Litres.', registry=registry).inc(3)

        assert 'pumped_litres_total 3.0' in await scrape(one)
        assert 'pumped_litres_total 3.0' in await scrape(two)


async def test_a_source_is_read_at_each_scrape():
    levels = [1.0]
    async with serving() as client:
        metrics.get_metrics(client.app).add_source(
            lambda: [GaugeMetricFamily('tank_level', 'Level.', levels[0])]
        )
        first = await scrape(client)
        levels[0] = 2.0
        second = await scrape(client)

    assert 'tank_level 1.0' in first
    assert 'tank_level 2.0' in second


async def test_handlers_find_the_metrics_of_their_application():
    found = []

    async def handler(request):
        found.append(metrics.get_metrics(request))
        return web.Response()

    def nested(app):
        sub = web.Application()
        sub.router.add_get('/x', handler)
        app.add_subapp('/sub', sub)

    async with serving(routes=nested) as client:
        await client.get('/plant/sub/x')

        assert found == [metrics.get_metrics(client.app)]
