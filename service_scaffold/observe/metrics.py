"""Metrics in the format of Prometheus: one registry an application, rendered when scraped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from service_scaffold.features import Family, Histogram, Spread
from service_scaffold.observe import durations, gathering

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
        self.add_source(lambda: [_metric(self._requests())])
        self.add_source(lambda: map(_metric, gathering.gather(app)))

    def add_source(self, families: Callable[[], Iterable[Metric]]) -> None:
        """Call `families` at each scrape and show the metric families it yields."""
        self.registry.register(Source(families))

    def render(self, accept: str = '') -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that `accept` asks for."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _requests(self) -> Histogram:
        return Histogram(
            'http_request_duration_seconds',
            'Seconds from a request to its response, by route template.',
            ('method', 'route', 'status'),
            durations.BOUNDS_S,
            [
                ((each.method, each.route, each.status), Spread(each.counts, each.sum_s))
                for each in self.http.series()
            ],
        )


def _metric(family: Family | Histogram) -> Metric:
    from prometheus_client import core

    if isinstance(family, Histogram):
        histogram = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        names = [*map(str, family.bounds), '+Inf']
        for labels, spread in family.samples:
            buckets = list(zip(names, itertools.accumulate(spread.counts), strict=True))
            histogram.add_metric(labels, buckets, spread.sum)
        return histogram
    kind = core.CounterMetricFamily if family.kind == 'counter' else core.GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, number in family.samples:
        metric.add_metric(labels, number)
    return metric


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
