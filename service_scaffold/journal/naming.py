"""Names that a log takes for its topics."""

from __future__ import annotations

import re

from service_scaffold import errors

MAX_LENGTH = 249
_LEGAL = re.compile(r'[A-Za-z0-9._-]+')


def is_topic_name(name: str) -> bool:
    """Tell whether a broker takes a name."""
    legal = _LEGAL.fullmatch(name) is not None and name not in ('.', '..')
    return legal and len(name) <= MAX_LENGTH


def check_topic_name(name: str, made: str = '') -> None:
    """Check the name of a topic: what is wrong would be found by the broker alone, and for ever.

    The same names are taken on every log, so that what runs in memory runs on Kafka.

    Args:
        made: Of a name that nobody has given: what it is made for, and what can be done about it.

    Raises:
        ConfigError: A broker refuses such a name.
    """
    if not is_topic_name(name):
        reason = f' ({made})' if made else ''
        raise errors.ConfigError(
            f'not a name for a topic: {name!r}{reason}; it is made of letters a to z, digits, . _'
            f' and -, and has at most {MAX_LENGTH} of them, not {len(name)}'
        )
