"""What the options of streams may be: one function for each kind of value."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from service_scaffold import errors
from service_scaffold.options import values

LOG_SCHEMES = ('kafka', 'kafka+ssl', 'memory')
STORE_SCHEMES = ('memory', 'sqlite', 'rocksdb')


def count(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, 1)


def count_or_none(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0)


def acks(text: str) -> int:
    """-1 (or `all`), 0 or 1."""
    known = {'-1': -1, 'all': -1, '0': 0, '1': 1}
    if text not in known:
        raise argparse.ArgumentTypeError(f'not a number of confirms: {text!r}; -1, 0 or 1')
    return known[text]


def log_url(text: str) -> str:
    """The URL of a log; several of one cluster, by comma or semicolon, become one."""
    first, *others = [part.strip() for part in text.replace(';', ',').split(',')]
    scheme, separator, _ = first.partition('://')
    if not separator:  # as in Faust, where it may be left out
        scheme, first = 'kafka', f'kafka://{first}'
    if scheme not in LOG_SCHEMES:
        raise argparse.ArgumentTypeError(
            f'{scheme}:// has no log; streams need kafka://, kafka+ssl:// or memory://'
        )
    rest = [part.removeprefix(f'{scheme}://') for part in others]
    if any('://' in part for part in rest):
        raise argparse.ArgumentTypeError('not the brokers of one cluster: their schemes differ')
    return values.event_bus_url(','.join([first, *rest]))


def store_url(text: str) -> str:
    """The URL of a store; its scheme is enough."""
    scheme = text.partition(':')[0]
    if scheme not in STORE_SCHEMES:
        known = ', '.join(f'{known}://' for known in STORE_SCHEMES)
        raise argparse.ArgumentTypeError(f'not a store: {text!r}; one of {known}')
    return text if '://' in text else f'{scheme}://'


def credentials(text: str) -> str:
    """User and password, joined by the first colon."""
    user, colon, _ = text.partition(':')
    if not user or not colon:
        raise argparse.ArgumentTypeError('not USER:PASSWORD')
    return text


def resolve(option: str, value: Any) -> Any:
    """Return what an import path names; anything but a text is itself.

    Raises:
        ConfigError: There is nothing of that name.
    """
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(':')
    try:
        found: Any = importlib.import_module(module)
        for part in name.split('.') if name else ():
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.ConfigError(
            f'option {option!r}: nothing is found at {value!r}, which must be like'
            f' package.module:NAME: {error}'
        ) from error
    return found


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f'not a whole number: {text!r}; {least} or more')
    return value
