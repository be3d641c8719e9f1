"""What an application of streams is to whoever only takes one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class AppT(Protocol):
    """Any application of streams, such as `StreamApp`."""

    @property
    def id(self) -> str: ...

    @property
    def broker(self) -> str: ...

    def agent(self, channel: Any = None, **options: Any) -> Any: ...

    def topic(self, topic: str, **options: Any) -> Any: ...

    def table(self, name: str, **options: Any) -> Any: ...

    def main(self) -> None: ...
