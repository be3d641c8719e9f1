"""What happens to an event on its way to a body."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, get_type_hints

from service_scaffold.streams import serializers
from service_scaffold.streams.event import Event
from service_scaffold.streams.forms import Coder
from service_scaffold.streams.pairs import PairSerializer


class Kind(NamedTuple):
    """What kind of values there are.

    Attributes:
        serializer: Turns them into bytes; None means as their type does.
        annotation: Their type, None if it is not known.
    """

    serializer: object
    annotation: Any

    @property
    def coder(self) -> Coder:
        """What turns them into bytes, and back."""
        return serializers.value_codec(self.serializer, self.annotation)


class Step(Protocol):
    """Looks at an event on its way to the body. Steps that do the same are equal."""

    async def __call__(self, event: Event) -> Event | None:
        """Return the event, with a value of its own perhaps; None ends its way."""

    def kind(self, before: Kind) -> Kind:
        """Return what kind of values it leaves, given what it takes."""


@dataclass(frozen=True)
class Filter:
    """Lets those pass whose value fits."""

    predicate: Callable[[Any], Any]

    async def __call__(self, event: Event) -> Event | None:
        answer = self.predicate(event.value)
        if inspect.isawaitable(answer):
            answer = await answer
        return event if answer else None

    def kind(self, before: Kind) -> Kind:
        """As before."""
        return before


@dataclass(frozen=True)
class Process:
    """Makes another value of each."""

    processor: Callable[[Any], Any]

    async def __call__(self, event: Event) -> Event | None:
        value = self.processor(event.value)
        event.value = await value if inspect.isawaitable(value) else value
        return event

    def kind(self, before: Kind) -> Kind:
        """What the function is annotated to return; without that the same as before."""
        try:
            hints = get_type_hints(inspect.unwrap(self.processor))
        except (NameError, TypeError):  # an annotation that is there for readers only
            return before
        if 'return' not in hints:
            return before
        after = before._replace(annotation=hints['return'])
        try:
            _ = after.coder
        except TypeError:  # raw bytes cannot be anything
            return Kind(None, hints['return'])
        return after


@dataclass(frozen=True)
class Echo:
    """Sends a copy of each to other topics."""

    targets: tuple[Any, ...]

    async def __call__(self, event: Event) -> Event | None:
        for target in self.targets:
            await target.send(key=event.key, value=event.value)
        return event

    def kind(self, before: Kind) -> Kind:
        """As before."""
        return before


class Looked(Protocol):
    """A table, seen from a stream that looks into it."""

    name: str

    @property
    def coders(self) -> tuple[Coder, Coder]: ...

    def get(self, key: Any, default: Any = None) -> Any: ...


@dataclass(frozen=True)
class Lookup:
    """Puts what a table has for an event's key beside its value.

    Attributes:
        always: Whether a value passes, with None, that the table has nothing for.
    """

    table: Looked
    always: bool

    async def __call__(self, event: Event) -> Event | None:
        found = None if event.key is None else self.table.get(event.key)
        if found is None and not self.always:
            return None
        event.value = (event.value, found)
        return event

    def kind(self, before: Kind) -> Kind:
        """Pairs of that and of the table's values."""
        return Kind(PairSerializer(before.coder, self.table.coders[1]), None)


def looked_into(steps: Iterable[Step]) -> tuple[Any, ...]:
    """Return the tables that steps look into."""
    return tuple(step.table for step in steps if isinstance(step, Lookup))
