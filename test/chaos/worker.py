"""The service that is stopped and killed: works a while on each message, and says what it does.

It is in group `g` on `--exchange`, and a live view of it if that is wanted. It tells on
`{exchange}.out`: `begun` and `done` with the message's number, `seen` by the view, and `pong`
for what comes on `{exchange}.ping`.
"""

from __future__ import annotations

import asyncio

from service_scaffold import events, service


class Work:
    """The handlers, and how many of them run."""

    def __init__(self, publisher: events.EventPublisher, exchange: str, name: str) -> None:
        self._publisher = publisher
        self._out = f'{exchange}.out'
        self._name = name
        self._running = 0

    async def work(self, subscription: events.EventSubscription, key: str, message: dict) -> None:
        """Take as long as the message says, and fail if it says so."""
        self._running += 1
        try:
            await self._tell('begun', message['n'])
            if message.get('fails'):
                raise ValueError('as the message says')
            await asyncio.sleep(message.get('work_s', 0))
            await self._tell('done', message['n'])
        finally:
            self._running -= 1

    async def see(self, subscription: events.EventSubscription, key: str, message: dict) -> None:
        """Only say that it came."""
        await self._tell('seen', message['n'])

    async def pong(self, subscription: events.EventSubscription, key: str, message: dict) -> None:
        """Answer at once."""
        await self._tell('pong', message['n'])

    async def _tell(self, what: str, number: int) -> None:
        said = {'n': number, 'by': self._name, 'running': self._running}
        await self._publisher.publish(self._out, what, said)


def main() -> None:
    """Run the service until a signal ends it."""
    parser = service.create_parser('worker')
    parser.add_argument('--exchange', required=True, help='exchange to work for')
    parser.add_argument('--concurrency', type=int, default=1, help='handlers at once')
    parser.add_argument('--views', type=int, default=0, help='1: be a live view, too')
    app = service.create_app(parser=parser)
    events.setup(app)
    config = app['config']
    exchange = config['exchange']
    worker = Work(events.get_publisher(app), exchange, config['instance'])
    listener = events.get_listener(app)
    policy = events.Policy(concurrency=config['concurrency'])
    listener.subscribe(exchange, '#', on_message=worker.work, group='g', policy=policy)
    listener.subscribe(f'{exchange}.ping', '#', on_message=worker.pong)
    if config['views']:
        listener.subscribe(exchange, '#', on_message=worker.see)
    service.furnish(app, '')
    service.run(app)


if __name__ == '__main__':
    main()
