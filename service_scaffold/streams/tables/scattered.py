"""Sliding windows and sessions in a table's partition.

They are looked for by their key, the newest first, and their end may move: a record under `w`, key,
start, and beside it under `c`, time, key, start an alarm for what happens to it next. An alarm may
be early, then it is set anew; so a session that grows with each event costs one record and not a
trail of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from service_scaffold.streams import window_keys as keys
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.tables.cells import Cells
from service_scaffold.streams.tables.shelves import BREATH, Kept, Mark, Shelf
from service_scaffold.streams.window_plan import Reach, Window


class _Record(msgspec.Struct, array_like=True):
    """A window that lies by its key.

    Attributes:
        end_ms: The millisecond after its last.
        value: None for one that has only a pane.
        pane: See `Plan`.
        closed: Whether it never changes again.
    """

    end_ms: int
    value: bytes | None = None
    pane: bytes | None = None
    closed: bool = False


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Record).decode


class ScatteredShelf(Shelf):
    """Windows whose bounds depend on the events of their key."""

    @staticmethod
    def _at(key: bytes, start_ms: int) -> bytes:
        return b'w' + keys.encode_key(key, -start_ms, 0)

    @staticmethod
    def _alarm(at_ms: int, key: bytes, start_ms: int) -> bytes:
        return b'c' + keys.encode_close(at_ms, key, start_ms)

    def _read(self, cells: Cells, key: bytes, start_ms: int) -> _Record | None:
        data = cells.get(self._at(key, start_ms))
        return None if data is None else _DECODE(data)

    def _scan(
        self, cells: Cells, key: bytes, reach: Reach
    ) -> Iterator[tuple[bytes, Window, _Record]]:
        first, below = reach
        low, high = keys.key_range(key, (1 - below, 0 if first is None else 1 - first))
        if first is None:
            high = keys.key_range(key)[1]
        for place, data in cells.scan(b'w' + low, b'w' + high):
            record = _DECODE(data)
            found, inverse = keys.decode_key(place[1:])
            yield found, Window(-inverse.start_ms, record.end_ms), record

    def find(self, cells: Cells, key: bytes, t_ms: int) -> list[Window]:
        reach = self.windows.reach(t_ms)
        assert reach is not None
        found: list[Window] = []
        passed = 0
        for _, window, _ in self._scan(cells, key, reach):
            if reach[0] is None and window.end_ms <= t_ms:
                passed += 1
                if passed == 2:
                    break  # Sessions follow one another; within an open one may stand a closed one.
            found.append(window)
        return found[::-1]

    def get(self, cells: Cells, key: bytes, window: Window) -> bytes | None:
        record = self._read(cells, key, window.start_ms)
        return record.value if record is not None and record.end_ms == window.end_ms else None

    def put(self, cells: Cells, key: bytes, window: Window, data: bytes) -> int | None:
        old = self._read(cells, key, window.start_ms)
        record = _Record(window.end_ms, data, None if old is None else old.pane)
        cells.put(self._at(key, window.start_ms), _ENCODE(record))
        if old is not None:
            return None
        at_ms = self.windows.closes_at(window)
        cells.put(self._alarm(at_ms, key, window.start_ms), b'')
        return at_ms

    def put_pane(self, cells: Cells, key: bytes, window: Window, data: bytes) -> None:
        record = self._read(cells, key, window.start_ms)
        if record is None:  # its own window has closed
            record = _Record(window.end_ms)
            at_ms = self._ends_at(window, pane=True)
            if at_ms is not None:
                cells.put(self._alarm(at_ms, key, window.start_ms), b'')
        record.pane = data
        cells.put(self._at(key, window.start_ms), _ENCODE(record))

    def pane(self, cells: Cells, key: bytes, window: Window) -> bytes | None:
        record = self._read(cells, key, window.start_ms)
        return None if record is None else record.pane

    def remove(self, cells: Cells, key: bytes, window: Window) -> None:
        cells.put(self._at(key, window.start_ms), None)  # its alarm finds nothing then

    def all(self, cells: Cells, key: bytes | None = None) -> Iterator[Kept]:
        low, high = (b'', b'') if key is None else keys.key_range(key)
        for place, data in cells.scan(b'w' + low, b'x' if key is None else b'w' + high):
            try:
                record = _DECODE(data)
                found, inverse = keys.decode_key(place[1:])
            except (msgspec.MsgspecError, ValueError, struct.error):
                continue  # of somebody else, or another kind of table
            if record.value is not None:
                yield Kept(found, Window(-inverse.start_ms, record.end_ms), record.value)

    @staticmethod
    def _after(ms: int) -> bytes:
        return b'c' + keys.close_range(ms)[1]

    def sweep(
        self, cells: Cells, since_ms: int, limit_ms: int, mark: Mark
    ) -> Iterator[Kept | None]:
        again = True
        while again:  # an alarm that was set anew may be due, too
            again = False
            due_now = cells.scan(self._after(since_ms), self._after(limit_ms))
            for number, (place, _) in enumerate(due_now, 1):
                if len(place) < keys.SHORTEST:
                    continue
                key, about = keys.decode_close(place[1:])
                due, kept = self._see(cells, key, about, place)
                again = again or (due is not None and due <= limit_ms)
                if kept is not None:
                    yield kept
                elif number % BREATH == 0:
                    yield None

    def _see(
        self, cells: Cells, key: bytes, about: Window, alarm: bytes
    ) -> tuple[int | None, Kept | None]:
        """Do what an alarm is for; return when the next one is, and what is to be closed."""
        record = self._read(cells, key, about.start_ms)
        if record is None:
            cells.put(alarm, None)
            return None, None
        window = Window(about.start_ms, record.end_ms)
        if not record.closed and record.value is not None:
            if self.windows.closes_at(window) <= about.end_ms:
                return about.end_ms, Kept(key, window, record.value)
            at_ms: int | None = self.windows.closes_at(window)
        else:
            at_ms = self._ends_at(window, pane=record.pane is not None)
        cells.put(alarm, None)
        if at_ms is None:
            return None, None
        if at_ms <= about.end_ms:
            self._end(cells, key, window, record)
            return None, None
        cells.put(self._alarm(at_ms, key, about.start_ms), b'')
        return at_ms, None

    def _ends_at(self, window: Window, *, pane: bool) -> int | None:
        """Return when a window that has closed expires; one that never does, when its pane does."""
        at_ms = self.windows.expires_at(window)
        return self.windows.pane_until(window) if at_ms is None and pane else at_ms

    def _end(self, cells: Cells, key: bytes, window: Window, record: _Record) -> None:
        kept = self.windows.expires_at(window) is None and record.value is not None
        record.pane = None
        cells.put(self._at(key, window.start_ms), _ENCODE(record) if kept else None)

    def closed(self, cells: Cells, kept: Kept, mark: Mark) -> Mark:
        record = self._read(cells, kept.key, kept.window.start_ms)
        if record is not None:
            record.closed = True
            cells.put(self._at(kept.key, kept.window.start_ms), _ENCODE(record))
        return mark

    def next_ms(self, state: PartitionState, since_ms: int, mark: Mark) -> int | None:
        first = self._after(since_ms)
        while (alarm := state.first_key(first, b'd')) is not None:
            if len(alarm) >= keys.SHORTEST:
                return keys.decode_close(alarm[1:])[1].end_ms
            first = alarm + b'\0'
        return None
