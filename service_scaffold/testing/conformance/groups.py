"""Shared work: who of a group gets what, and what is kept for it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from service_scaffold import events
from service_scaffold.testing.conformance.case import Case, needs
from service_scaffold.testing.conformance.inbox import Gate, Inbox
from service_scaffold.testing.conformance.instances import Instances


def together(*inboxes: Inbox) -> list[Any]:
    """Return the values of all of them, sorted."""
    return sorted(value for inbox in inboxes for value in inbox.values)


class Groups(Case):
    """At least once, shared by the instances."""

    async def test_a_group_gets_every_message_with_payload_and_headers(
        self, instances: Instances, exchange: str
    ) -> None:
        """A hundred messages, one instance."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')

        for number in range(100):
            headers = {'x-number': str(number)}
            await instance.publish(exchange, f'tank.{number}', {'n': number}, headers=headers)

        for one in await inbox.take(100):
            number = int(one.key.removeprefix('tank.'))
            assert one.value == {'n': number}
            assert one.message.headers['x-number'] == str(number)
        assert sorted(value['n'] for value in inbox.values) == list(range(100))

    async def test_two_instances_share_the_work(self, instances: Instances, exchange: str) -> None:
        """Each message goes to one of them, and each has a fair part; a view sees all."""
        pair = [await instances.start(), await instances.start()]
        shares, views = [Inbox(), Inbox()], [Inbox(), Inbox()]
        for instance, share, view in zip(pair, shares, views, strict=True):
            await instance.subscribe(exchange, '#', share, group='g')
            await instance.subscribe(exchange, '#', view)

        items = [(f'tank.{number}', number) for number in range(200)]
        for start in range(0, 200, 20):
            await pair[0].publisher.publish_many(exchange, items[start : start + 20])

        for view in views:
            await view.all_of(range(200))
        await _all_handled(shares, 200)
        assert together(*shares) == list(range(200))
        assert [sorted(view.values) for view in views] == [list(range(200))] * 2
        assert min(len(share.received) for share in shares) >= 40

    async def test_each_group_gets_everything(self, instances: Instances, exchange: str) -> None:
        """Groups are independent of each other."""
        instance = await instances.start()
        inboxes = [Inbox() for _ in range(3)]
        for number, inbox in enumerate(inboxes):
            await instance.subscribe(exchange, '#', inbox, group=f'g{number}')

        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(50)])

        for inbox in inboxes:
            await inbox.take(50)
            assert inbox.values == list(range(50))

    async def test_a_group_begins_with_what_comes_after_its_first_subscription(
        self, instances: Instances, exchange: str
    ) -> None:
        """What was published before is not for it."""
        instance = await instances.start()
        view, inbox = Inbox(), Inbox()
        await instance.subscribe(exchange, '#', view)
        await instance.publish(exchange, 'tank', 'before', key='k')
        await view.next()

        await instance.subscribe(exchange, '#', inbox, group='g')
        await instance.publish(exchange, 'tank', 'after', key='k')

        assert (await inbox.next()).value == 'after'

    @needs('history')
    async def test_a_new_group_can_begin_with_the_first_message(
        self, instances: Instances, exchange: str
    ) -> None:
        """With `start='first'` it reads what the broker still has."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(20)])

        policy = events.Policy(start='first')
        await instance.subscribe(exchange, '#', inbox, group='g', policy=policy)

        await inbox.take(20)
        assert inbox.values == list(range(20))

    async def test_a_group_keeps_what_comes_while_its_instance_is_away(
        self, instances: Instances, exchange: str
    ) -> None:
        """Stopped and started again; nothing is lost, nothing comes twice."""
        before, after = Inbox(), Inbox()
        other = await instances.start()
        worker = await instances.start('worker')
        await worker.subscribe(exchange, '#', before, group='g')
        await other.publish(exchange, 'tank', 0, key='k')
        await before.next()
        await worker.stop()
        await other.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(1, 20)])

        again = await instances.start('worker')
        await again.subscribe(exchange, '#', after, group='g')
        await other.publish(exchange, 'tank', 20, key='k')

        await after.take(20)
        assert after.values == list(range(1, 21))

    # Where it lacks, what is kept is kept for a member and not for the group: no member, no group.
    @needs('group_redelivery')
    async def test_a_group_keeps_what_comes_while_nobody_is_subscribed(
        self, instances: Instances, exchange: str
    ) -> None:
        """Unsubscribed and subscribed again in one instance: nothing is lost."""
        instance = await instances.start()
        first, second = Inbox(), Inbox()
        keeps = await instance.subscribe(exchange, '#', first, group='g')
        await instance.publish(exchange, 'tank', 0, key='k')
        await first.next()

        keeps.unsubscribe()
        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(1, 20)])
        await instance.subscribe(exchange, '#', second, group='g')

        await _all_handled([first, second], 20)
        assert sorted(set(together(first, second))) == list(range(20))

    @needs('group_redelivery')
    async def test_unsubscribing_hands_back_what_had_not_begun(
        self, instances: Instances, exchange: str
    ) -> None:
        """The running handler finishes; the rest waits for whoever subscribes next."""
        instance = await instances.start()
        gate, view, inbox = Gate(), Inbox(), Inbox()
        first = await instance.subscribe(exchange, '#', gate, group='g')
        await instance.subscribe(exchange, '#', view)
        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(10)])
        await gate.next()
        await view.take(10)

        first.unsubscribe()
        gate.open()
        await instance.subscribe(exchange, '#', inbox, group='g')

        await inbox.all_of(range(1, 10))
        assert gate.finished.values == [0]

    async def test_subscriptions_of_a_group_come_and_go_while_messages_flow(
        self, instances: Instances, exchange: str
    ) -> None:
        """The one that stays gets everything once, in order, whoever joins and leaves it."""
        instance = await instances.start()
        stays, guest = Inbox(), Inbox()
        await instance.subscribe(exchange, 'tank.#', stays, group='g')
        for start in range(0, 100, 20):
            items = [('tank.level', number, 'k') for number in range(start, start + 20)]
            await instance.publisher.publish_many(exchange, items[:10])
            joined = await instance.subscribe(exchange, '*.level', guest, group='g')
            await instance.publisher.publish_many(exchange, items[10:])
            await guest.all_of(range(start + 10, start + 20))
            joined.unsubscribe()

        await stays.take(100)
        assert stays.values == list(range(100))

    async def test_closing_many_at_once_loses_nothing(
        self, instances: Instances, exchange: str
    ) -> None:
        """Five groups are left at the same moment; the one that stays gets what comes later."""
        instance = await instances.start()
        stays = Inbox()
        await instance.subscribe(exchange, '#', stays, group='stays')
        goes = [
            instance.listener.subscribe(exchange, '#', on_message=Inbox(), group=f'g{number}')
            for number in range(5)
        ]
        for subscription in goes:
            await subscription.wait_active()

        for subscription in goes:
            subscription.unsubscribe()
        await instance.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(50)])

        await stays.take(50)
        assert stays.values == list(range(50))

    async def test_what_a_stopped_instance_had_not_finished_is_delivered_again(
        self, instances: Instances, exchange: str, capabilities: Any
    ) -> None:
        """Cancelled by shutdown is not processed: another instance gets it, or the same again."""
        gate, inbox = Gate(), Inbox()
        other = await instances.start()
        worker = await instances.start('worker', shutdown_timeout_s=0.5)
        await worker.subscribe(exchange, '#', gate, group='g')
        await other.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(5)])
        await gate.next()

        await worker.stop()
        name = None if capabilities.group_redelivery else 'worker'
        successor = await instances.start(name)
        await successor.subscribe(exchange, '#', inbox, group='g')

        await inbox.all_of(range(5))
        assert gate.finished.values == []

    async def test_a_group_takes_only_what_its_patterns_match(
        self, instances: Instances, exchange: str
    ) -> None:
        """What nobody of the group wants goes by, and blocks nothing."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'tank.#', inbox, group='g')
        view = Inbox()
        await instance.subscribe(exchange, '#', view)

        for routing in ('pump', 'tank.1', 'pump.2', 'tank'):
            await instance.publish(exchange, routing, routing, key='k')
        await view.take(4)

        assert [one.key for one in await inbox.take(2)] == ['tank.1', 'tank']

    @needs('group_order')
    async def test_order_per_key_holds_over_the_whole_group(
        self, instances: Instances, exchange: str
    ) -> None:
        """Two instances, ten keys: what came of one key is in order, and in one place."""
        pair = [await instances.start(), await instances.start()]
        inbox = Inbox()
        for instance in pair:
            await instance.subscribe(exchange, '#', inbox, group='g')

        items = [('tank', [n % 10, n], f'k{n % 10}') for n in range(200)]
        await pair[0].publisher.publish_many(exchange, items)

        await inbox.take(200)
        _assert_order_per_key(inbox.values)


class Concurrency(Case):
    """Several handlers at once, with order per key."""

    async def test_one_at_a_time_by_default(self, instances: Instances, exchange: str) -> None:
        """The next message is not begun before the last one has returned."""
        instance = await instances.start()
        gate, view = Gate(), Inbox()
        await instance.subscribe(exchange, '#', gate, group='g')
        await instance.subscribe(exchange, '#', view)
        await instance.publisher.publish_many(exchange, [(f'tank.{n}', n) for n in range(5)])
        await gate.next()
        await view.take(5)

        assert len(gate.received) == 1
        gate.open()
        await gate.finished.take(5)
        assert gate.most == 1

    async def test_as_many_at_once_as_the_policy_says(
        self, instances: Instances, exchange: str
    ) -> None:
        """Never more; and the work of other subscriptions goes on."""
        instance = await instances.start()
        gate, view = Gate(), Inbox()
        policy = events.Policy(concurrency=4, prefetch=16)
        await instance.subscribe(exchange, '#', gate, group='g', policy=policy)
        await instance.subscribe(exchange, '#', view)
        await instance.publisher.publish_many(exchange, [(f'tank.{n}', n) for n in range(40)])
        await gate.take(4)
        await view.take(40)

        assert gate.running == 4
        gate.open()
        await gate.finished.take(40)
        assert gate.most == 4

    async def test_order_per_key_under_concurrency(
        self, instances: Instances, exchange: str
    ) -> None:
        """Random durations and a retry: each key keeps its order."""
        instance = await instances.start()
        inbox = Inbox()
        failed = []

        async def handle(
            subscription: events.EventSubscription, key: str, message: list[int]
        ) -> None:
            await asyncio.sleep(random.random() * 0.004)
            if message[1] % 50 == 7 and message not in failed:
                failed.append(message)
                raise RuntimeError('once')
            inbox.put(key, message)

        policy = events.Policy(concurrency=8, retry=events.Retry(base_s=0.01))
        await instance.subscribe(exchange, '#', handle, group='g', policy=policy)
        items = [('tank', [n % 10, n], f'k{n % 10}') for n in range(300)]
        await instance.publisher.publish_many(exchange, items)

        await inbox.take(300)
        assert len(failed) == 6
        _assert_order_per_key(inbox.values)


def _assert_order_per_key(values: list[list[int]]) -> None:
    by_key: dict[int, list[int]] = {}
    for key, number in values:
        by_key.setdefault(key, []).append(number)
    assert by_key == {key: sorted(numbers) for key, numbers in by_key.items()}


async def _all_handled(inboxes: list[Inbox], count: int) -> None:
    """Wait until all of them together have `count` different values."""
    async with asyncio.timeout(15):
        readers = [asyncio.ensure_future(inbox.next()) for inbox in inboxes]
        try:
            while len({str(value) for inbox in inboxes for value in inbox.values}) < count:
                await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
                for position, inbox in enumerate(inboxes):
                    if readers[position].done():
                        readers[position] = asyncio.ensure_future(inbox.next())
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
