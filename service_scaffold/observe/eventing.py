"""What listeners and publishers have counted, as families of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from service_scaffold import events, features
from service_scaffold.features import Family, Histogram, Spread

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


def families(app: web.Application) -> Iterable[Family | Histogram]:
    """Yield the families of every listener and publisher of an application."""
    managed = features.get_lifecycle(app).features
    listeners = [feature for feature in managed if isinstance(feature, events.EventListener)]
    publishers = [feature for feature in managed if isinstance(feature, events.EventPublisher)]
    yield from _of_subscriptions(listeners)
    yield from _of_consumers(listeners)
    yield from _of_publishers(publishers)
    yield from _of_connections([*listeners, *publishers])
    yield _durations(listeners)


def _of_subscriptions(listeners: Sequence[events.EventListener]) -> Iterable[Family]:
    mine = [subscription for listener in listeners for subscription in listener.subscriptions]
    for name, help in _COUNTERS:
        numbers = [(_labels(each), getattr(each.stats, name)) for each in mine]
        yield Family('counter', f'events_{name}', help, _SUBSCRIPTION, numbers)
    running = [(_labels(each), each.stats.in_flight) for each in mine]
    yield Family('gauge', 'events_in_flight', 'Handlers running now.', _SUBSCRIPTION, running)


def _durations(listeners: Sequence[events.EventListener]) -> Histogram:
    return Histogram(
        'events_handler_duration_seconds',
        'Seconds per handled message, retries included.',
        _SUBSCRIPTION,
        events.HANDLER_BUCKETS_S,
        [
            (_labels(each), Spread(each.stats.durations.counts, each.stats.durations.sum_s))
            for listener in listeners
            for each in listener.subscriptions
        ],
    )


def _labels(subscription: events.EventSubscription) -> tuple[str, str, str]:
    return subscription.exchange_name, subscription.routing, subscription.group or ''


def _of_consumers(listeners: Sequence[events.EventListener]) -> Iterable[Family]:
    consumers = [found for listener in listeners for found in listener.consumers.items()]
    labels = ('exchange', 'group')
    yield Family(
        'counter',
        'events_unmatched',
        'Deliveries that matched no subscription.',
        labels,
        [(names, consumer.unmatched) for names, consumer in consumers],
    )
    lags = [(names, consumer.lag) for names, consumer in consumers]
    yield Family(
        'gauge',
        'events_lag',
        'Messages that wait in the log for this instance; where the broker tells (Kafka, memory).',
        labels,
        [(names, lag) for names, lag in lags if lag is not None],
    )


def _of_publishers(publishers: Sequence[events.EventPublisher]) -> Iterable[Family]:
    stats = [publisher.stats for publisher in publishers]
    yield Family(
        'counter',
        'events_published',
        'Messages that the broker has confirmed.',
        ('exchange',),
        [((name,), n) for each in stats for name, n in each.published.items()],
    )
    yield Family(
        'counter',
        'events_publish_failed',
        'Messages without a confirm.',
        ('exchange',),
        [((name,), n) for each in stats for name, n in each.failed.items()],
    )
    yield Family(
        'counter',
        'events_late_replies',
        'Answers that came after their request had ended.',
        (),
        [((), sum(each.late_replies for each in stats))],
    )


def _of_connections(
    ends: Sequence[events.EventListener | events.EventPublisher],
) -> Iterable[Family]:
    roles = _roles(ends)
    yield Family(
        'gauge',
        'eventbus_connected',
        'Whether there is a connection to the broker.',
        ('role',),
        [((role,), int(end.connected)) for role, end in roles],
    )
    yield Family(
        'counter',
        'eventbus_reconnects',
        'Connections restored after a loss.',
        ('role',),
        [((role,), end.reconnects) for role, end in roles],
    )


def _roles(
    ends: Sequence[events.EventListener | events.EventPublisher],
) -> list[tuple[str, events.EventListener | events.EventPublisher]]:
    found = []
    for number, end in enumerate(ends):
        role = 'listener' if isinstance(end, events.EventListener) else 'publisher'
        if any(type(other) is type(end) for other in ends[:number]):
            role = f'{role} {number}'
        found.append((role, end))
    return found
