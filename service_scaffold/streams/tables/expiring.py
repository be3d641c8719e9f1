"""A table whose keys end some time after their last write.

A value stands under `v` and its key, with the time of its last write before it. Under `x`, time and
key stands an alarm: one for each key, set anew where the key has been written meanwhile. So writing
a key costs no more than one record, and what is due is found without looking at the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from service_scaffold import errors
from service_scaffold.streams import window_keys as keys
from service_scaffold.streams.effects import LANE, Hand
from service_scaffold.streams.event import Event
from service_scaffold.streams.state import Changes, PartitionState
from service_scaffold.streams.stream_time import is_time
from service_scaffold.streams.tables.cells import Cells, Committed
from service_scaffold.streams.tables.keeper import Keeper
from service_scaffold.streams.tables.shelves import BREATH, MARK, read_mark
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.window_plan import milliseconds

_TIME = struct.Struct('>q')


def _written_ms(data: bytes) -> int:
    return int(_TIME.unpack_from(data)[0])


def _alarm(at_ms: int, key: bytes) -> bytes:
    return b'x' + keys.encode_close(at_ms, key, 0)


def _after(ms: int) -> bytes:
    return b'x' + keys.close_range(ms)[1]


class ExpiringTable(Table):
    """A table with `ttl`: a key is gone so many seconds after its last write.

    Both are measured by the timestamps of events: a key is missing for an event that comes `ttl`
    or more after the last write. It leaves the store, with a tombstone, when stream time gets
    there; see `WindowedTable` for what that is.

    Args:
        ttl: Seconds, or a timedelta.
        idle_advance: See `WindowedTable`.
        options: See `Table`.
    """

    def __init__(
        self,
        name: str,
        changelog: str,
        *,
        ttl: float | timedelta,
        idle_advance: float | timedelta | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, changelog, **options)
        self.ttl_ms = milliseconds('ttl', ttl)
        self._idle_s = (
            None if idle_advance is None else milliseconds('idle_advance', idle_advance) / 1000
        )

    def keeper(self, state: PartitionState) -> ExpiringKeeper:
        return ExpiringKeeper(state, self.ttl_ms, self._idle_s)

    def _live(self, data: bytes | None, now_ms: int) -> bytes | None:
        if data is None or _written_ms(data) + self.ttl_ms <= now_ms:
            return None
        return data[_TIME.size :]

    def _event(self, lane: Hand) -> Event:
        if lane.event is None:
            raise errors.OutsideAgent(f'Table {self.name}: no event is in hand')
        return lane.event

    def _read_own(self, lane: Hand, data: bytes) -> bytes | None:
        state = lane.unit.state(self)
        now_ms = state.keeper.time_of(lane, self._event(lane))
        return self._live(Cells(state, lane).get(b'v' + data), now_ms)

    def _committed(self, state: PartitionState, data: bytes) -> bytes | None:
        return self._live(state.committed(b'v' + data), read_mark(state.committed(MARK)).ms)

    def _write(self, key: bytes, value: bytes | None) -> None:
        lane = self._lane()
        event = self._event(lane)
        state = lane.unit.state(self)
        cells = Cells(state, lane)
        keeper: ExpiringKeeper = state.keeper
        now_ms = keeper.time_of(lane, event)
        keeper.touch(lane, now_ms)
        place = b'v' + key
        if value is None:
            cells.put(place, None)
            return
        old = cells.get(place)
        written_ms = event.timestamp_ms
        if not is_time(written_ms):
            raise errors.StreamError(
                f'Table {self.name}: {written_ms} ms since the epoch is no time'
            )
        if old is not None:
            written_ms = max(written_ms, _written_ms(old))
        cells.put(place, _TIME.pack(written_ms) + value)
        if self._live(old, now_ms) is None:  # its alarm may go off before this is applied
            at_ms = max(written_ms + self.ttl_ms, now_ms + 1)  # one in the past goes off never
            cells.put(_alarm(at_ms, key), b'')
            keeper.due_at(lane, at_ms)

    def changed_keys(self, changes: Changes) -> Iterable[bytes]:
        return [place[1:] for place in changes if place[:1] == b'v']

    def applied(self, state: PartitionState, key: bytes) -> bytes | None:
        return self._live(state.get(b'v' + key), state.keeper.ms)

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        lane = LANE.get()
        if lane is not None and lane.effective:
            state = lane.unit.state(self)
            yield from self._rows(Cells(state, lane), state.keeper.time_of(lane, self._event(lane)))
            return
        for _, state in sorted(self.visible.items()):
            cells = Committed(state)
            yield from self._rows(cells, read_mark(cells.get(MARK)).ms)

    def _rows(self, cells: Cells, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
        for place, data in cells.scan(b'v', b'w'):
            value = self._live(data, now_ms)
            if value is not None:
                yield place[1:], value


class ExpiringKeeper(Keeper):
    """Removes the keys of one partition when their time has come."""

    def __init__(self, state: PartitionState, ttl_ms: int, idle_s: float | None) -> None:
        super().__init__(state, idle_s)
        self._ttl_ms = ttl_ms

    async def _sweep(self, limit_ms: int) -> None:
        cells = self.cells
        due = cells.scan(_after(self.since_ms), _after(limit_ms))
        for number, (alarm, _) in enumerate(due, 1):
            key, _ = keys.decode_close(alarm[1:])
            data = cells.get(b'v' + key)
            cells.put(alarm, None)
            if data is not None:
                at_ms = _written_ms(data) + self._ttl_ms
                if at_ms <= limit_ms:
                    cells.put(b'v' + key, None)
                else:
                    cells.put(_alarm(at_ms, key), b'')
            if number % BREATH == 0:
                self.hand.apply()
                await self.turn()
                if self.held:
                    return

    def _next_ms(self) -> int | None:
        alarm = self.state.first_key(_after(self.since_ms), b'y')
        return None if alarm is None else keys.decode_close(alarm[1:])[1].end_ms
