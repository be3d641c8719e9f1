"""What a feature has counted, in the shape of metrics; it is rendered elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Labels = tuple[str, ...]


@dataclass
class Family:
    """One metric with its samples: plain numbers, read when somebody asks.

    Attributes:
        kind: `counter` or `gauge`.
        name: Without the `_total` that a counter gets when it is shown.
        help: One sentence.
        labels: Names of the labels; their values must be few.
        samples: Label values and the number; those with equal labels are added up.
    """

    kind: Literal['counter', 'gauge']
    name: str
    help: str
    labels: Labels
    samples: Sequence[tuple[Labels, float]] = ()


class Spread(NamedTuple):
    """How values are spread over buckets.

    Attributes:
        counts: Values in each bucket, not cumulated; the last bucket has no bound.
        sum: Of all values.
    """

    counts: Sequence[int]
    sum: float


@dataclass
class Histogram:
    """One metric of values in buckets.

    Attributes:
        name: With its unit: `…_seconds`.
        help: One sentence.
        labels: Names of the labels; their values must be few.
        bounds: Upper bounds of the buckets but the last.
        samples: Label values and the spread; those with equal labels are added up.
    """

    name: str
    help: str
    labels: Labels
    bounds: Sequence[float]
    samples: Sequence[tuple[Labels, Spread]] = ()
