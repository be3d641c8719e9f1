"""The services under test: one that publishes at a steady rate, and one that is of a group.

`python -m bench.soak.service publisher|consumer OPTION…`. Both write what they do to `--record`
and how they are to `--samples`, one line each, so that a SIGKILL loses none that was written.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from service_scaffold import errors, events, features, repeater, scheduler, service

TICK_S = 0.05
ROUTINGS = 50
PADDING = 'x' * 60
PAGE_KIB = os.sysconf('SC_PAGE_SIZE') // 1024


class Lines:
    """A file of lines, each written by one system call; never buffered."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, *words: object) -> None:
        """Append a line of words."""
        os.write(self._file, (' '.join(str(word) for word in words) + '\n').encode())


class Pulse(repeater.RepeaterFeature):
    """Writes down every few seconds how large this process is."""

    async def prepare(self) -> None:
        """Open the file."""
        self._lines = Lines(self.app['config']['samples'])

    async def run(self) -> None:
        """Write `size`, process id, time, resident KiB, file descriptors, tasks and blocks.

        Blocks, not objects: to list those takes memory, in which this would see itself.
        """
        await self.clock.sleep(self.app['config']['sample_s'])
        rss_kib = _rss_kib()
        descriptors = len(os.listdir('/proc/self/fd'))
        tasks, blocks = len(asyncio.all_tasks()), sys.getallocatedblocks()
        sizes = rss_kib, descriptors, tasks, blocks
        self._lines.write('size', os.getpid(), time.monotonic(), *sizes)


class Source(features.ServiceFeature):
    """Publishes numbers, in turn one by one and in bundles, and records what became of each.

    A line is `confirmed|failed`, the number, when its publish began and ended, and whether it
    went alone.
    """

    async def startup(self, app: web.Application) -> None:
        """Begin to publish."""
        self._lines = Lines(app['config']['record'])
        self._publisher = events.get_publisher(app)
        self._exchange: str = app['config']['exchange']
        self._under_way: set[asyncio.Task[None]] = set()
        self._ticks = await scheduler.create_task(app, self._tick(app['config']['rate']))

    async def before_shutdown(self, app: web.Application) -> None:
        """Publish nothing new, and wait for what is under way: it ends by its own limit."""
        await scheduler.cancel_task(app, self._ticks)
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def shutdown(self, app: web.Application) -> None:
        """Nothing is left to do."""

    async def _tick(self, rate: float) -> None:
        began, published, bundled = time.monotonic(), 0, False
        while True:
            await asyncio.sleep(TICK_S)
            due = int((time.monotonic() - began) * rate)
            numbers = range(published, due)
            published, bundled = due, not bundled
            if bundled:
                self._start(self._publish_bundle(numbers))
            else:
                for number in numbers:
                    self._start(self._publish(number))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish(self, number: int) -> None:
        began, outcome = time.monotonic(), 'confirmed'
        try:
            await self._publisher.publish(self._exchange, *item(number))
        except errors.PublishError:
            outcome = 'failed'
        self._lines.write(outcome, number, began, time.monotonic(), 'alone')

    async def _publish_bundle(self, numbers: Sequence[int]) -> None:
        began, failed = time.monotonic(), frozenset[int]()
        try:
            await self._publisher.publish_many(self._exchange, [item(n) for n in numbers])
        except errors.PublishError as error:
            failed = frozenset(error.failed)
        ended = time.monotonic()
        for position, number in enumerate(numbers):
            outcome = 'failed' if position in failed else 'confirmed'
            self._lines.write(outcome, number, began, ended, 'bundled')


class Sink(features.ServiceFeature):
    """Records what its group handles: number, time, `again` for a redelivery; and sees all."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        listener, exchange = events.get_listener(app), app['config']['exchange']
        policy = events.Policy(concurrency=8)
        self._subscriptions = [
            listener.subscribe(exchange, '#', on_message=self._work, group='soak', policy=policy),
            listener.subscribe(exchange, '#', on_message=self._see),
        ]
        self._lines = Lines(app['config']['record'])
        self._seen = 0

    async def startup(self, app: web.Application) -> None:
        """Say when the group is joined."""
        self._waiting = await scheduler.create_task(app, self._say_active())

    async def shutdown(self, app: web.Application) -> None:
        """Stop waiting."""
        await scheduler.cancel_task(app, self._waiting)

    async def _say_active(self) -> None:
        for subscription in self._subscriptions:
            await subscription.wait_active(120)
        Lines(self.app['config']['samples']).write('active', os.getpid())

    async def _work(self, subscription: object, key: str, message: dict[str, Any]) -> None:
        again = 'again' if events.current_message().redelivered else 'new'
        self._lines.write(message['n'], time.monotonic(), again)

    async def _see(self, subscription: object, key: str, message: dict[str, Any]) -> None:
        self._seen += 1


def item(number: int) -> tuple[str, dict[str, Any]]:
    """Return routing and body of a number."""
    return f'tank.{number % ROUTINGS}', {'n': number, 'padding': PADDING}


def _rss_kib() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE_KIB


def main(role: str, arguments: Sequence[str]) -> None:
    """Run one service until a signal ends it."""
    parser = service.create_parser('soak')
    parser.add_argument('--exchange', required=True, help='exchange to publish to, or to consume')
    parser.add_argument('--record', required=True, help='file for what was done')
    parser.add_argument('--samples', required=True, help='file for the size of the process')
    parser.add_argument('--sample-s', type=float, default=10, help='seconds between samples')
    parser.add_argument('--rate', type=float, default=200, help='messages a second')
    app = service.create_app(parser=parser, raw_args=list(arguments))
    events.setup(app)
    Pulse(app)
    if role == 'publisher':
        Source(app)
    else:
        Sink(app)
    service.furnish(app, '')
    service.run(app)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
