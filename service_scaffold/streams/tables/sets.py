"""Tables of sets: each member is a row of its own, so that a large set costs no more to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from itertools import groupby
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.effects import LANE
from service_scaffold.streams.tables.table import RAISE, Table
from service_scaffold.streams.window_keys import encode_prefix, key_range

PRESENT = b'1'
"""What a row says: its key says all else."""

_END = encode_prefix(b'')


class SetTable(Table):
    """A mapping of keys to sets; made by `app.SetTable`.

    `table[key]` is a view: it reads and writes the table. A key without members has an empty set,
    is not `in` the table, and is left out when iterating. Adding a member logs that member alone.

    Args:
        value_type, value_serializer: Of the members, which have to be hashable.

    Attributes:
        manager: Changes it from outside of agents.
    """

    joinable = False
    _manager: Any = None

    @property
    def manager(self) -> Any:
        """What changes it from outside of agents: a `SetManager`.

        Raises:
            StreamError: It was declared without `start_manager=True`.
        """
        if self._manager is None:
            raise errors.StreamError(f'Table {self.name} was declared without start_manager=True')
        return self._manager

    @manager.setter
    def manager(self, manager: Any) -> None:
        self._manager = manager

    # One key

    def __getitem__(self, key: Any) -> MemberSet:
        return MemberSet(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the set of a key; `default` when it is empty."""
        members = self[key]
        return members if members else default

    def __contains__(self, key: object) -> bool:
        return bool(self[key])

    def __setitem__(self, key: Any, value: Iterable[Any]) -> None:
        self[key].replace(value)

    def __delitem__(self, key: Any) -> None:
        members = self[key]
        if not members:
            raise KeyError(key)
        members.clear()

    def pop(self, key: Any, default: Any = RAISE) -> Any:
        """Delete a key; return the members that it had, as a plain set.

        Raises:
            KeyError: It had none, and no default is given.
        """
        members = self[key].copy()
        if not members and default is not RAISE:
            return default
        del self[key]
        return members

    def popitem(self) -> tuple[Any, set[Any]]:
        """Delete a key; return it, and the members that it had, as a plain set.

        Raises:
            KeyError: There is none.
        """
        for key in self:
            return key, self.pop(key)
        raise KeyError(f'Table {self.name} is empty')

    def setdefault(self, key: Any, default: Iterable[Any] | None = None) -> MemberSet:
        """Return the set of a key, after adding the members of `default` where it is empty."""
        members = self[key]
        if not members:
            members.update(default or ())
        return members

    # All keys

    def __iter__(self) -> Iterator[Any]:
        seen: set[bytes] = set()
        for key, _ in self._groups():
            if key not in seen:  # its members may stand in more than one partition
                seen.add(key)
                yield self._key.decode(key)

    def items(self) -> Any:
        """Return keys and plain sets: in an agent those of its partition, else those here."""
        found: dict[bytes, set[Any]] = {}
        for key, rows in self._groups():
            members = found.setdefault(key, set())
            members.update(self._member(member) for member in rows)
        return [(self._key.decode(key), members) for key, members in found.items()]

    def values(self) -> Any:
        """Return plain sets; see `items`."""
        return [members for _, members in self.items()]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _groups(self) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        rows = (split_row(row) for row, _ in self._scan())
        for key, group in groupby(rows, key=lambda row: row[0]):
            yield key, (member for _, member in group)

    def _as_row(self, data: bytes) -> bytes:
        return encode_prefix(data)

    def _home(self, row: bytes) -> int:
        return super()._home(split_row(row)[0])

    # For its views

    def row(self, key: Any, member: Any) -> bytes:
        """Return under which bytes a member stands."""
        hash(member)  # a set refuses what it cannot find again, and so does this one
        data = self._value.encode(member)
        if data is None:
            raise TypeError(f'Table {self.name}: None is no member of a set')
        return encode_prefix(self._encode_key(key)) + data

    def _member(self, data: bytes) -> Any:
        return _hashable(self._value.decode(data))

    def has(self, key: Any, member: Any) -> bool:
        """Tell whether the set of a key has a member."""
        return self._look_up(self.row(key, member), key) is not None

    def _look_up(self, row: bytes, key: Any) -> bytes | None:
        lane = LANE.get()
        if lane is None or not lane.effective:
            return self._elsewhere(row, key)
        return self._read_own(lane, row)

    def members(self, key: Any) -> Iterator[Any]:
        """Yield the members of the set of a key, once each."""
        encoded = self._encode_key(key)
        first, last = key_range(encoded)
        self._look_up(first, key)  # raises, when it is nowhere here
        seen: set[bytes] = set()
        for row, _ in self._between(first, last):
            member = split_row(row)[1]
            if member not in seen:
                seen.add(member)
                yield self._member(member)

    def put(self, key: Any, member: Any, *, present: bool) -> None:
        """Add a member to the set of a key, or take it out."""
        self._write(self.row(key, member), PRESENT if present else None)


class MemberSet(MutableSet[Any]):
    """The set of one key: a view into a `SetTable`. It has what a `set` has."""

    __slots__ = ('_key', '_table')

    def __init__(self, table: SetTable, key: Any) -> None:
        self._table = table
        self._key = key

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> Any:
        return set(it)

    def __repr__(self) -> str:
        return f'<{self._table.name}[{self._key!r}]>'

    def __contains__(self, member: object) -> bool:
        return self._table.has(self._key, member)

    def __iter__(self) -> Iterator[Any]:
        return self._table.members(self._key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return next(iter(self), self) is not self

    def copy(self) -> set[Any]:
        """Return the members as a plain set."""
        return set(self)

    def add(self, value: Any) -> None:
        """Add a member; nothing is written if it is there."""
        if value not in self:
            self._table.put(self._key, value, present=True)

    def discard(self, value: Any) -> None:
        """Take a member out, if it is there."""
        if value in self:
            self._table.put(self._key, value, present=False)

    def clear(self) -> None:
        """Take all members out."""
        for member in list(self):
            self._table.put(self._key, member, present=False)

    def replace(self, members: Iterable[Any]) -> None:
        """Have exactly these; what stays is not written again."""
        wanted = set(members)
        for member in list(self):
            if member not in wanted:
                self.discard(member)
        self.update(wanted)

    def update(self, *others: Iterable[Any]) -> None:
        """Add all members of the others."""
        for other in others:
            for member in other:
                self.add(member)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Take out all members of the others."""
        for other in others:
            for member in list(other):
                self.discard(member)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep what all others have, too."""
        self.replace(self.copy().intersection(*others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Have what either of both has, and not the other."""
        self.replace(self.copy().symmetric_difference(other))

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set with the members of all."""
        return self.copy().union(*others)

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set with the members that all have."""
        return self.copy().intersection(*others)

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set with the members that no other has."""
        return self.copy().difference(*others)

    def symmetric_difference(self, other: Iterable[Any]) -> set[Any]:
        """Return a plain set with what either of both has, and not the other."""
        return self.copy().symmetric_difference(other)

    def issubset(self, other: Iterable[Any]) -> bool:
        """Tell whether the other has all of its members."""
        return self.copy().issubset(other)

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Tell whether it has all members of the other."""
        return all(member in self for member in other)


def _hashable(member: Any) -> Any:
    """Return a member as it was added: of a codec that knows no tuples, lists have been some."""
    return tuple(_hashable(part) for part in member) if type(member) is list else member


def split_row(row: bytes) -> tuple[bytes, bytes]:
    """Return the encoded key and member of a row."""
    at = 0
    while True:
        at = row.index(b'\x00', at)
        if row[at + 1 : at + 2] == _END[1:]:
            return row[:at].replace(b'\x00\xff', b'\x00'), row[at + 2 :]
        at += 2
