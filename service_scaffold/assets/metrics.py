"""What the assets of an application have counted, for whoever asks for metrics."""

from __future__ import annotations

from collections.abc import Iterator

from service_scaffold.assets.mirror import Mirror
from service_scaffold.assets.outbox import Outbox
from service_scaffold.features import Family


def families(mirror: Mirror, outbox: Outbox, owned: int) -> Iterator[Family]:
    """Yield what is known, what is owned, and what was published."""
    available = sum(view.available for view in mirror.known())
    known = sum(1 for _ in mirror.known())
    yield _gauge('assets_known', 'Assets that anything is known of.', known)
    yield _gauge('assets_available', 'Assets whose owner is there.', available)
    yield _gauge('assets_owned', 'Assets that are owned here.', owned)
    yield _counter(
        'asset_records_published', 'Records that a broker has confirmed.', outbox.published
    )
    yield _counter(
        'asset_records_refused', 'Attempts to publish a record that failed.', outbox.refused
    )


def _gauge(name: str, help: str, value: float) -> Family:
    return Family('gauge', name, help, (), [((), value)])


def _counter(name: str, help: str, value: float) -> Family:
    return Family('counter', name, help, (), [((), value)])
