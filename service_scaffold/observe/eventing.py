"""What listeners and publishers have counted, as families of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from service_scaffold import events, features

_SUBSCRIPTION = ('exchange', 'routing', 'group')
_COUNTERS = (
    ('consumed', 'Deliveries handled to the end, whatever the end was.'),
    ('failed', 'Attempts of a handler that raised.'),
    ('retried', 'Attempts after the first.'),
    ('dead_lettered', 'Messages put into the dead-letter store.'),
    ('dropped', 'Messages given up without a store, or pushed out of a full live view.'),
    ('skipped', 'Replays meant for another group.'),
    ('stale', 'Deliveries that were void before their handler began.'),
)


@dataclass
class Family:
    """One metric with its samples.

    Attributes:
        kind: `counter` or `gauge`.
        labels: Names of the labels.
        samples: Label values and the number.
    """

    kind: Literal['counter', 'gauge']
    name: str
    help: str
    labels: tuple[str, ...]
    samples: list[tuple[Sequence[str], float]] = field(default_factory=list)


def families(app: web.Application) -> Iterable[Family]:
    """Yield the families of every listener and publisher of an application."""
    managed = features.get_lifecycle(app).features
    listeners = [feature for feature in managed if isinstance(feature, events.EventListener)]
    publishers = [feature for feature in managed if isinstance(feature, events.EventPublisher)]
    yield from _of_subscriptions(listeners)
    yield from _of_consumers(listeners)
    yield from _of_publishers(publishers)
    yield from _of_connections([*listeners, *publishers])


def durations(app: web.Application) -> dict[tuple[str, str, str], tuple[list[int], float]]:
    """Return counts per bucket and the sum of seconds, for each subscription's labels."""
    found: dict[tuple[str, str, str], tuple[list[int], float]] = {}
    for feature in features.get_lifecycle(app).features:
        if not isinstance(feature, events.EventListener):
            continue
        for subscription in feature.subscriptions:
            labels, mine = labels_of(subscription), subscription.stats.durations
            counts, sum_s = found.get(labels, ([0] * len(mine.counts), 0.0))
            both = [a + b for a, b in zip(counts, mine.counts, strict=True)]
            found[labels] = (both, sum_s + mine.sum_s)
    return found


def labels_of(subscription: events.EventSubscription) -> tuple[str, str, str]:
    """Return the label values of a subscription."""
    return subscription.exchange_name, subscription.routing, subscription.group or ''


def _of_subscriptions(listeners: Sequence[events.EventListener]) -> Iterable[Family]:
    mine = [subscription for listener in listeners for subscription in listener.subscriptions]
    for name, help in _COUNTERS:
        numbers = ((labels_of(each), getattr(each.stats, name)) for each in mine)
        yield Family('counter', f'events_{name}', help, _SUBSCRIPTION, _sum(numbers))
    running = _sum((labels_of(each), each.stats.in_flight) for each in mine)
    yield Family('gauge', 'events_in_flight', 'Handlers running now.', _SUBSCRIPTION, running)


def _of_consumers(listeners: Sequence[events.EventListener]) -> Iterable[Family]:
    consumers = [found for listener in listeners for found in listener.consumers.items()]
    labels = ('exchange', 'group')
    yield Family(
        'counter',
        'events_unmatched',
        'Deliveries that matched no subscription.',
        labels,
        _sum((names, consumer.unmatched) for names, consumer in consumers),
    )
    lags = [(names, consumer.lag) for names, consumer in consumers]
    yield Family(
        'gauge',
        'events_lag',
        'Messages that wait in the log for this instance; where the broker tells (Kafka, memory).',
        labels,
        _sum((names, lag) for names, lag in lags if lag is not None),
    )


def _of_publishers(publishers: Sequence[events.EventPublisher]) -> Iterable[Family]:
    stats = [publisher.stats for publisher in publishers]
    yield Family(
        'counter',
        'events_published',
        'Messages that the broker has confirmed.',
        ('exchange',),
        _sum(((name,), n) for each in stats for name, n in each.published.items()),
    )
    yield Family(
        'counter',
        'events_publish_failed',
        'Messages without a confirm.',
        ('exchange',),
        _sum(((name,), n) for each in stats for name, n in each.failed.items()),
    )
    yield Family(
        'counter',
        'events_late_replies',
        'Answers that came after their request had ended.',
        (),
        [((), sum(each.late_replies for each in stats))],
    )


def _sum(numbers: Iterable[tuple[tuple[str, ...], float]]) -> list[tuple[Sequence[str], float]]:
    """Return one sample for each set of labels: a scrape that has two is refused as a whole."""
    total: dict[tuple[str, ...], float] = {}
    for labels, number in numbers:
        total[labels] = total.get(labels, 0) + number
    return list(total.items())


def _of_connections(
    ends: Sequence[events.EventListener | events.EventPublisher],
) -> Iterable[Family]:
    connected = Family(
        'gauge', 'eventbus_connected', 'Whether there is a connection to the broker.', ('role',)
    )
    reconnects = Family(
        'counter', 'eventbus_reconnects', 'Connections restored after a loss.', ('role',)
    )
    for number, end in enumerate(ends):
        role = 'listener' if isinstance(end, events.EventListener) else 'publisher'
        if any(type(other) is type(end) for other in ends[:number]):
            role = f'{role} {number}'
        connected.samples.append(((role,), int(end.connected)))
        reconnects.samples.append(((role,), end.reconnects))
    yield from (connected, reconnects)
