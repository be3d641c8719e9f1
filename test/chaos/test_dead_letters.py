"""Dead-letter stores that are away: nothing is lost, and all goes on when they are back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from service_scaffold import events, service
from service_scaffold.testing.conformance import Inbox, Instances, RawInbox
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.required import require_broker
from test.chaos.processes import Worker
from test.chaos.stores import KafkaStore, MosquittoStore, Store

BODY = b'{"n" :  1, "fails": true }'


@pytest_asyncio.fixture(
    params=('kafka-refuses', 'kafka-missing', 'mosquitto-denies', 'mosquitto-hangs-up')
)
async def store(request: pytest.FixtureRequest, unique: str, brokers) -> AsyncIterator[Store]:
    """The dead-letter store of the exchange `unique`, which takes nothing."""
    made: Store
    if request.param.startswith('kafka'):
        made = kafka = KafkaStore(brokers(Kafka), unique, missing=request.param == 'kafka-missing')
        await kafka.make()
    else:
        require_broker(Mosquitto)
        made = MosquittoStore(unique, hangs_up=request.param == 'mosquitto-hangs-up')
    yield made
    made.close()


@pytest_asyncio.fixture
async def instances(store: Store, unique: str) -> AsyncIterator[Instances]:
    """Instances of one service on the broker of the store."""
    made = Instances(store.broker.url, f's{unique}')
    yield made
    await made.stop()


class Failing(Inbox):
    """A handler that keeps what it is given, and fails if the message says so.

    Attributes:
        attempts: How often it has failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    async def __call__(
        self, subscription: events.EventSubscription, key: str, message: dict
    ) -> object:
        """Keep the message, or fail."""
        if message.get('fails'):
            self.attempts += 1
            raise ValueError('as the message says')
        self.put(key, message['n'])
        return None


def refusals(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged of each vain attempt to store a letter."""
    return [record for record in caplog.records if 'to store the dead letter' in record.message]


async def test_a_store_that_refuses_is_asked_ever_less_until_it_accepts(
    store, instances, unique, caplog
):
    """The message waits unsettled and those behind it too; nobody has to do anything."""
    caplog.set_level(logging.DEBUG, 'service_scaffold.events.graveyard')
    app = instances.make(**store.options)
    service.furnish(app, '')
    instance = await instances.start(app=app)
    work, others, letters = Failing(), Inbox(), RawInbox()
    policy = events.Policy(retry=events.Retry(attempts=3, base_s=0.01))
    made = await instance.subscribe(unique, '#', work, group='g', policy=policy)
    await instance.subscribe(f'{unique}.out', '#', others, group='g')
    await instance.publish(unique, 'tank.a', BODY, key='k', content_type='application/json')
    await instance.publish(unique, 'tank.b', {'n': 2}, key='k')

    await eventually(lambda: made.state == 'dlq_unavailable')
    await eventually(lambda: len(refusals(caplog)) >= 4, 30)
    found = refusals(caplog)
    pauses = [record.args[3] for record in found]
    assert all(pause >= 0.25 * 2**number for number, pause in enumerate(pauses[:4]))
    gaps = [after.created - before.created for before, after in pairwise(found)]
    # A first new connection, if the broker has hung up, ends the first pause.
    assert all(gap > pause - 0.05 for gap, pause in list(zip(gaps, pauses, strict=False))[1:])
    if isinstance(store, MosquittoStore):
        assert store.denied() <= len(found) + 1

    await instance.publish(f'{unique}.out', 'tank', 'unhindered')
    assert (await others.next()).value == 'unhindered'
    await eventually(lambda: made.state == 'dlq_unavailable')
    response = await instance.running.client.get('/_service/status')
    assert 'dlq_unavailable' in await response.text()
    assert (work.attempts, work.values) == (3, [])
    assert (made.stats.dead_lettered, await store.settled()) == (0, 0)
    assert made.last_error is not None

    await store.open()
    assert (await work.next(45)).value == 2
    await instance.subscribe(f'{unique}.dlq', '#', letters, **store.reading)
    letter = await letters.next()
    assert (letter.key, letter.value) == ('tank.a', BODY)
    facts = {name: letter.message.headers[f'x-death-{name}'] for name in ('reason', 'attempts')}
    assert facts == {'reason': 'retries_exhausted', 'attempts': '3'}
    assert letter.message.headers['x-death-error'] == 'ValueError: as the message says'
    assert letter.message.headers['x-origin-group'] == 'g'
    await eventually(lambda: made.state == 'active')
    async with asyncio.timeout(5):
        while await store.settled() < 2:  # noqa: ASYNC110 - a broker has to be asked
            await asyncio.sleep(0.05)
    if not store.hangs_up:  # else the message was delivered again on the next connection
        assert (work.attempts, made.stats.dead_lettered, len(letters.values)) == (3, 1, 1)


async def test_a_message_outlives_the_instance_that_could_not_bury_it(
    store, instances, unique, tmp_path: Path
):
    """Killed instead of helped: who comes next has the message, then its letter."""
    watch, told, letters = await instances.start('watch', **store.options), Inbox(), RawInbox()
    await watch.subscribe(f'{unique}.out', '#', told)
    options = {'log_level': 'DEBUG', **store.options}
    async with Worker(store.broker.url, unique, 'a', tmp_path, **options) as first:
        await watch.publish(unique, 'tank', BODY, key='k', content_type='application/json')
        assert [one.value['by'] for one in await told.take(3)] == ['a'] * 3
        again_in_vain = 'attempt 3 to store the dead letter'
        await eventually(lambda: again_in_vain in first.log.read_text())
        first.kill()

    heir = 'a' if store.same_instance else 'b'
    async with Worker(store.broker.url, unique, heir, tmp_path, **options):
        again = await told.take(3, 30)
        assert [(one.value['by'], one.value['n']) for one in again] == [(heir, 1)] * 3
        await store.open()
        await watch.subscribe(f'{unique}.dlq', '#', letters, **store.reading)
        assert (await letters.next(45)).value == BODY
