"""MQTT's names: exchanges, routing keys and patterns as topics and topic filters, and back.

`plant` and `tank.level` are the topic `plant/tank/level`; an empty routing key is the bare topic
`plant`. A level that holds a dot is a word that holds `%2E`, in both directions. `*` is `+`, a
trailing `#` is `#`; what follows any other `#` is filtered by us (`TopicFilter.exact`).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from service_scaffold import errors
from service_scaffold.transports.base import Binding

DEAD_LETTERS = '.dlq'
"""What the exchange of an exchange's dead letters ends with."""

MAX_IDENTIFIER = 268_435_455
_MAX_ID_LENGTH = 200
_MAX_LEVELS = 8
_FORBIDDEN = re.compile('[/+#]')
# What MQTT forbids in its strings or lets a broker close the connection for (Mosquitto does):
# controls, surrogates, non-characters; and the byte order mark, which some clients refuse.
_UNSAFE = re.compile(
    '[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufeff'
    + ''.join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + ']'
)


def is_safe(text: str) -> bool:
    """Tell whether MQTT can carry `text` as a string, its length apart."""
    return (text.isascii() and text.isprintable()) or not _UNSAFE.search(text)


@dataclass(frozen=True, slots=True)
class TopicFilter:
    """What is subscribed to at the broker for a binding.

    Attributes:
        text: The filter, without `$share`.
        pattern: What the filter matches, as a pattern of routing keys.
        exact: It matches what the binding does; else it matches more, and we filter.
    """

    text: str
    pattern: str
    exact: bool


def topic_of(exchange: str, routing: str) -> str:
    """Return the topic of a routing key.

    Raises:
        BindingRefused: It holds characters that an MQTT topic cannot.
    """
    if not routing:
        return exchange
    if _FORBIDDEN.search(routing) or not is_safe(routing):
        raise errors.BindingRefused(
            f'{exchange}/{routing!r} cannot be an MQTT topic: control characters and / + # are not'
            ' allowed'
        )
    if '%' not in routing:
        return f'{exchange}/{routing.replace(".", "/")}'
    return '/'.join([exchange, *(word.replace('%2E', '.') for word in routing.split('.'))])


def routing_of(topic: str) -> tuple[str, str]:
    """Return exchange and routing key of a topic."""
    exchange, _, rest = topic.partition('/')
    if '.' in rest:
        rest = rest.replace('.', '%2E')
    return exchange, rest.replace('/', '.')


def filter_of(binding: Binding) -> TopicFilter:
    """Return what to subscribe to for a binding.

    Raises:
        BindingRefused: It holds characters that MQTT cannot carry.
    """
    pattern = '#' if binding.exchange_type == 'fanout' else binding.pattern
    words = pattern.split('.') if pattern else []
    exact = True
    if '#' in words:
        cut = words.index('#')
        exact = cut == len(words) - 1
        words = [*words[:cut], '#']
    elif binding.exchange.endswith(DEAD_LETTERS):
        # A dead letter's topic ends with its message id, of which its routing knows nothing.
        exact = False
        words.append('#')
    levels = ['+' if word == '*' else word.replace('%2E', '.') for word in words]
    text = '/'.join([binding.exchange, *levels])
    if not is_safe(text):
        raise errors.BindingRefused(
            f'{binding.exchange}/{pattern!r} cannot be an MQTT topic filter: control characters'
            ' are not allowed'
        )
    return TopicFilter(text, '.'.join(words), exact)


def dead_letter_topic(exchange: str, routing: str, message_id: str) -> str:
    """Return where the one retained message of a dead letter stands."""
    level = quote(message_id, safe='') or '_'
    if len(level) > _MAX_ID_LENGTH:
        level = hashlib.sha256(message_id.encode('utf-8', 'surrogateescape')).hexdigest()
    return f'{topic_of(exchange + DEAD_LETTERS, routing)}/{level}'


def share(group: str, text: str) -> str:
    """Return the filter by which members of a group share what `text` matches."""
    return f'$share/{quote(group, safe="")}/{text}'


def session_id(name: str, instance: str, group: str, exchange: str) -> str:
    """Return the client id of a group's kept session: the same in each life of an instance.

    Dots inside the parts are escaped, so that no two services share an id by accident: the
    broker would take the session from one and give it to the other.
    """
    parts = '.'.join(quote(part, safe='').replace('.', '%2E') for part in (name, instance, group))
    return f'{parts}@{exchange}'


def claim_topic(name: str, client_id: str) -> str:
    """Return where whoever opens a kept session says so, to a process that uses it already."""
    return f'{quote(name, safe="")}.sessions/{client_id}'


def identifier_of(text: str) -> int:
    """Return the subscription identifier of a filter, the same in each process and version."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % MAX_IDENTIFIER + 1


def filters_matching(topic: str) -> Iterator[str]:
    """Yield every filter of the topic's exchange that matches it; none for very deep topics."""
    exchange, *levels = topic.split('/')
    if len(levels) > _MAX_LEVELS:
        return
    for length in range(len(levels) + 1):
        for choice in itertools.product(*((level, '+') for level in levels[:length])):
            yield '/'.join([exchange, *choice, '#'])
            if length == len(levels):
                yield '/'.join([exchange, *choice])
