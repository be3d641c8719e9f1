"""The processes of the soak of streams: who sends numbers, who works on them, and who counts.

`python -m bench.soak.stream_service source|worker|checker OPTION…`. Each writes what it does to
`--record` and how it is to `--samples`, one line each.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from bench.soak.service import Lines, Pulse
from service_scaffold import errors, features, scheduler, service, streams
from service_scaffold.journal.base import Journal, NewRecord, Record, TopicPartition, TopicSpec
from service_scaffold.streams.feature import journal_of
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker

KEYS = 2_000
PARTITIONS = 4
PADDING = 'x' * 60
TICK_S = 0.05
MOST = 5_000
"""So many numbers are sent at once at most, by a source that has fallen behind."""
QUESTIONS = 5
ASK_EVERY_S = 1.0
ANSWER_S = 20.0
TIMER_S = 0.1
FETCH = 5_000
SHOWN = 1_000


class Number(streams.Record):
    """What is counted.

    Attributes:
        n: 0, 1, 2, …; its key is what is left of it by `KEYS`.
    """

    n: int
    padding: str


def topics_of(name: str) -> tuple[str, str, str]:
    """Return the names of input, echo and closed windows."""
    return f'{name}-numbers', f'{name}-echo', f'{name}-closed'


def declare(flow: Topology, lines: Lines, window_s: float) -> None:
    """Declare tables, agents and timers: each number is echoed, counted, and counted by window."""
    source, echoed, over = topics_of(flow.id)
    numbers = flow.topic(source, value_type=Number, partitions=PARTITIONS)
    echo = flow.topic(echoed, value_type=int, partitions=PARTITIONS)
    closed = flow.topic(over, partitions=PARTITIONS)
    totals = flow.Table('totals', default=int, key_type=str, partitions=PARTITIONS)

    async def on_close(key: str, window: streams.Window, value: int) -> None:
        await closed.send(key=key, value=[int(key), round(window.start * 1000), value])

    spans = flow.Table(
        'spans',
        default=int,
        key_type=str,
        partitions=PARTITIONS,
        window=streams.TumblingWindow(window_s, expires=3 * window_s, grace=window_s / 10),
        on_window_close=on_close,
        idle_advance=window_s / 2,
    )

    @flow.agent(numbers, sink=[echo])
    async def count(stream):  # type: ignore[no-untyped-def]
        async for event in stream.events():
            totals[event.key] += 1
            spans[event.key] += 1
            yield event.value.n

    questions = flow.topic(f'{flow.id}-questions', value_type=int, partitions=PARTITIONS)

    @flow.agent(questions)
    async def double(stream):  # type: ignore[no-untyped-def]
        async for number in stream:
            yield 2 * number

    ask(flow, double, lines)


def ask(flow: Topology, double: Any, lines: Lines) -> None:
    """Declare the timers: one that asks, and one that only runs, often."""

    @flow.timer(ASK_EVERY_S, name='ask')
    async def ask() -> None:
        began = time.monotonic()
        calls = (_answer(double, number) for number in range(QUESTIONS))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        right = sum(answer == 2 * number for number, answer in enumerate(answers))
        failed = sum(isinstance(answer, BaseException) for answer in answers)
        took_s = time.monotonic() - began
        lines.write('asked', began, took_s, right, failed, QUESTIONS - right - failed)

    @flow.timer(TIMER_S, name='tick')
    async def tick() -> None: ...

    @flow.timer(ASK_EVERY_S, name='tell')
    async def tell() -> None:
        ran = flow.schedules['tick']
        lines.write('ticked', time.monotonic(), ran.runs, ran.skipped)


async def _answer(double: Any, number: int) -> Any:
    async with asyncio.timeout(ANSWER_S):
        return await double.ask(value=number, key=str(number))


class Active(features.ServiceFeature):
    """Says when the worker has its partitions."""

    async def startup(self, app: web.Application) -> None:
        """Begin to wait."""
        self._waiting = await scheduler.create_task(app, self._say())

    async def shutdown(self, app: web.Application) -> None:
        """Stop waiting."""
        await scheduler.cancel_task(app, self._waiting)

    async def _say(self) -> None:
        await features.get(self.app, Worker).ready.wait()
        Lines(self.app['config']['samples']).write('active', os.getpid())


class OnJournal(features.ServiceFeature):
    """Works on a connection of its own until it is told to stop.

    Attributes:
        journal: The connection.
        lines: What is recorded.
        topics: Names of input, echo and closed windows.
    """

    journal: Journal

    async def startup(self, app: web.Application) -> None:
        """Connect, and begin."""
        self.lines = Lines(app['config']['record'])
        self.topics = topics_of(app['config']['name'])
        self.journal = journal_of(app)
        await self.journal.connect()
        self._stopping = asyncio.Event()
        self._work = await scheduler.create_task(app, self.work(self._stopping))

    async def work(self, stopping: asyncio.Event) -> None:
        """Do it until `stopping` is set."""
        raise NotImplementedError

    async def before_shutdown(self, app: web.Application) -> None:
        """Let it end by itself, and look at how it ended."""
        self._stopping.set()
        await self._work

    async def shutdown(self, app: web.Application) -> None:
        """Close the connection."""
        await self.journal.close()


class Source(OnJournal):
    """Sends numbers at a steady rate; a line for each bundle, and for each that failed."""

    async def work(self, stopping: asyncio.Event) -> None:
        """Send what is due, every few milliseconds."""
        await self.journal.create([TopicSpec(self.topics[0], PARTITIONS)])
        producer = await self.journal.producer()
        rate, began, sent = self.app['config']['rate'], time.monotonic(), 0
        while not stopping.is_set():
            await asyncio.sleep(TICK_S)
            due = min(int((time.monotonic() - began) * rate), sent + MOST)
            if due == sent:
                continue
            at = time.monotonic()
            outcome = await producer.produce([self._record(n) for n in range(sent, due)])
            for number, result in enumerate(outcome, sent):
                if isinstance(result, Exception):
                    self.lines.write('failed', number)
            self.lines.write('sent', sent, due, at, time.monotonic())
            sent = due

    def _record(self, number: int) -> NewRecord:
        value = b'{"n":%d,"padding":"%s"}' % (number, PADDING.encode())
        return NewRecord(self.topics[0], value, b'%d' % (number % KEYS))


class Checker(OnJournal):
    """Reads what the workers have committed, and looks for what is missing or there twice."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self._seen = bytearray()
        self._count = self._twice = self._in_windows = self._windows_twice = 0
        self._windows: set[tuple[int, int]] = set()

    async def work(self, stopping: asyncio.Event) -> None:
        """Read, and say every second how far it is; at the end, which numbers are missing."""
        _, echo, closed = self.topics
        await self.journal.create([TopicSpec(topic, PARTITIONS) for topic in (echo, closed)])
        reader = await self.journal.reader()
        where = [TopicPartition(topic, n) for topic in (echo, closed) for n in range(PARTITIONS)]
        await reader.assign(dict.fromkeys(where, 0))
        Lines(self.app['config']['samples']).write('active', os.getpid())
        told = 0.0
        while not stopping.is_set():
            for record in await reader.fetch(FETCH, 0.5):
                self._take(record, echo)
            if time.monotonic() - told >= 1:
                told = time.monotonic()
                self._tell(told)
        self._tell(time.monotonic())
        self.lines.write('missing', *self._missing())
        await reader.close()

    def _take(self, record: Record, echo: str) -> None:
        text = record.value or b''
        if record.topic != echo:
            key, start, value = map(int, text.strip(b'[]').split(b','))
            self._windows_twice += (key, start) in self._windows
            self._windows.add((key, start))
            self._in_windows += value
            return
        number = int(text)
        if number >= len(self._seen):
            self._seen.extend(bytes(number + 1_000_000 - len(self._seen)))
        self._twice += self._seen[number]
        self._count += not self._seen[number]
        self._seen[number] = 1

    def _tell(self, at: float) -> None:
        self.lines.write(
            'seen', at, self._count, self._twice, self._in_windows, self._windows_twice
        )

    def _missing(self) -> list[int]:
        highest = self._seen.rfind(1)
        return [n for n in range(highest) if not self._seen[n]][:SHOWN]


async def show_totals(request: web.Request) -> web.Response:
    """Answer with this worker's part of the table."""
    totals = streams.get_streams(request).tables['totals']
    return web.json_response(dict(totals.items()))


def main(role: str, arguments: Sequence[str]) -> None:
    """Run one process until a signal ends it."""
    parser = service.create_parser('soak')
    parser.add_argument('--record', required=True, help='file for what was done')
    parser.add_argument('--samples', required=True, help='file for the size of the process')
    parser.add_argument('--sample-s', type=float, default=10, help='seconds between samples')
    parser.add_argument('--rate', type=float, default=5_000, help='numbers a second')
    parser.add_argument('--window-s', type=float, default=10, help='length of windows')
    app = service.create_app(parser=parser, raw_args=list(arguments))
    Pulse(app)
    if role == 'worker':
        streams.setup(app)
        lines = Lines(app['config']['record'])
        declare(streams.get_streams(app), lines, app['config']['window_s'])
        app.router.add_get('/totals', show_totals)
        Active(app)
    elif role == 'checker':
        Checker(app)
    else:
        Source(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    try:
        main(sys.argv[1], sys.argv[2:])
    except errors.ConfigError as error:
        sys.exit(str(error))
