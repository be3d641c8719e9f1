"""A windowed table: a value for each key and window, until the window has closed and expired."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial, reduce
from typing import Any, NamedTuple

from service_scaffold import errors
from service_scaffold.streams.effects import LANE, Hand
from service_scaffold.streams.event import Event, Sends
from service_scaffold.streams.records import field_ref
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stream_time import is_time
from service_scaffold.streams.tables.aligned import AlignedShelf
from service_scaffold.streams.tables.cells import Cells, Committed
from service_scaffold.streams.tables.closing import Closer, OnClose, WindowKeeper
from service_scaffold.streams.tables.scattered import ScatteredShelf
from service_scaffold.streams.tables.shelves import (
    MARK,
    Kept,
    Shelf,
    read_mark,
)
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.tables.window_set import Operation, WindowSet
from service_scaffold.streams.tables.window_view import Anchor, Moment, WindowView
from service_scaffold.streams.window_plan import Step, Window, Windows, milliseconds

OnLate = Callable[[Any, Window, Event], Any]
"""`on_late(key, window, event)`, sync or async."""


class Place(NamedTuple):
    """A partition, and who looks at it."""

    cells: Cells
    keeper: WindowKeeper
    event: Event | None
    stream_ms: int


class WindowedTable(Table):
    """A table with a value for each key and window; made by `app.Table(..., window=...)`.

    `table[key]` stands for all windows of the key, see `WindowSet`. A window closes when the
    partition's stream time reaches its end plus grace; then it never changes again. The stream time
    is the highest timestamp of the events that agents which use the table have finished, without
    gaps.

    `len`, `keys` and `items` are about windows: keys are `(key, window)`.

    Args:
        window: How time is cut.
        on_window_close: Called for each key and window that closes, or a topic that its value is
            sent to. A function that fails three times: the value is dead-lettered to
            `{id}-{table}-closed.dlq`.
        on_late: Called for each closed window that a write was for, or a topic that its event is
            forwarded to.
        idle_advance: Seconds without an event after which stream time follows the clock, so many
            seconds behind; None: never.
        options: See `Table`.

    Attributes:
        window: How time is cut.
        late: How many writes came to a window that had closed.
    """

    joinable = False

    def __init__(
        self,
        name: str,
        changelog: str,
        *,
        window: Windows,
        on_window_close: OnClose | Sends | None = None,
        on_late: OnLate | Sends | None = None,
        idle_advance: float | timedelta | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, changelog, **options)
        self.window = window
        self.late = 0
        self._on_late = on_late
        self._idle_s = (
            None if idle_advance is None else milliseconds('idle_advance', idle_advance) / 1000
        )
        self._closer = Closer(self._decode_kept, on_window_close)
        self._shelf: Shelf = (
            AlignedShelf(window) if window.reach(0) is None else ScatteredShelf(window)
        )
        self._view = WindowView(self)

    @property
    def closed(self) -> int:
        """How many windows have closed here, since the start of the process."""
        return self._closer.closed

    def keeper(self, state: PartitionState) -> WindowKeeper:
        group = self.changelog.removesuffix(f'-{self.name}-changelog')
        self._closer.named(f'{group}-{self.name}-closed', group)
        return WindowKeeper(state, self._shelf, self._closer, self._idle_s)

    # About another time

    def relative_to_now(self) -> WindowView:
        """Return the table as of the clock's time."""
        return WindowView(self, lambda _, now: now)

    def relative_to_stream(self) -> WindowView:
        """Return the table as of the time of the event in hand, as it is anyway."""
        return WindowView(self)

    def relative_to(self, moment: float | datetime) -> WindowView:
        """Return the table as of a moment: epoch seconds, or a datetime with a zone."""
        return WindowView(self, lambda _, now: moment)

    def relative_to_field(self, field: Any) -> WindowView:
        """Return the table as of the time in a field of the event's value.

        Stream time is by records all the same: what has closed by that is late.

        Args:
            field: Of a Record or Struct (`Order.at`), or a function of the value; it gives epoch
                seconds, or a datetime with a zone.

        Raises:
            TypeError: It is neither.
        """
        try:
            name = field_ref(field).name
        except TypeError:
            if not callable(field):
                raise
            return WindowView(self, lambda event, _: None if event is None else field(event.value))
        return WindowView(
            self, lambda event, _: None if event is None else getattr(event.value, name)
        )

    # As a mapping

    def __getitem__(self, key: Any) -> WindowSet:
        return self._view[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, WindowSet) and value.belongs_to(self._view, key):
            return  # `table[key] += x` has written already
        self._view[key] = value

    def __delitem__(self, key: Any) -> None:
        """Remove a key from each open window that holds the event's time."""
        if key not in self:
            raise KeyError(key)
        self._view[key] = None

    def __contains__(self, key: object) -> bool:
        return self._newest(key, 0, None) is not None

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what `table[key].value()` does; `default` where the key has none."""
        data = self._newest(key, 0, None)
        return default if data is None else self._value.decode(data)

    def pop(self, *_: Any) -> Any:
        """Refuse: what is there and what is removed would not be the same windows."""
        raise NotImplementedError('A windowed table has no pop; use del table[key]')

    def popitem(self) -> Any:
        """Refuse; see `pop`."""
        self.pop()

    def setdefault(self, *_: Any) -> Any:
        """Refuse; see `pop`."""
        self.pop()

    def __iter__(self) -> Iterator[Any]:
        for kept in self._all():
            yield self._key.decode(kept.key), kept.window

    def items(self) -> Any:
        """Return `((key, window), value)`: in an agent of its partition, else of all here."""
        return [
            ((self._key.decode(kept.key), kept.window), self._value.decode(kept.data))
            for kept in self._all()
        ]

    def values(self) -> Any:
        return [self._value.decode(kept.data) for kept in self._all()]

    def __len__(self) -> int:
        return sum(1 for _ in self._all())

    def window_items(self, key: Any) -> Iterator[tuple[Window, Any]]:
        """Yield the windows of a key that are kept, with their values."""
        for kept in sorted(self._all(self._encode_key(key)), key=lambda kept: kept.window):
            yield kept.window, self._value.decode(kept.data)

    def clear(self) -> None:
        """Remove every window of the partition; those that were to close do not."""
        place = self._own()
        for kept in list(self._shelf.all(place.cells)):
            self._shelf.remove(place.cells, kept.key, kept.window)

    def _all(self, key: bytes | None = None) -> Iterator[Kept]:
        lane = LANE.get()
        if lane is not None and lane.effective:
            yield from self._shelf.all(Cells(lane.unit.state(self), lane), key)
            return
        for _, state in sorted(self.visible.items()):
            yield from self._shelf.all(Committed(state), key)

    def _decode_kept(self, kept: Kept) -> tuple[Any, Any]:
        return self._key.decode(kept.key), self._value.decode(kept.data)

    # Where

    def _own(self) -> Place:
        """Return the partition of the event in hand.

        Raises:
            OutsideAgent: There is none.
        """
        lane = self._lane()
        if lane.event is None:
            raise errors.OutsideAgent(f'Table {self.name}: no event is in hand')
        return self._place(lane, lane.event)

    def _place(self, lane: Hand, event: Event) -> Place:
        state = lane.unit.state(self)
        keeper: WindowKeeper = state.keeper
        return Place(Cells(state, lane), keeper, event, keeper.time_of(lane, event))

    def _seen(self, key: bytes, shown: Any) -> Iterator[Place]:
        """Yield where a key may be, best first: the partition of the event, or all here.

        Raises:
            NotOwned: It is in none of them, and its own partition is not here.
        """
        lane = LANE.get()
        if lane is not None and lane.effective and lane.event is not None:
            yield self._place(lane, lane.event)
            return
        own = self.choose(key, self.count) if self.count else -1
        for _, state in sorted(self.visible.items(), key=lambda pair: pair[0] != own):
            cells = Committed(state)
            yield Place(cells, state.keeper, None, read_mark(cells.get(MARK)).ms)
        if own not in self.visible:
            raise self._not_owned(shown)

    def _time(self, place: Place, moment: Moment | Anchor | None) -> int:
        if callable(moment):
            found = moment(place.event, place.keeper.clock.time())
            if found is not None:
                seconds = found.timestamp() if isinstance(found, datetime) else found
                return round(seconds * 1000)
        if moment == 'clock':
            return round(place.keeper.clock.time() * 1000)
        if moment == 'stream' or place.event is None:
            return place.stream_ms
        return place.event.timestamp_ms

    # Reading

    def read_at(self, key: Any, ago_ms: int, moment: Moment | Anchor | None) -> Any:
        """Return the value of the newest window that holds a moment, for the windows of a key.

        Raises:
            KeyError: There is none, and no default.
        """
        data = self._newest(key, ago_ms, moment)
        return self._missing(key) if data is None else self._value.decode(data)

    def _newest(self, key: Any, ago_ms: int, moment: Moment | Anchor | None) -> bytes | None:
        data = self._encode_key(key)
        for place in self._seen(data, key):
            t_ms = self._time(place, moment) - ago_ms
            if is_time(t_ms):
                window = self.window.newest(t_ms, self._holding(place.cells, data, t_ms))
                found = None if window is None else self._shelf.get(place.cells, data, window)
                if found is not None:
                    return found
        return None

    def _holding(self, cells: Cells, key: bytes, t_ms: int) -> list[Window]:
        return [
            window
            for window in self._shelf.find(cells, key, t_ms)
            if self._shelf.get(cells, key, window) is not None
        ]

    # Writing

    def change_at(self, key: Any, operation: Operation, moment: Moment | None) -> None:
        """Apply an operation to each open window of a key that holds a moment.

        Raises:
            OutsideAgent: No event is being handled.
            StreamError: The moment is no time.
        """
        data = self._encode_key(key)
        lane = self._lane()
        place = self._own()
        assert place.event is not None
        t_ms = self._time(place, moment)
        if not is_time(t_ms):
            raise errors.StreamError(f'Table {self.name}: {t_ms} ms since the epoch is no time')
        cells = place.cells
        place.keeper.touch(lane, place.stream_ms)
        plan = self.window.plan(t_ms, self._shelf.find(cells, data, t_ms), place.stream_ms)
        new = [
            (step.window, self._value.encode(operation(partial(self._begin, cells, data, step))))
            for step in plan.steps
        ]
        starts = {window.start_ms for window, _ in new}
        for window in plan.removed:
            if window.start_ms not in starts:  # else it is only longer now
                self._shelf.remove(cells, data, window)
        for window, value in new:
            self._put(place, lane, data, window, value)
        if plan.pane is not None:
            self._put_pane(cells, data, plan.pane, operation)
        if plan.late:
            self._refuse(key, plan.late, place.event, lane)

    def _begin(self, cells: Cells, key: bytes, step: Step) -> Any:
        parts = [
            *(self._shelf.get(cells, key, window) for window in step.values),
            *(self._shelf.pane(cells, key, window) for window in step.panes),
        ]
        values = [self._value.decode(part) for part in parts if part is not None]
        return reduce(self.window.merge, values) if values else self._missing(key)

    def _put(
        self, place: Place, lane: Hand, key: bytes, window: Window, data: bytes | None
    ) -> None:
        if data is None:
            self._shelf.remove(place.cells, key, window)
            return
        at_ms = self._shelf.put(place.cells, key, window, data)
        if at_ms is not None:
            place.keeper.due_at(lane, at_ms)

    def _put_pane(self, cells: Cells, key: bytes, window: Window, operation: Operation) -> None:
        old = self._shelf.pane(cells, key, window)
        data = self._value.encode(
            operation(lambda: self._missing(key) if old is None else self._value.decode(old))
        )
        if data is not None:
            self._shelf.put_pane(cells, key, window, data)

    def _refuse(self, key: Any, windows: tuple[Window, ...], event: Event, lane: Hand) -> None:
        """Tell of a write to windows that have closed."""
        lane.effects.then.append(lambda: self._count_late(len(windows)))
        target = self._on_late
        if target is None:
            return

        async def tell() -> None:
            if not callable(target):
                await target.forward(event)
                return
            for window in windows:
                answer = target(key, window, event)
                if inspect.isawaitable(answer):
                    await answer

        lane.effects.first.append(tell)

    def _count_late(self, number: int) -> None:
        self.late += number
