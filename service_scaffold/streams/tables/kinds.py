"""Declaring tables, of every kind."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

from service_scaffold.streams.progress import RestoreListener
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables import table as plain
from service_scaffold.streams.tables.everywhere import GlobalTable, SetGlobalTable
from service_scaffold.streams.tables.making import Windowing, make_table
from service_scaffold.streams.tables.set_manager import SUFFIX, manage
from service_scaffold.streams.tables.sets import SetTable
from service_scaffold.streams.topic import Outlet
from service_scaffold.streams.window_plan import Windows

T = TypeVar('T', bound=plain.Table)


class TableKinds:
    """The part of an application that declares tables.

    Attributes:
        settings: Of the application.
        tables: By name.
        restore_listeners: Told of the recovery of table partitions.
    """

    settings: StreamSettings
    tables: dict[str, plain.Table]

    def __init__(self) -> None:
        super().__init__()
        self.restore_listeners: list[RestoreListener] = []

    def Table(  # noqa: N802 - the name that users know
        self,
        name: str,
        *,
        default: Any = None,
        key_type: Any = None,
        value_type: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitions: int | None = None,
        window: Windows | None = None,
        ttl: float | timedelta | None = None,
        help: str | None = None,
        **timed: Any,
    ) -> plain.Table:
        """Declare a table; see `Table`, and `WindowedTable` or `ExpiringTable`.

        Args:
            window: A value for each key and window.
            ttl: Seconds after which a key that is not written any more is gone.
            timed: `on_window_close`, `on_late`, `idle_advance`; see `WindowedTable`.

        Raises:
            ValueError: The name is taken, or the options contradict each other.
        """
        if name in self.tables:
            raise ValueError(f'There is a table {name!r} already')
        make = partial(
            make_table,
            name,
            f'{self.settings.id}-{name}-changelog',
            cast(Any, self).topic,
            default=default,
            key_type=key_type,
            value_type=value_type,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
            partitions=partitions,
            help=help or '',
        )
        table = self.tables[name] = make(window=window, ttl=ttl, **timed)
        table.outlet = cast(Outlet, self)
        table.rewindow = Windowing(self.tables, table, make)
        return table

    table = Table
    """The same as `Table`."""

    def SetTable(  # noqa: N802 - as users know it
        self,
        name: str,
        *,
        start_manager: bool = False,
        manager_topic_name: str | None = None,
        manager_topic_suffix: str = SUFFIX,
        **options: Any,
    ) -> SetTable:
        """Declare a table of sets; see `SetTable`.

        Args:
            start_manager: Let `table.manager` change it from outside of agents; see `SetManager`.
            manager_topic_name: Where these changes go, default `{id}-{name}` and the suffix.
            manager_topic_suffix: See there.
            options: `key_type`, `value_type` (of the members), `key_serializer`,
                `value_serializer`, `partitions`, `help`; see `Table`. With a manager, agents of
                topics with another number of partitions than the default need `partitions`.

        Raises:
            ValueError: The name is taken.
        """
        table = self._declare(SetTable, name, options)
        if start_manager:
            manage(self, table, manager_topic_name, manager_topic_suffix, options)
        return table

    def GlobalTable(self, name: str, **options: Any) -> GlobalTable:  # noqa: N802
        """Declare a table that every worker reads as a whole; see `GlobalTable`.

        Args:
            options: `default`, `key_type`, `value_type`, `key_serializer`, `value_serializer`,
                `partitions`, `help`; see `Table`.

        Raises:
            ValueError: The name is taken.
        """
        return self._declare(GlobalTable, name, options)

    def SetGlobalTable(  # noqa: N802
        self,
        name: str,
        *,
        start_manager: bool = False,
        manager_topic_name: str | None = None,
        manager_topic_suffix: str = SUFFIX,
        **options: Any,
    ) -> SetGlobalTable:
        """Declare a table of sets that every worker reads as a whole; see `SetGlobalTable`.

        Args:
            start_manager, manager_topic_name, manager_topic_suffix, options: As of `SetTable`.

        Raises:
            ValueError: The name is taken.
        """
        table = self._declare(SetGlobalTable, name, options)
        if start_manager:
            manage(self, table, manager_topic_name, manager_topic_suffix, options)
        return table

    def _declare(self, kind: type[T], name: str, options: dict[str, Any]) -> T:
        if name in self.tables:
            raise ValueError(f'There is a table {name!r} already')
        table = kind(name, f'{self.settings.id}-{name}-changelog', **options)
        table.outlet = cast(Outlet, self)
        self.tables[name] = table
        return table
