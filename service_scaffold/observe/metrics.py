"""Metrics in the format of Prometheus: one registry an application, rendered when scraped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from service_scaffold.events import HANDLER_BUCKETS_S
from service_scaffold.observe import durations, eventing

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

_METRICS: web.AppKey[Metrics] = web.AppKey('service_scaffold.metrics')


class Source:
    """Adapts a function that yields metric families to a collector of `prometheus_client`.

    The function reads plain numbers that others keep; it is called once a scrape.
    """

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self.collect = families

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance, so that registering does not collect."""
        return ()


class Metrics:
    """The metrics of one application.

    Attributes:
        registry: Register collectors of your own here; the global one of `prometheus_client` would
            be shared by every application of the process.
        http: The durations of HTTP requests.
    """

    def __init__(self, app: web.Application) -> None:
        # On use: the import takes longer than the rest of `furnish`'s own work.
        from prometheus_client import (
            CollectorRegistry,
            PlatformCollector,
            ProcessCollector,
        )

        self.registry: CollectorRegistry = CollectorRegistry()
        self.http = durations.HttpDurations()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.add_source(self._http_families)
        self.add_source(lambda: _event_families(app))
        self.add_source(lambda: _handler_families(app))

    def add_source(self, families: Callable[[], Iterable[Metric]]) -> None:
        """Call `families` at each scrape and show the metric families it yields."""
        self.registry.register(Source(families))

    def render(self, accept: str = '') -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that `accept` asks for."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _http_families(self) -> Iterable[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(
            'http_request_duration_seconds',
            'Seconds from a request to its response, by route template.',
            labels=('method', 'route', 'status'),
        )
        names = [*map(str, durations.BOUNDS_S), '+Inf']
        for series in self.http.series():
            buckets = list(zip(names, itertools.accumulate(series.counts), strict=True))
            family.add_metric((series.method, series.route, series.status), buckets, series.sum_s)
        yield family


def _event_families(app: web.Application) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kinds = {'counter': CounterMetricFamily, 'gauge': GaugeMetricFamily}
    for family in eventing.families(app):
        metric = kinds[family.kind](family.name, family.help, labels=family.labels)
        for labels, number in family.samples:
            metric.add_metric(labels, number)
        yield metric


def _handler_families(app: web.Application) -> Iterable[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    metric = HistogramMetricFamily(
        'events_handler_duration_seconds',
        'Seconds per handled message, retries included.',
        labels=('exchange', 'routing', 'group'),
    )
    names = [*map(str, HANDLER_BUCKETS_S), '+Inf']
    for labels, (counts, sum_s) in eventing.durations(app).items():
        buckets = list(zip(names, itertools.accumulate(counts), strict=True))
        metric.add_metric(labels, buckets, sum_s)
    yield metric


def setup(app: web.Application) -> Metrics:
    """Give `app` its metrics, once; `furnish` does."""
    if _METRICS not in app:
        app[_METRICS] = Metrics(app)
    return app[_METRICS]


def get_metrics(app_or_request: web.Application | web.Request) -> Metrics:
    """Return the metrics of an application, or of the one that serves a request.

    Raises:
        KeyError: `setup` (or `furnish`) has not run yet.
    """
    if isinstance(app_or_request, web.Request):
        found: Metrics = app_or_request.config_dict[_METRICS]
        return found
    return app_or_request[_METRICS]


async def scrape(request: web.Request) -> web.Response:
    """Answer with the metrics of the application."""
    body, content_type = get_metrics(request).render(request.headers.get('Accept', ''))
    return web.Response(body=body, headers={'Content-Type': content_type})
