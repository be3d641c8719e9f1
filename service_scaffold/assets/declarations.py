"""Declared attributes: what an asset is made of, in a class body or as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, overload

from service_scaffold.assets.methods import METHOD, Method
from service_scaffold.assets.record import UNAVAILABLE, Attribute, Kind, check_attribute_id, kind_of

_NOTHING: Any = object()


class Holder(Protocol):
    """What has declared attributes: an object that is an asset."""

    def read(self, id: str) -> Attribute: ...

    def assign(self, id: str, value: Any) -> None: ...


class Declared:
    """An attribute that an asset declares: reading it gives its record, assigning sets it.

    Made by `sample`, `event` and `condition`.

    Attributes:
        id: The name it has in its class, or was given by; '' until then.
        kind: `sample`, `event` or `condition`.
        value: Set at the start of the owner, unless it is absent.
        tag: What it means to the outside.
    """

    def __init__(self, kind: Kind, value: Any, tag: str) -> None:
        self.id = ''
        self.kind: Kind = kind
        self.value = value
        self.tag = tag

    def __repr__(self) -> str:
        return f'{self.kind}({self.id or "unnamed"})'

    def __set_name__(self, owner: type, name: str) -> None:
        self.id = check_attribute_id(name)

    @overload
    def __get__(self, holder: None, owner: type) -> Declared: ...

    @overload
    def __get__(self, holder: Holder, owner: type) -> Attribute: ...

    def __get__(self, holder: Holder | None, owner: type) -> Declared | Attribute:
        return self if holder is None else holder.read(self.id)

    def __set__(self, holder: Holder, value: Any) -> None:
        holder.assign(self.id, value)

    @property
    def has_value(self) -> bool:
        """Whether it is set when its owner starts."""
        return self.value is not _NOTHING

    @property
    def start_value(self) -> Any:
        """Its value before anybody has set one."""
        return self.value if self.has_value else UNAVAILABLE


def sample(value: Any = _NOTHING, *, tag: str = '') -> Any:
    """Declare a measured value, as a temperature.

    Args:
        value: Set when the owner starts; without one the last value stays, as `stale`.
        tag: What it means to the outside.
    """
    return Declared('sample', value, tag)


def event(value: Any = _NOTHING, *, tag: str = '') -> Any:
    """Declare something that changes now and then, as a mode; arguments as `sample` has."""
    return Declared('event', value, tag)


def condition(value: Any = _NOTHING, *, tag: str = '') -> Any:
    """Declare a state of health, as `NORMAL` or an alarm's code; arguments as `sample` has."""
    return Declared('condition', value, tag)


def declared_in(cls: type) -> dict[str, Declared]:
    """Return what a class and its bases declare, by id; what a subclass has redefined counts."""
    found = {name: _in_class(cls, name)[0] for name in _names(cls)}
    return {name: value for name, value in found.items() if isinstance(value, Declared)}


def methods_of(holder: object) -> dict[str, Method]:
    """Return the methods of an object, by the name that others call them by.

    A method that a subclass overrides is one, whether decorated again or not.

    Raises:
        TypeError: Two of them have one public name.
    """
    found: dict[str, Method] = {}
    for name in _names(type(holder)):
        versions = _in_class(type(holder), name)
        settings = next((s for v in versions if (s := getattr(v, METHOD, None))), None)
        if settings is None or not callable(function := getattr(holder, name)):
            continue
        method = Method.of(function, settings)
        if method.name in found:
            raise TypeError(f'{type(holder).__name__} has two methods named {method.name!r}')
        found[method.name] = method
    return found


def named(attributes: Mapping[str, Any]) -> dict[str, Declared]:
    """Return declarations from `{id: declaration or value}`."""
    found = {}
    for id, given in attributes.items():
        check_attribute_id(id)
        declared = given if isinstance(given, Declared) else Declared(kind_of(given), given, '')
        copy = found[id] = Declared(declared.kind, declared.value, declared.tag)
        copy.id = id
    return found


def _names(cls: type) -> dict[str, None]:
    return {name: None for base in reversed(cls.__mro__) for name in vars(base)}


def _in_class(cls: type, name: str) -> list[Any]:
    """Return what `name` means in the class and in its bases, nearest first."""
    return [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
