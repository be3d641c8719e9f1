"""The pattern language, against a reference that is too simple to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold.transports import patterns
from service_scaffold.transports.patterns import Matcher, matches

WORDS = st.sampled_from(['a', 'b', 'c', ''])
ROUTINGS = st.lists(WORDS, max_size=5).map('.'.join)
PATTERNS = st.lists(st.one_of(WORDS, st.sampled_from(['*', '#'])), max_size=5).map('.'.join)


def naive(pattern: list[str], routing: list[str]) -> bool:
    """Match word by word, trying everything."""
    if not pattern:
        return not routing
    if pattern[0] == '#':
        return any(naive(pattern[1:], routing[taken:]) for taken in range(len(routing) + 1))
    return bool(routing) and pattern[0] in ('*', routing[0]) and naive(pattern[1:], routing[1:])


def words(text: str) -> list[str]:
    return text.split('.') if text else []


@given(PATTERNS, ROUTINGS)
def test_one_pattern_matches_as_the_reference_does(pattern: str, routing: str) -> None:
    assert matches(pattern, routing) == naive(words(pattern), words(routing))


@given(st.lists(st.tuples(PATTERNS, st.booleans()), max_size=12), ROUTINGS)
def test_a_set_of_patterns_finds_each_item_once_in_order_after_some_were_removed(
    entries: list[tuple[str, bool]], routing: str
) -> None:
    matcher: Matcher[int] = Matcher()
    for item, (pattern, _) in enumerate(entries):
        matcher.add(pattern, item)
        matcher.add('#.z', item)
    matcher.match(routing)
    for item, (pattern, stays) in enumerate(entries):
        if not stays:
            matcher.remove(pattern, item)
    expected = [
        item
        for item, (pattern, stays) in enumerate(entries)
        if stays and naive(words(pattern), words(routing))
    ]
    assert list(matcher.match(routing)) == expected


def test_direct_is_literal_and_fanout_always() -> None:
    assert matches('a.b', 'a.b', 'direct')
    assert not matches('a.b', 'a.c', 'direct')
    assert matches('whatever', 'a.b', 'fanout')


def test_what_was_removed_leaves_nothing_behind() -> None:
    matcher: Matcher[str] = Matcher()
    for kind in patterns.EXCHANGE_TYPES:
        matcher.add('a.b', 'item', kind)
    for kind in patterns.EXCHANGE_TYPES:
        matcher.remove('a.b', 'item', kind)
    assert matcher.match('a.b') == ()
    assert vars(matcher)['_order'] == vars(matcher)['_uses'] == vars(matcher)['_literal'] == {}
    assert vars(matcher)['_root'].children == {}


def test_removing_what_was_not_added_is_a_value_error() -> None:
    with pytest.raises(ValueError, match='not in list'):
        Matcher[str]().remove('a', 'item')


def test_ten_thousand_patterns_are_matched_in_no_time() -> None:
    import time

    matcher: Matcher[int] = Matcher()
    for number in range(10_000):
        matcher.add(f'plant.{number}.*.#', number)
    began = time.perf_counter()
    for number in range(100):
        assert matcher.match(f'plant.{number}.level.now') == (number,)
    assert time.perf_counter() - began < 0.1


@pytest.mark.parametrize('routing', ['a/b', 'a+', '#', 'a.*', 'x' * 256, 'ü' * 128, 3, '\ud800'])
def test_a_routing_key_that_not_all_have_is_refused(routing: str) -> None:
    for _ in range(2):  # the second time, too
        with pytest.raises(ValueError):  # noqa: PT011 - one of several texts
            patterns.check_routing(routing)


@pytest.mark.parametrize('routing', ['', 'a', 'a.b', 'a..b', 'ü.%2E', 'x' * 255, '$x', 'a b'])
def test_other_routing_keys_are_fine(routing: str) -> None:
    patterns.check_routing(routing)


def test_a_fanout_pattern_may_be_anything() -> None:
    patterns.check_pattern('a/+/#b', 'fanout')
    with pytest.raises(ValueError, match='routing key'):
        patterns.check_pattern('a.*', 'direct')
