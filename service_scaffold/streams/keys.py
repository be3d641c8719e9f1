"""The new key of an event that is grouped by something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, get_type_hints

from service_scaffold.streams.event import Event
from service_scaffold.streams.records import field_ref
from service_scaffold.streams.steps import Kind

_CLASSLESS = (None, 'json', 'msgpack', 'yaml')
"""What decodes into dicts where no class is declared."""


class Key(Protocol):
    """Finds the key of an event. Those that find the same are equal."""

    def __call__(self, event: Event) -> Any:
        """Return the key, or an awaitable of it; None for none."""


class FieldKey(NamedTuple):
    """The field of a Record or Struct.

    Attributes:
        owner: The class that declares it.
        name: The attribute.
    """

    owner: type
    name: str

    def __call__(self, event: Event) -> Any:
        return getattr(event.value, self.name)

    def check(self, source: object, kind: Kind) -> None:
        """Make sure that values of this kind may have the field.

        Raises:
            TypeError: They are of another class, or of none.
        """
        annotation = kind.annotation
        if annotation is None:
            wrong = kind.serializer in _CLASSLESS
        else:
            wrong = isinstance(annotation, type) and not (
                issubclass(annotation, self.owner) or issubclass(self.owner, annotation)
            )
        if wrong:
            owner = self.owner.__name__
            raise TypeError(
                f'{source} has no {owner}, so no {owner}.{self.name}; declare it with'
                f' value_type={owner}'
            )


@dataclass(frozen=True)
class FunctionKey:
    """What a function says of the value."""

    function: Callable[[Any], Any]

    def __call__(self, event: Event) -> Any:
        return self.function(event.value)


def key_of(key: Any) -> tuple[Key, str | None, Any]:
    """Return what finds the key of an event, its name, and the key's type where they are known.

    Args:
        key: A field of a Record or Struct, or a function of the value.

    Raises:
        TypeError: It is neither.
    """
    try:
        field = field_ref(key)
    except TypeError:
        if not callable(key):
            raise
        return FunctionKey(key), None, None
    hint = get_type_hints(field.owner).get(field.name)
    return FieldKey(field.owner, field.name), field.name, hint
