"""The families of all features of an application, each name once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from aiohttp import web

from service_scaffold import features
from service_scaffold.features import Family, Histogram, Labels, Spread
from service_scaffold.observe import eventing

LOGGER = logging.getLogger(__name__)


def gather(app: web.Application) -> Iterator[Family | Histogram]:
    """Yield what listeners, publishers and features have counted.

    Prometheus refuses a scrape that has a name or a series twice: families of one name become one,
    and samples with equal labels are added up. A feature that fails, or that has another idea of a
    metric than the one before it, is logged, and the rest is shown all the same.
    """
    found: dict[str, list[Family | Histogram]] = {}
    for family in _all(app):
        alike = found.setdefault(family.name, [])
        if alike and _shape(alike[0]) != _shape(family):
            LOGGER.error(
                'The metric %s is there twice, and not alike; one is left out', family.name
            )
        else:
            alike.append(family)
    for families in found.values():
        yield _joined(families)


def _all(app: web.Application) -> Iterator[Family | Histogram]:
    yield from eventing.families(app)
    for feature in features.get_lifecycle(app).features:
        if not isinstance(feature, features.ServiceFeature):
            continue
        try:
            families = list(feature.metric_families())
        except Exception:
            LOGGER.exception('metric_families() of %s failed', type(feature).__name__)
        else:
            yield from families


def _shape(family: Family | Histogram) -> tuple[object, ...]:
    kind = family.kind if isinstance(family, Family) else tuple(family.bounds)
    return kind, tuple(family.labels)


def _joined(families: list[Family | Histogram]) -> Family | Histogram:
    """Return a family of our own: those of features are theirs, and may be kept by them."""
    first = families[0]
    if isinstance(first, Histogram):
        spreads: dict[Labels, Spread] = {}
        for family in families:
            for labels, spread in family.samples:
                assert isinstance(spread, Spread)
                before = spreads.get(labels)
                spreads[labels] = spread if before is None else _plus(before, spread)
        return replace(first, samples=tuple(spreads.items()))
    numbers: dict[Labels, float] = {}
    for family in families:
        for labels, number in family.samples:
            assert not isinstance(number, Spread)
            numbers[labels] = numbers.get(labels, 0) + number
    return replace(first, samples=tuple(numbers.items()))


def _plus(one: Spread, other: Spread) -> Spread:
    counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
    return Spread(counts, one.sum + other.sum)
