"""A small application with a command line, as its own program."""

from __future__ import annotations

import os

import click

from service_scaffold import streams
from service_scaffold.apps.stream import StreamApp

app = StreamApp('shop')


class Order(streams.Record):
    account: str
    amount: int = 1


orders = app.topic(f'{os.environ.get("SHOP", "shop")}.orders', value_type=Order)
audit = app.topic('audit')
counts = app.Table('counts', default=int, help='How much each account has ordered.')


@app.agent(orders, sink=[audit])
async def count(stream):
    """Add up the orders of each account."""
    async for order in stream.group_by(Order.account):
        counts[order.account] += order.amount
        print('counted', order.account, flush=True)
        yield counts[order.account]


@app.command(click.argument('name'), click.option('--count', default=1, help='How often.'))
async def greet(name, count):
    """Greet somebody."""
    for _ in range(count):
        click.echo(f'Hello {name}')


@app.command()
async def order():
    """Order something."""
    sent = await orders.send(key='a', value=Order('a', 2))
    click.echo(sent.topic)


@app.command(click.argument('account'))
async def ask(account):
    """Order something, and show how much the account has ordered."""
    click.echo(await count.ask(Order(account), key=account, timeout=20))


@app.command(click.option('--port', help='Not that of the worker.'))
def plain(port):
    """Show an option that the worker has, too."""
    click.echo(f'port {port}')


if __name__ == '__main__':
    app.main()
