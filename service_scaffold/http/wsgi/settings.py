"""The options of mounted WSGI applications."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from service_scaffold import options
from service_scaffold.options import values


def _threads(text: str) -> int:
    """A whole number from 1 to 1024."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError(f'not a number of threads: {text!r}; 1 to 1024')
    return number


OPTIONS = (
    options.Option(
        'wsgi-threads',
        'WSGI requests that run at the same time [%(default)s]',
        type=_threads,
        default=16,
        metavar='N',
    ),
    options.Option(
        'wsgi-wait-s',
        'Seconds that a request waits for a free thread before it is a 503 [%(default)s]',
        type=values.seconds,
        default=10.0,
        metavar='S',
    ),
    options.Option(
        'wsgi-stall-s',
        'Seconds without a byte after which a client that sends or reads a body is given up'
        ' [%(default)s]',
        type=values.limit_s,
        default=60.0,
        metavar='S',
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of mounted WSGI applications to `parser`."""
    options.add_options(parser, OPTIONS, 'WSGI')


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options say.

    Attributes:
        threads: WSGI requests that run at the same time.
        wait_s: How long a request waits for a thread.
        stall_s: How long one read or write of a body may take.
        debug: Whether problems tell internals.
    """

    threads: int
    wait_s: float
    stall_s: float
    debug: bool

    @classmethod
    def read(cls, config: Mapping[str, object]) -> Self:
        """Take the options from a configuration; those that it lacks have their default."""
        found = {option.key: config.get(option.key, option.default) for option in OPTIONS}
        return cls(
            threads=cast(int, found['wsgi_threads']),
            wait_s=cast(float, found['wsgi_wait_s']),
            stall_s=cast(float, found['wsgi_stall_s']),
            debug=bool(config.get('debug', False)),
        )
