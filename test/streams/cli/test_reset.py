"""`reset` on both logs, by the library and by the command."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service_scaffold.apps.stream import StreamApp
from service_scaffold.journal.base import TopicPartition, TopicSpec
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.streams.client import connected
from service_scaffold.streams.feature import journal_of
from service_scaffold.streams.reset import look
from service_scaffold.streams.stores import claim

LIMIT_S = 30


class Shop:
    """An application that counts numbers, made anew for each run as in another process.

    Attributes:
        options: What it is made with.
    """

    def __init__(self, id: str, options: dict[str, Any]) -> None:
        self.id = id
        self.options = options

    @property
    def app(self) -> StreamApp:
        app = StreamApp(
            self.id, web_port=0, store='sqlite://', broker_commit_interval=0.1, **self.options
        )
        numbers = app.topic(f'{self.id}.numbers', value_type=int, partitions=2)
        out = app.topic(f'{self.id}.out', value_type=int, partitions=1)
        seen = app.Table('seen', default=int)

        @app.agent(numbers, sink=[out])
        async def count(stream):
            async for number in stream.group_by(lambda n: n, name='n'):
                seen[number] += 1
                yield seen[number]

        return app

    def work(self, *numbers: int, outputs: int, while_running: Callable[[], None] | None = None):
        """Let a worker handle numbers until there are so many outputs in all; return these."""
        return asyncio.run(self._work(numbers, outputs, while_running))

    async def _work(self, numbers, outputs, while_running):
        app = self.app
        await app.start()
        try:
            for number in numbers:
                await app.topics[f'{self.id}.numbers'].send(key=str(number), value=number)
            found = await self._outputs(outputs)
            if while_running is not None:
                await asyncio.to_thread(while_running)
            return found
        finally:
            await app.stop()

    async def _outputs(self, count: int) -> list[int]:
        journal = await connected(lambda: journal_of(self.app.application))
        name = f'{self.id}.out'
        await journal.create([TopicSpec(name, 1)])
        reader = await journal.reader()
        await reader.assign({TopicPartition(name, 0): 0})
        found: list[int] = []
        async with asyncio.timeout(LIMIT_S):
            while len(found) < count:
                found += [int(record.value) for record in await reader.fetch(100, 0.2)]
        await journal.close()
        return found

    def topics(self) -> list[str]:
        """Return the names of all topics that begin with its own."""

        async def ask() -> list[str]:
            journal = await connected(lambda: journal_of(self.app.application))
            try:
                return await journal.topics(self.id)
            finally:
                await journal.close()

        return asyncio.run(ask())

    def declare(self, *names: str) -> None:
        """Make topics."""

        async def make() -> None:
            journal = await connected(lambda: journal_of(self.app.application))
            await journal.create([TopicSpec(name, 1) for name in names])
            await journal.close()

        asyncio.run(make())


@pytest.fixture(params=['memory', 'kafka'])
def shop(request, unique, tmp_path):
    broker = f'memory://{unique}'
    if request.param == 'kafka':
        broker = request.getfixturevalue('kafka').url
    yield Shop(unique, {'broker': broker, 'datadir': str(tmp_path)})
    discard_broker(unique)


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
def test_the_application_begins_anew(shop, run, tmp_path, guarantee):
    shop.options['processing_guarantee'] = guarantee
    assert shop.work(7, 7, outputs=2) == [1, 2]

    result = run(shop.app, 'reset', '--yes')

    assert result.exit_code == 0, result.output
    assert result.output.endswith(f'{shop.id} begins anew\n')
    assert shop.topics() == [f'{shop.id}.numbers', f'{shop.id}.out']
    assert [path.name for path in (tmp_path / shop.id).iterdir()] == ['worker-0.lock']
    assert shop.work(outputs=4) == [1, 2, 1, 2]  # both numbers again, counted from the beginning


def test_a_dry_run_deletes_nothing(shop, run, tmp_path):
    shop.work(7, 7, outputs=2)
    before = shop.topics()

    found = json.loads(run(shop.app, 'reset', '--dry-run', '--json').output)

    assert {topic['name'] for topic in found['topics']} >= {
        f'{shop.id}-seen-changelog',
        f'{shop.id}-count-n-repartition',
    }
    repartition = next(t for t in found['topics'] if t['name'].endswith('repartition'))
    assert (repartition['partitions'], repartition['records']) == (2, 2)
    assert sum(n for where, n in found['commits'].items() if '.numbers/' in where) == 2
    assert found['directories'] == [str(tmp_path / shop.id / 'worker-0')]
    assert found['members'] == []
    assert shop.topics() == before
    assert shop.work(7, outputs=3) == [1, 2, 3]


def test_it_refuses_while_workers_are_at_work(shop, run, tmp_path):
    results = []

    def try_it() -> None:
        results.append(run(shop.app, 'reset', '--yes'))
        results.append(run(shop.app, 'reset', '--dry-run'))

    shop.work(7, outputs=1, while_running=try_it)

    refused, shown = results
    assert refused.exit_code == 1
    assert f'1 worker of {shop.id} at work, to be stopped first: {shop.id}.' in refused.stderr
    assert f'process {os.getpid()}, in {tmp_path / shop.id / "worker-0"}' in refused.stderr
    assert (shown.exit_code, f'at work    {shop.id}.' in shown.output) == (0, True)
    assert shop.work(7, outputs=2) == [1, 2]  # nothing was deleted


async def test_its_workers_can_be_told_apart(kafka, unique, tmp_path):
    """Two of one host: each with a number of its own, and its process."""
    shops = [Shop(unique, {'broker': kafka.url, 'datadir': str(tmp_path)}).app for _ in range(2)]
    for app in shops:
        await app.start()
    journal = await connected(lambda: journal_of(shops[0].application))
    try:
        found = await look(shops[0], journal)
    finally:
        await journal.close()
        for app in shops:
            await app.stop()

    assert len(set(found.members)) == 2
    assert len(found.holders) == 2


def test_what_is_not_ours_is_left(shop, run):
    """Another application may be called as this one with something behind it."""
    other = [f'{shop.id}-eu-seen-changelog', f'{shop.id}-eu-replies-x']
    shop.work(7, outputs=1)
    shop.declare(*other)

    result = run(shop.app, 'reset', '--yes')

    assert f'left       {other[0]}: declared nowhere in {shop.id}' in result.output
    assert set(other) <= set(shop.topics())


def test_topics_of_answers_go(shop, run):
    """A process that was killed leaves its own behind."""
    name = f'{shop.id}-replies-7f1d1c3e-9d0f-4f0e-8a53-0d9b0c6f3a11'
    shop.declare(name)

    run(shop.app, 'reset', '--yes')

    assert name not in shop.topics()


def test_a_store_that_is_in_use_keeps_everything(shop, run, tmp_path):
    """Its worker may be cut off from the broker, so that the group does not know of it."""
    shop.work(7, outputs=1)
    before = shop.topics()

    with claim(tmp_path, shop.id, slot=0):
        result = run(shop.app, 'reset', '--yes')

    assert result.exit_code == 1
    assert f'process {os.getpid()}, in' in result.stderr
    assert shop.topics() == before


def test_twice(shop, run):
    shop.work(7, outputs=1)
    run(shop.app, 'reset', '--yes')

    result = run(shop.app, 'reset', '--yes')

    assert (result.exit_code, result.output) == (
        0,
        f'There is nothing to be deleted of {shop.id}\n',
    )


def test_nobody_is_asked_where_there_is_nobody(shop, run):
    shop.work(7, outputs=1)
    before = shop.topics()

    result = run(shop.app, 'reset')

    assert result.exit_code == 2
    assert 'give --yes' in result.stderr
    assert shop.topics() == before


def test_a_directory_that_is_not_there_is_no_problem(shop, run):
    shop.options['datadir'] = str(Path(shop.options['datadir']) / 'nowhere')

    assert run(shop.app, 'reset', '--dry-run').exit_code == 0
    assert not Path(shop.options['datadir']).exists()
