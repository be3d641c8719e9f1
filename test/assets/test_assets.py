"""Owned assets and proxies of them, between two services on one bus."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service_scaffold import assets
from test.assets.conftest import StartService
from test.events.conftest import until


async def move(x: float, y: float, speed: int = 100) -> str:
    """Move the table.

    Not told to others.
    """
    return f'{x}/{y} at {speed}'


async def test_what_an_owner_has_set_is_read_by_a_service_that_starts_later(
    start: StartService,
) -> None:
    own = await assets.add(
        await start('owner'),
        'tool-7',
        kind='tool',
        attributes={'wear': 0.25, 'mode': assets.event('IDLE', tag='Mode')},
    )
    await own.set('wear', 0.5)
    tool = await assets.open(await start('watcher'), 'tool-7')
    assert tool.available
    assert tool.kind == 'tool'
    wear, mode = tool['wear'], tool['mode']
    assert (wear.value, wear.kind, wear.quality) == (0.5, 'sample', 'good')
    assert (mode.value, mode.kind, mode.tag) == ('IDLE', 'event', 'Mode')


async def test_an_asset_that_nobody_knows_is_opened_and_is_not_available(
    start: StartService,
) -> None:
    mill = await assets.open(await start('watcher'), 'mill-1')
    assert not mill.available
    assert mill.get('temperature').value == assets.UNAVAILABLE
    with pytest.raises(KeyError, match='mill-1 is not known'):
        mill['temperature']


async def test_values_stay_and_are_stale_when_the_owner_has_closed(start: StartService) -> None:
    own = await assets.add(await start('owner'), 'mill-1', attributes={'wear': 1})
    mill = await assets.open(await start('watcher'), 'mill-1')
    await own.close()
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=2)
    assert not mill.available
    assert (mill['wear'].value, mill['wear'].quality) == (1, 'stale')


async def test_each_subscriber_gets_its_changes_in_order_and_disturbs_nobody(
    start: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    own = await assets.add(await start('owner'), 'mill-1', attributes={'wear': 0})
    mill = await assets.open(await start('watcher'), 'mill-1')
    wear: list[int] = []
    samples: list[str] = []

    def fail(attribute: assets.Attribute) -> None:
        raise ZeroDivisionError(attribute.id)

    async def note(attribute: assets.Attribute) -> None:
        samples.append(f'{attribute.id}={attribute.value}')

    mill.subscribe(fail)
    mill.subscribe(lambda attribute: wear.append(attribute.value), attribute='wear')
    mill.subscribe(note, kind='sample')
    for number in range(1, 101):
        await own.set_many({'wear': number, 'mode': str(number)})
    await own.set('load', 7)
    await mill.wait_for('load', lambda value: value == 7, timeout_s=5)
    await until(lambda: len(samples) == 101)
    assert wear == list(range(1, 101))
    assert samples == [*(f'wear={number}' for number in range(1, 101)), 'load=7']
    assert 'ZeroDivisionError' in caplog.text


async def test_methods_are_called_with_checked_arguments(start: StartService) -> None:
    await assets.add(await start('owner'), 'mill-1', methods={'move': move})
    mill = await assets.open(await start('watcher'), 'mill-1')
    assert await mill.request('move', x=1, y=2.5) == '1.0/2.5 at 100'
    with pytest.raises(assets.BadRequest) as caught:
        await mill.request('move', y='abc', z=3)
    assert [text.partition(':')[0] for text in caught.value.errors] == ['z', 'x', 'y']
    with pytest.raises(assets.UnknownMethod, match='it has: move'):
        await mill.request('turn')
    contract = mill['move'].value
    assert contract['description'] == 'Move the table.'
    assert [one['name'] for one in contract['arguments']] == ['x', 'y', 'speed']


async def test_what_a_method_raises_is_told_without_its_traceback(start: StartService) -> None:
    def fail() -> None:
        raise ZeroDivisionError('no way')

    await assets.add(await start('owner'), 'mill-1', methods={'fail': fail})
    mill = await assets.open(await start('watcher'), 'mill-1')
    with pytest.raises(assets.MethodFailed, match='fail failed: ZeroDivisionError: no way'):
        await mill.request('fail')


async def test_an_asset_that_is_away_is_not_asked_unless_the_call_may_wait(
    start: StartService,
) -> None:
    owner = await start('owner')
    own = await assets.add(owner, 'mill-1', methods={'move': move})
    mill = await assets.open(await start('watcher'), 'mill-1')
    await own.close()
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=2)
    with pytest.raises(assets.AssetUnavailable):
        await mill.request('move', x=1, y=1)
    waiting = asyncio.ensure_future(mill.request('move', x=1, y=1, queue=True, timeout_s=5))
    await assets.add(owner, 'mill-1', methods={'move': move})
    assert await waiting == '1.0/1.0 at 100'


async def test_a_second_owner_fences_the_first(
    start: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    older = await assets.add(await start('older'), 'mill-1', attributes={'wear': 1})
    newer = await assets.add(await start('newer'), 'mill-1', attributes={'wear': 2})
    await until(lambda: older.fenced)
    with pytest.raises(assets.Fenced, match='newer owner'):
        await older.set('wear', 3)
    await newer.set('wear', 4)
    assert newer['wear'].value == 4
    assert not newer.fenced
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


async def test_references_are_seen_on_both_sides_and_end_with_the_asset(
    start: StartService,
) -> None:
    owner = await start('owner')
    tool = await assets.add(owner, 'tool-7')
    mill = await assets.add(owner, 'mill-1')
    watcher = await start('watcher')
    seen = await assets.open(watcher, 'mill-1')
    await tool.link(below='mill-1')
    await tool.link(below='mill-1')
    assert tool.above == {'mill-1'}
    await until(lambda: seen.below == {'tool-7'})
    await mill.unlink(above='tool-7')
    await until(lambda: not seen.below)
    await mill.link(above='tool-7')
    await tool.forget()
    assert mill.below == set()
    await until(lambda: not seen.below)
    assert not (await assets.open(watcher, 'tool-7')).known


async def test_assets_are_found_by_kind_path_and_availability(start: StartService) -> None:
    owner = await start('owner')
    await assets.add(owner, 'mill-1', kind='mill', path='hall-1/west')
    gone = await assets.add(owner, 'mill-2', kind='mill', path='hall-2')
    await assets.add(owner, 'saw-1', kind='saw', path='hall-1')
    await gone.close()

    async def ids(**wanted: object) -> list[str]:
        return [one.id for one in await assets.find(owner, **wanted)]  # type: ignore[arg-type]

    assert await ids(kind='mill') == ['mill-1', 'mill-2']
    assert await ids(kind='mill', available=True) == ['mill-1']
    assert await ids(path='hall-1') == ['mill-1', 'saw-1']
