"""Where a group stands in the partitions, and the notes it leaves there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from service_scaffold import errors

NOTE_LIMIT = 4096
"""Most bytes of a note as UTF-8: the default of Kafka's `offset.metadata.max.bytes`."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


Offsets = Mapping[TopicPartition, int]
Notes = Mapping[TopicPartition, str]
NO_NOTES: Notes = MappingProxyType({})


class Commit(NamedTuple):
    """What a group has committed of a partition: the next offset to read, and a note to it."""

    offset: int
    note: str = ''


def join_notes(offsets: Offsets, notes: Notes) -> dict[TopicPartition, Commit]:
    """Return what is to be committed; an offset without a note gets an empty one.

    Raises:
        JournalError: A note is longer than `NOTE_LIMIT`, is no valid text, or has no offset.
    """
    for where, note in notes.items():
        if where not in offsets:
            raise errors.JournalError(f'A note, but no offset for {where.topic}/{where.partition}')
        try:
            size = len(note.encode())
        except UnicodeEncodeError as error:
            raise errors.JournalError(
                f'The note for {where.topic}/{where.partition} is no valid text: {error.reason}'
            ) from error
        if size > NOTE_LIMIT:
            raise errors.JournalError(
                f'The note for {where.topic}/{where.partition} has {size} bytes,'
                f' at most {NOTE_LIMIT} are stored'
            )
    return {where: Commit(offset, notes.get(where, '')) for where, offset in offsets.items()}
