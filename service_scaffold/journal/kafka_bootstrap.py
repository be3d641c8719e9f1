"""Ending the first connection of a Kafka client that is cancelled while it connects.

The client keeps it in a local variable only, and forgets it; its socket would stay open until the
garbage collector finds it, and complains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any

LOCALS = ('bootstrap_conn', 'conn')


def close_on_cancel(client: Any) -> None:
    """Make `client.bootstrap` close what it has opened when it is cancelled."""
    bootstrap = client.bootstrap

    async def bootstrap_or_close() -> None:
        try:
            await bootstrap()
        except asyncio.CancelledError as error:
            for connection in _connections(error.__traceback__):
                connection.close()
            raise

    client.bootstrap = bootstrap_or_close


def _connections(trace: TracebackType | None) -> Iterator[Any]:
    while trace is not None:
        found = trace.tb_frame.f_locals
        for name in LOCALS:
            if (connection := found.get(name)) is not None and hasattr(connection, 'close'):
                yield connection
        trace = trace.tb_next
