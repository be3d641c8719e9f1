"""A private Kafka broker: one KRaft node from the jars that `scripts/brokers` fetches."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from test.brokers.process import Broker, BrokerFailed, free_port, require
from test.brokers.proxy import Proxy

VERSION = '4.1.0'
_JVM = [
    '-Xmx384m',
    '-Xms128m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-XX:-UsePerfData',
    '-Djava.awt.headless=true',
    '-Djava.net.preferIPv4Stack=true',
]
_LOGIN_MODULES = {
    'PLAIN': 'org.apache.kafka.common.security.plain.PlainLoginModule',
    'SCRAM-SHA-256': 'org.apache.kafka.common.security.scram.ScramLoginModule',
    'SCRAM-SHA-512': 'org.apache.kafka.common.security.scram.ScramLoginModule',
}


def cache_directory() -> Path:
    """Return where `scripts/brokers` keeps what it fetches for Kafka."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    cache = os.environ.get('SERVICE_SCAFFOLD_CACHE') or Path(base) / 'service-scaffold'
    return Path(cache) / f'kafka-{VERSION}'


class Kafka(Broker):
    """One Kafka node; topics get 4 partitions, and none is made by merely naming it.

    Clients reconnect to the address that the broker advertises, so `proxied_url` leads to a
    listener of its own that advertises the proxy.

    Args:
        sasl: With `user`: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    """

    name = 'kafka'
    scheme = 'kafka'
    tls_scheme = 'kafka+ssl'

    def __init__(
        self,
        *,
        tls: bool = False,
        verify_client: bool = False,
        user: str | None = None,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
        sasl: str = 'PLAIN',
    ) -> None:
        if sasl not in _LOGIN_MODULES:
            raise ValueError(f'sasl is one of {", ".join(_LOGIN_MODULES)}, not {sasl!r}')
        super().__init__(
            tls=tls, verify_client=verify_client, user=user, password=password, settings=settings
        )
        self.sasl = sasl
        self._proxy_port = free_port()
        self._proxied_port = free_port()
        self._internal_port = free_port()
        self._controller_port = free_port()

    @classmethod
    def missing(cls) -> str | None:
        if reason := require('java'):
            return reason
        if not (cache_directory() / 'libs' / f'kafka-server-{VERSION}.jar').exists():
            return f'The jars of Kafka {VERSION} are not in the cache; run scripts/brokers'
        return None

    @property
    def bootstrap(self) -> str:
        """`host:port`, as Kafka's own clients want it."""
        return f'{self.host}:{self.port}'

    @property
    def proxied_bootstrap(self) -> str:
        """As `bootstrap`, through `proxy`."""
        return f'{self.host}:{self.proxy.port}'

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments that aiokafka's clients need for TLS and SASL."""
        protocol = self._protocol()
        options: dict[str, Any] = {'security_protocol': protocol}
        if self.certificates is not None:
            options['ssl_context'] = self.ssl_context()
        if self.user is not None:
            options |= {
                'sasl_mechanism': self.sasl,
                'sasl_plain_username': self.user,
                'sasl_plain_password': self.password,
            }
        return options

    async def members(self, group: str) -> dict[str, bytes]:
        """Return what each member of a consumer group is assigned, by the member's id."""
        async with self._admin() as admin:
            [answer] = await admin.describe_consumer_groups([group])
        [(_, _, _, _, _, members, *_)] = answer.groups
        return {name: assignment for name, _, _, _, assignment, *_ in members}

    async def committed(self, group: str, topic: str) -> int:
        """Return the sum of a consumer group's committed offsets of a topic."""
        async with self._admin() as admin:
            found = await admin.list_consumer_group_offsets(group)
        return sum(at.offset for where, at in found.items() if where.topic == topic)

    def _url(self, port: int) -> str:
        scram = self.user is not None and self.sasl != 'PLAIN'
        return super()._url(port) + (f'?sasl={self.sasl}' if scram else '')

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, **self.client_options())
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    def _make_proxy(self) -> Proxy:
        return Proxy(self.host, self._proxied_port, port=self._proxy_port)

    def _protocol(self) -> str:
        transport = 'PLAINTEXT' if self.certificates is None else 'SSL'
        return transport if self.user is None else f'SASL_{transport}'

    def _prepare(self) -> None:
        lines = self._base_lines() | self._listener_lines()
        for listener in ('client', 'proxied'):
            lines |= self._security_lines(f'listener.name.{listener}.')
        lines |= self.settings
        text = '\n'.join(f'{key}={value}' for key, value in lines.items())
        # A backslash escapes in a properties file.
        (self.directory / 'server.properties').write_text(text.replace('\\', '\\\\') + '\n')
        self._format()

    def _base_lines(self) -> dict[str, str]:
        return {
            'process.roles': 'broker,controller',
            'node.id': '1',
            'controller.quorum.voters': f'1@{self.host}:{self._controller_port}',
            'log.dirs': str(self.directory / 'data'),
            'num.partitions': '4',
            'auto.create.topics.enable': 'false',
            'offsets.topic.replication.factor': '1',
            'offsets.topic.num.partitions': '4',
            'transaction.state.log.replication.factor': '1',
            'transaction.state.log.min.isr': '1',
            'transaction.state.log.num.partitions': '4',
            'group.initial.rebalance.delay.ms': '0',
            # After a kill the controller waits for the old broker's session to end (9 s).
            'broker.session.timeout.ms': '2000',
            'broker.heartbeat.interval.ms': '300',
        }

    def _listener_lines(self) -> dict[str, str]:
        ports = {
            'CLIENT': self.port,
            'PROXIED': self._proxied_port,
            'INTERNAL': self._internal_port,
        }
        advertised = ports | {'PROXIED': self._proxy_port}
        protocol = self._protocol()
        return {
            'listeners': _addresses(ports | {'CONTROLLER': self._controller_port}, self.host),
            'advertised.listeners': _addresses(advertised, self.host),
            'controller.listener.names': 'CONTROLLER',
            'inter.broker.listener.name': 'INTERNAL',
            'listener.security.protocol.map': (
                f'CLIENT:{protocol},PROXIED:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT'
            ),
        }

    def _security_lines(self, prefix: str) -> dict[str, str]:
        lines: dict[str, str] = {}
        if self.certificates is not None:
            lines |= {
                f'{prefix}ssl.keystore.type': 'PEM',
                f'{prefix}ssl.keystore.location': str(self.certificates.server_store),
                f'{prefix}ssl.truststore.type': 'PEM',
                f'{prefix}ssl.truststore.location': str(self.certificates.ca),
                f'{prefix}ssl.client.auth': 'required' if self.verify_client else 'none',
            }
        if self.user is not None:
            login = f'{_LOGIN_MODULES[self.sasl]} required'
            if self.sasl == 'PLAIN':
                secret = str(self.password).replace('\\', r'\\').replace('"', r'\"')
                login += f' user_{self.user}="{secret}"'
            lines |= {
                f'{prefix}sasl.enabled.mechanisms': self.sasl,
                f'{prefix}{self.sasl.lower()}.sasl.jaas.config': f'{login};',
            }
        return lines

    def _format(self) -> None:
        # The first byte fixed: an id that begins with `-` would be taken for an option.
        cluster = base64.urlsafe_b64encode(b'\x01' + uuid.uuid4().bytes[1:]).decode().rstrip('=')
        command = _java('kafka.tools.StorageTool', 'format', '-t', cluster)
        command += ['-c', 'server.properties']
        if self.user is not None and self.sasl != 'PLAIN':
            command += ['--add-scram', f'{self.sasl}=[name={self.user},password={self.password}]']
        process = self._spawn(command, self._environment())
        if process.wait(60) != 0:
            raise BrokerFailed(f'Kafka cannot format its directory{self._tail()}')

    def _environment(self) -> dict[str, str]:
        kept = ('PATH', 'JAVA_HOME')
        return {key: os.environ[key] for key in kept if key in os.environ} | {'LANG': 'C.UTF-8'}

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        return _java('kafka.Kafka', 'server.properties'), self._environment()

    def _answers(self) -> bool:
        # The port first: a client of Kafka is dear to make in vain.
        socket.create_connection((self.host, self.port), timeout=1).close()
        # A thread, because a test may call start() where an event loop already runs.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(asyncio.run, self._serves_groups()).result(30)

    async def _serves_groups(self) -> bool:
        """Ask for metadata and for a group's coordinator, which makes its internal topic."""
        try:
            async with self._admin() as admin:
                cluster = await admin.describe_cluster()
                await admin.find_coordinator('ready')
        except KafkaError:
            return False
        return bool(cluster['brokers'])


def _addresses(ports: Mapping[str, int], host: str) -> str:
    return ','.join(f'{listener}://{host}:{port}' for listener, port in ports.items())


def _java(main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    archive = _archive()
    shared = [f'-XX:SharedArchiveFile={archive}'] if not options and archive.exists() else []
    libraries = sorted((cache_directory() / 'libs').glob('*.jar'))
    classpath = os.pathsep.join(str(path) for path in libraries)
    return ['java', *_JVM, *(options or shared), '-cp', classpath, main, *arguments]


def _archive() -> Path:
    """Return the path of the class archive for this Java; another Java cannot read it."""
    java = Path(os.path.realpath(shutil.which('java') or 'java'))
    mark = hashlib.sha256(f'{java} {java.stat().st_size} {_JVM}'.encode()).hexdigest()[:12]
    return cache_directory() / f'classes-{mark}.jsa'


class _Recorded(Kafka):
    """A Kafka that writes the class archive when it ends."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self.archive = archive

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        options = [f'-XX:ArchiveClassesAtExit={self.archive}']
        return _java('kafka.Kafka', 'server.properties', options=options), self._environment()


def make_archive() -> bool:
    """Record the classes of one start, so that later starts take half the time.

    Returns False when the archive is there already.
    """
    archive = _archive()
    if archive.exists():
        return False
    unfinished = archive.with_suffix(f'.{os.getpid()}')
    broker = _Recorded(unfinished)
    try:
        broker.start()
        broker.stop()
        unfinished.replace(archive)
    finally:
        broker.close()
        unfinished.unlink(missing_ok=True)
    return True
