"""What becomes of an event whose handling has failed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from service_scaffold.backoff import Backoff

Kind = Literal['retry', 'skip', 'dead_letter', 'stop']

LONGEST_PAUSE_S = 30.0


class Decision:
    """One of `Decision.RETRY`, `SKIP`, `DEAD_LETTER` and `STOP`; returned by `on_error`.

    `RETRY` alone tries without end; `RETRY(max=3, backoff_s=0.2)` makes up to three attempts in
    all, then the event is dead-lettered; with `then=Decision.STOP` the application stops instead.

    Attributes:
        kind: Which of the four.
        max: Attempts in all; None means no limit.
        backoff_s: Pause before the second attempt; doubled each time, up to 30 s.
        then: What comes after the last attempt; None means the dead letters.
    """

    __slots__ = ('backoff_s', 'kind', 'max', 'then')

    RETRY: ClassVar[Decision]
    SKIP: ClassVar[Decision]
    DEAD_LETTER: ClassVar[Decision]
    STOP: ClassVar[Decision]

    def __init__(
        self,
        kind: Kind,
        max: int | None = None,
        backoff_s: float = 0.1,
        then: Decision | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.max = max
        self.backoff_s = backoff_s
        self.then = then

    def __repr__(self) -> str:
        return f'Decision.{self.kind.upper()}'

    def __call__(
        self, max: int | None = None, backoff_s: float = 0.1, then: Decision | None = None
    ) -> Decision:
        """Return a `RETRY` with a limit and a pause of its own.

        Raises:
            TypeError: This is not `RETRY`.
            ValueError: `max` is less than 1, `backoff_s` negative, or `then` another retry.
        """
        if self.kind != 'retry':
            raise TypeError(f'{self!r} takes no arguments; only Decision.RETRY does')
        if (max is not None and max < 1) or backoff_s < 0:
            raise ValueError(f'RETRY needs max >= 1 and backoff_s >= 0, not {max!r}, {backoff_s!r}')
        if then is not None and then.kind == 'retry':
            raise ValueError('what comes after the last attempt is no other attempt')
        return Decision('retry', max, backoff_s, then)

    def allows_retry(self, attempts: int) -> bool:
        """Tell whether there may be another attempt after so many that have failed."""
        return self.kind == 'retry' and (self.max is None or attempts < self.max)

    def pause_s(self, attempt: int) -> float:
        """Return how long to wait after failed attempt number `attempt`, counted from 1."""
        return Backoff(self.backoff_s, max_s=LONGEST_PAUSE_S).delay(attempt)


Decision.RETRY = Decision('retry')
Decision.SKIP = Decision('skip')
Decision.DEAD_LETTER = Decision('dead_letter')
Decision.STOP = Decision('stop')

DEFAULT = Decision('retry', max=3)
"""What None means: three attempts, then the dead letters."""

UNACKNOWLEDGED = Decision('retry', max=3, then=Decision.STOP)
"""What None means where an event that fails must not count as done."""

OnError = Callable[..., Any]
"""`on_error(agent, exc)` or `on_error(agent, exc, event)`, sync or async; returns a `Decision` or
None."""


class ErrorHook:
    """Calls a user's `on_error` with as many arguments as it takes.

    Attributes:
        default: What None means.

    Raises:
        TypeError: It takes neither two nor three arguments.
    """

    def __init__(self, call: OnError | None) -> None:
        self.default = DEFAULT
        self._call = call
        self._takes = 0 if call is None else _count(call)

    async def decide(self, agent: object, error: Exception, event: object) -> Decision:
        """Return what is to become of the event.

        Raises:
            TypeError: The hook returned neither a decision nor None.
        """
        if self._call is None:
            return self.default
        answer = self._call(*(agent, error, event)[: self._takes])
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None:
            return self.default
        if not isinstance(answer, Decision):
            raise TypeError(f'on_error of {agent} must return a Decision or None, not {answer!r}')
        return answer


def _count(call: OnError) -> int:
    signature = inspect.signature(call)
    for count in (3, 2):
        try:
            signature.bind(*(None,) * count)
        except TypeError:
            continue
        return count
    raise TypeError(f'on_error takes (agent, exc) or (agent, exc, event), but {call!r} does not')
