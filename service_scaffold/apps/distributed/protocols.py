"""What an application and a provider of sockets are, for type checkers and `isinstance`."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, Self, runtime_checkable

from service_scaffold.apps.distributed.message import TopicMessage


@runtime_checkable
class ApplicationLifeCycle(Protocol):
    """The life of an application by itself."""

    def setup(self) -> None:
        """Prepare what is not asynchronous."""

    def start(self) -> None:
        """Run, and block until the end."""

    async def start_async(self) -> asyncio.Task[None]:
        """Start in the running loop; return, when it has started, the task of its life."""

    async def run_async(self) -> None:
        """Be the application: what happens between start and end."""

    def teardown(self) -> None:
        """Clean up what is not asynchronous."""


@runtime_checkable
class SocketProvider(Protocol):
    """Makes sockets of one configuration."""

    def create_socket(self, queue: asyncio.Queue[TopicMessage[Any]] | None = None) -> Any:
        """Return a socket, to be entered; what it receives goes into `queue`."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy with changes."""
