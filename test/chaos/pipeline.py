"""The distributed application that is stopped and killed: works on `--exchange`, and tells.

On `{exchange}.out`: `begun` and `done` with the message's number, and `entered`, `left` of its
resource.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service_scaffold import events
from service_scaffold.apps import DistributedApplication, TopicMessage, TopicSocket


def main() -> None:
    """Run the application until a signal ends it, or it is done."""
    app = DistributedApplication('pipeline')
    app.parser.add_argument('--exchange', required=True, help='exchange to work for')
    app.parser.add_argument('--concurrency', type=int, default=1, help='messages at once')
    app.parser.add_argument('--send', type=int, default=0, help='how many to publish')
    app.parser.add_argument('--batch', type=int, default=0, help='1: exit when done')
    app.read_arguments()
    app.config['exit_when_done'] = bool(app.config['batch'])
    exchange, name = app.config['exchange'], app.config['instance']

    async def tell(socket: TopicSocket, what: str, number: int) -> None:
        await socket.publish(f'{exchange}.out/{what}', {'n': number, 'by': name})

    @asynccontextmanager
    async def resource() -> AsyncIterator[str]:
        socket = TopicSocket(app.application)
        await tell(socket, 'entered', 0)
        yield 'resource'
        await tell(socket, 'left', 0)

    @app.application(
        exchange,
        resources={'held': resource},
        policy=events.Policy(concurrency=app.config['concurrency']),
    )
    async def work(message: TopicMessage[dict[str, Any]], socket: TopicSocket, held: str) -> None:
        number = message.value['n']
        await tell(socket, 'begun', number)
        if message.value.get('fails'):
            raise ValueError('as the message says')
        await asyncio.sleep(message.value.get('work_s', 0))
        await tell(socket, 'done', number)

    if app.config['send']:

        @app.producer()
        async def send(socket: TopicSocket) -> None:
            for number in range(app.config['send']):
                await socket.publish(f'{exchange}/sent', {'n': number})

    app.run()


if __name__ == '__main__':
    main()
