"""Every code block of Faust's documentation of its App, with our names and the test's topics.

`declare` is the text of the documentation, block after block; what it leaves to the reader, such as
`process_payment`, is given by the test.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click

from service_scaffold.apps import StreamApp
from service_scaffold.streams import Record, TumblingWindow


def declare(broker: str, datadir: str, unique: str, seen: list[Any]) -> SimpleNamespace:
    """Paste the blocks; return all that they have defined."""
    orders, payments = f'{unique}-orders', f'{unique}-payments'

    async def process_payment(payment):
        seen.append(payment)

    async def check_system_health():
        seen.append('healthy')

    async def synchronize_external_data():
        seen.append('synchronized')

    async def get_order_by_id(order_id):
        return Order(int(order_id), 2.5, 'ann')

    # Application class

    app = StreamApp(f'{unique}-my-app', broker=broker)

    app = StreamApp(
        f'{unique}-my-app',
        broker=broker,
        web_port=0,
        topic_partitions=8,
        datadir=datadir,
        logging_config={'level': 'INFO'},
    )

    # Agent decorator

    @app.agent(app.topic(orders))
    async def process_orders(orders):
        async for order in orders:
            seen.append(f'Processing order: {order}')

    @app.agent(
        app.topic(payments), concurrency=5, on_error=lambda agent, exc: print(f'Error: {exc}')
    )
    async def process_payments(payments):
        async for payment in payments:
            await process_payment(payment)

    # Topic definition

    orders_topic = app.topic(orders, value_type=str)

    class Order(Record):
        id: int
        amount: float
        customer: str

    orders_topic = app.topic(
        orders,
        key_type=int,
        value_type=Order,
        partitions=16,
        retention=86400.0,  # 24 hours
    )

    # Table creation

    word_counts = app.Table('word-counts', default=int)
    user_profiles = app.Table('user-profiles', default=dict)
    windowed_counts = app.Table(
        'hourly-counts',
        default=int,
        window=TumblingWindow(3600.0),  # 1 hour windows
    )
    small = app.table('small', default=int, help='As in the signature')

    # Timer decorator

    @app.timer(interval=30.0)
    async def cleanup_task():
        print('Running cleanup...')

    @app.timer(interval=60.0, on_error=lambda timer, exc: print(f'Timer error: {exc}'))
    async def health_check():
        await check_system_health()

    # Cron job decorator

    @app.crontab('0 0 * * *')
    async def daily_report():
        print('Generating daily report...')

    @app.crontab('*/15 * * * *', timezone='UTC')
    async def sync_data():
        await synchronize_external_data()

    # Web page decorator

    @app.page('/health')
    async def health_check(web, request):  # noqa: F811 - as it stands there
        return web.json({'status': 'healthy'})

    @app.page('/orders/{order_id}')
    async def get_order(web, request, order_id):
        order = await get_order_by_id(order_id)
        return web.json(order.asdict())

    # Command decorator

    @app.command()
    async def hello():
        print('Hello from Faust!')

    @app.command(
        click.argument('name'), click.option('--count', default=1, help='Number of greetings')
    )
    async def greet(name, count):
        for _ in range(count):
            print(f'Hello {name}!')

    return SimpleNamespace(**locals())
