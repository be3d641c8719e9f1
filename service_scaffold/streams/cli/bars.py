"""Recoveries as bars, where somebody watches a worker on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from service_scaffold.streams.progress import RestoreListener
from service_scaffold.streams.topology import Topology


class Bars(RestoreListener):
    """One bar for each table that is being recovered, over all of its partitions.

    What one batch brings is not worth a bar. Log lines go above the bars meanwhile; afterwards
    everything is as it was.

    Args:
        stream: The terminal, to which the log goes, too.

    Raises:
        ModuleNotFoundError: There is no rich; the extra `cli` brings it.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.progress import Progress, TimeRemainingColumn

        self._stream = stream
        console = Console(file=stream)
        self._above = FileProxy(console, stream)
        self._progress = Progress(
            *Progress.get_default_columns()[:-1],
            '{task.completed:,.0f} of {task.total:,.0f}',
            TimeRemainingColumn(compact=True),
            console=console,
            redirect_stdout=False,  # those of the application may be where its log is
            redirect_stderr=False,
        )
        self._bars: dict[str, int] = {}
        self._places: dict[tuple[str, int], tuple[int, int, int]] = {}
        """By table and partition: where reading begins, ends, and is."""
        self._moved: list[logging.StreamHandler[TextIO]] = []
        self._live = False

    def on_restore_start(self, table: str, partition: int, start: int, end: int) -> None:
        """Count what is to be read."""
        if not self._is_reading(table):
            for place in [place for place in self._places if place[0] == table]:
                del self._places[place]  # of a recovery that is over
        self._places[table, partition] = (start, end, start)

    def on_restore_batch(self, table: str, partition: int, offset: int, count: int) -> None:
        """Show a bar, unless this was all."""
        start, end, _ = self._places[table, partition]
        self._places[table, partition] = (start, end, offset)
        if offset < end or table in self._bars:
            self._show(table)

    def on_restore_end(self, table: str, partition: int, total: int) -> None:
        """Leave the bar full."""
        start, end, _ = self._places[table, partition]
        self._places[table, partition] = (start, end, end)
        self._settle(table)

    def on_restore_suspended(self, table: str, partition: int, total: int) -> None:
        """Count it no more: it is somebody else's, or begins again."""
        del self._places[table, partition]
        self._settle(table)

    def close(self) -> None:
        """Let go of the terminal."""
        if self._live:
            self._live = False
            self._progress.stop()
            for handler in self._moved:
                handler.setStream(self._stream)
            self._moved.clear()

    def _is_reading(self, table: str) -> bool:
        return any(
            name == table and offset < end for (name, _), (_, end, offset) in self._places.items()
        )

    def _show(self, table: str) -> None:
        self._open()
        mine = [span for (name, _), span in self._places.items() if name == table]
        if table not in self._bars:
            self._bars[table] = self._progress.add_task(table)
        self._progress.update(
            self._bars[table],  # type: ignore[arg-type]  # rich has a type of its own for it
            total=sum(end - start for start, end, _ in mine),
            completed=sum(offset - start for start, _, offset in mine),
        )

    def _settle(self, table: str) -> None:
        if table in self._bars:
            self._show(table)
            if not self._is_reading(table):
                del self._bars[table]  # the next recovery of it has a bar of its own
        if not self._bars:
            self.close()

    def _open(self) -> None:
        if self._live:
            return
        self._live = True
        for task in self._progress.tasks:
            self._progress.remove_task(task.id)  # they stand above, from the last time
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(self._above)
                self._moved.append(handler)
        self._progress.start()


@contextmanager
def recoveries_shown(topology: Topology) -> Iterator[None]:
    """Show recoveries meanwhile, if standard error is a terminal and there is rich.

    Otherwise there are the lines of the log.
    """
    bars = _bars(sys.stderr)
    if bars is None:
        yield
        return
    topology.restore_listeners.append(bars)
    try:
        yield
    finally:
        topology.restore_listeners.remove(bars)
        bars.close()


def _bars(stream: TextIO) -> Bars | None:
    if not stream.isatty():
        return None
    try:
        return Bars(stream)
    except ModuleNotFoundError:
        return None
