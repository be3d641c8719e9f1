"""Who announces itself is killed, stopped, or cut off: every watcher is told in time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
import pytest_asyncio

from service_scaffold import errors
from service_scaffold.testing.conformance.connections import (
    Connections,
    Seen,
    following,
    presence_of,
    state_of,
)
from service_scaffold.transports.base import Transport
from test.brokers.process import kill
from test.chaos.processes import start

LEASE_S = 2.0
IN_TIME_S = 1.5 * LEASE_S
MACHINE_S = 0.5
"""What a machine that has other things to do adds to that."""
WILL_S = 0.75 * LEASE_S
"""A will is published when the connection is cut; signs of life are missed later than that."""
SILENCE_S = {'kafka': 15.0, 'rabbitmq': 4.0, 'mosquitto': 4.0}
"""With such a lease a client notices its own silence first: Kafka's needs the default's."""
BACK_S = 30.0


@pytest_asyncio.fixture
async def connections(broker, unique):
    """Connections of this process to the broker; closed when it is there again."""
    made = Connections(broker.url, unique, LEASE_S)
    yield made
    await asyncio.to_thread(broker.start)
    await made.close()


@pytest.fixture
def announcer(broker, unique, tmp_path):
    """Start a process that announces itself as `mill`; killed at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(payload: str, lease_s: float = LEASE_S) -> subprocess.Popen[bytes]:
        options = {
            'url': broker.url,
            'namespace': unique,
            'id': 'mill',
            'payload': payload,
            'lease_s': lease_s,
        }
        log = tmp_path / f'{payload}.log'
        processes.append(start('test.chaos.announcer', options, log))
        return processes[-1]

    yield begin
    for process in processes:
        kill(process)


Begin = Callable[..., 'subprocess.Popen[bytes]']


async def watcher(connections: Connections) -> Seen:
    """Watch with a new connection, and know how it stood."""
    transport = connections.make('watcher')
    seen = Seen().watch(transport)
    await connections.connect(transport)
    await presence_of(transport).caught_up()
    return seen


async def test_a_killed_process_is_lost_in_time_and_comes_back(
    broker, connections: Connections, announcer: Begin
):
    """Watchers of then and of later are told; its next life is another one."""
    seen = await watcher(connections)
    process = announcer('first')
    await seen.until('mill', ('present', b'first'))

    killed = time.monotonic()
    kill(process)
    await seen.until('mill', ('present', b'first'), ('lost', b'first'))
    assert time.monotonic() - killed < (
        WILL_S if broker.name == 'mosquitto' else IN_TIME_S + MACHINE_S
    )

    late = await watcher(connections)
    await late.last('mill', ('lost', b'first'), IN_TIME_S)
    announcer('second')
    for one in (seen, late):
        await one.last('mill', ('present', b'second'))
    await asyncio.sleep(IN_TIME_S)
    for one in (seen, late):
        assert one.of('mill')[-2:] == [('lost', b'first'), ('present', b'second')]


async def test_a_quick_restart_is_no_loss_of_the_new_one(
    connections: Connections, announcer: Begin
):
    """The late notice of the old life, if there is one, comes before the new one or not at all."""
    seen = await watcher(connections)
    process = announcer('first')
    await seen.until('mill', ('present', b'first'))

    kill(process)
    announcer('second')
    await seen.last('mill', ('present', b'second'))
    await asyncio.sleep(IN_TIME_S)

    assert seen.of('mill')[-1] == ('present', b'second')
    assert ('lost', b'second') not in seen.of('mill')
    assert (await watcher(connections)).of('mill') == [('present', b'second')]


async def test_a_stopped_process_counts_as_lost_until_it_goes_on(
    connections: Connections, announcer: Begin
):
    """SIGSTOP leaves its connection open; SIGCONT brings it back, with the same payload."""
    seen = await watcher(connections)
    process = announcer('only')
    await seen.until('mill', ('present', b'only'))

    stopped = time.monotonic()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await seen.until('mill', ('present', b'only'), ('lost', b'only'))
        assert time.monotonic() - stopped < IN_TIME_S + MACHINE_S
    finally:
        os.kill(process.pid, signal.SIGCONT)
    await seen.last('mill', ('present', b'only'), BACK_S)


async def test_a_watcher_that_is_cut_off_takes_nobody_for_lost(
    broker, connections: Connections, unique, announcer: Begin
):
    """It notices its own silence first, and ends: with the same lease, as where nobody sets it."""
    lease_s = SILENCE_S[broker.name]
    announcer('only', lease_s)
    cut_off = Connections(broker.proxied_url, unique, lease_s)
    transport = cut_off.make('watcher')
    seen = Seen().watch(transport)
    await cut_off.connect(transport)
    await seen.until('mill', ('present', b'only'))

    broker.proxy.half_open()
    async with asyncio.timeout(BACK_S):
        await transport.lost
    await cut_off.close()
    broker.proxy.restore()

    assert seen.of('mill') == [('present', b'only')]


async def test_who_dies_while_the_broker_is_away_is_lost_after_it(
    broker, connections: Connections, announcer: Begin
):
    """No broker could have told anybody at the time; what it had confirmed outlives its crash."""
    seen = await watcher(connections)
    process = announcer('only')
    await seen.until('mill', ('present', b'only'))
    _, values = await stored_by_an_owner(connections)

    await asyncio.sleep(broker.saved_s)
    await asyncio.to_thread(broker.kill)
    kill(process)
    await asyncio.to_thread(broker.start)

    late = await watcher(connections)
    await late.last('mill', ('lost', b'only'), BACK_S)
    assert await stored(connections) == values


async def test_values_outlive_their_owner_and_the_broker(broker, connections: Connections):
    """What was confirmed is there when nobody is left who had written it."""
    owner, values = await stored_by_an_owner(connections)
    await owner.close()
    await asyncio.to_thread(broker.restart)

    assert await stored(connections) == values


async def stored_by_an_owner(connections: Connections) -> tuple[Transport, dict[str, bytes]]:
    """Store values, and delete one of them; return who did and what should be left."""
    values = {f'mill-{n}/temperature': b'%d' % n for n in range(200)}
    owner = await connections.open('owner')
    await state_of(owner).put_many(list(values.items()))
    await state_of(owner).put('mill-0/temperature', None)
    del values['mill-0/temperature']
    return owner, values


async def stored(connections: Connections) -> dict[str, bytes]:
    """Read what is stored; a broker that has just come back may end connections again."""
    async with asyncio.timeout(BACK_S):
        while True:
            try:
                async with following(await connections.open()) as changes:
                    return await changes.snapshot()
            except errors.TransportError as error:
                print(f'not yet: {error!r}')
                await asyncio.sleep(0.2)
