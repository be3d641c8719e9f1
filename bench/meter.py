"""What every side measures with, so that all pay the same for it. Standard library only."""

from __future__ import annotations

import asyncio
import json
import sys
import time


class Meter:
    """Counts messages, and takes the time from the first one to the last."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self.done = asyncio.Event()
        self._started = 0.0
        self._cpu = 0.0

    def start(self) -> None:
        """Begin now, not with the first message."""
        self._started = time.perf_counter()
        self._cpu = time.process_time()

    def hit(self) -> None:
        """Count one message."""
        self.count += 1
        if self.count == 1 and not self._started:
            self.start()
        elif self.count == self.total:
            self.finish()

    def finish(self) -> None:
        """Print the result as one line of JSON."""
        seconds = time.perf_counter() - self._started
        cpu_s = time.process_time() - self._cpu
        result = {'messages': self.total, 'seconds': seconds, 'cpu_s': cpu_s}
        print(json.dumps(result), flush=True)
        self.done.set()


def arguments() -> tuple[str, int, str]:
    """Return what the driver gives each side: the broker's URL, how many, and a fresh name."""
    return sys.argv[1], int(sys.argv[2]), sys.argv[3]


def payload(number: int) -> dict[str, object]:
    """Return a message of about 100 bytes as JSON."""
    return {
        'sensor': 'boiler-7',
        'value': 20.5 + number % 10,
        'unit': 'C',
        'site': 'hall 4, second floor',
        'number': number,
    }
