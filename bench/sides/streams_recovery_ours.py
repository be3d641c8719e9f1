"""A table of which nothing is on disk, from the assignment until its partitions can be used."""

import asyncio

from bench import streaming
from bench.meter import Meter, arguments
from service_scaffold.streams.topology import Topology

url, total, name = arguments()


async def main() -> None:
    meter = Meter(total)
    tables = []

    def declare(app: Topology) -> None:
        counts = app.Table('counts', key_type=str, value_type=dict)
        tables.append(counts)

        @app.agent(app.topic(name))
        async def work(stream):  # type: ignore[no-untyped-def]
            async for _ in stream:
                counts['x'] = {}

    async with streaming.started(url, name, declare) as worker:
        async with asyncio.timeout(streaming.LIMIT_S):
            while worker.session is None or not worker.session.joined.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            meter.start()
            await worker.until_joined()
        (table,) = tables
        found = sum(len(state) for state in table.here.values())
        assert found == total, f'{found} keys of {total} were recovered'
        meter.finish()


asyncio.run(main())
