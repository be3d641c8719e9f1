"""Tests of `service_scaffold.streams.records`."""

from __future__ import annotations

import dataclasses
import enum
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service_scaffold import codecs, errors
from service_scaffold.streams import records
from service_scaffold.streams.records import Record


class Item(Record, frozen=True):
    name: str
    count: int = 1


class Order(Record):
    id: int
    account: str
    amount: float = 0.0
    items: list[Item] = []
    note: str | None = None


class Size(enum.Enum):
    SMALL = 'small'


class Export(Order, kw_only=True, serializer='msgpack'):
    country: str


class Measured(Record):
    at: datetime
    price: Decimal
    device: UUID


class Checked(Record, validation=True):
    id: int
    item: Item | None = None


class Unchecked(Checked, validation=False):
    pass


class Renamed(Record, rename='camel', tag=True):
    item_count: int


class Struct(msgspec.Struct):
    account: str


@dataclasses.dataclass(slots=True)
class Slotted:
    account: str


def test_fields_are_given_by_place_or_by_name() -> None:
    assert Order(1, 'ann', 2.5) == Order(id=1, account='ann', amount=2.5)
    assert Order(1, 'ann') != Order(2, 'ann')
    assert repr(Item('cup')) == "Item(name='cup', count=1)"
    assert hash(Item('cup')) == hash(Item('cup', 1))


@pytest.mark.parametrize('arguments', [(), (1, 'ann', 0.0, [], None, 'more')])
def test_fields_too_few_or_too_many_are_a_type_error(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        Order(*arguments)


def test_a_mutable_default_is_not_shared() -> None:
    Order(1, 'ann').items.append(Item('cup'))

    assert Order(2, 'bob').items == []


def test_asdict_reaches_into_containers() -> None:
    order = Order(1, 'ann', items=[Item('cup', 2)])

    assert order.asdict() == {
        'id': 1,
        'account': 'ann',
        'amount': 0.0,
        'items': [{'name': 'cup', 'count': 2}],
        'note': None,
    }


def test_asdict_keeps_values_and_our_names() -> None:
    """It is a dict of Python, not what goes over the wire."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    measured = Measured(at, Decimal('1.10'), UUID(int=7))

    assert measured.asdict() == {'at': at, 'price': Decimal('1.10'), 'device': UUID(int=7)}
    assert Renamed(3).asdict() == {'item_count': 3}


@pytest.mark.parametrize(
    'record',
    [
        Order(1, 'ann', items=[Item('cup')], note='fragile'),
        Export(1, 'ann', country='NL'),
        Measured(datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), Decimal('0.1'), UUID(int=7)),
        Renamed(3),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_comes_back_from_json_and_from_pickle(record: Record) -> None:
    body, content_type = codecs.encode(record)

    assert codecs.Decoder(type(record)).decode(body, content_type) == record
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize(
    ('body', 'told'),
    [
        (b'{"id": "one", "account": "ann"}', r'Not a Order: .*`\$\.id`'),
        (b'{"id": 1}', r'Not a Order: .*`account`'),
        (
            b'{"id": 1, "account": "ann", "items": [{"name": "cup", "count": "x"}]}',
            r'\$\.items\[0\]\.count',
        ),
        (b'[1, "ann"]', 'Not a Order'),
    ],
)
def test_a_body_is_validated(body: bytes, told: str) -> None:
    with pytest.raises(errors.InvalidBody, match=told):
        codecs.Decoder(Order).decode(body)


def test_fields_of_later_versions_are_ignored_unless_forbidden() -> None:
    class Strict(Item, forbid_unknown_fields=True):
        pass

    body = b'{"name": "cup", "colour": "red"}'

    assert codecs.Decoder(Item).decode(body) == Item('cup')
    with pytest.raises(errors.InvalidBody, match='colour'):
        codecs.Decoder(Strict).decode(body)


def test_a_field_is_named_by_the_class() -> None:
    assert records.field_of(Order.account) == 'account'
    assert records.field_ref(Order.account) == (Order, 'account')
    assert records.field_ref(Export.country) == (Export, 'country')
    assert records.field_of(Renamed.item_count) == 'item_count'
    assert records.field_of(Struct.account) == 'account'
    assert records.field_of(Slotted.account) == 'account'


def test_an_inherited_field_belongs_to_the_class_that_declares_it() -> None:
    owner, _ = records.field_ref(Export.account)

    assert owner is Order
    assert issubclass(Export, owner)


@pytest.mark.parametrize('key', ['account', None, len, Order, Order(1, 'ann').account])
def test_what_is_no_field_is_a_type_error(key: object) -> None:
    with pytest.raises(TypeError, match=r'Order\.account'):
        records.field_of(key)


def test_validate_finds_what_a_constructor_let_in() -> None:
    order = Order(1, 'ann', items=[Item('cup', 'two')])  # type: ignore[arg-type]  # the test

    with pytest.raises(errors.InvalidBody, match=r'\$\.items\[0\]\.count'):
        order.validate()


@pytest.mark.parametrize(
    'record', [Renamed(1), Measured(datetime.now(UTC), Decimal(1), UUID(int=1))]
)
def test_validate_lets_pass_what_fits(record: Record) -> None:
    record.validate()


class Everything(Record):
    at: datetime
    price: Decimal = Decimal(1)
    item: Item | None = None
    items: dict[str, list[Item]] = {}
    size: Size = Size.SMALL
    body: bytes = b''
    share: float = 1
    whatever: Any = None


@pytest.mark.parametrize(
    ('fields', 'told'),
    [
        ({'at': '2026-01-01T00:00:00Z'}, r'Expected `datetime`, got `str` - at `\$\.at`'),
        ({'price': '1.5'}, r'Expected `Decimal`, got `str` - at `\$\.price`'),
        ({'item': {'name': 'cup'}}, r'Expected `Item`, got `dict` - at `\$\.item`'),
        ({'items': {'a': [{'name': 'cup'}]}}, r'Expected `Item`, got `dict`'),
        ({'size': 'small'}, r'Expected `Size`, got `str` - at `\$\.size`'),
        ({'body': 'YQ=='}, r'Expected `bytes`, got `str` - at `\$\.body`'),
    ],
)
def test_what_stands_in_a_body_for_a_value_is_not_that_value(fields, told) -> None:
    with pytest.raises(errors.InvalidBody, match=told):
        Everything(**{'at': datetime.now(UTC), **fields}).validate()


def test_any_value_is_let_pass_where_any_is_declared() -> None:
    now = datetime.now(UTC)
    for value in (
        now,
        Item('cup'),
        [Item('cup')],
        {'at': now},
        Size.SMALL,
        (1, 2),
        {3},
        Decimal(1),
    ):
        Everything(now, items={'a': [Item('cup')]}, whatever=value).validate()


def test_validate_tells_of_a_value_that_nothing_can_encode() -> None:
    with pytest.raises(errors.InvalidBody, match='Not a Item'):
        Item(object()).validate()  # type: ignore[arg-type]  # the test


def test_with_validation_the_constructor_checks() -> None:
    assert Checked(1, item=Item('cup')).item == Item('cup')
    with pytest.raises(errors.InvalidBody, match=r'\$\.id'):
        Checked('one')  # type: ignore[arg-type]  # the test
    with pytest.raises(errors.InvalidBody, match=r'\$\.item\.count'):
        Checked(1, item=Item('cup', 'x'))  # type: ignore[arg-type]  # the test


def test_validation_is_inherited_and_can_be_put_off() -> None:
    class Child(Checked):
        pass

    with pytest.raises(errors.InvalidBody):
        Child('one')  # type: ignore[arg-type]  # the test
    assert Unchecked('one').id == 'one'  # type: ignore[arg-type, comparison-overlap]  # the test
    assert Item('cup', 'x').count == 'x'  # type: ignore[arg-type, comparison-overlap]  # the test


def test_the_serializer_is_an_option_of_the_class() -> None:
    class Child(Export):
        pass

    assert records.serializer_of(Export) == 'msgpack'
    assert records.serializer_of(Child) == 'msgpack'
    assert records.serializer_of(Order) is None
    assert records.serializer_of(Struct) is None
    assert records.serializer_of(list[Order]) is None


def test_options_of_faust_that_hold_anyway_are_accepted() -> None:
    class Ported(Record, abstract=True, isodates=True, decimals=True, coerce=False):
        id: int

    assert Ported(1).id == 1


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'coerce': True}, 'Ported: coerce=True is not offered: annotate'),
        ({'isodates': False}, 'ISO 8601'),
        ({'polymorphic_fields': True}, 'tag=True'),
        ({'serialiser': 'json'}, 'serialiser'),
    ],
)
def test_other_options_are_a_type_error(options: dict[str, object], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        type(Record)('Ported', (Record,), {}, **options)
