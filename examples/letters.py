"""Delivers letters; what cannot be delivered can be looked at, and tried again.

curl -X POST localhost:5000/letters/Ada -d '{"text": "Hello"}'
curl localhost:5000/letters/delivered
curl -X POST localhost:5000/letters/Bob -d '{"text": "Hello"}'    # Bob has not moved in yet
curl localhost:5000/letters/dead
curl -X POST localhost:5000/letters/move-in/Bob                   # and replays what is dead
"""

from __future__ import annotations

import json

from aiohttp import web

from service_scaffold import events, service

RESIDENTS = web.AppKey('residents', set)
DELIVERED = web.AppKey('delivered', list)
DEAD = web.AppKey('dead', list)


def setup(app: web.Application) -> None:
    """Deliver letters, and watch the dead ones."""
    events.setup(app)
    app[RESIDENTS], app[DELIVERED], app[DEAD] = {'Ada'}, [], []

    async def deliver(subscription: events.EventSubscription, key: str, message: dict) -> None:
        if key not in app[RESIDENTS]:
            raise LookupError(f'{key} does not live here')
        app[DELIVERED].append({'to': key, **message})

    async def on_dead(subscription: events.EventSubscription, key: str, message: bytes) -> None:
        app[DEAD].append(events.current_message())

    policy = events.Policy(retry=events.Retry(attempts=2, base_s=0.05))
    listener = events.get_listener(app)
    listener.subscribe('letters', '*', on_message=deliver, group='postman', policy=policy)
    listener.subscribe('letters.dlq', '#', on_message=on_dead)
    app.router.add_get('/delivered', get_delivered)
    app.router.add_get('/dead', get_dead)
    app.router.add_post('/move-in/{name}', post_move_in)
    app.router.add_post('/{name}', post_letter)


async def post_letter(request: web.Request) -> web.Response:
    """Post a letter."""
    publisher = events.get_publisher(request)
    await publisher.publish('letters', request.match_info['name'], await request.json())
    return web.json_response({})


async def get_delivered(request: web.Request) -> web.Response:
    """Return what was delivered."""
    return web.json_response(request.app[DELIVERED])


async def get_dead(request: web.Request) -> web.Response:
    """Return what was not, and why."""
    return web.json_response(
        [
            {
                'to': letter.routing,
                'why': letter.headers['x-death-error'],
                'attempts': int(letter.headers['x-death-attempts']),
                'letter': json.loads(letter.body),
            }
            for letter in request.app[DEAD]
        ]
    )


async def post_move_in(request: web.Request) -> web.Response:
    """Let somebody move in, and replay the letters that were waiting."""
    request.app[RESIDENTS].add(request.match_info['name'])
    letters, request.app[DEAD][:] = list(request.app[DEAD]), []
    for letter in letters:
        await events.get_publisher(request).publish(
            letter.headers['x-origin'],
            letter.headers['x-origin-routing'],
            letter.body,
            content_type=letter.content_type,
            headers={'x-replay-group': letter.headers['x-origin-group']},
        )
    return web.json_response({'replayed': len(letters)})


def main() -> None:
    """Run the service."""
    app = service.create_app('letters')
    setup(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
