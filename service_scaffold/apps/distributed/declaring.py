"""The aiohttp application of a distributed one, which is its decorator as well.

Every ready-made app has its aiohttp application as `app.application`; this one is also called:
`@app.application('tanks/level')`. aiohttp's own `__call__` takes nothing, and returns the
application, which it still does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, overload

from aiohttp import web

from service_scaffold import events
from service_scaffold.apps.distributed import callback as callbacks
from service_scaffold.apps.distributed import resources as belongings
from service_scaffold.apps.distributed import topics as names

F = TypeVar('F', bound=callbacks.Function)
WORDS = ('topics', 'state', 'resources', 'group', 'policy', 'name')


class Owner(Protocol):
    """Who takes what is declared."""

    def add_application(
        self,
        callback: callbacks.Function,
        topics: str | Iterable[str],
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        group: str | None = None,
        policy: events.Policy | None = None,
        name: str | None = None,
    ) -> None:
        """Take a function."""


OWNER: web.AppKey[Owner] = web.AppKey('service_scaffold.distributed', Owner)

with warnings.catch_warnings():
    # aiohttp discourages subclasses that hold state or change behaviour; this one adds a call.
    warnings.simplefilter('ignore', DeprecationWarning)

    class DeclaringApplication(web.Application):
        """An aiohttp application that is called to declare a function."""

        @overload
        def __call__(self) -> DeclaringApplication: ...
        @overload
        def __call__(
            self,
            topics: str | Iterable[str],
            state: Any = None,
            resources: Mapping[str, Any] = belongings.NONE,
            group: str | None = None,
            policy: events.Policy | None = None,
            name: str | None = None,
            **unknown: Any,
        ) -> Callable[[F], F]: ...
        def __call__(
            self,
            topics: str | Iterable[str] | None = None,
            state: Any = None,
            resources: Mapping[str, Any] = belongings.NONE,
            group: str | None = None,
            policy: events.Policy | None = None,
            name: str | None = None,
            **unknown: Any,
        ) -> Any:
            """Have the decorated function called for each message of some topics.

            It is given, by name, what it declares of `message`, `socket` (or `publisher`),
            `message_builder`, `state`, `app`, and its resources. What it returns is the answer to
            a request; None is no answer. When it raises, its policy decides.

            Args:
                topics: One, or several: `exchange` or `exchange/ro/uting`, with `*` and `#`.
                state: Given as it is; a class or a function is called for it at the start.
                resources: By name, context managers (sync or async) or what makes them. Entered
                    before the first message, left after the last.
                group: Whose instances share the messages; default `{name of the app}.{name}`.
                policy: Concurrency, retries, dead letters.
                name: Default that of the function.

            Raises:
                TypeError: An unknown keyword, or the function declares what nobody gives.
                ValueError: A topic is none, the name is taken, or the policy does not fit.
            """
            callbacks.refuse(unknown, WORDS)
            if topics is None:
                return self
            if callable(topics):
                raise TypeError('write @app.application(topics), with the topics')

            listed = names.listed(topics)

            def decorate(function: F) -> F:
                self[OWNER].add_application(function, listed, state, resources, group, policy, name)
                return function

            return decorate
