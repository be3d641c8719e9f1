"""Finding out which tables a function uses: those that it names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from service_scaffold.streams.tables.table import Table


class TableView:
    """A table seen in another way: whoever names this uses the table.

    Attributes:
        table: The table itself.
    """

    table: Any


def tables_in(function: Any) -> list[Table]:
    """Return the tables that a function names, as far as that can be seen."""
    plain = inspect.unwrap(function)
    plain = plain.__func__ if inspect.ismethod(plain) else plain
    if not isinstance(plain, FunctionType):
        return []
    seen = (value.table if isinstance(value, TableView) else value for value in _named_in(plain))
    return [table for table in seen if isinstance(table, Table)]


def _named_in(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # of a variable that has no value yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]
