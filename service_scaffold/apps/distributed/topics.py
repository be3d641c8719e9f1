"""Topics: one string for exchange and routing.

`plant` is the exchange `plant`; `plant/tank/level` has the routing `tank.level` as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from service_scaffold.transports import patterns


def split(topic: str) -> tuple[str, str]:
    """Return exchange and routing key to publish with; the routing may be empty.

    Raises:
        ValueError: It is no topic, or one that only a subscription can have.
    """
    exchange, routing = _parts(topic)
    patterns.check_routing(routing)
    return exchange, routing


def split_pattern(topic: str) -> tuple[str, str]:
    """Return exchange and routing pattern to subscribe with; without a routing all of it.

    Raises:
        ValueError: It is no topic.
    """
    exchange, routing = _parts(topic)
    patterns.check_pattern(routing)
    return exchange, routing or '#'


def join(exchange: str, routing: str) -> str:
    """Return the topic of an exchange and a routing key."""
    return f'{exchange}/{routing.replace(".", "/")}' if routing else exchange


def listed(topics: str | Iterable[str]) -> tuple[str, ...]:
    """Return the topics of a subscription, each once; what another one covers is left out.

    Raises:
        ValueError: There is none, or one that is no topic.
        TypeError: They are neither a string nor several.
    """
    if isinstance(topics, str):
        topics = (topics,)
    if not isinstance(topics, Iterable):
        raise TypeError(f'topics must be a string or a list of strings, got {topics!r}')
    found: dict[tuple[str, str], str] = {split_pattern(topic): topic for topic in topics}
    if not found:
        raise ValueError('no topics: name at least one')
    return tuple(
        topic
        for (exchange, pattern), topic in found.items()
        if pattern == '#' or (exchange, '#') not in found
    )


def _parts(topic: str) -> tuple[str, str]:
    if not isinstance(topic, str):
        raise ValueError(f'Not a topic: {topic!r}; write exchange or exchange/ro/uting')
    exchange, slash, rest = topic.partition('/')
    patterns.check_exchange(exchange)
    words = rest.replace('.', '/').split('/') if slash else []
    if '+' in words:
        raise ValueError(f'Not a topic: {topic!r}; one word is *, and any number of words #')
    if not all(words):
        raise ValueError(f'Not a topic: {topic!r}; it has an empty word')
    return exchange, '.'.join(words)
