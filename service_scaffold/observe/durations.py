"""How long HTTP requests took, in plain lists: nothing is formatted or locked on their way."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from aiohttp import hdrs, web

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets in seconds; a last one without a bound follows."""

UNMATCHED = ''
"""The route of a request that no route matches: its path is the client's to choose."""


class Series(NamedTuple):
    """The durations of one method, route and status."""

    method: str
    route: str
    status: str
    counts: list[int]
    """Requests in each bucket (not cumulated); one more than `BOUNDS_S`."""
    sum_s: float


class HttpDurations:
    """A histogram of request durations by method, route template and status.

    A route counts by its template (`/plant/{tank}`), so that the number of series does not grow
    with what clients ask for.
    """

    def __init__(self) -> None:
        self._cells: dict[tuple[web.AbstractResource | None, str, int], list[float]] = {}

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Count one request."""
        key = (request.match_info.route.resource, request.method, status)
        cell = self._cells.get(key)
        if cell is None:
            if request.method not in hdrs.METH_ALL:
                key = (key[0], 'OTHER', status)
            cell = self._cells.setdefault(key, [0.0] * (len(BOUNDS_S) + 2))
        cell[bisect_left(BOUNDS_S, seconds)] += 1
        cell[-1] += seconds

    def series(self) -> Iterator[Series]:
        """Yield each series as it stands now."""
        merged: dict[tuple[str, str, str], list[float]] = {}
        for (resource, method, status), cell in self._cells.items():
            route = UNMATCHED if resource is None else resource.canonical
            # Several resources may have the same path.
            total = merged.setdefault((method, route, str(status)), [0.0] * len(cell))
            for index, value in enumerate(cell):
                total[index] += value
        for (method, route, status_text), total in merged.items():
            yield Series(method, route, status_text, [int(n) for n in total[:-1]], total[-1])
