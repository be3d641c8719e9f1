"""Distributed applications as an object: functions on one bus, in one service."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from service_scaffold import errors, events, features, options, service
from service_scaffold.apps.base import START_LIMIT_S, ReadyMadeApp
from service_scaffold.apps.distributed import callback as callbacks
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed import resources as belongings
from service_scaffold.apps.distributed import topics as names
from service_scaffold.apps.distributed.configs import BusConfig
from service_scaffold.apps.distributed.declaring import OWNER, WORDS, DeclaringApplication
from service_scaffold.apps.distributed.feature import Functions
from service_scaffold.apps.distributed.functions import Consumer, Function, Producer
from service_scaffold.options.declaration import Option
from service_scaffold.transports import patterns

F = TypeVar('F', bound=callbacks.Function)

OPTIONS = (
    Option(
        'exit-when-done',
        'Stop when all producers have ended and what they sent is handled',
        switch=True,
    ),
    Option(
        'content-type',
        'What values are encoded as where they are published [application/json]',
        metavar='TYPE',
    ),
)

_SENDER_WORDS = ('state', 'resources', 'name')


class DistributedApplication(ReadyMadeApp):
    """Functions that receive messages, and functions that send them, each with a fate of its own.

        app = DistributedApplication('plant', eventbus_url='amqp://localhost')

        @app.application('tanks/level')
        async def watch(message, socket):
            await socket.publish('alarms', message.value)

        @app.producer()
        async def measure(socket):
            await socket.publish('tanks/level', {'litres': 3})

        if __name__ == '__main__':
            app.run()

    Args:
        name: Name of the service; its instances share the work.
        eventbus_url: The bus: a URL, or a configuration.
        exit_when_done: Stop with status 0 when all producers have ended and what they sent is
            handled.
        options: Every option of a service.

    Attributes:
        application: The aiohttp application, and the decorator for functions that receive.

    Raises:
        TypeError: A keyword is unknown.
        ConfigError: A value is none that its option accepts.
    """

    application: DeclaringApplication

    def __init__(
        self,
        name: str | None = None,
        eventbus_url: str | BusConfig | None = None,
        exit_when_done: bool | None = None,
        **options: Any,
    ) -> None:
        given = {'exit_when_done': exit_when_done, **options}
        if isinstance(eventbus_url, BusConfig):
            given = {
                **eventbus_url.keywords(),
                'content_type': eventbus_url.content_type,
                **given,
            }
        else:
            given['eventbus_url'] = eventbus_url
        super().__init__(name, given)
        self.application[OWNER] = self
        events.setup(self.application)
        self._functions = Functions(self.application, self)

    def make_application(self) -> DeclaringApplication:
        """Return the aiohttp application, which is the decorator `app.application` as well."""
        return service.make_app(self.config, DeclaringApplication)

    def add_arguments(self, parser: options.OptionParser) -> None:
        """Add the options of this app."""
        options.add_options(parser, OPTIONS, 'app')

    # Declaring

    def producer(
        self,
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        name: str | None = None,
        **unknown: Any,
    ) -> Callable[[F], F]:
        """Have the decorated function called once, when the applications are subscribed.

        It is given what it declares, as an application is, but for a message. When it fails, that
        is logged, the others go on, and the exit status will be 1.

        Raises:
            TypeError: An unknown keyword, or the function declares what nobody gives.
            ValueError: The name is taken.
        """
        callbacks.refuse(unknown, _SENDER_WORDS)
        if inspect.iscoroutinefunction(state) and not resources and name is None:
            raise TypeError('write @app.producer(), with parentheses')

        def decorate(function: F) -> F:
            self.add_producer_application(function, state, resources, name)
            return function

        return decorate

    def add_application(
        self,
        callback: callbacks.Function,
        topics: str | Iterable[str],
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        group: str | None = None,
        policy: events.Policy | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        """Do what the decorator `application(topics)` does."""
        callbacks.refuse(unknown, WORDS)
        name = callbacks.name_of(callback) if name is None else name
        listed = names.listed(topics)
        shared_by = self._group(name) if group is None else group
        for topic in listed:  # what is wrong with it is said where it stands
            events.EventSubscription(*names.split_pattern(topic), group=shared_by, policy=policy)
        held = belongings.Resources(state, resources, callbacks.RECEIVER_NAMES)
        self._functions.add(Consumer(callback, held, name, listed, group, policy))

    def add_producer_application(
        self,
        callback: callbacks.Function,
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        """Do what the decorator `producer` does."""
        callbacks.refuse(unknown, _SENDER_WORDS)
        name = callbacks.name_of(callback) if name is None else name
        held = belongings.Resources(state, resources, callbacks.RECEIVER_NAMES)
        self._functions.add(Producer(callback, held, name))

    @property
    def functions(self) -> Mapping[str, Function]:
        """The functions by their names, each with its state and its error."""
        return self._functions.functions

    def health(self) -> features.Health:
        """Report each function."""
        return self._functions.health()

    def _group(self, name: str) -> str:
        group = f'{self.config["name"]}.{name}'
        try:
            patterns.check_group(group)
        except ValueError:
            raise ValueError(
                f'{name!r} cannot be part of a group name {group!r}: give it another name='
            ) from None
        return group

    # Life

    def start(self, raw_args: Sequence[str] | None = None) -> None:  # type: ignore[override]
        """Do what `run` does: block until the end."""
        self.run(raw_args)

    async def start_async(self, timeout_s: float = START_LIMIT_S) -> None:
        """Start in the running loop; return when every application is subscribed.

        `stop` ends it.

        Raises:
            Exception: Why it could not start.
            TimeoutError: It is not ready in time; it has been stopped.
        """
        await super().start(timeout_s)

    async def stop(self) -> None:
        """Stop in order, and wait for that; idempotent.

        One of its functions may stop it, too: there it does not wait, as it would for itself.

        Raises:
            Exception: Why the application could not start, or go on; what a function failed with.
            ScaffoldError: Something did not stop as it should; it has been logged.
        """
        if callbacks.INSIDE.get() is self:
            self._done()
        else:
            await super().stop()

    async def before_start(self) -> None:
        """Take `exit_when_done` and `content_type` as the options say.

        Raises:
            ConfigError: There is no codec for the content type; or the application shall end when
                it is done, and there is no producer that could be.
        """
        messages.check_content_type(self.config['content_type'])
        if not self.config['exit_when_done']:
            return
        if not self._functions.producers:
            raise errors.ConfigError('exit_when_done needs a producer: nothing would ever be done')
        self._functions.follow()
        self._functions.on_done = self._done

    async def until_ready(self) -> None:
        """Wait until every application is subscribed, or has failed."""
        await self._functions.heard()

    def _done(self) -> None:
        if self._stop_request is not None:
            self._stop_request.set()
