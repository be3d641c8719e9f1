"""A table: a mapping whose changes are logged, so that any worker can take it over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from copy import deepcopy
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams import serializers
from service_scaffold.streams.effects import LANE, Hand
from service_scaffold.streams.forms import Coder
from service_scaffold.streams.joins import How
from service_scaffold.streams.sizes import SMALL
from service_scaffold.streams.state import Changes, PartitionState
from service_scaffold.streams.stream import Stream
from service_scaffold.streams.tables.place import Placed
from service_scaffold.streams.tables.table_join import TableJoin
from service_scaffold.streams.tables.windowable import Windowable
from service_scaffold.streams.topic import Outlet, TopicOptions

KEY_LIMIT = 10_000
"""So many encoded keys are kept: those of today come again, most of all within one event."""

RAISE: Any = object()
"""Stands for a default that was not given."""


class Table(Placed, Windowable, MutableMapping[Any, Any]):
    """A mapping, partitioned like the topics whose agents write it; made by `app.Table`.

    In an agent it is the partition of the event in hand: reads see all that was written before,
    writes count when the event is finished. Elsewhere it is what this worker has: reads see what
    is committed, writes are refused.

    A missing key gives the default without storing it. Values are stored as bytes: change a
    mutable one, and assign it again.

    Args:
        name: Its name; the changelog is `{id}-{name}-changelog`.
        changelog: Name of the topic with its changes.
        default: Makes the value of a missing key: a function, or a value, of which each has a copy
            of its own. None: KeyError.
        key_type, value_type: What keys and values are decoded into.
        key_serializer, value_serializer: Their codecs; default text and JSON.
        partitions: How many; None means as many as the topics whose agents write it.
        options: More about how its changelog is made.
        help: What it is for.

    Attributes:
        count: How many partitions it has; None before the application has started.
        here: The partitions that this worker owns.
        outlet: Its application, None for a table that was made without one.
        joins: Joins to other tables.
        replaced: Whether it was given windows, see `Windowable`.
    """

    def __init__(
        self,
        name: str,
        changelog: str,
        *,
        default: Any = None,
        key_type: Any = None,
        value_type: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitions: int | None = None,
        options: TopicOptions | None = None,
        help: str = '',
    ) -> None:
        check_topic_name(changelog, f'the changelog of table {name!r}; give that another name')
        self.name = name
        self.changelog = changelog
        self.help = help
        self.partitions = partitions
        self.options = options or TopicOptions(compacting=True)
        self.count: int | None = partitions
        self.here: dict[int, PartitionState] = {}
        self.outlet: Outlet | None = None
        self.joins: list[TableJoin] = []
        self.copies: dict[int, PartitionState] = {}
        self.recovered: list[Callable[..., Any]] = []
        self.replaced = False
        self._encoded: dict[str, bytes] = {}
        self._default = default
        self._key_type = key_type
        self._key = serializers.key_codec(key_serializer, key_type)
        self._value = serializers.value_codec(value_serializer, value_type)

    def __repr__(self) -> str:
        return f'<Table {self.name}>'

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    # One key

    def __getitem__(self, key: Any) -> Any:
        data = self._read(key)
        return self._missing(key) if data is None else self._value.decode(data)

    def _missing(self, key: Any) -> Any:
        if self._default is None:
            raise KeyError(key)
        # Somebody may change what he is given; that must not be the next one's.
        return self._default() if callable(self._default) else deepcopy(self._default)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key; of a missing one `default`, and not the table's own."""
        data = self._read(key)
        return default if data is None else self._value.decode(data)

    def __contains__(self, key: object) -> bool:
        return self._read(key) is not None

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.joins:
            self._tell_joins()
        self._write(self._encode_key(key), self._value.encode(value))

    def __delitem__(self, key: Any) -> None:
        if self._read(key) is None:
            raise KeyError(key)
        if self.joins:
            self._tell_joins()
        self._write(self._encode_key(key), None)

    def pop(self, key: Any, default: Any = RAISE) -> Any:
        """Remove a key, and return its value; of a missing one `default`, else KeyError."""
        if key not in self:
            if default is RAISE:
                raise KeyError(key)
            return default
        value = self[key]
        del self[key]
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, after storing `default` where it is missing.

        None is not stored, as it is no value; it is returned.
        """
        if key in self:
            return self[key]
        if default is None:
            return None
        self[key] = default
        return self[key]

    def _encode_key(self, key: Any) -> bytes:
        # Only text: 1, 1.0 and True are one key of a dict, and have different bytes.
        known = self._encoded.get(key) if type(key) is str else None
        if known is not None:
            return known
        if self.replaced:
            raise errors.StreamError(f'Table {self.name} has windows now; use what has made them')
        data = self._key.encode(key)
        if data is None:
            raise errors.EncodeError(f'Table {self.name}: None is no key')
        if type(key) is str:
            if len(self._encoded) >= KEY_LIMIT:
                self._encoded.clear()
            self._encoded[key] = data
        return data

    def _read(self, key: Any) -> bytes | None:
        data = self._encode_key(key)
        lane = LANE.get()
        if lane is None or not lane.effective:
            return self._elsewhere(data, key)
        return self._read_own(lane, data)

    def _read_own(self, lane: Hand, data: bytes) -> bytes | None:
        """Look a key up in the partition of the event in hand."""
        state = lane.unit.state(self)
        written = lane.effects.writes.get(state)
        if written is not None and data in written:
            return written[data]
        return state.get(data)

    def _lane(self) -> Hand:
        """Return who handles an event here.

        Raises:
            OutsideAgent: Nobody does.
        """
        lane = LANE.get()
        if lane is None or not lane.effective:
            raise errors.OutsideAgent(
                f'Table {self.name} is written where no event is handled, so that its partition is'
                ' not known; send to a topic, and write it in the agent that reads that topic'
            )
        return lane

    def _write(self, key: bytes, value: bytes | None) -> None:
        lane = self._lane()
        writes = lane.effects.writes
        state = lane.unit.state(self)
        if value is not None and len(key) + len(value) > SMALL:
            state.check(key, value)
        changes = writes.get(state)
        if changes is None:
            changes = writes[state] = {}
        changes[key] = value

    def _elsewhere(self, data: bytes, key: Any) -> bytes | None:
        """Look a key up in what this worker owns."""
        visible = self.visible
        first = visible.get(self._home(data))
        if first is not None and (value := self._committed(first, data)) is not None:
            return value
        for state in visible.values():  # an event's partition need not be that of its key
            if state is not first and (value := self._committed(state, data)) is not None:
                return value
        if first is None:
            raise self._not_owned(key)
        return None

    def _committed(self, state: PartitionState, data: bytes) -> bytes | None:
        """Look a key up in a partition, as of the last checkpoint."""
        return state.committed(data)

    # All keys

    def __iter__(self) -> Iterator[Any]:
        for key, _ in self._scan():
            yield self._key.decode(key)

    def items(self) -> Any:
        """Iterate over keys and values: in an agent those of its partition, else those here."""
        return [(self._key.decode(key), self._value.decode(data)) for key, data in self._scan()]

    def values(self) -> Any:
        """Iterate over values; see `items`."""
        return [self._value.decode(data) for _, data in self._scan()]

    def keys(self) -> Any:
        """Iterate over keys; see `items`."""
        return list(self)

    def __len__(self) -> int:
        return sum(1 for _ in self._scan())

    def __bool__(self) -> bool:
        return True

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        return self._between()

    def _between(
        self, first: bytes = b'', last: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        lane = LANE.get()
        if lane is not None and lane.effective:
            state = lane.unit.state(self)
            yield from state.scan(first, last, over=lane.effects.writes.get(state))
            return
        for _, state in sorted(self.visible.items()):
            yield from state.committed_scan(first, last)

    def clear(self) -> None:
        """Delete every key of the partition."""
        if self.joins:
            self._tell_joins()
        for key, _ in list(self._scan()):
            self._write(key, None)

    # Joined to others

    def join(self, other: Table, *, how: How = 'inner', name: str | None = None) -> Stream:
        """Return a stream of pairs `(value, other's value)`, to be given to `@app.agent`.

        A pair comes for each key that a finished event has written, here or in `other`. Neither
        the removal of a key by its `ttl` nor a change within the same event counts as another one.

        Args:
            how: When it comes. `inner`: both have the key. `left`: this one has it. `outer`: one
                of them has it. What is missing is None.
            name: Part of the name of the topic of pairs; default both tables' names and `how`.

        Raises:
            StreamError: One of them has windows, is global or of sets.
            ValueError: `how` is unknown.
        """
        for table in (self, other):
            if table.outlet is None or not table.joinable:
                raise errors.StreamError(
                    f'Table {table.name} cannot be joined to a table: it has windows, is global or'
                    ' of sets, or belongs to no application'
                )
        assert self.outlet is not None
        made = TableJoin(self, other, how, name, self.outlet, self._key_type)
        self.joins.append(made)
        other.joins.append(made)
        return made.topic.stream()

    joinable = True
    """Whether it has one value for a key, in the partition of the events that write it."""

    def _tell_joins(self) -> None:
        hand = self._lane()
        state = hand.unit.state(self)
        if state not in hand.effects.writes:  # once for all keys
            for join in self.joins:
                join.watch(self, hand, state)

    @property
    def coders(self) -> tuple[Coder, Coder]:
        """How keys and values are coded."""
        return self._key, self._value

    def changed_keys(self, changes: Changes) -> Iterable[bytes]:
        """Return the keys that changes of a partition are about, encoded."""
        return changes

    def applied(self, state: PartitionState, key: bytes) -> bytes | None:
        """Return the encoded value of a key in a partition, as finished events have left it."""
        return state.get(key)

    # For the worker

    def keeper(self, state: PartitionState) -> Any:
        """Return who ends with time what is to end in a partition; None where nothing does."""
        return None

    def logged(self, partition: int) -> TopicPartition:
        """Return where the changes of a partition are logged."""
        return TopicPartition(self.changelog, partition)

    def misplaced(self, topics: Iterable[str], count: int) -> str:
        """Say why a topic's agent cannot write it."""
        names = ', '.join(sorted(topics))
        return (
            f'Table {self.name} has {self.count} partitions, but it is used by an agent of {names},'
            f' with {count}; use group_by(..., partitions={self.count}) in that agent, or declare'
            f' both with the same number'
        )
