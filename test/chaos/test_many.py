"""Ten thousand subscriptions of one listener: made, restored, and told apart."""

import asyncio

import pytest

from service_scaffold import events, service, testing
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker

MANY = 10_000


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_ten_thousand_views_are_made_and_restored_over_one_connection(unique):
    """Each within a minute, and each gets exactly its own message."""
    require_broker(RabbitMQ)
    with RabbitMQ() as broker:
        seen: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

        async def on_message(subscription, key, message):
            seen.put_nowait((subscription.routing, message))

        app = service.create_app(unique, raw_args=['--eventbus-url', broker.proxied_url])
        events.setup(app)
        listener = events.get_listener(app)
        made = [listener.subscribe(unique, f'a.{n}', on_message=on_message) for n in range(MANY)]
        async with testing.running(app, active_s=0) as started:
            await _all_active(made, 60)
            channels = broker.control('list_connections', 'channels').split()
            assert [int(count) for count in channels if count.isdigit()] in ([1], [2])

            broker.proxy.drop_connections()
            await eventually(lambda: not made[0].active, 10)
            await _all_active(made, 60)

            await started.publisher.publish(unique, f'a.{MANY - 1}', 7)
            assert await asyncio.wait_for(seen.get(), 5) == (f'a.{MANY - 1}', 7)
        assert seen.empty()


async def _all_active(made, limit_s):
    async with asyncio.timeout(limit_s):
        for subscription in made:
            await subscription.wait_active(limit_s)
