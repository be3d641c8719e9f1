"""What an option's text may be: one function for each kind of value.

Each takes the text (or an already converted default) and returns the value, or raises
`argparse.ArgumentTypeError` with a message that holds no credentials.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import re

from service_scaffold import errors
from service_scaffold.options import secrets
from service_scaffold.transports import address

_ORIGIN = re.compile(r'[a-z][a-z0-9+.-]*://[^\s/?#@]+', re.IGNORECASE)
_NAME_REFUSED = re.compile(r'[\s/?#%{}+*\\\x00-\x1f]')


def port(text: str) -> int:
    """0 to 65535; 0 is any free port."""
    return _whole(text, 'a port', 0, 65535)


def broker_port(text: str) -> int:
    """1 to 65535."""
    return _whole(text, 'a port', 1, 65535)


def expiry(text: str) -> int:
    """Whole seconds that fit MQTT's session expiry."""
    return _whole(text, 'whole seconds', 0, 2**32 - 1)


def seconds(text: str) -> float:
    """A finite number of seconds, not negative."""
    return _number(text, 'seconds', minimum=0.0)


def limit_s(text: str) -> float:
    """A finite number of seconds above 0: nothing waits without a limit."""
    return _number(text, 'seconds', above=0.0)


def lease_s(text: str) -> float:
    """Take a number of seconds, at least one: brokers count in whole seconds."""
    return _number(text, 'seconds', minimum=1)


def retention_s(text: str) -> int:
    """Take whole seconds, an hour at least."""
    return _whole(text, 'seconds', 3600, 2**31 - 1)


def replica(text: str) -> int:
    """Take the number of a replica, from 1."""
    return _whole(text, 'a replica', 1, 2**31 - 1)


def mebibytes(text: str) -> float:
    """A finite number above 0."""
    return _number(text, 'MiB', above=0.0)


def service_name(text: str) -> str:
    """A name that can stand in a URL path, a topic and a queue name."""
    if not text or text in ('.', '..') or _NAME_REFUSED.search(text):
        raise argparse.ArgumentTypeError(
            f'not a service name: {text!r}; it is part of URLs and topics, so it has no spaces'
            ' and none of / ? # % + * { } \\'
        )
    return text


def level(text: str) -> str:
    """A log level in small letters, however it was written."""
    return text.lower()


def root_path(text: str) -> str:
    """A path prefix with a leading and without a trailing slash; '' for none."""
    path = text.strip('/')
    if re.search(r'[\s?#]|://', path):
        raise argparse.ArgumentTypeError(f'not a path: {secrets.mask_text(text)!r}')
    return f'/{path}' if path else ''


def networks(text: str) -> list[str]:
    """Comma-separated addresses and networks, as a list of networks."""
    try:
        return [str(ipaddress.ip_network(part, strict=False)) for part in _parts(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'not a network: {error}') from error


def origins(text: str) -> list[str]:
    """Comma-separated origins, `*` or `null`, as a list; '' is the empty list.

    They are in small letters, as browsers send them.
    """
    found = [part.rstrip('/').lower() for part in _parts(text)]
    for origin in found:
        if origin not in ('*', 'null') and not _ORIGIN.fullmatch(origin):
            raise argparse.ArgumentTypeError(
                f'not an origin: {secrets.mask_text(origin)!r}; write scheme://host[:port]'
            )
    return found


def existing_file(text: str) -> str:
    """The path of a file that can be read."""
    if not os.path.isfile(text) or not os.access(text, os.R_OK):
        raise argparse.ArgumentTypeError(f'no file that can be read at {text!r}')
    return text


def host(text: str) -> str:
    """A host name or address without port, user or path."""
    if not text or re.search(r'[\s/@?#]', text):
        raise argparse.ArgumentTypeError('not a host name')
    return text


def event_bus_url(text: str) -> str:
    """The URL of a broker, with a scheme that we speak."""
    try:
        parsed = address.Address.parse(text)
    except errors.ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if parsed.scheme not in address.DEFAULT_PORTS:
        known = ', '.join(f'{scheme}://' for scheme in sorted(address.DEFAULT_PORTS))
        raise argparse.ArgumentTypeError(f'unknown scheme {parsed.scheme!r}; one of {known}')
    if re.search(r'\s', text):
        raise argparse.ArgumentTypeError('the URL holds a space')
    if '@' in (parsed.path or ''):
        raise argparse.ArgumentTypeError(
            "the URL has a '/' before its '@'; percent-encode user and password"
        )
    return text


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(',') if part.strip()]


def _whole(text: str, what: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f'not {what}: {text!r}; {least} to {most}')
    return value


def _number(text: str, unit: str, *, minimum: float = -math.inf, above: float = -math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < minimum or value <= above:
        bound = f'{minimum:g} or more' if math.isfinite(minimum) else f'more than {above:g}'
        raise argparse.ArgumentTypeError(f'not a number of {unit}: {text!r}; {bound}')
    return value
