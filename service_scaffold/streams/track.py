"""How far one consumer of a partition has come, with gaps, and how that is written down.

A group's committed offset says that everything below it is finished. What was finished above it,
because another key or another agent takes its time, stands in the note that is committed together
with the offset. So any moment is a consistent one: nothing has to be waited for.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec


class Track:
    """The position of one consumer in one partition.

    Args:
        position: The first offset that it has not seen.
        unfinished: Offsets below `position` that it has to see again.

    Attributes:
        next: The offset after the highest one that was handed to it.
    """

    __slots__ = ('_again', '_pending', 'next')

    def __init__(self, position: int, unfinished: Iterable[int] = ()) -> None:
        self.next = position
        self._again = set(unfinished)
        self._pending: dict[int, None] = {}

    def take(self, offset: int) -> bool:
        """Tell whether the consumer wants this record, and count it as handed to it."""
        if offset >= self.next:
            self.next = offset + 1
        elif offset in self._again:
            self._again.discard(offset)
        else:
            return False
        self._pending[offset] = None
        return True

    def take_run(self, records: Sequence[Any]) -> Sequence[Any]:
        """Return those of some records, in order, that the consumer wants; as `take` for each."""
        if not records or records[0].offset < self.next or self._again:
            return [record for record in records if self.take(record.offset)]
        self._pending.update(dict.fromkeys([record.offset for record in records]))
        self.next = records[-1].offset + 1
        return records

    def finish(self, offset: int) -> None:
        """Count a record as finished."""
        self._pending.pop(offset, None)

    @property
    def lowest(self) -> int:
        """The lowest offset that is not finished."""
        # Handed out in order, so the first one is the lowest, except where some come again.
        first = next(iter(self._pending), self.next)
        return min(first, self.next, *self._again) if self._again else first

    @property
    def pending(self) -> int:
        """How many records were handed out and are not finished."""
        return len(self._pending)

    def unfinished(self) -> list[int]:
        """Return the offsets below `next` that are not finished."""
        return sorted([*self._pending, *self._again])


class Note(msgspec.Struct, omit_defaults=True, array_like=True):
    """What is committed beside an offset.

    Attributes:
        checkpoint: Number of the checkpoint that has committed it.
        nodes: By consumer: how far beyond the offset it is, and which of those are unfinished.
    """

    checkpoint: int = 0
    nodes: dict[str, tuple[int, str]] = {}

    def track(self, name: str, offset: int) -> Track:
        """Return the track of a consumer, as it was when this note was committed."""
        if name not in self.nodes:
            return Track(offset)
        ahead, bitmap = self.nodes[name]
        return Track(offset + ahead, (offset + bit for bit in _bits(bitmap)))


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Note)


def write_note(checkpoint: int, offset: int, tracks: Mapping[str, Track]) -> str:
    """Return the note for a committed `offset`, which is the lowest of all these tracks."""
    nodes: dict[str, tuple[int, str]] = {}
    for name, track in tracks.items():
        if track.next > offset:
            nodes[name] = (
                track.next - offset,
                _bitmap([number - offset for number in track.unfinished()]),
            )
    return _ENCODER.encode(Note(checkpoint, nodes)).decode()


def read_note(text: str) -> Note:
    """Return what `write_note` wrote; an empty note for one that is not ours."""
    try:
        return _DECODER.decode(text) if text else Note()
    except msgspec.MsgspecError:
        return Note()


def _bitmap(numbers: list[int]) -> str:
    if not numbers:
        return ''
    bits = 0
    for number in numbers:
        bits |= 1 << number
    packed = zlib.compress(bits.to_bytes((bits.bit_length() + 7) // 8, 'little'), 9)
    return base64.b64encode(packed).decode()


def _bits(text: str) -> Iterable[int]:
    if not text:
        return
    data: Any = zlib.decompress(base64.b64decode(text))
    for index, byte in enumerate(data):
        for bit in range(8):
            if byte >> bit & 1:
                yield index * 8 + bit
