"""Routes that any worker answers: the request goes to whoever owns the key.

```python
@app.page('/totals/{customer}')
@table_route(totals, match_info='customer')
async def total(web, request, customer):
    return web.json({'total': totals.get(customer), 'as_of': totals.position(customer)})
```

The decorators work on any aiohttp handler: they look for the request among its arguments, and, in
a class-based view, in the view.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from aiohttp import web

from service_scaffold import errors, features
from service_scaffold.http import problems
from service_scaffold.streams.forwarding import FORWARDED, STALE, Unanswered
from service_scaffold.streams.registry import WorkerInfo
from service_scaffold.streams.session import Session
from service_scaffold.streams.tables.place import from_copies
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.topic import Topic
from service_scaffold.streams.worker import Worker

LOGGER = logging.getLogger(__name__)

TIMEOUT_S = 10.0
RETRY_S = 1
"""What a client is told to wait when nobody has the partition."""

RETRY_LIMIT_S = 60

Handler = Callable[..., Awaitable[Any]]
Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Place:
    """A partition.

    Attributes:
        kind: `tables` or `topics`.
        name: Of the table or topic.
        number: Of the partition.
    """

    kind: Literal['tables', 'topics']
    name: str
    number: int

    def __str__(self) -> str:
        return f'partition {self.number} of {self.kind[:-1]} {self.name}'


FindPlace = Callable[[Worker, web.BaseRequest], Place | None]
"""Returns what a request is about; None before the partitions are known."""


def table_route(
    table: Table,
    *,
    query_param: str | None = None,
    match_info: str | None = None,
    exact_key: Any = None,
    stale: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Callable[[Handler], Handler]:
    """Let the worker answer that owns the partition of a key of `table`.

    While the partition is recovered, or nobody has it, the answer is 503 with `Retry-After` and
    how far the recovery is. A key has to be written by events with that key: others lie elsewhere.

    Args:
        query_param, match_info: Where the key stands, by name.
        exact_key: The key itself. Exactly one of the three is given.
        stale: Instead of a 503, answer from a copy, here or elsewhere; the response says so in
            the header `X-Streams-Stale`.
        timeout_s: How long another worker may take.

    Raises:
        TypeError: Not exactly one of the three is given.
    """

    find = _key_finder(query_param, match_info, exact_key)

    def place(worker: Worker, request: web.BaseRequest) -> Place | None:
        number = table.partition_of(find(request))
        return None if number is None else Place('tables', table.name, number)

    return _Route(place, table if stale else None, timeout_s).decorate


def topic_route(
    topic: Topic,
    *,
    query_param: str | None = None,
    match_info: str | None = None,
    exact_key: Any = None,
    timeout_s: float = TIMEOUT_S,
) -> Callable[[Handler], Handler]:
    """Let the worker answer that reads the partition of a key of `topic`; see `table_route`."""

    find = _key_finder(query_param, match_info, exact_key)

    def place(worker: Worker, request: web.BaseRequest) -> Place | None:
        layout = worker.session.layout if worker.session is not None else None
        count = None if layout is None else layout.counts.get(topic.name)
        key = topic.encode_key(find(request)) or b''
        choose = worker.topology.settings.partitioner
        return None if not count else Place('topics', topic.name, choose(key, count))

    return _Route(place, None, timeout_s).decorate


class _Route:
    """Where the requests of one handler are answered."""

    def __init__(self, find: FindPlace, copied: Table | None, timeout_s: float) -> None:
        self._find = find
        self._copied = copied
        self._timeout_s = timeout_s

    def decorate(self, handler: Handler) -> Handler:
        """Return the handler that sees to it."""

        @functools.wraps(handler)
        async def routed(*args: Any, **kwargs: Any) -> Any:
            request = _request_of(args)
            return await self._answer(request, lambda: handler(*args, **kwargs))

        return routed

    async def _answer(self, request: web.Request, call: Call) -> Any:
        worker = features.get(request, Worker)
        place = self._find(worker, request)
        session = worker.session
        if place is None or session is None:
            return _unavailable(worker, place, 'is not known while the broker is away')
        if session.neighbours.runs_here(place.kind, place.name, place.number):
            return await self._answer_here(worker, session, place, call)
        passed_on = FORWARDED in request.headers
        if passed_on and STALE not in request.headers:
            return _unavailable(worker, place, 'is not here')
        others = () if passed_on else self._others(session, place)
        return await self._ask(request, worker, place, others, call)

    async def _answer_here(self, worker: Worker, session: Session, place: Place, call: Call) -> Any:
        try:
            return await call()
        except (errors.NotOwned, errors.StoreError):
            if worker.session is session and session.neighbours.runs_here(
                place.kind, place.name, place.number
            ):
                raise  # about something else
            return _unavailable(worker, place, 'has just gone from here')

    def _others(self, session: Session, place: Place) -> Sequence[tuple[WorkerInfo, bool]]:
        """Return whom to ask in turn, and whether for a copy."""
        registry, me = session.neighbours.registry, session.neighbours.id
        owner = registry.owner(place.kind, place.name, place.number)
        found = [] if owner is None else [(owner, False)]
        if self._copied is not None:
            holders = registry.holders(place.name, place.number)
            found += [(info, True) for info in holders]
        return [(info, copy) for info, copy in found if info.id != me and info.url]

    async def _ask(
        self,
        request: web.Request,
        worker: Worker,
        place: Place,
        others: Sequence[tuple[WorkerInfo, bool]],
        call: Call,
    ) -> Any:
        """Ask the owner, then look here, then ask those who have a copy."""
        owner = [info for info, copy in others if not copy]
        holders = [info for info, copy in others if copy]
        answer = await self._forward(request, worker, owner, stale=False)
        if answer is None:
            answer = await self._answer_from_copy(place, call)
        if answer is None:
            answer = await self._forward(request, worker, holders, stale=True)
        if answer is None:
            state = 'cannot be reached' if owner else 'is with no worker that runs'
            answer = _unavailable(worker, place, state)
        return answer

    async def _forward(
        self, request: web.Request, worker: Worker, others: Sequence[WorkerInfo], *, stale: bool
    ) -> web.StreamResponse | None:
        assert worker.session is not None
        me = worker.session.neighbours.id
        last_resort = not stale and self._copied is None
        for info in others:
            try:
                return await worker.forwarder.forward(
                    request, str(info.url), me, self._timeout_s, stale=stale, strict=last_resort
                )
            except (aiohttp.ClientError, TimeoutError, Unanswered) as error:
                LOGGER.info('Worker %s at %s does not answer: %r', info.id, info.url, error)
        return None

    async def _answer_from_copy(self, place: Place, call: Call) -> Any:
        table = self._copied
        if table is None or place.number not in table.copies:
            return None
        try:
            with from_copies():
                response = await call()
        except (errors.NotOwned, errors.StoreError):
            if place.number in table.copies:
                raise
            return None  # it has gone meanwhile
        if isinstance(response, web.StreamResponse) and not response.prepared:
            response.headers[STALE] = 'true'
        return response


def _unavailable(worker: Worker, place: Place | None, state: str) -> web.Response:
    """Return a 503: when to try again, and how far a recovery is."""
    progress = None
    if place is not None and place.kind == 'tables':
        progress = worker.recovering.get((place.name, place.number))
    members: dict[str, object] = {}
    retry_s = RETRY_S
    if progress is not None:
        state = 'is being recovered'
        members['recovery'] = progress.shown()
        retry_s = max(RETRY_S, min(RETRY_LIMIT_S, round(progress.left_s or RETRY_S)))
    return problems.response(
        503,
        f'{place or "The partition of this key"} {state}; try again.',
        headers={'Retry-After': str(retry_s)},
        **members,
    )


def _request_of(args: Sequence[Any]) -> web.Request:
    for arg in args:
        if isinstance(arg, web.Request):
            return arg
        found = getattr(arg, 'request', None)
        if isinstance(found, web.Request):
            return found
    raise TypeError('table_route and topic_route decorate handlers that are given a request')


def _key_finder(
    query_param: str | None, match_info: str | None, exact_key: Any
) -> Callable[[web.BaseRequest], Any]:
    """Return what finds the key of a request."""
    if sum(given is not None for given in (query_param, match_info, exact_key)) != 1:
        raise TypeError('Give exactly one of query_param=, match_info= and exact_key=')

    def find(request: web.BaseRequest) -> Any:
        if exact_key is not None:
            return exact_key
        if query_param is None:
            assert isinstance(request, web.Request)
            return request.match_info[str(match_info)]
        if query_param not in request.query:
            raise problems.ProblemError(400, f'The query parameter {query_param} is missing.')
        return request.query[query_param]

    return find
