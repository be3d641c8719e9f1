"""Where the bus is, and what is subscribed to there: each configuration makes sockets."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import quote

from service_scaffold import options
from service_scaffold.apps.distributed import topics as names
from service_scaffold.apps.distributed.bus import BusSocket
from service_scaffold.apps.distributed.message import TopicMessage
from service_scaffold.transports import patterns


@dataclass(frozen=True, kw_only=True)
class BusConfig:
    """A bus by its URL; what all kinds of bus have.

    Args:
        url: Where it is, as in `--eventbus-url`.
        topics: What is subscribed to: one topic, or several.
        group: Whose instances share the messages, at least once; None: each sees them all.
        name: Name of the service.
        instance: Name of this instance, unique and stable; None is the host's.
        content_type: What values are encoded as; None is JSON.
        ca: PEM file of the authorities to trust; None means the system's.
        cert: PEM file with our certificate.
        key: PEM file with our private key.

    Raises:
        TypeError: An unknown name; the message has the nearest.
        ValueError: A topic or the group is none.
    """

    url: str = field(default='memory://', repr=False)
    topics: str | Sequence[str] = ()
    group: str | None = None
    name: str = 'application'
    instance: str | None = None
    content_type: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __new__(cls, *positions: Any, **given: Any) -> Self:
        cls._check_names(given)
        return super().__new__(cls)

    @classmethod
    def _check_names(cls, given: Iterable[str]) -> None:
        known = [each.name for each in dataclasses.fields(cls) if each.init]
        for name in given:
            if name not in known:
                raise TypeError(f'{cls.__name__} has no {name!r}{options.nearest(name, known)}')

    def __post_init__(self) -> None:
        if self.group is not None:
            patterns.check_group(self.group)
        given = names.listed(self.topics) if self.topics else ()
        object.__setattr__(self, 'topics', given)

    def keywords(self) -> dict[str, Any]:
        """Return it as options of a service."""
        return {
            'eventbus_url': self.url,
            'eventbus_ca': self.ca,
            'eventbus_cert': self.cert,
            'eventbus_key': self.key,
        }

    def create_socket(self, queue: asyncio.Queue[TopicMessage[Any]] | None = None) -> BusSocket:
        """Return a socket with connections of its own, to be entered with `async with`.

        Args:
            queue: Receives the messages of `topics`. When it is full, no more is taken from the
                bus: a group's messages wait there, of a live view 1000 wait here and then the
                oldest goes, with a warning.

        Raises:
            ConfigError: The URL is none, or a file cannot be read.
        """
        given = {**self.keywords(), 'name': self.name, 'instance': self.instance}
        return BusSocket(
            given, tuple(self.topics), self.group, queue, content_type=self.content_type
        )

    def replace(self, **changes: Any) -> Self:
        """Return a copy with changes, as in `replace(topics='plant/#')`."""
        self._check_names(changes)
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class HostConfig(BusConfig):
    """A broker at one host; what RabbitMQ and MQTT have in common.

    Args:
        host: Name or address.
        port: Default that of the protocol, with or without TLS.
        user: Who we are there.
        password: And how we prove it.
        tls: Whether the connection is encrypted, and the broker verified.
    """

    url: str = field(init=False, repr=False)
    host: str = 'localhost'
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    scheme: ClassVar[str]

    def __post_init__(self) -> None:
        scheme = f'{self.scheme}s' if self.tls else self.scheme
        where = f'[{self.host}]' if ':' in self.host and self.host[0] != '[' else self.host
        port = '' if self.port is None else f':{self.port}'
        account = _credentials(self.user, self.password)
        object.__setattr__(self, 'url', f'{scheme}://{account}{where}{port}{self._path()}')
        super().__post_init__()

    def _path(self) -> str:
        return ''


@dataclass(frozen=True, kw_only=True)
class AmqpConfig(HostConfig):
    """RabbitMQ, by default at port 5672, with TLS at 5671.

    Args:
        virtual_host: Default that of the broker.
    """

    virtual_host: str | None = None

    scheme: ClassVar[str] = 'amqp'

    def _path(self) -> str:
        return '' if self.virtual_host is None else f'/{quote(self.virtual_host, safe="")}'


@dataclass(frozen=True, kw_only=True)
class KafkaConfig(BusConfig):
    """Kafka.

    Args:
        bootstrap_servers: `host:port`, several with commas or as a list.
        user: Who we are there (SASL).
        password: And how we prove it.
        sasl: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; None is PLAIN.
        tls: Whether the connection is encrypted, and the broker verified.
    """

    url: str = field(init=False, repr=False)
    bootstrap_servers: str | Sequence[str] = 'localhost:9092'
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sasl: str | None = None
    tls: bool = False

    def __post_init__(self) -> None:
        servers = self.bootstrap_servers
        where = servers if isinstance(servers, str) else ','.join(servers)
        if not where:
            raise ValueError('bootstrap_servers: name at least one host:port')
        scheme = 'kafka+ssl' if self.tls else 'kafka'
        query = '' if self.sasl is None else f'?sasl={quote(self.sasl, safe="")}'
        url = f'{scheme}://{_credentials(self.user, self.password)}{where}{query}'
        object.__setattr__(self, 'url', url)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class MqttConfig(HostConfig):
    """An MQTT 5 broker, by default at port 1883, with TLS at 8883."""

    scheme: ClassVar[str] = 'mqtt'


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(BusConfig):
    """The bus in this process.

    Args:
        bus: Its name: sockets and services with the same one meet there.
    """

    url: str = field(init=False, repr=False)
    bus: str = 'default'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'url', f'memory://{self.bus}')
        super().__post_init__()


def socket_provider(bus: str | BusConfig, **changes: Any) -> BusConfig:
    """Return what makes sockets, of a URL or of a configuration.

    Args:
        bus: `amqp://…`, `kafka://…`, `mqtt://…`, `memory://…`, or a configuration.
        changes: As in `topics='plant/#'`.

    Raises:
        TypeError: `bus` is neither, or a change is unknown.
    """
    if isinstance(bus, BusConfig):
        return bus.replace(**changes) if changes else bus
    if isinstance(bus, str):
        return BusConfig(url=bus, **changes)
    raise TypeError(f'{bus!r} is neither the URL of a bus nor a configuration')


def _credentials(user: str | None, password: str | None) -> str:
    if user is None:
        if password is not None:
            raise ValueError('a password without a user: give both')
        return ''
    secret = '' if password is None else f':{quote(password, safe="")}'
    return f'{quote(user, safe="")}{secret}@'
