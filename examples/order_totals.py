"""Sums up what each customer orders in a minute, and bills the sum when the minute is over.

python examples/order_totals.py worker
curl -X POST localhost:6066/orders -d '{"customer": "ann", "amount": 5}'
curl localhost:6066/bills/ann      # some 20 s after the minute: orders may come late
"""

from __future__ import annotations

import msgspec

from service_scaffold.apps import StreamApp
from service_scaffold.streams import Record, TumblingWindow

MINUTE_S = 60
LATE_S = 10


class Order(Record):
    """What somebody has bought."""

    customer: str
    amount: float
    at: float | None = None  # epoch seconds; now, if it does not say


class Bill(Record):
    """What a customer has ordered in one minute."""

    since: float
    amount: float


app = StreamApp('order_totals')
orders = app.topic('orders', value_type=Order, partitions=4)
bills = app.topic('bills', value_type=Bill, partitions=4)


async def send_bill(customer, window, amount):
    """Bill a minute: once for each customer, whatever crashes."""
    await bills.send(key=customer, value=Bill(window.start, amount))


sums = app.Table(
    'sums',
    default=float,
    window=TumblingWindow(MINUTE_S, expires=3600, grace=LATE_S),
    on_window_close=send_bill,
    on_late='late_orders',
    idle_advance=LATE_S,  # a minute ends also when nobody orders any more
)
history = app.Table('history', default=list, value_type=list[Bill])


@app.agent(orders)
async def add(stream):
    """Add an order to its minute."""
    async for order in stream:
        sums[order.customer] += order.amount


@app.agent(bills)
async def remember(stream):
    """Keep the last ten bills."""
    async for customer, bill in stream.items():
        history[customer] = [*history[customer][-9:], bill]


@app.page('/orders')
async def add_order(web, request):
    """Take an order."""
    order = msgspec.json.decode(await request.read(), type=Order)
    await orders.send(key=order.customer, value=order, timestamp=order.at)
    return web.json({}, status=202)


@app.page('/bills/{customer}')
@app.table_route(history, match_info='customer')
async def show(web, request, customer):
    """Show the last bills of a customer."""
    return web.json(history[customer])


if __name__ == '__main__':
    app.main()
