"""Calling the methods of an asset, on each transport: whatever they do, the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from service_scaffold import assets
from test.assets.conftest import Named, StartService
from test.events.conftest import until


async def move(x: float) -> float:
    return x


class Machine:
    """Methods that misbehave."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.open = asyncio.Event()

    async def wait(self, number: int) -> int:
        self.begun.append(number)
        await self.open.wait()
        return number

    def stop_iteration(self) -> object:
        return next(iter(()))  # type: ignore[call-overload]

    async def cancelled(self) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        inner.cancel()
        await inner

    def no_json(self) -> object:
        return object()

    async def unavailable(self) -> None:
        raise assets.AssetUnavailable('the other one is away')

    async def bad_request(self) -> None:
        raise assets.BadRequest('not that one', ('x: no',))

    def leaves(self) -> None:
        sys.exit(3)

    async def leaves_async(self) -> None:
        sys.exit(3)

    def large(self) -> str:
        return 'x' * 1_000_000


async def test_whatever_a_method_raises_or_returns_the_caller_is_told(
    start: StartService, id_: Named
) -> None:
    machine = Machine()
    names = (
        'stop_iteration',
        'cancelled',
        'no_json',
        'unavailable',
        'bad_request',
        'large',
        'leaves',
        'leaves_async',
    )
    methods = {name: getattr(machine, name) for name in names}
    await assets.add(await start('owner'), id_('mill-1'), methods={**methods, 'move': move})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    for name, kind in {
        'stop_iteration': 'RuntimeError',
        'cancelled': 'CancelledError',
        'no_json': 'EncodeError',
        'unavailable': 'AssetUnavailable',
        'bad_request': 'BadRequest',
        'large': 'EncodeError',
        'leaves': 'SystemExit',
        'leaves_async': 'SystemExit',
    }.items():
        for _ in range(2):  # and it can be called again
            with pytest.raises(assets.MethodFailed) as caught:
                await mill.request(name, timeout_s=10)
            assert caught.value.type == kind
    assert await mill.request('move', x=1) == 1


async def test_an_asset_without_methods_and_a_name_that_is_none_are_told_at_once(
    start: StartService, id_: Named
) -> None:
    await assets.add(await start('owner'), id_('mill-1'), attributes={'wear': 1})
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    began = time.monotonic()
    for name in ('move', 'a.b', '', '#', 'wear'):
        with pytest.raises(assets.UnknownMethod):
            await mill.request(name, timeout_s=20)
    assert time.monotonic() - began < 5


async def test_calls_at_once_get_each_their_own_answer(start: StartService, id_: Named) -> None:
    def blocking(x: float) -> float:
        time.sleep(0.001)
        return -x

    own = {'move': move, 'blocking': blocking}
    await assets.add(await start('owner'), id_('mill-1'), methods=own)
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(mill.request('move', x=n) for n in range(50)),
            *(mill.request('blocking', x=n) for n in range(50)),
        )
    assert answers == [*range(50), *(-n for n in range(50))]


async def test_a_call_is_never_begun_after_its_deadline(start: StartService, id_: Named) -> None:
    machine = Machine()
    await assets.add(
        await start('owner'), id_('mill-1'), methods={'wait': machine.wait, 'move': move}
    )
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    first = asyncio.ensure_future(mill.request('wait', number=1))
    await until(lambda: machine.begun == [1])
    with pytest.raises(TimeoutError, match='has not answered wait within'):
        await mill.request('wait', number=2, timeout_s=0.3)
    assert await mill.request('move', x=1) == 1  # held up by none of them
    machine.open.set()
    assert await first == 1
    assert await mill.request('wait', number=3) == 3
    assert machine.begun == [1, 3]


async def test_the_kinds_of_attributes_that_nobody_has_declared(
    start: StartService, id_: Named
) -> None:
    own = await assets.add(await start('owner'), id_('mill-1'))
    values = {'i': 1, 'f': 0.5, 'b': True, 's': 'x', 'n': None, 'l': [1, {'a': 2.0}]}
    await own.set_many(values)
    await own.set('alarm', 'HOT', kind='condition', tag='Alarm')
    await own.set('alarm', 'OK')
    mill = await assets.open(await start('watcher'), id_('mill-1'))
    kinds = {id: one.kind for id, one in mill.attributes().items()}
    assert kinds == {
        'i': 'sample', 'f': 'sample', 'b': 'event', 's': 'event', 'n': 'event', 'l': 'event',
        'alarm': 'condition', 'avail': 'system',
    }  # fmt: skip
    for id, value in values.items():
        assert (mill[id].value, type(mill[id].value)) == (value, type(value))
    assert (mill['alarm'].value, mill['alarm'].tag) == ('OK', 'Alarm')
    assert (mill['avail'].value, mill['avail'].tag) == ('AVAILABLE', 'Availability')
    assert abs(mill['i'].timestamp - time.time()) < 60
    for id in ('avail', 'above:x', 'a b', '1', 'a/b', ''):
        with pytest.raises(ValueError, match='attribute'):
            await own.set(id, 1)
    with pytest.raises(ValueError, match='JSON'):
        await own.set('i', float('nan'))


@contextlib.contextmanager
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


async def test_a_method_that_hangs_in_its_thread_holds_up_no_other(
    start: StartService, id_: Named
) -> None:
    with released() as open_:
        begun = threading.Event()

        def hang() -> None:
            begun.set()
            open_.wait(20)

        own = {'hang': hang, 'fast': lambda: 1}
        await assets.add(await start('owner'), id_('mill-1'), methods=own)
        mill = await assets.open(await start('watcher'), id_('mill-1'))
        with pytest.raises(TimeoutError):
            await mill.request('hang', timeout_s=0.3)
        assert begun.is_set()
        assert await mill.request('fast') == 1
