"""The state part of the port: the latest value of each key, kept by the broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

B = TypeVar('B')

Change = tuple[str, bytes | None]
"""A key and its value; None: it has none any more."""

MAX_KEY_BYTES = 255
_RESERVED = frozenset('/+#')


class State(Protocol):
    """Latest value per key, stored at the broker, readable by everyone at any time.

    A key is `group/name`, as in `mill-1/temperature`: see `check_key`. What belongs to one group
    keeps its order. Values outlive their writer, and a broker that keeps its data on disk; on
    RabbitMQ for `Settings.retention_s`, so whoever owns a value puts it again within that time,
    changed or not (the others do not need that, and do not mind). Everything is kept apart by
    `Settings.namespace`.
    """

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it; returns when the broker has confirmed.

        As `put_many` of one.
        """

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete, all on their way at once; returns when all is confirmed.

        Order is that of `changes`, and of calls that follow one another. It is no transaction:
        a reader may see some of them first. The caller bounds the time.

        Raises:
            ValueError: A key is none, or a value is empty; nothing was stored.
            PublishError: The broker refuses some, see `failed`; the others are stored.
            ConnectionLost: The connection has ended; nobody knows what was stored.
        """

    def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield what is stored, then None once, then each change as it comes.

        The snapshot has each key once, with its value. A change that comes while it is read is
        in it or follows after it, or both; so a value may come twice, but never an older one
        after a newer one. Own changes come, too. Several may read at once. End it with `aclose`.

        Raises:
            ConnectionLost: The connection has ended, or the snapshot did not come to its end in
                time, or the reader is too slow; the transport is of no use any more.
            TransportError: The broker refuses it.
        """


def check_key(key: str) -> None:
    """Refuse what is no key on every transport.

    A key has two parts with one slash between them, 255 bytes of UTF-8 in all. A part may be any
    printable text without `/`, `+` and `#`, dots and spaces inside included; it must not be
    empty, or begin or end with a space.

    Raises:
        ValueError: It is none; the message says why.
    """
    parts = key.split('/')
    if len(parts) != 2:
        raise ValueError(f'{key!r} is no key: it must have two parts, as in "mill-1/temperature"')
    for part in parts:
        check_part(part)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f'{key!r} is no key: it has more than {MAX_KEY_BYTES} bytes')


def check_part(part: str) -> None:
    """Refuse what is no part of a key, and no id; see `check_key`.

    Raises:
        ValueError: It is none.
    """
    if not part or part != part.strip():
        raise ValueError(f'{part!r} is no part of a key: it is empty, or has spaces around it')
    if not part.isprintable() or not _RESERVED.isdisjoint(part):
        raise ValueError(
            f'{part!r} is no part of a key: only printable characters, and not one of / + #'
        )
    if len(part.encode()) > MAX_KEY_BYTES:
        raise ValueError(f'{part!r} is no part of a key: it has more than {MAX_KEY_BYTES} bytes')


async def folded(
    batches: AsyncGenerator[B | None, None], changes_of: Callable[[B], Iterable[Change]]
) -> AsyncGenerator[Change | None, None]:
    """Yield what `State.snapshot_then_follow` does, from changes in the order they were made.

    Args:
        batches: Closed at the end; None once, where what was stored before has come to its end.
        changes_of: The changes of a batch.
    """
    stored: dict[str, bytes] = {}
    ended = False
    async with aclosing(batches):
        async for batch in batches:
            if batch is None:
                ended = True
                for item in stored.items():
                    yield item
                stored.clear()
                yield None
                continue
            for key, value in changes_of(batch):
                if ended:
                    yield key, value
                elif value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value


def check_changes(changes: Sequence[Change]) -> None:
    """Refuse changes that not every transport could store.

    Raises:
        ValueError: A key is none, or a value is empty.
    """
    for key, value in changes:
        check_key(key)
        if value is not None and not value:
            raise ValueError(f'The value of {key!r} is empty; None deletes it')


def group_of(key: str) -> str:
    """Return the part of a key within which there is one order."""
    return key.partition('/')[0]
