"""Changing a table of sets from outside of agents: through a topic, which an agent reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from service_scaffold import codecs, errors
from service_scaffold.streams.records import Record
from service_scaffold.streams.tables.sets import MemberSet, SetTable
from service_scaffold.streams.topic import Topic

SUFFIX = '-setmanager'
"""What the name of the topic ends with, after that of the table."""

Action = Literal['add', 'discard', 'clear', 'update', 'difference', 'intersection', 'symdiff']

_ACTIONS: dict[str, Callable[[MemberSet, list[Any]], None]] = {
    'add': lambda found, members: found.update(members),
    'discard': lambda found, members: found.difference_update(members),
    'clear': lambda found, members: found.clear(),
    'update': lambda found, members: found.update(members),
    'difference': lambda found, members: found.difference_update(members),
    'intersection': lambda found, members: found.intersection_update(members),
    'symdiff': lambda found, members: found.symmetric_difference_update(members),
}


class SetOperation(Record):
    """What is to happen to a set; its key is that of the record.

    Attributes:
        action: What; each is what the method of `set` with such a name does.
        members: With which members.
    """

    action: Action
    members: list[Any] = []


class SetManager:
    """Changes the sets of a table from anywhere: a page, a timer, another service.

    Each change is a record of a topic, as JSON `{"action": "add", "members": [...]}` under the key
    of the set, which an agent of the table's own carries out. So it comes a moment later, and in
    the order of the changes of that key. Where an event is handled the change is sent with that.

    Args:
        topic: Where changes go; as many partitions as the table.
        value_type: Of the members.
    """

    def __init__(self, table: SetTable, topic: Topic, value_type: Any) -> None:
        self.topic = topic
        self._table = table
        self._convert = codecs.Decoder(value_type).convert

    async def add(self, key: Any, member: Any) -> None:
        """Add a member to a set.

        Raises:
            PublishError: The broker has not confirmed it in time; so do the other methods.
        """
        await self._send(key, 'add', [member])

    async def discard(self, key: Any, member: Any) -> None:
        """Take a member out of a set."""
        await self._send(key, 'discard', [member])

    async def clear(self, key: Any) -> None:
        """Take all members out of a set."""
        await self._send(key, 'clear', ())

    async def update(self, key: Any, members: Iterable[Any]) -> None:
        """Add members to a set."""
        await self._send(key, 'update', members)

    async def difference_update(self, key: Any, members: Iterable[Any]) -> None:
        """Take members out of a set."""
        await self._send(key, 'difference', members)

    async def intersection_update(self, key: Any, members: Iterable[Any]) -> None:
        """Keep those of a set that are among `members`."""
        await self._send(key, 'intersection', members)

    async def symmetric_difference_update(self, key: Any, members: Iterable[Any]) -> None:
        """Take those of `members` out of a set that it has, and add the others."""
        await self._send(key, 'symdiff', members)

    async def _send(self, key: Any, action: Action, members: Iterable[Any]) -> None:
        if key is None:
            raise errors.EncodeError(f'Table {self._table.name}: None is no key')
        await self.topic.send(key=key, value=SetOperation(action, list(members)))

    def carry_out(self, found: MemberSet, operation: SetOperation) -> None:
        """Change a set, in an agent of the table's own."""
        members = [self._convert(member) for member in operation.members]
        _ACTIONS[operation.action](found, members)


def manage(
    app: Any, table: SetTable, topic: str | None, suffix: str, options: Mapping[str, Any]
) -> None:
    """Declare the topic of changes from outside, and the agent that carries them out.

    Args:
        app: Of the table.
        topic: Its name, None for that of the table with the application's prefix and `suffix`.
        options: What the table was declared with.
    """
    changes: Topic = app.topic(
        app.prefixed(f'{table.name}{suffix}') if topic is None else topic,
        key_type=options.get('key_type'),
        key_serializer=options.get('key_serializer'),
        value_type=SetOperation,
        partitions=options.get('partitions'),
        internal=True,
    )
    if topic is None:
        app._own_topics.append(changes)  # renamed with the application
    manager = table.manager = SetManager(table, changes, options.get('value_type'))

    async def change(stream: Any) -> None:
        async for key, operation in stream.items():
            manager.carry_out(table[key], operation)

    app.agent(changes, name=f'{table.name}{SUFFIX}', help=f'Changes table {table.name}.')(change)
