"""Broker addresses: parsed once, and never shown with their credentials."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote

from service_scaffold import errors

DEFAULT_PORTS = {
    'amqp': 5672,
    'amqps': 5671,
    'kafka': 9092,
    'kafka+ssl': 9093,
    'mqtt': 1883,
    'mqtts': 8883,
    'memory': 0,
}
TLS_SCHEMES = frozenset({'amqps', 'kafka+ssl', 'mqtts'})
PATH_SCHEMES = frozenset({'amqp', 'amqps'})
QUERY_KEYS: dict[str, tuple[str, ...]] = {
    'amqp': ('auth', 'heartbeat'),
    'amqps': ('auth', 'heartbeat'),
    'kafka': ('sasl',),
    'kafka+ssl': ('sasl',),
}
"""What may stand after `?`. Schemes that are not ours (`transports.register`) check their own."""


@dataclass(frozen=True)
class Address:
    """Where a broker is and who we are there. `str()` leaves the credentials out.

    Attributes:
        scheme: Which transport.
        hosts: `(host, port)` pairs, at least one; a name for `memory`.
        path: What follows the host, decoded, without the first slash (AMQP: the virtual host,
            None when there is no slash at all).
        query: Options after `?`.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `scheme://[user:password@]host[:port][,host[:port]…][/path][?key=value]`.

        Raises:
            ConfigError: It is not of that form, or holds what its scheme does not know. The
                message never holds the credentials.
        """
        scheme, separator, rest = url.partition('://')
        scheme = scheme.lower()
        if not separator or not scheme:
            raise errors.ConfigError(
                'Not an event bus URL: it must look like scheme://host:port, for example'
                ' amqp://localhost:5672 or memory://'
            )
        rest, _, query = rest.partition('?')
        authority, slash, path = rest.partition('/')
        credentials, at, location = authority.rpartition('@')
        if not at and ('@' in path or '@' in query):  # else a part of the password would be a host
            raise errors.ConfigError(
                f'The credentials in the {scheme}:// event bus URL hold a character that ends them:'
                ' write / as %2F, ? as %3F and @ as %40'
            )
        user, colon, password = credentials.partition(':')
        options = dict(parse_qsl(query, keep_blank_values=True))
        _check_known(scheme, path, options)
        return cls(
            scheme=scheme,
            hosts=tuple(_host(part, scheme) for part in location.split(',')),
            user=unquote(user) if at else None,
            password=unquote(password) if colon else None,
            path=unquote(path) if slash else None,
            query=MappingProxyType(options),
        )

    @property
    def tls(self) -> bool:
        """Whether the scheme asks for TLS."""
        return self.scheme in TLS_SCHEMES

    @property
    def host(self) -> str:
        """The first host."""
        return self.hosts[0][0]

    @property
    def port(self) -> int:
        """The first host's port."""
        return self.hosts[0][1]

    def __str__(self) -> str:
        if self.scheme == 'memory':
            return f'memory://{self.host}'
        hosts = ','.join(f'[{h}]:{p}' if ':' in h else f'{h}:{p}' for h, p in self.hosts)
        path = f'/{self.path}' if self.path else ''
        return f'{self.scheme}://{hosts}{path}'


def _check_known(scheme: str, path: str, options: Iterable[str]) -> None:
    """Raise ConfigError for what would be ignored, and was meant to have an effect."""
    if scheme not in DEFAULT_PORTS:
        return
    known = QUERY_KEYS.get(scheme, ())
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f'; did you mean {close[0]!r}?' if close else ';'
            allowed = f'known are: {", ".join(known)}' if known else 'it takes none'
            raise errors.ConfigError(
                f'Unknown option {key!r} in the {scheme}:// event bus URL{hint} {allowed}'
            )
    if path and scheme not in PATH_SCHEMES:
        raise errors.ConfigError(
            f'The {scheme}:// event bus URL has a path, and takes none: nothing may follow the /'
            ' after the host'
        )


def _host(text: str, scheme: str) -> tuple[str, int]:
    default = DEFAULT_PORTS.get(scheme, 0)
    if text.startswith('['):  # an IPv6 address
        host, _, tail = text[1:].partition(']')
        port = tail.removeprefix(':')
    else:
        host, _, port = text.partition(':')
    if scheme == 'memory':
        return host, 0
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise errors.ConfigError(
            f'Not a port number after host {host!r} in the {scheme}:// event bus URL'
        )
    return host or 'localhost', int(port) if port else default
