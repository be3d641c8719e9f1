"""A table as a mapping: what `dict` does, as far as values are bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.topology import Topology


async def within_an_agent(use: Callable[[Any], Any], kind: str = 'Table', **options: Any) -> Any:
    """Return what a function makes of a table while an event is handled."""
    app = Topology(StreamSettings('shop'))
    table = getattr(app, kind)('things', **options)
    runs = app.topic('runs', partitions=1)
    found: list[Any] = []

    @app.agent(runs)
    async def run(stream):
        async for _ in stream:
            found.append(use(table))

    async with drive(app) as t:
        await t.send(runs, 1)
        await t.settle()
    return found[0]


@pytest.mark.parametrize('default', [[], {}, list, dict])
async def test_a_default_belongs_to_one_key_only(default: Any) -> None:
    """Who changes the default that he was given changes nobody else's, nor the table's."""

    def use(table: Table) -> Any:
        first = table['a']
        first.update(x=1) if isinstance(first, dict) else first.append(1)
        return table['b'], table['a'], 'a' in table

    empty = default() if callable(default) else type(default)()
    assert await within_an_agent(use, default=default) == (empty, empty, False)


async def test_a_mutable_value_is_written_by_assigning_it() -> None:
    def use(table: Table) -> Any:
        seen = table['a']
        seen.append(1)
        table['a'] = seen
        table['b'] += [2]
        return dict(table)

    assert await within_an_agent(use, default=list) == {'a': [1], 'b': [2]}


async def test_setdefault_without_a_value_stores_none() -> None:
    """None is no value of a table; asking for it is no mistake either."""

    def use(table: Table) -> Any:
        return table.setdefault('a'), 'a' in table, table.setdefault('a', 5), table.setdefault('a')

    assert await within_an_agent(use) == (None, False, 5, 5)


async def test_pop_takes_its_default_by_name_too() -> None:
    def use(table: Table) -> Any:
        table['a'] = 1
        with pytest.raises(KeyError):
            table.pop('b')
        return table.pop('a', default=7), table.pop('a', default=7), table.pop('a', None)

    assert await within_an_agent(use, default=int) == (1, 7, None)


async def test_keys_may_be_deleted_and_added_while_iterating() -> None:
    """What is iterated over are the keys of the moment when that began."""

    def use(table: Table) -> Any:
        table.update({str(n): n for n in range(5)})
        for key in table:
            del table[key]
            table[f'{key}{key}'] = 1
        return sorted(table)

    assert await within_an_agent(use) == ['00', '11', '22', '33', '44']


@pytest.mark.parametrize(
    ('key_type', 'key', 'comes_back'),
    [
        (None, 1, '1'),
        (None, (1, 'a'), '[1,"a"]'),
        (None, b'\xff\x00', b'\xff\x00'),
        (None, '', ''),
        (int, 1, 1),
        (tuple[int, str], (1, 'a'), (1, 'a')),
        (bytes, b'ab', b'ab'),
    ],
)
async def test_a_key_comes_back_as_its_declared_type(key_type, key, comes_back) -> None:
    def use(table: Table) -> Any:
        table[key] = 'x'
        return table[key], key in table, list(table)

    assert await within_an_agent(use, key_type=key_type) == ('x', True, [comes_back])


# Of sets


async def test_popitem_of_sets_returns_what_was_in_it() -> None:
    def use(table: Any) -> Any:
        table['a'].update({1, 2})
        with_members = table.popitem()
        with pytest.raises(KeyError):
            table.popitem()
        return with_members

    assert await within_an_agent(use, 'SetTable') == ('a', {1, 2})


async def test_setdefault_of_sets() -> None:
    def use(table: Any) -> Any:
        assert table.setdefault('a', {1}) == {1}
        assert table.setdefault('a', {2}) == {1}
        return set(table.setdefault('b'))

    assert await within_an_agent(use, 'SetTable') == set()


async def test_members_are_what_a_set_could_hold() -> None:
    """A tuple stays one, also where the codec knows lists only; what has no hash is refused."""

    def use(table: Any) -> Any:
        table['a'].add((1, (2, 3)))
        with pytest.raises(TypeError, match='unhashable'):
            table['a'].add([1])
        return (1, (2, 3)) in table['a'], table['a'].copy(), dict(table.items())

    member = (1, (2, 3))
    assert await within_an_agent(use, 'SetTable') == (True, {member}, {'a': {member}})
