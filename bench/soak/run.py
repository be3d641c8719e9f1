"""One transport's soak, from the start of its broker to the end of its services."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.soak.faults import KINDS, Fault, Place, choose
from bench.soak.processes import Service
from bench.soak.records import Evidence
from test.brokers.process import Broker

CHECK_S = 1.0
DRAIN_S = 90.0
FORGETFUL = 'mosquitto'
QUIET_S = 25.0
"""So long without a message, and what is missing will not come: longer than any redelivery."""


@dataclass(frozen=True)
class Plan:
    """What a soak is to be.

    Attributes:
        seconds: How long messages are published.
        rate: Messages a second.
        fault_every_s: From the beginning of one fault to that of the next.
        seed: Decides which faults come, and in which order.
        kinds: From which faults are chosen.
        sample_s: Seconds between two looks at the size of the processes.
    """

    seconds: float = 1800
    rate: float = 200
    fault_every_s: float = 60
    seed: int = 0
    kinds: tuple[str, ...] = tuple(KINDS)
    sample_s: float = 10


class Soak:
    """The services of one transport on a broker of their own; blocks, so give it a thread.

    Args:
        broker: Not started; is closed at the end.
        plan: What to do.
        directory: For the records, which stay.
        ended: When set from elsewhere, messages end early.
    """

    def __init__(
        self, broker: Broker, plan: Plan, directory: Path, ended: threading.Event | None = None
    ) -> None:
        self._broker = broker
        self._plan = plan
        self._directory = directory
        self._ended = ended or threading.Event()
        self._faults: list[Fault] = []
        options = {
            'eventbus_url': broker.proxied_url,
            'exchange': f'soak-{uuid.uuid4().hex[:8]}',
            'rate': plan.rate,
            'sample_s': plan.sample_s,
        }
        self._source = Service('publisher', 'publisher', directory, **options)
        self._stays = Service('consumer', 'consumer-stays', directory, **options)
        self._victim = Service('consumer', 'consumer-victim', directory, **options)

    @property
    def services(self) -> tuple[Service, ...]:
        """All three."""
        return self._source, self._stays, self._victim

    def run(self) -> Evidence:
        """Do all of it; return what was recorded."""
        try:
            self._broker.start()
            self._stays.start()
            self._victim.start()
            self._source.start()
            began = time.monotonic()
            self._trouble(began)
            self._source.terminate()
            evidence = self._drained(began)
            self._stays.terminate()
            self._victim.terminate()
            return evidence
        finally:
            for service in self.services:
                service.kill()
            self._broker.close()

    def _trouble(self, began: float) -> None:
        """Let faults happen until the time is over; each has half an interval to heal at least."""
        place = Place(self._broker, self._victim)
        kinds = choose(f'{self._plan.seed} {self._broker.name}', self._plan.kinds)
        every_s, end = self._plan.fault_every_s, began + self._plan.seconds
        for number in range(1, int(self._plan.seconds / every_s - 0.5) + 1):
            self._watch(began + number * every_s)
            if self._ended.is_set():
                return
            self._note(fault := place.commit(next(kinds)), began)
            self._faults.append(fault)
            end = max(end, fault.ended + every_s / 2)
        self._watch(end)

    def _watch(self, until: float) -> None:
        """Wait, and restart a service that has ended by itself."""
        while (left_s := until - time.monotonic()) > 0 and not self._ended.is_set():
            self._ended.wait(min(left_s, CHECK_S))
            for service in self.services:
                service.check()

    def _drained(self, began: float) -> Evidence:
        """Wait until all has arrived, or nothing arrives any more."""
        published = time.monotonic()
        while True:
            evidence = Evidence(
                self._source,
                (self._stays, self._victim),
                self._faults,
                began,
                published,
                forgetful=self._broker.name == FORGETFUL,
            )
            now = time.monotonic()
            quiet_s = now - max([published, *evidence.times[-1:]])
            if not evidence.unexcused or quiet_s > QUIET_S or now - published > DRAIN_S:
                return evidence
            time.sleep(CHECK_S)

    def _note(self, fault: Fault, began: float) -> None:
        with (self._directory / 'faults').open('a') as file:
            file.write(f'{fault.began} {fault.ended} {fault.kind}\n')
        after_s, lasted_s = fault.began - began, fault.ended - fault.began
        words = f'{self._broker.name:10} {after_s:5.0f} s  {fault.kind}, {lasted_s:.1f} s'
        print(words, file=sys.stderr, flush=True)
