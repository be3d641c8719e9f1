"""Owned assets and proxies of them, between two services, on each transport."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service_scaffold import assets
from test.assets.conftest import Named, StartService
from test.events.conftest import until


async def move(x: float, y: float, speed: int = 100) -> str:
    """Move the table.

    Not told to others.
    """
    return f'{x}/{y} at {speed}'


async def test_what_an_owner_has_set_is_read_by_a_service_that_starts_later(
    start: StartService,
    id_: Named,
) -> None:
    own = await assets.add(
        await start('owner'),
        id_('tool-7'),
        kind='tool',
        attributes={'wear': 0.25, 'mode': assets.event('IDLE', tag='Mode')},
    )
    await own.set('wear', 0.5)
    tool = await assets.open(await start('watcher'), id_('tool-7'))
    assert tool.available
    assert tool.kind == 'tool'
    wear, mode = tool['wear'], tool['mode']
    assert (wear.value, wear.kind, wear.quality) == (0.5, 'sample', 'good')
    assert (mode.value, mode.kind, mode.tag) == ('IDLE', 'event', 'Mode')


async def test_an_asset_that_nobody_knows_is_opened_and_is_not_available(
    start: StartService,
    id_: Named,
) -> None:
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    assert not mill.available
    assert mill.get('temperature').value == assets.UNAVAILABLE
    with pytest.raises(KeyError, match='is not known'):
        mill['temperature']


async def test_values_stay_and_are_stale_when_the_owner_has_closed(
    start: StartService, id_: Named
) -> None:
    own = await assets.add(await start('owner'), id_('mill-1'), attributes={'wear': 1})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    await own.close()
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=10)
    assert not mill.available
    assert (mill['wear'].value, mill['wear'].quality) == (1, 'stale')


async def test_each_subscriber_gets_its_changes_in_order_and_disturbs_nobody(
    start: StartService, id_: Named, caplog: pytest.LogCaptureFixture
) -> None:
    own = await assets.add(await start('owner'), id_('mill-1'), attributes={'wear': 0})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
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
    await mill.wait_for('load', lambda value: value == 7, timeout_s=10)
    await until(lambda: len(samples) == 101)
    assert wear == list(range(1, 101))
    assert samples == [*(f'wear={number}' for number in range(1, 101)), 'load=7']
    assert 'ZeroDivisionError' in caplog.text


async def test_methods_are_called_with_checked_arguments(start: StartService, id_: Named) -> None:
    await assets.add(await start('owner'), id_('mill-1'), methods={'move': move})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    assert await mill.request('move', x=1, y=2.5) == '1.0/2.5 at 100'
    with pytest.raises(assets.BadRequest) as caught:
        await mill.request('move', y='abc', z=3)
    assert [text.partition(':')[0] for text in caught.value.errors] == ['z', 'x', 'y']
    with pytest.raises(assets.UnknownMethod, match='it has: move'):
        await mill.request('turn')
    contract = mill['move'].value
    assert contract['description'] == 'Move the table.'
    assert [one['name'] for one in contract['arguments']] == ['x', 'y', 'speed']


async def test_what_a_method_raises_is_told_without_its_traceback(
    start: StartService, id_: Named
) -> None:
    def fail() -> None:
        raise ZeroDivisionError('no way')

    await assets.add(await start('owner'), id_('mill-1'), methods={'fail': fail})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    with pytest.raises(assets.MethodFailed, match='fail failed: ZeroDivisionError: no way'):
        await mill.request('fail')


async def test_an_asset_that_is_away_is_not_asked_unless_the_call_may_wait(
    start: StartService,
    id_: Named,
) -> None:
    owner = await start('owner')
    own = await assets.add(owner, id_('mill-1'), methods={'move': move})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    await own.close()
    await mill.wait_for('avail', lambda value: value == assets.UNAVAILABLE, timeout_s=10)
    with pytest.raises(assets.AssetUnavailable):
        await mill.request('move', x=1, y=1)
    waiting = asyncio.ensure_future(mill.request('move', x=1, y=1, queue=True, timeout_s=10))
    await assets.add(owner, id_('mill-1'), methods={'move': move})
    assert await waiting == '1.0/1.0 at 100'


async def test_a_second_owner_fences_the_first(
    start: StartService, id_: Named, caplog: pytest.LogCaptureFixture
) -> None:
    older = await assets.add(await start('older'), id_('mill-1'), attributes={'wear': 1})
    newer = await assets.add(await start('newer'), id_('mill-1'), attributes={'wear': 2})
    await until(lambda: older.fenced)
    with pytest.raises(assets.Fenced, match='newer owner'):
        await older.set('wear', 3)
    await newer.set('wear', 4)
    assert newer['wear'].value == 4
    assert not newer.fenced
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


async def test_references_are_seen_on_both_sides_and_end_with_the_asset(
    start: StartService,
    id_: Named,
) -> None:
    owner = await start('owner')
    tool = await assets.add(owner, id_('tool-7'))
    mill = await assets.add(owner, id_('mill-1'))
    watcher = await start('watcher')
    seen = await assets.open(watcher, id_('mill-1'))
    told: list[str] = []
    (await assets.open(watcher, id_('tool-7'))).subscribe(lambda one: told.append(one.id))
    await tool.link(below=id_('mill-1'))
    await tool.link(below=id_('mill-1'))
    assert tool.above == {id_('mill-1')}
    await until(lambda: seen.below == {id_('tool-7')})
    await mill.unlink(above=id_('tool-7'))
    await until(lambda: not seen.below)
    await mill.link(above=id_('tool-7'))
    await tool.forget()
    assert mill.below == set()
    await until(lambda: not seen.below)
    assert told == []  # references are no attributes
    forgotten = await assets.open(watcher, id_('tool-7'))
    await until(lambda: not forgotten.known)


async def test_assets_are_found_by_kind_path_and_availability(
    start: StartService, id_: Named
) -> None:
    owner = await start('owner')
    await assets.add(owner, id_('mill-1'), kind=id_('mill'), path=id_('hall-1') + '/west')
    gone = await assets.add(owner, id_('mill-2'), kind=id_('mill'), path=id_('hall-2'))
    await assets.add(owner, id_('saw-1'), kind=id_('saw'), path=id_('hall-1'))
    await gone.close()

    async def ids(**wanted: object) -> list[str]:
        return [one.id for one in await assets.find(owner, **wanted)]  # type: ignore[arg-type]

    assert await ids(kind=id_('mill')) == [id_('mill-1'), id_('mill-2')]
    assert await ids(kind=id_('mill'), available=True) == [id_('mill-1')]
    assert await ids(path=id_('hall-1')) == [id_('mill-1'), id_('saw-1')]
