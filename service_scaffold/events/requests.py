"""Requests that wait for their answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from service_scaffold import errors
from service_scaffold.events.stats import PublishStats
from service_scaffold.message import Message, new_message_id
from service_scaffold.transports import headers
from service_scaffold.transports.base import Transport

LOGGER = logging.getLogger(__name__)


class Requests:
    """The requests of one publisher that have no answer yet, over all its connections."""

    def __init__(self, stats: PublishStats) -> None:
        self._stats = stats
        self._pending: dict[str, tuple[Transport, asyncio.Future[Message]]] = {}
        self._addresses: dict[Transport, asyncio.Task[str]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    async def address(self, transport: Transport) -> str:
        """Return where answers over this connection go; opened by its first request."""
        task = self._addresses.get(transport)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.ensure_future(transport.open_replies(self._on_reply))
            self._addresses[transport] = task
            transport.lost.add_done_callback(lambda lost: self._connection_lost(transport))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise errors.ConnectionLost('The connection was lost before the request') from None

    @contextlib.contextmanager
    def expecting(self, transport: Transport) -> Iterator[tuple[str, asyncio.Future[Message]]]:
        """Give a new correlation id, and the future that its answer is put in meanwhile."""
        if transport.lost.done():  # what it has to say to those who wait is said
            raise errors.PublishError('The connection was lost before the request was sent')
        correlation_id = new_message_id()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = (transport, future)
        try:
            yield correlation_id, future
        finally:
            self._pending.pop(correlation_id, None)
            if not future.cancel() and not future.cancelled():
                future.exception()  # seen, even if something else was raised before it

    def close(self) -> None:
        """Fail what still waits: the publisher stops."""
        for transport in list(self._addresses):
            self._connection_lost(transport)

    def _on_reply(self, answer: Message) -> None:
        _, future = self._pending.pop(answer.correlation_id or '', (None, None))
        if future is None or future.done():
            self._stats.late_replies += 1
            LOGGER.debug('Nobody waits for the answer %s (any more)', answer.correlation_id)
            return
        future.set_result(answer)

    def _connection_lost(self, transport: Transport) -> None:
        task = self._addresses.pop(transport, None)
        if task is not None and not task.done():
            task.cancel()
        for correlation_id, (used, future) in list(self._pending.items()):
            if used is transport:
                del self._pending[correlation_id]
                if not future.done():
                    future.set_exception(
                        errors.ConnectionLost(
                            'The connection was lost while waiting for an answer; whether the'
                            ' request was carried out is not known'
                        )
                    )


def facts_of(error: BaseException) -> dict[str, str]:
    """Return the headers that tell a requester what went wrong: type and message only."""
    return {
        headers.ERROR_TYPE: type(error).__name__,
        headers.ERROR_MESSAGE: str(error)[: headers.LONGEST_ERROR],
    }


def raise_remote(answer: Message) -> None:
    """Raise `RemoteError` if the answer says that the responder has raised."""
    error_type = answer.headers.get(headers.ERROR_TYPE)
    if error_type is not None:
        raise errors.RemoteError(error_type, answer.headers.get(headers.ERROR_MESSAGE, ''))
