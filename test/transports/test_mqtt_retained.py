"""Retained messages come to the live view that is new, and to no other."""

import asyncio

from service_scaffold import events, service, testing
from test.brokers.mosquitto import Mosquitto


async def test_a_new_view_brings_no_old_view_a_retained_message_again(
    mosquitto: Mosquitto, unique: str
) -> None:
    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def into(name):
        async def on_message(subscription, key, message):
            assert events.current_message().retained == (key == 'kept')
            seen.put_nowait((name, key))

        return on_message

    app = service.create_app(unique, raw_args=['--eventbus-url', mosquitto.url])
    events.setup(app)
    listener = events.get_listener(app)
    await retain(mosquitto, f'{unique}/kept')
    listener.subscribe(unique, '*', on_message=into('old'))
    async with testing.running(app) as started:
        assert await asyncio.wait_for(seen.get(), 5) == ('old', 'kept')

        new = listener.subscribe(unique, '#', on_message=into('new'))
        await new.wait_active()
        assert await asyncio.wait_for(seen.get(), 5) == ('new', 'kept')

        await started.publisher.publish(unique, 'last', 1)
        last = {await asyncio.wait_for(seen.get(), 5) for _ in range(2)}
        assert last == {('old', 'last'), ('new', 'last')}


async def retain(mosquitto: Mosquitto, topic: str) -> None:
    command = ['mosquitto_pub', '-h', mosquitto.host, '-p', str(mosquitto.port), '-q', '1', '-r']
    process = await asyncio.create_subprocess_exec(*command, '-t', topic, '-m', '1')
    assert await asyncio.wait_for(process.wait(), 5) == 0
