"""Giving windows to a table that was declared without."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.window_plan import Windows
from service_scaffold.streams.windows import HoppingWindow, TumblingWindow


class Windowable:
    """The part of a table that makes another one of it.

    Attributes:
        name: Its name.
        rewindow: Makes it a windowed table; None where that cannot be.
    """

    name: str
    rewindow: Callable[[Windows, dict[str, Any]], Any] | None = None

    def using_window(self, window: Windows, *, key_index: bool = True, **options: Any) -> Any:
        """Make it a windowed table of the same name, which is returned; this one is of no use then.

        Args:
            key_index: Changes nothing: windows are always found by iterating.
            options: `on_window_close`, `on_late`, `idle_advance`; see `WindowedTable`.

        Raises:
            StreamError: It was not made by `app.Table`, or has a `ttl`.
        """
        if self.rewindow is None:
            raise errors.StreamError(f'Table {self.name} cannot be given windows')
        return self.rewindow(window, options)

    def tumbling(
        self,
        size: float | timedelta,
        expires: float | timedelta | None = None,
        key_index: bool = True,
        **options: Any,
    ) -> Any:
        """Return it with tumbling windows; see `using_window`, and `grace` of `TumblingWindow`."""
        grace = options.pop('grace', 0)
        return self.using_window(TumblingWindow(size, expires, grace), **options)

    def hopping(
        self,
        size: float | timedelta,
        step: float | timedelta,
        expires: float | timedelta | None = None,
        key_index: bool = True,
        **options: Any,
    ) -> Any:
        """Return it with hopping windows; see `using_window`, and `grace` of `HoppingWindow`."""
        grace = options.pop('grace', 0)
        return self.using_window(HoppingWindow(size, step, expires, grace), **options)
