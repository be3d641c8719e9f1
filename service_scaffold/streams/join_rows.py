"""What a join remembers of one partition: the values of both sides, until their time has passed.

| Key | Value |
|---|---|
| `d` side, length of the key, key, time, offset | the value |
| `x` time, offset, side, key | whether it has been in a pair |
| `t` | the stream time |

The first kind is scanned by key and time, the second by time alone.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from service_scaffold.streams.state import Changes, PartitionState

NEVER = -(1 << 62)
"""A time before all others, in milliseconds."""

_NOW = b't'
_NUMBER = struct.Struct('>Q')
_PLACE = struct.Struct('>QQ')
_LENGTH = struct.Struct('>I')
_SHIFT = 1 << 63  # so that times before 1970 sort, too

_LONELY, _PAIRED = b'\x00', b'\x01'


class Row(NamedTuple):
    """Where one value stands.

    Attributes:
        side: 0 for the left one, 1 for the right one.
        at: Its event's timestamp, in milliseconds.
        offset: Of its record.
    """

    side: int
    key: bytes
    at: int
    offset: int

    @property
    def data(self) -> bytes:
        """The key of its value."""
        return _prefix(self.side, self.key) + _PLACE.pack(self.at + _SHIFT, self.offset)

    @property
    def mark(self) -> bytes:
        """The key of its place in time."""
        place = _PLACE.pack(self.at + _SHIFT, self.offset)
        return b'x' + place + bytes((self.side,)) + self.key


class JoinRows:
    """The rows of a partition, as whoever writes `changes` sees them."""

    def __init__(self, state: PartitionState, changes: Changes) -> None:
        self._state = state
        self._changes = changes

    @property
    def now(self) -> int:
        """The stream time."""
        data = self._changes[_NOW] if _NOW in self._changes else self._state.get(_NOW)
        return NEVER if data is None else _NUMBER.unpack(data)[0] - _SHIFT

    @now.setter
    def now(self, ms: int) -> None:
        self._changes[_NOW] = _NUMBER.pack(ms + _SHIFT)

    def put(self, row: Row, value: bytes, *, paired: bool) -> None:
        """Remember a value."""
        self._changes[row.data] = value
        self._changes[row.mark] = _PAIRED if paired else _LONELY

    def pair(self, row: Row) -> None:
        """Note that it has been in a pair."""
        self._changes[row.mark] = _PAIRED

    def find(self, side: int, key: bytes, first: int, last: int) -> list[tuple[Row, bytes]]:
        """Return the values of a key with timestamps from `first` to `last`, both included."""
        prefix = _prefix(side, key)
        begin = prefix + _NUMBER.pack(first + _SHIFT)
        end = prefix + _NUMBER.pack(last + _SHIFT + 1)
        return [
            (Row(side, key, at - _SHIFT, offset), value)
            for data, value in self._state.scan(begin, end, self._changes)
            for at, offset in (_PLACE.unpack(data[-16:]),)
        ]

    def between(self, first: int, last: int, enough: int) -> list[tuple[Row, bool]]:
        """Return applied rows from `first` on and before `last`, and whether each was in a pair.

        They come in the order of time: all, or the first ones as soon as they are enough.
        """
        found: list[tuple[Row, bool]] = []
        span = 1
        while len(found) < enough and (at := self.oldest(first, last)) is not None:
            first = min(at + span, last)
            rows = self._state.scan(_begin(at), _begin(first))
            found += [(_row(key), flag == _PAIRED) for key, flag in rows]
            span *= 2
        return found

    def oldest(self, first: int, last: int = -NEVER) -> int | None:
        """Return the time of the oldest applied row from `first` on, None without one."""
        key = self._state.first_key(_begin(first), _begin(last))
        return None if key is None else _row(key).at

    def value(self, row: Row) -> bytes | None:
        """Return a value."""
        data = row.data
        return self._changes[data] if data in self._changes else self._state.get(data)

    def forget(self, row: Row) -> None:
        """Remove a value."""
        self._changes[row.data] = None
        self._changes[row.mark] = None


def _prefix(side: int, key: bytes) -> bytes:
    return b'd' + bytes((side,)) + _LENGTH.pack(len(key)) + key


def _begin(at: int) -> bytes:
    return b'x' + _NUMBER.pack(max(at, NEVER) + _SHIFT)


def _row(index: bytes) -> Row:
    at, offset = _PLACE.unpack(index[1:17])
    return Row(index[17], index[18:], at - _SHIFT, offset)
