"""Records: what a topic carries, as a class whose fields are declared and checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, dataclass_transform
from uuid import UUID

import msgspec

from service_scaffold import errors

# What users of Faust bring along: the value that says what holds here anyway (`...` for any), and
# what to do if they need another.
_SETTLED: dict[str, tuple[object, str]] = {
    'abstract': (..., ''),
    'isodates': (True, 'a field annotated as datetime is ISO 8601'),
    'decimals': (True, 'a field annotated as Decimal is one'),
    'coerce': (False, 'annotate each field with the type that the body has'),
    'include_metadata': (False, 'for unions of records use tag=True'),
    'polymorphic_fields': (False, 'for unions of records use tag=True'),
}


def _without_settled(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    rest = {}
    for option, value in options.items():
        if option not in _SETTLED:
            rest[option] = value
            continue
        ours, advice = _SETTLED[option]
        if ours is not ... and value != ours:
            raise TypeError(f'{name}: {option}={value!r} is not offered: {advice}')
    return rest


_OBJECTS = (datetime, date, time, timedelta, Decimal, UUID, bytes)
_PLAIN = (dict, str, int, float, bytes)
"""What stands in a body for objects of other types."""
_AS_WELL = {int: float}


@dataclass_transform(field_specifiers=(msgspec.field,))
class RecordType(msgspec.StructMeta):
    """The class of record classes: takes the class options that msgspec does not know."""

    __serializer__: str | None
    __validation__: bool

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        serializer: str | None = None,
        validation: bool | None = None,
        **options: Any,
    ) -> RecordType:
        # Only classes that ask for it pay for the check at each construction.
        made_by = _CheckedType if validation else cls
        settled = _without_settled(name, options)
        made = super().__new__(made_by, name, bases, namespace, **settled)
        if serializer is not None or not hasattr(made, '__serializer__'):
            made.__serializer__ = serializer
        if validation is not None or not hasattr(made, '__validation__'):
            made.__validation__ = bool(validation)
        return made

    def __init__(
        self, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **options: Any
    ) -> None:
        super().__init__(name, bases, namespace)


class _CheckedType(RecordType):
    """The class of record classes with `validation=True`."""

    def __call__(self, *values: Any, **fields: Any) -> Any:
        record = super().__call__(*values, **fields)
        if self.__validation__:
            record.validate()
        return record


class Record(msgspec.Struct, metaclass=RecordType):
    """Base of the values that topics and tables hold.

        class Order(Record):
            id: int
            account: str
            amount: float = 0.0

    `Order(1, 'ann')` and `Order(id=1, account='ann')` are the same, and equal. `Order.account`
    names the field, as in `stream.group_by(Order.account)`. Fields may be records, containers,
    `X | None`, enums, datetime, Decimal, UUID: whatever msgspec knows. A body is validated as it
    is decoded: a field that is missing or of another type is an `errors.InvalidBody` that names
    it; unknown fields are ignored. Classes may inherit; `class Order(Record, kw_only=True)` lets
    required fields follow optional ones.

    Class options, all inherited:

    - `serializer`: name of the serializer of topics of this type that name none, default JSON.
    - `validation`: whether constructing validates as well, default no.
    - all of `msgspec.Struct`: `frozen`, `kw_only`, `rename`, `tag`, `forbid_unknown_fields`, …
    - those of Faust with the value that holds here: `isodates=True`, `decimals=True`,
      `coerce=False`, `include_metadata=False`, `polymorphic_fields=False`; `abstract` says
      nothing, as any record can be inherited from. Another value is a TypeError.
    """

    if TYPE_CHECKING:  # what the metaclass takes

        def __init_subclass__(
            cls, *, serializer: str | None = None, validation: bool = False, **options: Any
        ) -> None: ...

    def asdict(self) -> dict[str, Any]:
        """Return the fields by name; records within, also in containers, become dicts too."""
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__}

    def validate(self) -> None:
        """Check each field against its declared type.

        Raises:
            InvalidBody: One does not fit; the message names it.
        """
        name = type(self).__name__
        try:
            plain = msgspec.to_builtins(self, builtin_types=_OBJECTS)
            wanted = msgspec.convert(plain, type(self))
        except (msgspec.ValidationError, TypeError) as error:
            raise errors.InvalidBody(f'Not a {name}: {error}') from error
        wrong = _unconverted(self, wanted)
        if wrong is not None:
            raise errors.InvalidBody(f'Not a {name}: {wrong}')


class FieldRef(NamedTuple):
    """A field of a class, as `Order.account` means it.

    Attributes:
        owner: The class that declares it; a subclass has it too.
        name: The attribute.
    """

    owner: type
    name: str


def field_ref(key: object) -> FieldRef:
    """Return which field `Order.account` means.

    Args:
        key: A field of a Record, a `msgspec.Struct`, or a dataclass with slots, got from the class.

    Raises:
        TypeError: It is not a field.
    """
    if inspect.ismemberdescriptor(key):
        return FieldRef(key.__objclass__, key.__name__)
    raise TypeError(f'{key!r} is not a field of a Record or Struct, such as Order.account')


def field_of(key: object) -> str:
    """Return the name of the field that `Order.account` means; a TypeError if it is none."""
    return field_ref(key).name


def serializer_of(annotation: object) -> str | None:
    """Return the `serializer` option of a record class, None for any other type."""
    return annotation.__serializer__ if isinstance(annotation, RecordType) else None


def _unconverted(value: Any, wanted: Any, path: str = '$') -> str | None:
    """Tell where a value stands for the one that a body with it would become; None: nowhere."""
    if isinstance(wanted, msgspec.Struct) and isinstance(value, type(wanted)):
        pairs = [
            (f'.{name}', getattr(value, name), getattr(wanted, name)) for name in _names(wanted)
        ]
    elif isinstance(wanted, dict) and isinstance(value, dict):
        keys = zip(value, wanted, strict=True)
        pairs = [('[...]', *both) for both in keys]
        pairs += [('[...]', *both) for both in zip(value.values(), wanted.values(), strict=True)]
    elif isinstance(wanted, list | tuple) and isinstance(value, list | tuple):
        both = zip(value, wanted, strict=True)
        pairs = [(f'[{place}]', one, other) for place, (one, other) in enumerate(both)]
    elif type(value) not in _PLAIN or type(wanted) in (type(value), _AS_WELL.get(type(value))):
        return None
    else:
        return f'Expected `{type(wanted).__name__}`, got `{type(value).__name__}` - at `{path}`'
    found = (_unconverted(one, other, path + at) for at, one, other in pairs)
    return next((wrong for wrong in found if wrong is not None), None)


def _names(record: msgspec.Struct) -> tuple[str, ...]:
    return record.__struct_fields__


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if type(value) is tuple:  # a named tuple stays one
        return tuple(_plain(item) for item in value)
    return value
