"""The records of one partition of a table, seen from where they are read and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from service_scaffold.streams.effects import Effects
from service_scaffold.streams.sizes import SMALL
from service_scaffold.streams.state import Changes, PartitionState


class Writes(Protocol):
    """Whose effects they are."""

    effects: Effects


class Cells:
    """What an event sees: all that was written before, and what it has written itself.

    Args:
        hand: Has the event in hand.
    """

    def __init__(self, state: PartitionState, hand: Writes) -> None:
        self._state = state
        self._hand = hand

    @property
    def _written(self) -> Changes | None:
        return self._hand.effects.writes.get(self._state)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None without one."""
        written = self._written
        if written is not None and key in written:
            return written[key]
        return self._state.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write a value; None deletes.

        Raises:
            EncodeError: It is too large to be logged.
        """
        if value is not None and len(key) + len(value) > SMALL:
            self._state.check(key, value)
        self._hand.effects.writes.setdefault(self._state, {})[key] = value

    def scan(self, first: bytes, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in key order, `first` included, `last` not."""
        return self._state.scan(first, last, self._written)


class Nobody:
    """Has no event in hand."""

    def __init__(self) -> None:
        self.effects = Effects()


class Committed(Cells):
    """What somebody outside of an agent sees: the last checkpoint."""

    def __init__(self, state: PartitionState) -> None:
        super().__init__(state, Nobody())

    def get(self, key: bytes) -> bytes | None:
        return self._state.committed(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        raise NotImplementedError('only an agent writes')

    def scan(self, first: bytes, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._state.committed_scan(first, last)
