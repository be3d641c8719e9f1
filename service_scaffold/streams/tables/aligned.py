"""Tumbling and hopping windows in a table's partition.

They are one record each, under `w`, end, key, start: those that end first come first.
"""

from __future__ import annotations

from collections.abc import Iterator

from service_scaffold.streams import window_keys as keys
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stream_time import NEVER
from service_scaffold.streams.tables.cells import Cells
from service_scaffold.streams.tables.shelves import BREATH, Kept, Mark, Shelf
from service_scaffold.streams.window_plan import Window

LONGEST = 1 << 45
"""Milliseconds, a thousand years: nobody's window is longer."""


class AlignedShelf(Shelf):
    """Windows whose bounds follow from the time alone."""

    @staticmethod
    def _at(key: bytes, window: Window) -> bytes:
        return b'w' + keys.encode_close(window.end_ms, key, window.start_ms)

    @staticmethod
    def _until(end_ms: int) -> bytes:
        return b'w' + keys.close_range(max(end_ms, NEVER))[1]

    def find(self, cells: Cells, key: bytes, t_ms: int) -> list[Window]:
        return []

    def get(self, cells: Cells, key: bytes, window: Window) -> bytes | None:
        return cells.get(self._at(key, window))

    def put(self, cells: Cells, key: bytes, window: Window, data: bytes) -> int | None:
        place = self._at(key, window)
        fresh = cells.get(place) is None
        cells.put(place, data)
        return self.windows.closes_at(window) if fresh else None

    def remove(self, cells: Cells, key: bytes, window: Window) -> None:
        cells.put(self._at(key, window), None)

    def all(self, cells: Cells, key: bytes | None = None) -> Iterator[Kept]:
        for place, data in cells.scan(b'w', b'x'):
            kept = self._kept(place, data)
            if kept is not None and key in (None, kept.key):
                yield kept

    def _kept(self, place: bytes, data: bytes) -> Kept | None:
        """Return what a record says; None for that of somebody else, or of another kind of table.

        Windows of the size that was declared before are windows all the same.
        """
        if len(place) < keys.SHORTEST:
            return None
        key, window = keys.decode_close(place[1:])
        return Kept(key, window, data) if 0 < window.end_ms - window.start_ms < LONGEST else None

    def _first(self, state: PartitionState, first: bytes) -> Window | None:
        while (place := state.first_key(first, b'x')) is not None:
            kept = self._kept(place, b'')
            if kept is not None:
                return kept.window
            first = place + b'\0'
        return None

    def _open(self, since_ms: int, mark: Mark) -> bytes:
        """Return where those begin that have not closed."""
        return max(mark.closed + b'\0', self._until(since_ms - self.windows.grace_ms))

    def sweep(
        self, cells: Cells, since_ms: int, limit_ms: int, mark: Mark
    ) -> Iterator[Kept | None]:
        start = self._open(since_ms, mark)
        end = self._until(limit_ms - self.windows.grace_ms)
        if start < end:
            for place, data in cells.scan(start, end):
                kept = self._kept(place, data)
                if kept is not None:
                    yield kept
        kept_ms = self._kept_ms
        if kept_ms is None:
            return
        gone = cells.scan(self._until(since_ms - kept_ms), self._until(limit_ms - kept_ms))
        for number, (place, _) in enumerate(gone, 1):
            cells.put(place, None)
            if number % BREATH == 0:
                yield None

    def closed(self, cells: Cells, kept: Kept, mark: Mark) -> Mark:
        return mark._replace(closed=self._at(kept.key, kept.window))

    def next_ms(self, state: PartitionState, since_ms: int, mark: Mark) -> int | None:
        times = []
        opened = self._first(state, self._open(since_ms, mark))
        if opened is not None:
            times.append(self.windows.closes_at(opened))
        if self._kept_ms is not None:
            oldest = self._first(state, self._until(since_ms - self._kept_ms))
            if oldest is not None:
                times.append(oldest.end_ms + self._kept_ms)
        return min(times, default=None)

    @property
    def _kept_ms(self) -> int | None:
        return self.windows.expires_at(Window(0, 0))
