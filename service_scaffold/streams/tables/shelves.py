"""How windows lie in a table's partition, so that what ends next is found without looking further.

Those of a kind lie in one way: see `aligned` and `scattered`. Up to where they have closed, and
what time it is, says the record `s`.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stream_time import NEVER
from service_scaffold.streams.tables.cells import Cells
from service_scaffold.streams.window_plan import Window, Windows

MARK = b's'
BREATH = 256
"""After so many records that were only tidied up, others get their turn."""

_TIME = struct.Struct('>q')


class Kept(NamedTuple):
    """A window of a key.

    Attributes:
        key: Encoded.
        window: From when to when.
        data: The encoded value.
    """

    key: bytes
    window: Window
    data: bytes


class Mark(NamedTuple):
    """How late it is in a partition.

    Attributes:
        ms: Its stream time.
        closed: Up to which record windows have closed; of an `AlignedShelf` only.
    """

    ms: int = NEVER
    closed: bytes = b''

    def write(self) -> bytes:
        """Return what is stored."""
        return _TIME.pack(self.ms) + self.closed


def read_mark(data: bytes | None) -> Mark:
    """Return what `Mark.write` wrote; what is too short is none, but of a table without time."""
    if data is None or len(data) < _TIME.size:
        return Mark()
    return Mark(_TIME.unpack_from(data)[0], data[_TIME.size :])


class Shelf(ABC):
    """The windows of one partition."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    @abstractmethod
    def find(self, cells: Cells, key: bytes, t_ms: int) -> list[Window]:
        """Return the windows of a key that matter at a moment, sorted; see `Windows.plan`."""

    @abstractmethod
    def get(self, cells: Cells, key: bytes, window: Window) -> bytes | None:
        """Return the value of a window, None without one."""

    @abstractmethod
    def put(self, cells: Cells, key: bytes, window: Window, data: bytes) -> int | None:
        """Write the value of a window; of a new one return when it closes."""

    @abstractmethod
    def remove(self, cells: Cells, key: bytes, window: Window) -> None:
        """Take a window out."""

    @abstractmethod
    def all(self, cells: Cells, key: bytes | None = None) -> Iterator[Kept]:
        """Yield all windows, or those of one key."""

    @abstractmethod
    def sweep(
        self, cells: Cells, since_ms: int, limit_ms: int, mark: Mark
    ) -> Iterator[Kept | None]:
        """Yield the windows that are to be closed at `limit_ms`, those that end first first.

        Each is closed when the next one is asked for, see `closed`; what has expired is removed.
        None is a moment at which others may have their turn.

        Args:
            since_ms: All up to there was done before.
        """

    @abstractmethod
    def closed(self, cells: Cells, kept: Kept, mark: Mark) -> Mark:
        """Count a window as closed; return the new mark, which is to be written with that."""

    @abstractmethod
    def next_ms(self, state: PartitionState, since_ms: int, mark: Mark) -> int | None:
        """Return when a window closes or expires next, None if there is none.

        Args:
            since_ms: All up to there was done before.
        """

    def pane(self, cells: Cells, key: bytes, window: Window) -> bytes | None:
        """Return what happened at exactly the time of a sliding window."""
        raise NotImplementedError

    def put_pane(self, cells: Cells, key: bytes, window: Window, data: bytes) -> None:
        """Write what happened at exactly the time of a sliding window."""
        raise NotImplementedError
