"""Records that the log does not take: too large, of no partition, without a key it wants."""

from __future__ import annotations

from collections.abc import Iterable

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord

REMEMBERED = 10_000

Mark = tuple[str, int | None, bytes | None, int, int | None]
"""What an attempt sends again when it sends the same: topic, partition, key, size, time."""


class Refused(errors.JournalError):
    """The log has refused a record for good.

    Attributes:
        record: Which one.
    """

    def __init__(self, record: NewRecord, error: Exception) -> None:
        super().__init__(f'A record for {record.topic} is refused: {error}')
        self.record = record


def is_final(record: NewRecord, error: Exception) -> bool:
    """Tell whether the log would refuse a record each time; else it is the connection's fault."""
    if isinstance(error, errors.PublishError):
        return error.phase == 'confirm' and not error.maybe_sent
    if isinstance(error, errors.BindingRefused):
        return record.partition is not None
    return type(error) is errors.JournalError


class Refusals:
    """What was refused since the start.

    The connection begins again then, and with it the event that has sent the record. This time the
    attempt fails, so that the event can be judged like any other that fails, and does not hold up
    the application for ever.
    """

    def __init__(self) -> None:
        self._known: dict[Mark, str] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def learn(self, refused: Refused) -> None:
        """Refuse the record from now on."""
        self._known[_mark(refused.record)] = str(refused)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def check(self, records: Iterable[NewRecord]) -> None:
        """Make sure that the log may take these.

        Raises:
            PublishError: It has refused one of them.
        """
        for record in records:
            reason = self._known.get(_mark(record))
            if reason is not None:
                raise errors.PublishError(reason, phase='confirm', maybe_sent=False)

    def fitting(self, letter: NewRecord) -> NewRecord:
        """Return a dead letter, without its value if the log has not taken it with that."""
        return letter._replace(value=None) if _mark(letter) in self._known else letter


def _mark(record: NewRecord) -> Mark:
    value, key = record.value, record.key  # objects, where they have come over a channel
    size = len(value) if isinstance(value, bytes) else -1
    known = key if isinstance(key, bytes) else None
    return record.topic, record.partition, known, size, record.timestamp
