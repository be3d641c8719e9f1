"""Records that the log does not take: too large, of no partition, without a key it wants."""

from __future__ import annotations

from collections.abc import Mapping

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.effects import Effects

REMEMBERED = 10_000
MOST = 10
"""So many refusals, one after the other, may come before an attempt fails because of one."""

LONGEST_KEY = 100
"""So many bytes of a key are shown."""

Mark = tuple[str, int | None, bytes | None, int, int | None]
"""What an attempt sends again when it sends the same: topic, partition, key, size, time."""


class Refused(errors.JournalError):
    """The log has refused a record for good.

    Attributes:
        record: Which one.
    """

    def __init__(self, record: NewRecord, error: Exception) -> None:
        super().__init__(f'{_described(record)} is refused: {error}')
        self.record = record


def is_final(error: Exception) -> bool:
    """Tell whether the log would refuse a record each time; else it is the connection's fault."""
    if isinstance(error, errors.PublishError):
        return error.phase == 'confirm' and not error.maybe_sent
    return type(error) is errors.JournalError


class Refusals:
    """What was refused since the start.

    The connection begins again then, and with it the event that has sent the record. This time the
    attempt fails, so that the event can be judged like any other that fails, and does not hold up
    the application for ever.
    """

    def __init__(self) -> None:
        self._known: dict[Mark, str] = {}
        self._learnt = 0

    def __bool__(self) -> bool:
        return bool(self._known)

    def learn(self, refused: Refused, *, soon: bool = False) -> bool:
        """Refuse the record from now on.

        Args:
            soon: The connection had only just been made.

        Returns:
            Whether that helps. It does not where the record comes again, as it is no attempt's:
            a window that closes, a value that waits for its partner no longer, a dead letter.
        """
        mark = _mark(refused.record)
        self._learnt = self._learnt + 1 if soon else 1
        helps = mark not in self._known and self._learnt <= MOST
        self._known[mark] = str(refused)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return helps

    def check(self, effects: Effects) -> None:
        """Make sure that the log may take what an attempt sends and writes.

        Raises:
            PublishError: It has refused some of it.
        """
        for record in effects.sends:
            self._check(record)
        for state, changes in effects.writes.items():
            if state.changelog is not None:
                topic, partition = state.changelog
                for key, value in changes.items():
                    self._check(NewRecord(topic, value, key, (), partition), state.table)

    def _check(self, record: NewRecord, table: str | None = None) -> None:
        reason = self._known.get(_mark(record))
        if reason is not None:
            self._learnt = 0
            what = '' if table is None else f'Table {table}: '
            raise errors.PublishError(what + reason, phase='confirm', maybe_sent=False)

    def fitting(self, letter: NewRecord) -> NewRecord:
        """Return a dead letter, without its value if the log has not taken it with that."""
        return letter._replace(value=None) if _mark(letter) in self._known else letter


def hopeless(refused: Refused, changelogs: Mapping[str, str]) -> errors.StreamError:
    """Return why the application cannot go on.

    Args:
        changelogs: With the name of the table that each is of.
    """
    table = changelogs.get(refused.record.topic)
    what = '' if table is None else f'Table {table}: '
    return errors.StreamError(
        f'{what}{refused}. It comes again and again, and there is no event that could be given up'
        ' instead; let the topic take it, or let what makes it make less'
    )


def _described(record: NewRecord) -> str:
    size = len(record.key or b'') + len(record.value or b'')
    key = 'without a key' if record.key is None else f'with key {record.key[:LONGEST_KEY]!r}'
    return f'A record for {record.topic} {key}, of {size} bytes,'


def _mark(record: NewRecord) -> Mark:
    value, key = record.value, record.key  # objects, where they have come over a channel
    size = len(value) if isinstance(value, bytes) else -1
    known = key if isinstance(key, bytes) else None
    return record.topic, record.partition, known, size, record.timestamp
