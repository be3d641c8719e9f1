"""Figures of assets: `python -m bench.assets [BUS …]`; memory and all brokers by default.

One service adds the assets, all at once; then a new service, in a process of its own except in
memory, opens one of them, which takes until it knows them all, and calls a method of it a hundred
times at once. Mosquitto has the defaults of its Debian package, the others have those of the tests.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

from aiohttp import web

from service_scaffold import assets, service
from service_scaffold.testing import running
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ

ASSETS, ATTRIBUTES, CALLS, SETS = 1000, 20, 100, 300
LIMIT_S = 120.0
DEBIAN = {
    'max_queued_messages': '1000',
    'autosave_interval': '1800',
    'autosave_on_changes': 'false',
}
BROKERS: dict[str, Callable[[], Broker]] = {
    'rabbitmq': RabbitMQ,
    'kafka': Kafka,
    'mosquitto': lambda: Mosquitto(settings=DEBIAN),
}
HEAD = '| bus | assets added | all values read | 100 calls | sets/s, one after another |'


@asynccontextmanager
async def started(name: str, url: str) -> AsyncIterator[web.Application]:
    """Run a service that knows assets."""
    limits = [f'--{of}-timeout-s={LIMIT_S}' for of in ('publish', 'connect')]
    arguments = ['--eventbus-url', url, '--instance', name, '--log-level', 'error', *limits]
    app = service.create_app(name, raw_args=arguments)
    assets.setup(app)
    async with running(app):
        yield app


async def double(x: int) -> int:
    """Answer a call."""
    return 2 * x


async def read(url: str) -> dict[str, float]:
    """Know all assets, and call one, in a service that knew nothing."""
    async with started('reader', url) as app:
        began = time.perf_counter()
        asset = await assets.open(app, 'asset-0')
        read_s = time.perf_counter() - began
        known = sum(len(one.attributes('sample')) for one in await assets.find(app, kind='bench'))
        assert known == ASSETS * ATTRIBUTES, f'{known} values'
        began = time.perf_counter()
        answers = await asyncio.gather(*(asset.request('double', x=x) for x in range(CALLS)))
        assert answers == [2 * x for x in range(CALLS)]
        return {'read_s': read_s, 'calls_s': time.perf_counter() - began}


async def read_elsewhere(url: str) -> dict[str, float]:
    """Do `read` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'bench.assets', '--read', url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    found: dict[str, float] = json.loads(output)
    return found


async def measure(name: str, url: str) -> str:
    """Return the row of a bus."""
    values = {f'value-{number}': number / 3 for number in range(ATTRIBUTES)}
    async with started('owner', url) as app:
        began = time.perf_counter()
        own, *_ = await asyncio.gather(
            *(
                assets.add(
                    app,
                    f'asset-{number}',
                    kind='bench',
                    attributes=values,
                    methods={'double': double} if number == 0 else None,
                )
                for number in range(ASSETS)
            )
        )
        added_s = time.perf_counter() - began
        found = await (read if name == 'memory' else read_elsewhere)(url)
        began = time.perf_counter()
        for number in range(SETS):
            await own.set('value-0', number)
        rate = SETS / (time.perf_counter() - began)
    return (
        f'| {name} | {added_s:.1f} s | {found["read_s"]:.2f} s | {found["calls_s"]:.2f} s'
        f' | {rate:,.0f} |'
    )


def main(arguments: list[str]) -> int:
    """Print the table, of all buses or those named."""
    if arguments[:1] == ['--read']:
        print(json.dumps(asyncio.run(read(arguments[1]))))
        return 0
    unknown = set(arguments) - {'memory', *BROKERS}
    if unknown:
        print(f'usage: python -m bench.assets [memory | {" | ".join(BROKERS)}]…', file=sys.stderr)
        return 2
    print(HEAD, '|---|---|---|---|---|', sep='\n')
    for name in arguments or ['memory', *BROKERS]:
        with BROKERS[name]() if name in BROKERS else nullcontext() as broker:
            print(
                asyncio.run(measure(name, broker.url if broker else 'memory://bench')), flush=True
            )
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
