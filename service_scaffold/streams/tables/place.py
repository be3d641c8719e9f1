"""Where the partitions of a table are: here, copied here, or with another worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.partitioner import Partitioner, partition_of
from service_scaffold.streams.checkpoint import read_position
from service_scaffold.streams.forms import Coder
from service_scaffold.streams.state import PartitionState

_COPIES: ContextVar[bool] = ContextVar('service_scaffold_copies', default=False)


@contextmanager
def from_copies() -> Iterator[None]:
    """Read tables from copies, too, where the partition itself is elsewhere."""
    token = _COPIES.set(True)
    try:
        yield
    finally:
        _COPIES.reset(token)


class Placed:
    """The part of a table that knows where its partitions are.

    Attributes:
        is_global: Whether every worker has all of it.
        name: Its name.
        count: How many partitions it has; None before the application has started.
        here: The partitions that this worker owns.
        copies: Those of others that it follows.
        recovered: Called, once each, when a partition has been recovered.
    """

    is_global = False
    name: str
    count: int | None
    here: dict[int, PartitionState]
    copies: dict[int, PartitionState]
    recovered: list[Callable[..., Any]]
    choose: Partitioner = staticmethod(partition_of)
    _key: Coder

    @property
    def visible(self) -> Mapping[int, PartitionState]:
        """The partitions that are read outside agents."""
        return {**self.copies, **self.here} if _COPIES.get() else self.here

    def partition_of(self, key: Any) -> int | None:
        """Return the partition of a key that events with this key have written.

        Args:
            key: The key; or its text, as it stands in a URL.

        Returns:
            None before the application has started: the partitions are not known.
        """
        data = self._key.encode(key)
        return None if data is None or not self.count else self._home(self._as_row(data))

    def _as_row(self, data: bytes) -> bytes:
        """Return where the value of an encoded key may stand."""
        return data

    def _home(self, row: bytes) -> int:
        """Return the partition of what stands at `row`, -1 when that is not known."""
        return self.choose(row, self.count) if self.count else -1

    def position(self, key: Any) -> dict[str, Any]:
        """Return how new the value of a key is, read here and now: good to be shown beside it.

        Returns:
            `partition`; `offset`: all changes below it in the changelog are in; `copy`: whether
            it is a copy, which may be behind.

        Raises:
            NotOwned: Its partition is not here.
        """
        number = self.partition_of(key)
        state = None if number is None else self.visible.get(number)
        if number is None or state is None:
            raise self._not_owned(key)
        position = read_position(state.store.position)
        return {
            'partition': number,
            'offset': 0 if position is None else position.offset,
            'copy': number not in self.here,
        }

    def _not_owned(self, key: Any) -> errors.NotOwned:
        return errors.NotOwned(
            f'Table {self.name}: the partition of {key!r} is not here; ask the worker that'
            ' owns it, with @app.table_route'
        )

    def on_recover(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function, sync or async, whenever a partition has been recovered; a decorator.

        It is called before the agents of the partition begin, with its number if it takes an
        argument. When it raises, the partition is opened again.
        """
        self.recovered.append(callback)
        return callback
