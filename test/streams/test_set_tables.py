"""Tables of sets."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables.sets import split_row
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.window_keys import encode_prefix

GUARANTEES = ['at_least_once', 'exactly_once']


def declare(guarantee: str = 'at_least_once'):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    return app, app.topic('edits', partitions=2), app.SetTable('tags', value_type=str)


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_members_survive(guarantee):
    """What was added and discarded is found after a restart, and after the loss of the stores."""
    app, edits, tags = declare(guarantee)

    @app.agent(edits)
    async def edit(stream):
        async for name, value in stream.items():
            tags[name].add(value) if value[0] != '-' else tags[name].discard(value[1:])

    async with drive(app) as t:
        for name, value in [('a', 'x'), ('a', 'y'), ('b', 'z'), ('a', '-x'), ('b', '-z')]:
            await t.send(edits, value, key=name)
        await t.settle()
        for wiped in (False, True):
            assert tags['a'] == {'y'}
            assert tags['b'] == set()
            assert 'a' in tags
            assert 'b' not in tags
            assert dict(tags.items()) == {'a': {'y'}}
            assert list(tags) == ['a']
            assert len(tags) == 1
            await t.restart(wipe_state=wiped)
        await t.send(edits, 'x', key='a')
        await t.settle()
        assert tags['a'] == {'x', 'y'}


async def test_a_member_is_logged_alone():
    """Adding to a large set logs one record, and adding what is there none."""
    app, edits, tags = declare()

    @app.agent(edits)
    async def edit(stream):
        async for name, values in stream.items():
            tags[name].update(values)

    async with drive(app) as t:
        await t.send(edits, [f'm{n}' for n in range(100)], key='a')
        await t.settle()
        await t.send(edits, ['m1', 'new'], key='a')
        await t.settle()
        assert len(tags['a']) == 101
        assert len(t.read('shop-tags-changelog')) == 101


async def test_a_failed_attempt_leaves_nothing():
    """Members that were added before an error are not there for the next attempt."""
    app, edits, tags = declare()
    seen = []

    @app.agent(edits)
    async def edit(stream):
        async for name, value in stream.items():
            seen.append(tags[name].copy())
            tags[name].add(value)
            assert value in tags[name]
            if len(seen) == 1:
                raise OSError('once')

    async with drive(app) as t:
        await t.send(edits, 'x', key='a')
        await t.settle()
        assert seen == [set(), set()]
        assert tags['a'] == {'x'}


OPERATIONS = {
    'add': lambda s: s.add('n'),
    'discard': lambda s: s.discard('b'),
    'remove': lambda s: s.remove('b'),
    'clear': lambda s: s.clear(),
    'update': lambda s: s.update(['n'], {'m'}),
    'or': lambda s: s.__ior__({'n'}),
    'and': lambda s: s.__iand__({'a', 'z'}),
    'minus': lambda s: s.__isub__({'a'}),
    'difference_update': lambda s: s.difference_update(['a'], ['b']),
    'intersection_update': lambda s: s.intersection_update(['a', 'b'], ['b']),
    'symmetric_difference_update': lambda s: s.symmetric_difference_update(['a', 'n']),
}


@pytest.mark.parametrize('name', OPERATIONS)
async def test_it_does_what_a_set_does(name):
    """Each operation leaves what it leaves of a plain set, and reads are the same."""
    app, edits, tags = declare()
    operation = OPERATIONS[name]
    expected = {'a', 'b', 'c'}
    operation(expected)
    checks = []

    @app.agent(edits)
    async def edit(stream):
        async for _ in stream:
            tags['k'] = ['a', 'b', 'c']
            operation(tags['k'])
            members = tags['k']
            checks.append(members == expected and set(members) == expected)
            checks.append(len(members) == len(expected) and bool(members) == bool(expected))
            checks.append(members.union({'q'}) == expected | {'q'} == members | {'q'})
            checks.append(members.issubset({*expected, 'q'}) and members.issuperset(expected))

    async with drive(app) as t:
        await t.send(edits, 1, key='k')
        await t.settle()
        assert checks == [True] * 4
        assert tags['k'] == expected


async def test_keys_are_deleted_and_replaced():
    """`del`, `pop` and assignment work on whole sets."""
    app, edits, tags = declare()
    popped = []

    @app.agent(edits)
    async def edit(stream):
        async for _ in stream:
            tags['a'] = {'x', 'y'}
            tags['b'] = {'z'}
            tags['a'] = {'y', 'w'}
            popped.append(tags.pop('b'))
            with pytest.raises(KeyError):
                del tags['b']
            popped.append(tags.pop('b', None))
            popped.append(tags.get('b'))

    async with drive(app) as t:
        await t.send(edits, 1)
        await t.settle()
        assert popped == [{'z'}, None, None]
        assert dict(tags.items()) == {'a': {'w', 'y'}}


async def test_writing_outside_agents_is_refused():
    """Where no event is handled, nobody knows the partition."""
    app, edits, tags = declare()

    @app.agent(edits)
    async def edit(stream):
        async for _ in stream:
            tags['a'].add('x')

    async with drive(app) as t:
        await t.send(edits, 1, key='a')
        await t.settle()
        with pytest.raises(errors.OutsideAgent):
            tags['a'].add('y')


@pytest.mark.parametrize('key', [b'', b'\x00', b'a\x00\x01b', b'\x00\xff\x00'])
@pytest.mark.parametrize('member', [b'"x"', b'\x00\x01', b''])
def test_a_row_is_taken_apart(key, member):
    """Whatever is in a key, its member is found behind it."""
    assert split_row(encode_prefix(key) + member) == (key, member)
