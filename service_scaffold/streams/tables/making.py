"""Which kind of table a declaration means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.event import Sends
from service_scaffold.streams.tables.expiring import ExpiringTable
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.tables.windowed import WindowedTable
from service_scaffold.streams.window_plan import Windows

FindTopic = Callable[[str], Sends]
"""Returns the topic of a name."""


def make_table(
    name: str,
    changelog: str,
    find_topic: FindTopic,
    *,
    window: Windows | None = None,
    ttl: float | timedelta | None = None,
    on_window_close: Any = None,
    on_late: Any = None,
    idle_advance: float | timedelta | None = None,
    **options: Any,
) -> Table:
    """Return a table.

    Args:
        window: Makes it a `WindowedTable`.
        ttl: Makes it an `ExpiringTable`.
        on_window_close, on_late: A function, a topic or its name, or an agent.
        idle_advance: See `WindowedTable`.
        options: See `Table`.

    Raises:
        ValueError: It has windows and a `ttl`; or something that only these tables have.
        TypeError: `window` is none.
    """
    if window is not None:
        if ttl is not None:
            raise ValueError(f'Table {name}: windows have expires=, not ttl=')
        if not isinstance(window, Windows):
            raise TypeError(f'Table {name}: {window!r} is no window')
        return WindowedTable(
            name,
            changelog,
            window=window,
            on_window_close=_target(on_window_close, find_topic),
            on_late=_target(on_late, find_topic),
            idle_advance=idle_advance,
            **options,
        )
    if on_window_close is not None or on_late is not None:
        raise ValueError(f'Table {name}: on_window_close and on_late need a window=')
    if ttl is not None:
        return ExpiringTable(name, changelog, ttl=ttl, idle_advance=idle_advance, **options)
    if idle_advance is not None:
        raise ValueError(f'Table {name}: idle_advance needs a window= or a ttl=')
    return Table(name, changelog, **options)


class Windowing:
    """Replaces a declared table by one with windows.

    Args:
        declared: All tables of the application, by name.
        table: The one to be replaced.
        make: Makes a table of the same name, changelog and options.
    """

    def __init__(
        self, declared: dict[str, Table], table: Table, make: Callable[..., Table]
    ) -> None:
        self._declared = declared
        self._table = table
        self._make = make

    def __call__(self, window: Windows, options: dict[str, Any]) -> Table:
        """Make and return the new table.

        Raises:
            StreamError: The old one has windows already, a `ttl`, or was replaced.
        """
        old = self._table
        if type(old) is not Table or self._declared.get(old.name) is not old:
            raise errors.StreamError(f'{old!r} cannot be given windows (any more)')
        new = self._make(window=window, **options)
        new.changelog = old.changelog
        self._declared[old.name] = new
        old.replaced = True
        return new


def _target(target: Any, find_topic: FindTopic) -> Any:
    if isinstance(target, str):
        return find_topic(target)
    if isinstance(target, Agent):
        return target.topic
    return target
