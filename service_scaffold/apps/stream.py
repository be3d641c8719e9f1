"""`StreamApp`: agents, topics, tables, timers, pages and commands as one program."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import logging.config
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, ClassVar

from service_scaffold import errors, features, options, streams
from service_scaffold.apps import stream_options as table
from service_scaffold.apps.base import ReadyMadeApp
from service_scaffold.apps.conf import Conf
from service_scaffold.apps.discovery import discover
from service_scaffold.apps.prints import logged_prints
from service_scaffold.options import streams as stream_table
from service_scaffold.options.stream_values import resolve
from service_scaffold.streams.configured import address_of, settings_of, warn
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.forwarding import url_of
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker

DEFAULT_HOST = 'localhost'
DEFAULT_PORT = 6066


class StreamApp(Topology, ReadyMadeApp):
    """An application of streams.

        app = StreamApp('orders', broker='kafka://localhost:9092')

        @app.agent(app.topic('orders', value_type=Order))
        async def work(orders):
            async for order in orders:
                ...

        if __name__ == '__main__':
            app.main()

    Args:
        id: Its name: the consumer group, and what its own topics begin with.
        broker: The log: `kafka://host:port` or `memory://`; several of one cluster in a list.
            Default the event bus; given, it is the event bus as well, unless that is given.
        web_bind, web_port: Where pages are served; when the default port is taken, any free one.
        options: See `docs/streams.md`; every option of a service, too.

    Raises:
        TypeError: A keyword is unknown.
        ConfigError: A value is none that its option accepts.
    """

    PREFIX: ClassVar[str | None] = ''
    SAME = {'broker': 'streams_url', 'web_bind': 'host', 'web_port': 'port'}

    def __init__(
        self,
        id: str,
        *,
        broker: str | Sequence[str] | None = None,
        web_bind: str | None = None,
        web_port: int | None = None,
        **options: Any,
    ) -> None:
        if broker is not None and not isinstance(broker, str):
            broker = ','.join(map(str, broker))
        keywords = {'broker': broker, 'web_bind': web_bind, 'web_port': web_port, **options}
        self._usable = False
        ReadyMadeApp.__init__(self, id, keywords)
        Topology.__init__(self, self._settings())
        streams.setup(self.application, topology=self)
        self._usable = True

    table_route = staticmethod(streams.table_route)
    topic_route = staticmethod(streams.topic_route)

    # Options

    def add_arguments(self, parser: options.OptionParser) -> None:
        """Add the options of this app, and its own defaults of others."""
        options.add_options(parser, table.IDENTITY_OPTIONS, 'app')
        options.add_options(parser, table.WEB_OPTIONS, 'pages')
        options.add_options(parser, table.LOG_OPTIONS, 'worker')
        parser.set_defaults(host=DEFAULT_HOST, port=DEFAULT_PORT)

    def configured(self) -> None:
        """Take the options, also of a second reading."""
        config = self.config
        if config['streams_url'] and not self.is_given('eventbus_url'):
            config['eventbus_url'] = config['streams_url']
        if config['web_cors_options'] is not None and not self.is_given('cors_origins'):
            config['cors_origins'] = [str(origin) for origin in config['web_cors_options']]
        if config['quiet'] and not config['debug']:
            config['log_level'] = 'warning'
        self._simple_logging()
        self._tcp_transport()
        if self._usable:
            self.configure(self._settings())

    def _settings(self) -> StreamSettings:
        config = self.config
        return dataclasses.replace(
            settings_of(config, self._versioned_id()),
            timezone=config['timezone'],
            blocking_s=config['blocking_timeout'],
            host=config['web_host'],
            elect=not config['topic_disable_leader'],
        )

    def _versioned_id(self) -> str:
        name, version = str(self.config['name']), int(self.config['version'])
        if version == 1:
            return name
        form = str(self.config['id_format'])
        try:
            return form.format(id=name, self=_Version(version))
        except (AttributeError, LookupError, ValueError) as error:
            raise errors.ConfigError(
                f'option id_format: {form!r} may hold {{id}} and {{self.version}}: {error}'
            ) from error

    @property
    def conf(self) -> Conf:
        """The options, by the names that the constructor takes."""
        return Conf(self.config, self.SAME, {'id': self.id})

    @property
    def broker(self) -> str:
        """Where the log is, without credentials.

        Raises:
            ConfigError: There is none.
        """
        return str(address_of(self.config))

    @property
    def canonical_url(self) -> str | None:
        """Where other workers reach this one; without the option, None while it does not listen."""
        return self.settings.url or url_of(self.address, self.settings.host)

    # Life

    @property
    def listens(self) -> bool:
        """Whether pages and status are served."""
        return bool(self.config['web_enabled'])

    @property
    def socket_path(self) -> str | None:
        """The Unix socket that it listens on, None for a port."""
        kind, _, path = str(self.config['web_transport']).partition('://')
        return path if kind == 'unix' else None

    @property
    def any_port(self) -> bool:
        """Whether another port will do: nobody has named one."""
        return not (self.is_given('port') or self._named_transport)

    @property
    def _named_transport(self) -> str:
        """Host and port in `web_transport`, if it names them."""
        kind, _, place = str(self.config['web_transport']).partition('://')
        return place if kind == 'tcp' else ''

    def _tcp_transport(self) -> None:
        host, _, port = self._named_transport.rpartition(':')
        if host and not self.is_given('host'):
            self.config['host'] = host
        if port and not self.is_given('port'):
            self.config['port'] = int(port)

    def discover_modules(self) -> list[str]:
        """Import what `autodiscover` and `origin` name; done before every start, and by `main`.

        Raises:
            ConfigError: A module cannot be imported.
        """
        return discover(self.config['autodiscover'], self.config['origin'])

    async def before_start(self) -> None:
        """Import, check and tell what is configured."""
        self.discover_modules()
        address_of(self.config)
        warn(self.config, stream_table.OPTIONS, stream_table.WITHOUT_EFFECT)
        warn(self.config, table.OPTIONS, table.WITHOUT_EFFECT)
        await self._tell_configured()

    async def _tell_configured(self) -> None:
        await self.on_before_configured.send(self)
        await self.on_configured.send(self, self.conf)
        await self.on_after_configured.send(self)

    async def until_ready(self) -> None:
        """Wait until the agents of topics that exist have their partitions."""
        await features.get(self.application, Worker).ready.wait()

    def main(self) -> None:
        """Be a program: worker, agents, tables, topology, send, reset, and your own commands.

        Raises:
            SystemExit: Always, with the status of the command.
        """
        self.discover_modules()
        from service_scaffold.streams import cli  # which brings click

        cli.main(self)

    @asynccontextmanager
    async def test(self, start: float = 0.0) -> AsyncIterator[Driver]:
        """Run offline, on a log in memory and a clock moved by hand: `async with app.test() as t:`.

        Args:
            start: What the clock shows: epoch seconds.
        """
        self.discover_modules()
        await self._tell_configured()
        async with drive(self, start) as driver:
            yield driver

    @contextmanager
    def around(self) -> Iterator[None]:
        """Log what is printed, if that is asked for."""
        level = self.config['worker_redirect_stdouts_level'] or 'warning'
        redirected = self.config['worker_redirect_stdouts']
        with logged_prints(level) if redirected else nullcontext():
            yield

    # Logging

    def init_logging(self) -> None:
        """Log as the options say."""
        given = self.config['logging_config']
        if given is not None and 'version' in given:
            try:
                logging.config.dictConfig(given)
            except (ValueError, TypeError, AttributeError, ImportError) as error:
                raise errors.ConfigError(f'option logging_config: {error}') from error
        else:
            super().init_logging()
        for handler in _handlers(self.config['loghandlers']):
            logging.getLogger().addHandler(handler)

    def _simple_logging(self) -> None:
        given = self.config['logging_config']
        if given is None or 'version' in given:
            return
        known = {'level': 'log_level', 'format': 'log_format', 'output': 'output'}
        for name, value in given.items():
            if name not in known:
                raise errors.ConfigError(
                    f'option logging_config: {name!r} is none of {", ".join(known)}, and without'
                    " 'version' it is not for logging.config"
                )
            if not self.is_given(known[name]):
                self.config[known[name]] = _log_level(value) if name == 'level' else str(value)


def _log_level(value: Any) -> str:
    try:
        return table.log_level(str(value))
    except argparse.ArgumentTypeError as error:
        raise errors.ConfigError(f'option logging_config: {error}') from None


@dataclasses.dataclass(frozen=True)
class _Version:
    """What `{self.version}` means in an id's format."""

    version: int


def _handlers(given: Any) -> list[logging.Handler]:
    names = given.split(',') if isinstance(given, str) else given or ()
    found = [resolve('loghandlers', name) for name in names]
    for handler in found:
        if not isinstance(handler, logging.Handler):
            raise errors.ConfigError(f'option loghandlers: {handler!r} is no logging.Handler')
    return found
