"""The soak of streams, from the start of its broker to the end of its workers."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.soak.processes import Service
from bench.soak.stream_records import StreamEvidence
from test.brokers.process import Broker

CHECK_S = 1.0
DRAIN_S = 120.0
QUIET_S = 40.0
"""So long without a number, and what is missing will not come."""
ASK_S = 10.0


@dataclass(frozen=True)
class StreamPlan:
    """What a soak of streams is to be.

    Attributes:
        seconds: How long numbers are sent.
        rate: Numbers a second.
        workers: Processes that share the partitions.
        guarantee: Of the application.
        sample_s: Seconds between two looks at the size of the processes.
        window_s: How long the windows of the table are.
    """

    seconds: float = 1800
    rate: float = 5_000
    workers: int = 2
    guarantee: str = 'exactly_once'
    sample_s: float = 10
    window_s: float = 10


class StreamService(Service):
    """One process of `bench.soak.stream_service`."""

    module = 'bench.soak.stream_service'
    waits = frozenset({'worker', 'checker'})


class StreamSoak:
    """A source, workers that share its numbers, and a checker; blocks, so give it a thread.

    Args:
        broker: Not started; is closed at the end.
        plan: What to do.
        directory: For the records, which stay.
        ended: When set from elsewhere, numbers end early.
    """

    def __init__(
        self,
        broker: Broker,
        plan: StreamPlan,
        directory: Path,
        ended: threading.Event | None = None,
    ) -> None:
        self._broker = broker
        self._plan = plan
        self._directory = directory
        self._ended = ended or threading.Event()
        self._name = f'soak-{uuid.uuid4().hex[:8]}'
        self._checker = self._make('checker', 'checker')
        self._workers = [self._make('worker', f'worker-{n}') for n in range(plan.workers)]
        self._source = self._make('source', 'source')

    def _make(self, role: str, instance: str) -> StreamService:
        return StreamService(
            role,
            instance,
            self._directory,
            name=self._name,
            eventbus_url=self._broker.url,
            processing_guarantee=self._plan.guarantee,
            datadir=self._directory / 'data',
            rate=self._plan.rate,
            sample_s=self._plan.sample_s,
            window_s=self._plan.window_s,
        )

    @property
    def services(self) -> tuple[StreamService, ...]:
        """All processes."""
        return self._source, *self._workers, self._checker

    def run(self) -> StreamEvidence:
        """Do all of it; return what was recorded."""
        try:
            self._broker.start()
            self._checker.start()
            for worker in self._workers:
                worker.start()
            self._source.start()
            began = time.monotonic()
            self._watch(began + self._plan.seconds)
            self._source.terminate()
            sent = time.monotonic()
            self._drain(sent)
            totals = self._totals()
            for each in (*self._workers, self._checker):
                each.terminate()
            return self._evidence(began, sent, totals)
        finally:
            for service in self.services:
                service.kill()
            self._broker.close()

    def _evidence(self, began: float, sent: float, totals: dict[str, int]) -> StreamEvidence:
        return StreamEvidence(self._source, self._workers, self._checker, began, sent, totals)

    def _watch(self, until: float) -> None:
        """Wait, and restart a process that has ended by itself."""
        while (left_s := until - time.monotonic()) > 0 and not self._ended.is_set():
            self._ended.wait(min(left_s, CHECK_S))
            for service in self.services:
                service.check()

    def _drain(self, sent: float) -> None:
        """Wait until all has arrived and all windows have closed, or nothing arrives any more."""
        most, since = 0, sent
        while True:
            found = self._evidence(sent, sent, {})
            now = time.monotonic()
            if found.echoed + found.in_windows > most:
                most, since = found.echoed + found.in_windows, now
            if found.echoed == found.in_windows == found.sent:
                return
            if now - since > QUIET_S or now - sent > DRAIN_S:
                print(f'not complete after {now - sent:.0f} s', file=sys.stderr, flush=True)
                return
            time.sleep(CHECK_S)

    def _totals(self) -> dict[str, int]:
        """Return the table, from all workers."""
        found: dict[str, int] = {}
        for worker in self._workers:
            url = f'http://127.0.0.1:{worker.port}/{self._name}/totals'
            with urllib.request.urlopen(url, timeout=ASK_S) as answer:
                part = json.load(answer)
            if twice := part.keys() & found.keys():
                worker.failures.append(f'{len(twice)} keys of the table are with two workers')
            found |= part
        return found
