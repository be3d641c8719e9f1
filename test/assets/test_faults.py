"""Owning and calling when the bus fails, in memory: nothing is owned by halves, nothing is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiohttp import web

from service_scaffold import assets, errors, service
from service_scaffold.assets import record as records
from service_scaffold.testing import MemoryBus, memory_bus, running
from test.events.conftest import until

FLAGS = ('--publish-timeout-s', '0.3', '--connect-timeout-s', '2', '--asset-lease-s', '1')


class Hall:
    """Two services on one bus."""

    def __init__(self, owner: web.Application, watcher: web.Application) -> None:
        self.owner = owner
        self.watcher = watcher
        self.bus: MemoryBus = memory_bus(owner)

    async def open(self) -> assets.AssetProxy:
        return await assets.open(self.watcher, 'mill-1')


@pytest_asyncio.fixture
async def hall(unique: str) -> AsyncIterator[Hall]:
    async with AsyncExitStack() as services:
        apps = []
        for name in ('owner', 'watcher'):
            url = f'memory://{unique}'
            app = service.create_app(name, raw_args=['--eventbus-url', url, *FLAGS])
            assets.setup(app)
            await services.enter_async_context(running(app))
            apps.append(app)
        made = Hall(*apps)
        yield made
        made.bus.up()
        made.bus.slow(0)


async def move(x: float) -> float:
    return x


async def test_adding_that_fails_half_way_leaves_nothing_owned_answered_or_available(
    hall: Hall,
) -> None:
    mill = await hall.open()
    await assets.open(hall.owner, 'other')
    hall.bus.slow(0.12)  # its attributes go out in time, its availability does not
    with pytest.raises((TimeoutError, errors.PublishError)):
        await assets.add(
            hall.owner, 'mill-1', attributes={'wear': 1}, methods={'move': move}, timeout_s=0.3
        )
    hall.bus.slow(0)
    assert assets.get_assets(hall.owner).owned == {}
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=5)
    await asyncio.sleep(0.3)
    assert not mill.available
    with pytest.raises(assets.AssetUnavailable):
        await mill.request('move', x=1)
    own = await assets.add(hall.owner, 'mill-1', methods={'move': move})
    await mill.wait_for('avail', lambda value: value == assets.AVAILABLE, timeout_s=5)
    assert await mill.request('move', x=1) == 1
    assert own.available


async def test_adding_that_never_reached_the_bus_takes_nothing_from_the_present_owner(
    hall: Hall,
) -> None:
    own = await assets.add(hall.owner, 'mill-1')
    await hall.open()
    hall.bus.down()
    with pytest.raises((TimeoutError, errors.PublishError)):
        await assets.add(hall.watcher, 'mill-1', attributes={'wear': 1}, timeout_s=0.2)
    adding = asyncio.ensure_future(assets.add(hall.watcher, 'mill-1'))
    await asyncio.sleep(0.05)
    adding.cancel()
    await asyncio.wait({adding})
    hall.bus.up()
    await own.set('wear', 2)
    await until(lambda: own.available)
    assert not own.fenced
    assert assets.get_assets(hall.watcher).owned == {}


async def test_of_two_that_add_the_same_asset_at_once_one_owns_it(hall: Hall) -> None:
    both = await asyncio.gather(
        *(assets.add(hall.owner, 'mill-1') for _ in range(2)), return_exceptions=True
    )
    assert [type(one) for one in both] == [assets.OwnedAsset, ValueError]
    rivals = await asyncio.gather(
        *(
            assets.add(app, 'saw-1', attributes={'by': app['config']['name']})
            for app in (hall.owner, hall.watcher)
        ),
        return_exceptions=True,
    )
    owners = [one for one in rivals if isinstance(one, assets.OwnedAsset)]
    await until(lambda: sum(one.available for one in owners) == 1)


async def test_an_asset_that_could_not_say_good_bye_says_it_later(hall: Hall) -> None:
    own = await assets.add(hall.owner, 'mill-1', attributes={'wear': 1})
    mill = await hall.open()
    hall.bus.down()
    with pytest.raises(errors.PublishError):
        await own.close()
    await own.close()
    hall.bus.up()
    await until(lambda: assets.get_assets(hall.watcher).health().ok)
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=5)
    await asyncio.sleep(0.1)
    assert not mill.available
    assert mill['wear'].value == 1


async def test_forgetting_with_the_bus_away_leaves_an_asset_that_works(hall: Hall) -> None:
    own = await assets.add(hall.owner, 'mill-1', attributes={'wear': 1}, methods={'move': move})
    mill = await hall.open()
    hall.bus.down()
    with pytest.raises(errors.PublishError):
        await own.forget()
    hall.bus.up()
    await until(lambda: mill.available)
    assert await mill.request('move', x=2, queue=True) == 2
    await own.set('wear', 3)
    await mill.wait_for('wear', lambda value: value == 3, timeout_s=5)
    await own.forget()
    await until(lambda: not mill.known)
    with pytest.raises(assets.AssetUnavailable):
        own.assign('wear', 4)
    await asyncio.sleep(0.05)
    assert not mill.known


async def test_a_forgotten_asset_can_be_owned_again_at_once(hall: Hall) -> None:
    mill = await hall.open()
    own = await assets.add(hall.owner, 'mill-1', attributes={'wear': 1})
    await own.forget()
    own = await assets.add(hall.owner, 'mill-1', attributes={'mode': 'IDLE'})
    await own.link(below='hall-1')
    await mill.wait_for('mode', lambda value: value == 'IDLE', timeout_s=5)
    await asyncio.sleep(0.05)
    assert set(mill) == {'mode', 'avail'}
    assert mill.above == own.above == {'hall-1'}
    assert own['mode'].value == 'IDLE'


async def test_after_a_newer_owner_assigning_does_nothing_and_setting_raises(hall: Hall) -> None:
    older = await assets.add(hall.owner, 'mill-1', attributes={'wear': 1})
    newer = await assets.add(hall.watcher, 'mill-1', attributes={'wear': 2})
    await until(lambda: older.fenced)
    older.assign('wear', 3)
    with pytest.raises(assets.Fenced):
        await older.set('wear', 3)
    await older.close()
    await asyncio.sleep(0.05)
    assert newer.available
    assert newer['wear'].value == 2
    assert assets.get_assets(hall.owner).health().ok


async def test_what_is_assigned_meanwhile_arrives_when_the_bus_is_back_newest_and_in_order(
    hall: Hall,
) -> None:
    own = await assets.add(hall.owner, 'mill-1', attributes={'wear': 0, 'mode': 'IDLE'})
    mill = await hall.open()
    seen: list[tuple[str, object]] = []
    mill.subscribe(lambda told: seen.append((told.id, told.value)), kind='sample')
    hall.bus.down()
    for number in range(1, 100):
        own.assign('wear', number)
        assert own['wear'].value == number
    own.assign('load', 1)
    assert mill['wear'].value == 0  # as new as what the bus has told
    hall.bus.up()
    began = time.monotonic()
    await mill.wait_for('load', lambda value: value == 1, timeout_s=10)
    assert time.monotonic() - began < 3
    assert seen == [('wear', 99), ('load', 1)]


async def test_threads_assign_while_the_loop_sets_and_reads(hall: Hall) -> None:
    own = await assets.add(hall.owner, 'mill-1')
    mill = await hall.open()
    stop = threading.Event()

    def work(name: str) -> None:
        number = 0
        while not stop.is_set() or number < 50:
            number += 1
            own.assign(f'{name}.{number % 20}', number)
            assert own[f'{name}.{number % 20}'].value == number
            time.sleep(0.0005)
        own.assign(f'{name}.end', 'end')

    threads = [asyncio.to_thread(work, f't{n}') for n in range(4)]
    working = asyncio.gather(*threads)
    for number in range(100):
        await own.set('shared', number)
        assert own['shared'].value == number
        _ = mill.attributes(), len(own._view)
    stop.set()
    await working
    for n in range(4):
        await mill.wait_for(f't{n}.end', lambda value: value == 'end', timeout_s=5)
    await until(lambda: all(mill[id].value == own[id].value for id in mill))


async def test_a_call_that_may_wait_outlives_a_bus_that_is_away(hall: Hall) -> None:
    own = await assets.add(hall.owner, 'mill-1', methods={'move': move})
    mill = await hall.open()
    hall.bus.down()
    await until(lambda: not assets.get_assets(hall.watcher).health().ok)
    asking = asyncio.ensure_future(mill.request('move', x=1, queue=True, timeout_s=10))
    with pytest.raises((assets.AssetUnavailable, TimeoutError)):
        await mill.request('move', x=1, timeout_s=1)
    hall.bus.up()
    assert await asking == 1
    assert own.available


async def test_a_call_whose_caller_gives_up_leaves_nothing_behind(hall: Hall) -> None:
    begun = asyncio.Event()

    async def linger() -> None:
        begun.set()
        await asyncio.sleep(0.2)

    await assets.add(hall.owner, 'mill-1', methods={'linger': linger, 'move': move})
    mill = await hall.open()
    call = asyncio.ensure_future(mill.request('linger'))
    await begun.wait()
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    assert await mill.request('move', x=1) == 1
    with pytest.raises(TimeoutError):
        await mill.request('linger', timeout_s=0.05)
    assert assets.get_assets(hall.watcher).mirror.view('mill-1').watches == []


async def test_an_owner_that_left_while_nobody_listened_is_not_available(hall: Hall) -> None:
    """Its word of going got lost, and it counts as no loss, as it has left."""
    await assets.add(hall.owner, 'mill-1')
    mill = await hall.open()
    feature = assets.get_assets(hall.watcher)
    assert mill.available
    feature.mirror.meet()
    feature.mirror.begin()
    for id, record in feature.mirror.view('mill-1').records.items():
        feature.mirror.take(f'mill-1/{id}', records.encode(record))
    assert feature.mirror.end() == {}
    feature.mirror.judge(time.monotonic())
    assert mill.available  # it may be on its way back, too
    feature.mirror.doubt()
    feature.mirror.judge(time.monotonic())
    assert not mill.available


async def test_assets_that_were_only_asked_for_take_no_memory(hall: Hall) -> None:
    feature = assets.get_assets(hall.watcher)
    for number in range(10):
        proxy = await assets.open(hall.watcher, f'nobody-{number}')
        assert not proxy.known
        proxy.subscribe(print).close()
        with pytest.raises(TimeoutError):
            await proxy.wait_for('mode', bool, timeout_s=0.001)
    assert feature.mirror.views == {}


@pytest.mark.parametrize('value', ['x' * 1_000_000, [0.5] * 400_000])
async def test_a_value_that_no_broker_would_take_is_refused_at_once(
    hall: Hall, value: object
) -> None:
    own = await assets.add(hall.owner, 'mill-1')
    for setting in (own.set('image', value), own.set_many({'image': value})):
        with pytest.raises(errors.EncodeError, match=r'mill-1\.image: .* may have 900000'):
            await setting
    with pytest.raises(errors.EncodeError):
        own.assign('image', value)
    await own.set('image', 'x' * 800_000)
