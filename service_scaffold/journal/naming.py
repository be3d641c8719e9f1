"""Names that a log takes for its topics."""

from __future__ import annotations

import re

from service_scaffold import errors

MAX_LENGTH = 249
_LEGAL = re.compile(r'[A-Za-z0-9._-]+')


def check_topic_name(name: str) -> None:
    """Check the name of a topic: what is wrong would be found by the broker alone, and for ever.

    The same names are taken on every log, so that what runs in memory runs on Kafka.

    Raises:
        ConfigError: A broker refuses such a name.
    """
    if _LEGAL.fullmatch(name) is None or name in ('.', '..') or len(name) > MAX_LENGTH:
        raise errors.ConfigError(
            f'not a name for a topic: {name!r}; it is made of letters a to z, digits, . _ and -,'
            f' and has at most {MAX_LENGTH} of them'
        )
