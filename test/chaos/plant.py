"""The process that is an asset: with each kind of main loop, and one that takes over."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from service_scaffold import assets, options
from service_scaffold.apps import AssetApp


class Plant(AssetApp):
    """What all of them have."""

    PREFIX = ''

    temperature = assets.sample(tag='Temp')
    mode = assets.event('IDLE', tag='Mode')
    state = assets.condition('NORMAL', tag='State')

    def add_arguments(self, parser: options.OptionParser) -> None:
        super().add_arguments(parser)
        parser.add_argument('--exchange')
        parser.add_argument('--loop')

    @assets.method(description='Move the table')
    async def move(self, x: float, y: float, speed: int = 100) -> str:
        await asyncio.sleep(0)
        return f'{x}/{y} at {speed}'

    @assets.method(name='turn')
    def rotate(self, degrees: float) -> float:
        return degrees % 360

    @assets.method
    async def heat(self, to: float) -> bool:
        """Set an attribute, confirmed; tell whether that was ours to do."""
        try:
            await self.set('temperature', to)
        except assets.Fenced:
            return False
        return True

    @assets.method
    async def linger(self) -> None:
        await asyncio.Event().wait()

    def app_event_loop_stopped(self) -> None:
        print('The hook has run', flush=True)

    def begin(self) -> None:
        """Say when the loop began."""
        print(f'Begun at {time.time():.6f}', flush=True)
        self.logger.info('First line of the loop')


class InLoop(Plant):
    """Works on the event loop."""

    async def async_main_loop(self) -> None:
        self.begin()
        while True:
            self.temperature = 21.5
            await asyncio.sleep(0.1)


class Idle(Plant):
    """Has nothing to do but to be called."""

    async def async_main_loop(self) -> None:
        await asyncio.Event().wait()

    async def rotate(self, degrees: float) -> float:  # type: ignore[override]
        return -degrees % 360  # by the name that it has above


class InThread(Plant):
    """Works in a thread, and ends in time."""

    def main_loop(self) -> None:
        self.begin()
        while not self.stopping.is_set():
            self.temperature = 21.5
            self.sleep(0.1)


class Stubborn(Plant):
    """Never looks at `stopping`, as one that was written for something else."""

    def main_loop(self) -> None:
        counter = 1
        while True:
            self.logger.info('Counter: %d', counter)
            counter += 1
            time.sleep(2)


class FailsInThread(Plant):
    """Its loop raises."""

    def main_loop(self) -> None:
        raise ZeroDivisionError('too fast')


class FailsInLoop(Plant):
    """Its loop raises, too."""

    async def async_main_loop(self) -> None:
        raise ZeroDivisionError('too fast')


def main() -> None:
    """Run the class that `--loop` names."""
    name = next(flag for flag in sys.argv if flag.startswith('--loop=')).partition('=')[2]
    kind: Any = globals()[name]
    kind('plant').run()


if __name__ == '__main__':
    main()
