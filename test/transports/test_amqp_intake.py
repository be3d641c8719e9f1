"""Taking and settling over AMQP, on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from test.brokers.rabbitmq import RabbitMQ
from test.transports.amqp_peer import (
    bodies,
    connected,
    foreign,
    group,
    live,
    numbers,
    publish,
    take,
    topic,
)


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """The URL of the session's broker."""
    return rabbitmq.url


async def test_two_members_of_a_group_share_and_live_views_see_all(url: str, unique: str) -> None:
    async with connected(url) as one, connected(url) as two:
        intakes = [await group(one, unique), await group(two, unique)]
        views = [await live(one, topic(unique, 'a.*')), await live(two, topic(unique, 'a.b'))]
        await publish(one, unique, *numbers(60))
        for view in views:
            assert bodies(await take(view, 60)) == numbers(60)
        shares = await asyncio.gather(*(take(intake, 30) for intake in intakes))

    assert sorted(bodies(shares[0] + shares[1])) == sorted(numbers(60))


async def test_out_of_order_settles_leave_only_the_unsettled(url: str, unique: str) -> None:
    """Of twenty deliveries finished in any order, only those not settled come back."""
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(20))
        deliveries = await take(intake, 20)
        for index in (5, 3, 19, 0, 1, 2, 12, 3, 5):  # some of them twice
            intake.settle([deliveries[index]])
            await asyncio.sleep(0)
        intake.settle(deliveries[6:9])
        await intake.close()
        again = await group(transport, unique)
        left = {0, 1, 2, 3, 5, 6, 7, 8, 12, 19} ^ set(range(20))
        redelivered = await take(again, len(left))

        assert sorted(int(d.body) for d in redelivered) == sorted(left)
        assert transport.envelope(redelivered[0]).redelivered
        assert not transport.lost.done()


async def test_holes_free_the_window_while_one_handler_is_slow(url: str, unique: str) -> None:
    """With one delivery unfinished, a window of 8 still lets a hundred others through."""
    async with connected(url) as transport:
        intake = await group(transport, unique, prefetch=8)
        await publish(transport, unique, *numbers(101))
        slow, *others = await take(intake, 8)
        count = 0
        async with asyncio.timeout(10):
            while count < 100:
                count += len(others)
                intake.settle(others)
                others = list(await intake.fetch(8)) if count < 100 else []

        assert intake.alive(slow)


async def test_prefetch_limits_what_is_unsettled(url: str, unique: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique, prefetch=5)
        await publish(transport, unique, *numbers(12))
        first = await take(intake, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await intake.fetch(1)
        intake.settle(first)

        assert bodies(await take(intake, 5)) == numbers(10)[5:]


async def test_requeued_deliveries_come_again_marked(url: str, unique: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(4))
        deliveries = await take(intake, 4)
        intake.settle(deliveries[:1])
        intake.requeue(deliveries[1:])
        again = await take(intake, 3)

        assert sorted(bodies(again)) == numbers(4)[1:]
        assert all(transport.envelope(delivery).redelivered for delivery in again)


async def test_pause_hands_back_what_was_not_fetched(url: str, unique: str) -> None:
    """Another member gets it at once, while what was fetched can still be settled."""
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(10))
        mine = await take(intake, 2)
        await intake.pause()
        other = await group(transport, unique)
        assert sorted(bodies(await take(other, 8))) == numbers(10)[2:]
        intake.settle(mine)
        await intake.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await other.fetch(1)


async def test_settled_before_close_is_settled(url: str, unique: str) -> None:
    """Closing right after settling, intake or transport, loses no acknowledgement."""
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(6))
        intake.settle(await take(intake, 3))
        await intake.close()
        await intake.close()
        intake = await group(transport, unique)
        intake.settle(await take(intake, 3))
    async with connected(url) as transport, foreign(url) as channel:
        queue = await channel.declare_queue(f'g@{unique}', passive=True)

        assert queue.declaration_result.message_count == 0


async def test_fetch_can_be_cancelled_without_losing_anything(url: str, unique: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique)
        found: list[bytes] = []
        for body in numbers(30):
            await publish(transport, unique, body)
            fetching = asyncio.create_task(intake.fetch(1))
            await asyncio.sleep(0)
            fetching.cancel()
            try:
                found += bodies(await fetching)
            except asyncio.CancelledError:
                continue
        found += bodies(await take(intake, 30 - len(found)))

    assert found == numbers(30)


async def test_a_deleted_queue_ends_the_intake_alone(url: str, unique: str) -> None:
    async with connected(url) as transport, foreign(url) as channel:
        intake = await group(transport, unique)
        other = await group(transport, unique, name='other')
        await channel.queue_delete(f'g@{unique}')
        with pytest.raises(errors.IntakeLost, match=f'g@{unique}'):
            async with asyncio.timeout(5):
                await intake.fetch(1)
        await intake.close()
        await publish(transport, unique, b'1')
        assert bodies(await other.fetch(1)) == [b'1']
        again = await group(transport, unique)
        await publish(transport, unique, b'2')

        assert bodies(await again.fetch(1)) == [b'2']


async def test_deliveries_of_a_closed_intake_are_ignored(url: str, unique: str) -> None:
    """Their settling does not reach the next consumer, whose tags are the same numbers."""
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(2))
        old = await take(intake, 2)
        await intake.close()
        again = await group(transport, unique)
        await take(again, 2)
        assert not intake.alive(old[0])
        intake.settle(old)
        again.settle(old)
        await again.close()
        last = await group(transport, unique)

        assert sorted(bodies(await take(last, 2))) == numbers(2)
