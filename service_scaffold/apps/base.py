"""What all ready-made apps share: options as keywords, and a life that blocks or is awaited."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from aiohttp import web

from service_scaffold import errors, features, logs, options, server, service, stopping
from service_scaffold.http import prefix as prefixes

START_LIMIT_S = 60.0
"""How long `start` waits until the application is ready."""


class ReadyMadeApp:
    """A service in one object: an aiohttp application with its features set up.

    Every option may be given as a keyword, with underscores: it is the option's default. A flag
    comes before the environment, that before a file, that before the keyword. Keywords whose names
    begin with `x_` are the user's own. Flags are read by the entries that block, `run` and `main`,
    before anything starts; the rest by the constructor. Nothing needs an event loop before `start`.

    Args:
        id: Default of `--name`.
        keywords: What the user has given.

    Attributes:
        application: The aiohttp application; `features.get(app.application, Thing)` finds its
            features, and `app.application.router` takes further routes.
        parser: Knows every option; options of your own may be added before `run`.
        config: Each option's value, the same dict as `application['config']`.
        extra: The keywords that begin with `x_`.

    Raises:
        TypeError: A keyword is unknown; the message names it and the nearest option.
        ConfigError: A keyword's value is none that the option accepts.
        SystemExit: With status 2: a value in the environment or in a file is wrong.
    """

    PREFIX: ClassVar[str | None] = None
    """Path prefix of the service; None is `/{name}`."""

    SAME: ClassVar[Mapping[str, str]] = {}
    """Keywords that are other names of an option."""

    def __init__(self, id: str | None, keywords: Mapping[str, Any]) -> None:
        self.parser = service.create_parser(id)
        self.add_arguments(self.parser)
        self._given = self._own_names(keywords)
        if id is not None:
            self._given.setdefault('name', id)
        self.extra = options.apply_keywords(self.parser, self._given, self.SAME)
        self.config: dict[str, Any] = {}
        self._has_flags = False
        self._read([])
        self.application = self.make_application()
        self._stop_request: stopping.StopRequest | None = None
        self._serving: asyncio.Task[int] | None = None

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.config["name"]}>'

    # What an app adds

    def make_application(self) -> web.Application:
        """Return the aiohttp application, with the options as they are now."""
        return service.make_app(self.config)

    def add_arguments(self, parser: options.OptionParser) -> None:
        """Add the app's own options."""

    def configured(self) -> None:
        """Take the options: they are known, and may be read again with flags."""

    async def before_start(self) -> None:
        """Get ready in the event loop, before the port is bound."""

    async def until_ready(self) -> None:
        """Wait until the started application is ready to be used."""

    @property
    def listens(self) -> bool:
        """Whether it serves HTTP."""
        return True

    @property
    def socket_path(self) -> str | None:
        """The Unix socket that it listens on, None for a port."""
        return None

    @property
    def any_port(self) -> bool:
        """Whether another port will do when the one in the options is taken."""
        return False

    # Options

    def read_arguments(self, raw_args: Sequence[str] | None = None) -> None:
        """Read the options again, flags included.

        Args:
            raw_args: Default those of the process.

        Raises:
            SystemExit: With status 2 after a usage error, 0 after `--help` or `--print-config`.
        """
        self._read(raw_args)
        self._has_flags = True
        # The application was made before there were flags.
        self.application._client_max_size = math.ceil(self.config['max_body_mib'] * 2**20)

    def _read(self, raw_args: Sequence[str] | None) -> None:
        config = options.parse(self.parser, raw_args)
        self.config.clear()
        self.config.update(config)
        self._sources = self.parser.sources()
        self.configured()

    def is_given(self, key: str) -> bool:
        """Return whether somebody has given a value to an option: a user, or a keyword."""
        return self._sources.get(key, 'default') != 'default' or self._given.get(key) is not None

    def _own_names(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in keywords.items():
            key = self.SAME.get(name, name)
            if value is None:
                found.setdefault(key, None)
            elif found.get(key) is not None:
                same = [other for other in keywords if self.SAME.get(other, other) == key]
                raise TypeError(f'{" and ".join(map(repr, same))} are one option: give one of them')
            else:
                found[key] = value
        return found

    # Life

    def run(self, raw_args: Sequence[str] | None = None) -> None:
        """Read the flags, start, and block until SIGTERM or SIGINT; then stop in order.

        Args:
            raw_args: Default those of the process, unless `read_arguments` has read others.

        Raises:
            SystemExit: With status 1 after a failure, 2 after a usage error.
        """
        if raw_args is not None or not self._has_flags:
            self.read_arguments(raw_args)
        self.init_logging()
        watchdog = stopping.Watchdog()
        try:
            with self.around():
                status = asyncio.run(self._serve(watchdog=watchdog))
        except errors.ConfigError as error:
            self.parser.error(str(error))
        finally:
            watchdog.release()
        if status:
            sys.exit(status)

    async def run_async(self) -> int:
        """Start in the running loop, wait for SIGTERM, SIGINT or `stop`, and stop in order.

        Returns:
            The exit status: 0, or 1 after a failure.
        """
        return await self._serve()

    async def start(self, timeout_s: float = START_LIMIT_S) -> None:
        """Start in the running loop; return when the application is ready to be used.

        Signals are the affair of whoever runs the loop.

        Raises:
            OSError: The port is taken.
            Exception: What a feature has failed with.
            RuntimeError: It has been started, and not stopped.
            TimeoutError: It is not ready in time; it has been stopped.
        """
        if self._serving is not None:
            raise RuntimeError(f'{self} has been started; stop it first')
        started = asyncio.Event()
        stop = stopping.StopRequest()
        serving = asyncio.ensure_future(
            self._serve(signals=False, stop=stop, on_started=started.set)
        )
        self._stop_request, self._serving = stop, serving
        ready = asyncio.ensure_future(self._until_ready(started))
        try:
            await asyncio.wait(
                {ready, serving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            good = ready.done() and not ready.cancelled() and ready.exception() is None
            ready.cancel()
            ended = serving.done()
            if not good:
                await self.stop()
        if good:
            return
        if ready.done() and not ready.cancelled():
            ready.result()
        if ended:
            raise RuntimeError(f'{self} was stopped while it started')
        raise TimeoutError(f'{self} is not ready within {timeout_s:g} s, and was stopped')

    async def _until_ready(self, started: asyncio.Event) -> None:
        await started.wait()
        await self.until_ready()

    async def stop(self) -> None:
        """Stop in order, and wait for that; idempotent.

        Raises:
            Exception: Why the application could not start, or go on.
            ScaffoldError: Something did not stop as it should; it has been logged.
        """
        serving, stop = self._serving, self._stop_request
        if stop is not None:
            stop.set()
        if serving is None:
            return
        await asyncio.wait({serving})
        self._serving = self._stop_request = None
        status = serving.result()
        lifecycle = features.get_lifecycle(self.application)
        if lifecycle.failure is not None:
            raise lifecycle.failure
        if status:
            names = ', '.join(f'{failed.hook} of {failed.feature}' for failed in lifecycle.failures)
            raise errors.ScaffoldError(f'{self} did not stop cleanly: {names or "see the log"}')

    async def _serve(self, **settings: Any) -> int:
        self._stop_request = settings.setdefault('stop', stopping.StopRequest())
        try:
            await self.before_start()
            self._furnish()
            return await server.serve(
                self.application,
                listen_http=self.listens,
                any_port=self.any_port,
                path=self.socket_path,
                **settings,
            )
        finally:
            self._stop_request = None
            _release(self.application)

    def _furnish(self) -> None:
        if prefixes.PREFIX not in self.application:
            service.furnish(self.application, self.PREFIX)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port that it listens on; None while it does not, and on a Unix socket."""
        return features.get_lifecycle(self.application).address

    def init_logging(self) -> None:
        """Log as the options say; done by the entries that block."""
        secret = {key for key in self.config if self.parser.is_secret(key)}
        try:
            logs.init_logging(self.config, secret)
        except errors.ConfigError as error:
            self.parser.error(str(error))

    @contextmanager
    def around(self) -> Iterator[None]:
        """Surround the whole of a blocking run."""
        yield


def _release(app: web.Application) -> None:
    """Let an application be started in another event loop; aiohttp knows only one for life."""
    app._loop = None
    for below in app._subapps:
        _release(below)
