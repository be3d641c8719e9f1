"""A machine that is an asset: sensors, a mode, and a method that takes a while.

    python examples/mill.py --eventbus-url mqtt://localhost

Then look at it from anywhere: `service-scaffold assets show mill-1 --url mqtt://localhost`, or
`curl localhost:5000/mill-1/assets/mill-1`. Move its table:

    curl -d '{"x": 3, "y": 4}' localhost:5000/mill-1/assets/mill-1/methods/move

Kill it (`kill -9`): within the lease, 15 s, everybody sees that it has gone.
"""

from __future__ import annotations

import asyncio
import math

from service_scaffold import assets
from service_scaffold.apps import AssetApp

SPEED = 10.0


class Mill(AssetApp):
    """A milling machine with one table."""

    APPLICATION_MANUFACTURER = 'Examples & Sons'

    temperature = assets.sample(20.0, tag='Temp')
    distance = assets.sample(0.0, tag='Distance')
    mode = assets.event('IDLE', tag='Mode')
    spindle = assets.condition('NORMAL', tag='Spindle')

    @assets.method(description='Move the table; tells how far it has come')
    async def move(self, x: float, y: float, speed: float = SPEED) -> float:
        if speed <= 0:
            raise ValueError('speed must be above 0')
        way = math.hypot(x, y)
        await self.set('mode', 'RUN')
        await asyncio.sleep(way / speed)
        await self.set_many({'mode': 'IDLE', 'distance': self.distance.value + way})
        return way

    async def async_main_loop(self) -> None:
        while True:
            warmth = 1.0 if self.mode.value == 'RUN' else -0.1
            self.temperature = round(max(20.0, self.temperature.value + warmth), 1)
            self.spindle = 'HOT' if self.temperature.value > 25 else 'NORMAL'
            await asyncio.sleep(0.1)


if __name__ == '__main__':
    Mill('mill-1').run()
