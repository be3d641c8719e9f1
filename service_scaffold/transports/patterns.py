"""Names of exchanges, routing keys and patterns: one language on all transports.

A routing key is words joined by dots. In a pattern `*` stands for one word and `#` for zero or
more. A topic exchange matches by pattern, a direct exchange literally, a fanout exchange always.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Generic, TypeVar

EXCHANGE_TYPES = ('topic', 'direct', 'fanout')
_EXCHANGE = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}')
_FORBIDDEN = re.compile(r'[/+#*]')
_FORBIDDEN_IN_PATTERN = re.compile(r'[/+]')

T = TypeVar('T', bound=Hashable)
_CACHE_SIZE = 10_000
_GOOD: set[str] = set()  # routing keys checked before: publishing uses few, and often


def check_exchange(name: str, exchange_type: str = 'topic') -> None:
    """Refuse exchange names and types that not every transport can express.

    Raises:
        ValueError: The name or the type is not allowed.
    """
    _check_name(name, 'an exchange name')
    if exchange_type not in EXCHANGE_TYPES:
        raise ValueError(f'Not an exchange type: {exchange_type!r}; use one of {EXCHANGE_TYPES}')


def check_group(name: str) -> None:
    """Refuse group names that not every transport can express.

    Raises:
        ValueError: It is not allowed.
    """
    _check_name(name, 'a group name')


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not _EXCHANGE.fullmatch(name):
        raise ValueError(
            f'Not {what}: {name!r}; allowed are 1 to 200 letters, digits, `_`, `-` and'
            ' `.`, not beginning with a dot'
        )


def check_routing(routing: str) -> None:
    """Refuse routing keys that hold `/ + # *`, or are longer than 255 bytes.

    Raises:
        ValueError: It cannot be published.
    """
    if routing not in _GOOD:
        _check_routing(routing)
        if len(_GOOD) >= _CACHE_SIZE:
            _GOOD.clear()
        _GOOD.add(routing)


def _check_routing(routing: str) -> None:
    if not isinstance(routing, str) or _FORBIDDEN.search(routing):
        raise ValueError(f'Not a routing key: {routing!r}; words must not contain / + # *')
    _check_length(routing)


def check_pattern(pattern: str, exchange_type: str = 'topic') -> None:
    """Refuse patterns that not every transport can express.

    Raises:
        ValueError: It cannot be subscribed to.
    """
    if not isinstance(pattern, str):
        raise ValueError(f'Not a routing pattern: {pattern!r}; use a string of words by dots')
    if exchange_type == 'fanout':
        return
    if exchange_type == 'direct':
        check_routing(pattern)
        return
    words = pattern.split('.')
    if _FORBIDDEN_IN_PATTERN.search(pattern) or any(
        len(word) > 1 and ('*' in word or '#' in word) for word in words
    ):
        raise ValueError(
            f'Not a routing pattern: {pattern!r}; `*` and `#` stand for whole words, and words'
            ' must not contain / or +'
        )
    _check_length(pattern)


def _check_length(text: str) -> None:
    if len(text.encode()) > 255:
        raise ValueError(f'Too long for a routing key: {text[:40]!r}…; the limit is 255 bytes')


def matches(pattern: str, routing: str, exchange_type: str = 'topic') -> bool:
    """Tell whether one pattern matches one routing key."""
    matcher: Matcher[bool] = Matcher()
    matcher.add(pattern, True, exchange_type)
    return bool(matcher.match(routing))


class _Node(Generic[T]):
    __slots__ = ('children', 'items', 'swallows')

    def __init__(self, swallows: bool = False) -> None:
        self.swallows = swallows  # a `#`: any further word leads to itself
        self.children: dict[str, _Node[T]] = {}
        self.items: list[T] = []


class Matcher(Generic[T]):
    """A set of patterns, each with an item; finds the items whose patterns match a routing key.

    An item that was added under several patterns is found once. Items keep their order of adding.
    Answers are cached, so that a key seen before costs one dict look-up.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._order: dict[T, int] = {}
        self._uses: dict[T, int] = {}
        self._literal: dict[str, list[T]] = {}
        self._all: list[T] = []
        self._count = 0
        self.cache: dict[str, tuple[T, ...]] = {}

    def add(self, pattern: str, item: T, exchange_type: str = 'topic') -> None:
        """Add `item` under `pattern`."""
        self._place(pattern, exchange_type).append(item)
        self._count += 1
        self._order.setdefault(item, self._count)
        self._uses[item] = self._uses.get(item, 0) + 1
        self.cache.clear()

    def remove(self, pattern: str, item: T, exchange_type: str = 'topic') -> None:
        """Remove what `add` with the same arguments added; ValueError if it did not."""
        self._place(pattern, exchange_type).remove(item)
        self.cache.clear()
        self._uses[item] -= 1
        if not self._uses[item]:
            del self._uses[item], self._order[item]
        if exchange_type == 'topic':
            _prune(self._root, _words(pattern))
        elif exchange_type == 'direct' and not self._literal[pattern]:
            del self._literal[pattern]

    def match(self, routing: str) -> tuple[T, ...]:
        """Return the items whose patterns match, in the order in which they were added."""
        found = self.cache.get(routing)
        if found is None:
            if len(self.cache) >= _CACHE_SIZE:
                self.cache.clear()
            found = self.cache[routing] = self._search(routing)
        return found

    def _place(self, pattern: str, exchange_type: str) -> list[T]:
        if exchange_type == 'fanout':
            return self._all
        if exchange_type == 'direct':
            return self._literal.setdefault(pattern, [])
        node = self._root
        for word in _words(pattern):
            node = node.children.setdefault(word, _Node(word == '#'))
        return node.items

    def _search(self, routing: str) -> tuple[T, ...]:
        found = set(self._all)
        found.update(self._literal.get(routing, ()))
        nodes = _with_hashes({id(self._root): self._root})
        for word in _words(routing):
            following: dict[int, _Node[T]] = {}
            for node in nodes.values():
                if node.swallows:
                    following[id(node)] = node
                for step in (word, '*'):
                    if (child := node.children.get(step)) is not None:
                        following[id(child)] = child
            nodes = _with_hashes(following)
        for node in nodes.values():
            found.update(node.items)
        return tuple(sorted(found, key=self._order.__getitem__))


def _with_hashes(nodes: dict[int, _Node[T]]) -> dict[int, _Node[T]]:
    """Add what can be reached without a word: a `#` stands for zero words, too."""
    todo = list(nodes.values())
    while todo:
        child = todo.pop().children.get('#')
        if child is not None and id(child) not in nodes:
            nodes[id(child)] = child
            todo.append(child)
    return nodes


def _words(text: str) -> list[str]:
    return text.split('.') if text else []  # as in RabbitMQ, an empty key has no words


def _prune(node: _Node[T], words: list[str]) -> None:
    if not words:
        return
    child = node.children[words[0]]
    if len(words) > 1:
        _prune(child, words[1:])
    if not child.items and not child.children:
        del node.children[words[0]]
