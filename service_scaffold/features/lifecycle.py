"""The one lifecycle of an application: what starts, in which order, and how it all stops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from aiohttp import web

from service_scaffold import clock, options
from service_scaffold.features import budget
from service_scaffold.features.health import Health

LOGGER = logging.getLogger(__name__)

State = Literal['created', 'starting', 'running', 'stopping', 'stopped']
Hook = Literal['drain', 'before_shutdown', 'shutdown']

DEFAULT_SHUTDOWN_TIMEOUT_S = 20.0
_STOP_HOOKS: tuple[Hook, ...] = ('drain', 'before_shutdown', 'shutdown')


class Managed(Protocol):
    """What the lifecycle asks of a feature."""

    async def startup(self, app: web.Application) -> None: ...

    async def drain(self, app: web.Application) -> None: ...

    async def before_shutdown(self, app: web.Application) -> None: ...

    async def shutdown(self, app: web.Application) -> None: ...

    def health(self) -> Health | None: ...


@dataclass(frozen=True, slots=True)
class StopFailure:
    """One stop hook that raised or ran out of time.

    Attributes:
        feature: Name of the feature.
        hook: `drain`, `before_shutdown` or `shutdown`.
        error: What it raised; a TimeoutError when it did not end in time.
    """

    feature: str
    hook: Hook
    error: BaseException


class Lifecycle:
    """Starts features in the order they were made, and stops them in reverse.

    It is driven by the signals of aiohttp: `on_startup`, `on_shutdown`, `on_cleanup`. Whoever wants
    more room between the steps calls `start`, `begin_stop`, `drain`, `before_shutdown` and
    `shutdown` directly: each does its work once, and does what comes before it first.
    aiohttp cleans nothing up when an `on_startup` handler fails after ours: whoever drives it calls
    `shutdown` then.

    Attributes:
        state: `created`, `starting`, `running`, `stopping` or `stopped`.
        failures: The stop hooks that raised or hung, of the last stop.
        failure: Why it could not start, or go on; None while all is well.
        on_failure: Called when `failure` is set by `fail`: whoever drives us stops us then.
        address: Host and port that the application listens on, None while it does not.
        registry: What was added with `features.add`, by key.
        clock: The time of this application.
    """

    def __init__(self, app: web.Application) -> None:
        self.state: State = 'created'
        self.failures: list[StopFailure] = []
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] | None = None
        self.address: tuple[str, int] | None = None
        self.registry: dict[Hashable, object] = {}
        self.clock: clock.Clock = clock.SystemClock()
        self._app = app
        self._features: list[Managed] = []
        self._started: list[Managed] = []
        self._stopped_hooks: set[Hook] = set()
        self._budget: budget.Budget | None = None
        self._below: list[Lifecycle] = []
        self._names: tuple[tuple[int, ...], list[tuple[str, Managed]]] = ((), [])
        if app.on_startup.frozen:
            return  # too late to manage anything; looking up and adding still works
        app.on_startup.append(self._on_startup)
        app.on_shutdown.append(self._on_shutdown)
        # Before the clean-up of `cleanup_ctx`, which aiohttp enters before any `on_startup`.
        app.on_cleanup.insert(0, self._on_cleanup)

    @property
    def can_manage(self) -> bool:
        """Whether a feature made now is still started and stopped with the application."""
        return self.state == 'created' and not self._app.on_startup.frozen

    @property
    def features(self) -> tuple[Managed, ...]:
        """The managed features, in the order they start."""
        return tuple(self._features)

    @property
    def ready(self) -> bool:
        """Whether the application runs and no feature holds it back."""
        return self.state == 'running' and all(h.ready for h in self.health().values())

    @property
    def well(self) -> bool:
        """Whether the application runs and every feature says that it is ok."""
        if self.state != 'running':
            return False
        for name, feature in self._named():  # no dict: probes ask all the time
            health = self._ask(name, feature)
            if health is not None and not health.ok:
                return False
        return True

    @property
    def remaining_s(self) -> float:
        """Seconds left of the budget for stopping; all of it before the stop begins."""
        return self._total_s if self._budget is None else self._budget.remaining_s

    @property
    def spare_s(self) -> float:
        """Seconds that may be spent now beside the hooks, as for requests that still run."""
        return self._total_s if self._budget is None else self._budget.spare_s

    def manage(self, feature: Managed) -> None:
        """Start and stop `feature` with the application.

        Raises:
            RuntimeError: The application has already started.
        """
        if not self.can_manage:
            raise RuntimeError(
                f'{type(feature).__name__} was made after the application had started;'
                ' make it earlier, or with Startup.MANUAL'
            )
        self._features.append(feature)

    def health(self) -> dict[str, Health]:
        """Return the health of each feature that has one, by its name.

        The name is the key under which it was added, if that is not its class, else the name of
        its class; a second one of that name gets `#2`.
        """
        found: dict[str, Health] = {}
        for name, feature in self._named():
            health = self._ask(name, feature)
            if health is not None:
                found[name] = health
        return found

    def _ask(self, name: str, feature: Managed) -> Health | None:
        try:
            health = feature.health()
            if health is not None and not isinstance(health, Health):
                raise TypeError(f'health() returned {health!r}, which is no Health')
        except Exception as error:
            LOGGER.exception('health() of %s failed', name)
            return Health(ok=False, detail={'error': type(error).__name__})
        return health

    async def start(self) -> None:
        """Start every feature in order.

        When one fails, those already started are stopped in reverse and its error is raised, with
        a note that names it.
        """
        if self.state not in ('created', 'stopped'):
            return
        self.state = 'starting'
        self._share(self._app)
        self.failures.clear()
        self._stopped_hooks.clear()
        self._started.clear()
        self._budget = None
        for feature in self._features:
            try:
                await feature.startup(self._app)
            except BaseException as error:
                # Not logged here: whoever drives us does that with all it knows, and once.
                error.add_note(f'while starting {self._name(feature)}')
                await self.shutdown()
                raise
            self._started.append(feature)
        self.state = 'running'

    def fail(self, error: Exception) -> None:
        """Say that the application cannot go on: it is stopped in order, and its status is 1."""
        if self.failure is None:
            self.failure = error
            if self.on_failure is not None:
                self.on_failure()

    def begin_stop(self) -> None:
        """Say from now on that the application is not ready; nothing stops yet."""
        if self.state == 'running':
            self.state = 'stopping'

    def limit_stop(self, seconds: float) -> None:
        """Start the clock: all that still has to stop is done within `seconds` from now."""
        self._budget = budget.Budget(seconds, hooks=len(_STOP_HOOKS) * len(self._started))

    async def drain(self) -> None:
        """Have the features take in no more work and finish what runs."""
        await self._stop('drain')

    async def before_shutdown(self) -> None:
        """Run the `before_shutdown` hooks: everything is still open."""
        await self.drain()
        await self._stop('before_shutdown')

    async def shutdown(self) -> None:
        """Run the `shutdown` hooks; after that nothing of the features is left."""
        await self.before_shutdown()
        await self._stop('shutdown')
        if self.state != 'created':
            self.state = 'stopped'

    async def _stop(self, hook: Hook) -> None:
        if self.state == 'created' or hook in self._stopped_hooks:
            return
        self._stopped_hooks.add(hook)
        if self.state == 'running':
            self.state = 'stopping'
        if self._budget is None:
            self.limit_stop(self._total_s)
        for feature in reversed(self._started):
            await self._run_hook(feature, hook)

    async def _run_hook(self, feature: Managed, hook: Hook) -> None:
        assert self._budget is not None
        limit_s = self._budget.next_hook_s()
        call: Callable[[web.Application], Coroutine[Any, Any, None]] = getattr(feature, hook)
        try:
            await budget.run_bounded(call(self._app), limit_s)
        except Exception as error:
            name = self._name(feature)
            self.failures.append(StopFailure(name, hook, error))
            if isinstance(error, budget.Overrun):
                LOGGER.error('%s of %s did not end within %.1f s', hook, name, limit_s)
            else:
                LOGGER.error('%s of %s failed', hook, name, exc_info=error)

    def _share(self, app: web.Application) -> None:
        """Let handlers of sub-applications, too, look things up with their own application.

        Features that were made with a sub-application have a lifecycle of their own, which aiohttp
        drives within ours; how they are and how they stopped is told with the rest.
        """
        for sub in app._subapps:
            if LIFECYCLE not in sub:
                sub[LIFECYCLE] = self
            elif (below := sub[LIFECYCLE]) is not self and below not in self._below:
                self._below.append(below)
                below.failures = self.failures
            if options.CONFIG in self._app and options.CONFIG not in sub:
                sub[options.CONFIG] = self._app[options.CONFIG]
            self._share(sub)

    @property
    def _total_s(self) -> float:
        config = self._app.get(options.CONFIG, {})
        return float(config.get('shutdown_timeout_s', DEFAULT_SHUTDOWN_TIMEOUT_S))

    def _named(self) -> list[tuple[str, Managed]]:
        size = (len(self._features), len(self.registry), len(self._below))
        if self._names[0] != size:  # nothing is ever taken out of either
            self._names = (size, self._find_names())
        return self._names[1]

    def _find_names(self) -> list[tuple[str, Managed]]:
        keys = {id(feature): key for key, feature in self.registry.items()}
        known: list[Any] = list(self._features)
        known += [feature for below in self._below for _, feature in below._named()]
        managed = {id(feature) for feature in known}
        known += [
            feature
            for feature in self.registry.values()
            if id(feature) not in managed and callable(getattr(feature, 'health', None))
        ]
        named: dict[str, Managed] = {}
        for feature in known:
            key = keys.get(id(feature), type(feature))
            name = base = type(feature).__name__ if isinstance(key, type) else str(key)
            number = 1
            while name in named:
                number += 1
                name = f'{base}#{number}'
            named[name] = feature
        return list(named.items())

    def _name(self, feature: Managed) -> str:
        return next(name for name, known in self._named() if known is feature)

    async def _on_startup(self, app: web.Application) -> None:
        await self.start()

    async def _on_shutdown(self, app: web.Application) -> None:
        await self.before_shutdown()

    async def _on_cleanup(self, app: web.Application) -> None:
        await self.shutdown()


LIFECYCLE = web.AppKey('service_scaffold.lifecycle', Lifecycle)
"""Where the lifecycle stands in an application."""
