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

from service_scaffold.journal.offsets import NOTE_LIMIT

LEAD = 8_192
"""How far, in offsets, a consumer may be ahead of its lowest unfinished event, at the very most."""
LEAST_LEAD = 64


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
_FRAME = len('[18446744073709551615,{}]')
_NODE_FRAME = len(':[99999,""],')
_PACKING = 16
"""What compression adds, in bytes, to a bitmap that it cannot make shorter; and base64's rest."""


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


def fits(note: str) -> bool:
    """Tell whether a note is short enough to be committed."""
    return len(note.encode()) <= NOTE_LIMIT


def lead(names: Sequence[str]) -> int:
    """Return how far ahead these consumers of a partition may be, so that their note surely fits.

    What is unfinished may be strewn about, a bit for each offset, which nothing makes shorter.
    """
    if not names:
        return LEAD
    share = (NOTE_LIMIT - _FRAME) // len(names)
    longest = max(len(_ENCODER.encode(name)) for name in names)
    size = (share - longest - _NODE_FRAME) * 3 // 4 - _PACKING
    return max(LEAST_LEAD, min(LEAD, size * 8))


def read_note(text: str) -> Note:
    """Return what `write_note` wrote; an empty note for one that is not ours."""
    try:
        return _DECODER.decode(text) if text else Note()
    except msgspec.MsgspecError:
        return Note()


_STEPS = '~'
"""What begins a text of steps; one of a bitmap begins with a digit or a letter."""


def _bitmap(numbers: list[int]) -> str:
    """Return ascending numbers as text: a bit for each number, or steps where they are few."""
    if not numbers:
        return ''
    if numbers[-1] // 8 > 4 * len(numbers):
        return _STEPS + _packed(_write_steps(numbers))
    bits = bytearray(numbers[-1] // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return _packed(bits)


def _bits(text: str) -> Iterable[int]:
    if text.startswith(_STEPS):
        yield from _read_steps(_unpacked(text[1:]))
        return
    for index, byte in enumerate(_unpacked(text)):
        for bit in range(8):
            if byte >> bit & 1:
                yield index * 8 + bit


def _write_steps(numbers: list[int]) -> bytearray:
    """Return the distances, seven bits a byte; the last byte of each is below 128."""
    steps = bytearray()
    for number, before in zip(numbers, [0, *numbers], strict=False):
        step = number - before
        while step > 127:
            steps.append(step & 127 | 128)
            step >>= 7
        steps.append(step)
    return steps


def _read_steps(steps: bytes) -> Iterable[int]:
    number = step = shift = 0
    for byte in steps:
        step |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            number += step
            yield number
            step = shift = 0


def _packed(data: bytes | bytearray) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text)) if text else b''
