"""What goes wrong in a soak: each fault begins, lasts, and ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.soak.processes import Service
from test.brokers.process import Broker

DOWN_S = 2.0
STOPPED_S = 10.0
SILENT_S = 15.0
PAUSED_S = 10.0
CRASHED_S = 1.0


@dataclass(frozen=True)
class Fault:
    """One fault that was.

    Attributes:
        kind: One of `KINDS`.
        began: When, as of `time.monotonic`.
        ended: When what had failed was there again.
    """

    kind: str
    began: float
    ended: float


class Place:
    """Where faults happen: a broker behind its proxy, and the consumer that they may hit.

    The other consumer and the publisher live as long as the soak, so that leaks show in them.
    """

    def __init__(self, broker: Broker, victim: Service) -> None:
        self._broker = broker
        self._victim = victim

    def commit(self, kind: str) -> Fault:
        """Let a fault happen; return when it is over."""
        began = time.monotonic()
        KINDS[kind](self)
        return Fault(kind, began, time.monotonic())

    def broker_killed(self) -> None:
        """SIGKILL, and a new start soon after."""
        self._broker.kill()
        time.sleep(DOWN_S)
        self._broker.start()

    def broker_stopped(self) -> None:
        """An orderly stop, and a new start later."""
        self._broker.stop()
        time.sleep(STOPPED_S)
        self._broker.start()

    def half_open(self) -> None:
        """Nothing arrives, either way, and nobody is told."""
        self._broker.proxy.half_open()
        time.sleep(SILENT_S)
        self._broker.restore()

    def connections_dropped(self) -> None:
        """All connections are reset at once."""
        self._broker.proxy.drop_connections()

    def consumer_killed(self) -> None:
        """SIGKILL, and a new process."""
        self._victim.kill()
        time.sleep(CRASHED_S)
        self._victim.start()

    def consumer_stopped(self) -> None:
        """SIGTERM, and a new process."""
        self._victim.terminate()
        self._victim.start()

    def consumer_paused(self) -> None:
        """SIGSTOP, and SIGCONT: it wakes up late."""
        self._victim.pause()
        time.sleep(PAUSED_S)
        self._victim.resume()


KINDS: dict[str, Callable[[Place], None]] = {
    'broker killed': Place.broker_killed,
    'broker stopped': Place.broker_stopped,
    'half-open': Place.half_open,
    'connections dropped': Place.connections_dropped,
    'consumer killed': Place.consumer_killed,
    'consumer stopped': Place.consumer_stopped,
    'consumer paused': Place.consumer_paused,
}

BROKER_ENDED = frozenset({'broker killed', 'broker stopped'})


def choose(seed: object, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[str]:
    """Give kinds for ever, in an order made from the seed; each comes before one comes again."""
    chance = random.Random(str(seed))
    while True:
        yield from chance.sample(kinds, len(kinds))
