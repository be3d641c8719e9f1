"""Counts the tills of two shops every few seconds, and empties them at six.

python examples/cron.py worker
curl -X POST localhost:6066/sales/north -d 12.5
curl localhost:6066/reports/north
"""

from __future__ import annotations

from service_scaffold.apps import StreamApp
from service_scaffold.streams import Record

SHOPS = ('north', 'south')


class Sale(Record, tag=True):
    """Money goes into a till."""

    amount: float


class Count(Record, tag=True):
    """Somebody looks into a till, and may empty it."""

    closing: bool = False


class Report(Record):
    """What was in a till."""

    amount: float
    closing: bool


app = StreamApp('cron', timezone='Europe/Berlin')
till = app.topic('till', value_type=Sale | Count, partitions=4)
reports = app.topic('reports', value_type=Report, partitions=4)
takings = app.Table('takings', default=float)
latest = app.Table('latest', value_type=Report)


@app.crontab('* * * * * */5', on_leader=True)  # the sixth field: seconds
async def look():
    """Look into the tills: an event like any sale, so that it comes between two of them."""
    for shop in SHOPS:
        await till.send(key=shop, value=Count())


@app.crontab('0 18 * * 1-6', on_leader=True)
async def close():
    """Empty the tills. Only one of all workers does it: the leader."""
    for shop in SHOPS:
        await till.send(key=shop, value=Count(closing=True))


@app.agent(till, sink=[reports])
async def work(stream):
    """Keep the tills."""
    async for shop, entry in stream.items():
        match entry:
            case Sale(amount):
                takings[shop] += amount
            case Count(closing):
                yield Report(takings[shop], closing)
                if closing:
                    takings[shop] = 0.0


@app.agent(reports)
async def remember(stream):
    """Keep the latest report."""
    async for shop, report in stream.items():
        latest[shop] = report


@app.page('/sales/{shop}')
async def add_sale(web, request, shop):
    """Take a sale."""
    await till.send(key=shop, value=Sale(float(await request.text())))
    return web.json({}, status=202)


@app.page('/reports/{shop}')
@app.table_route(latest, match_info='shop')
async def show(web, request, shop):
    """Show the latest report, null before there is one."""
    return web.json(latest.get(shop))


if __name__ == '__main__':
    app.main()
