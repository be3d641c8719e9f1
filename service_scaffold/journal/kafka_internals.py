"""What is done with the client's private parts, and why there is no other way.

The client's `stop` can hang in an outage, and leave tasks behind that deliver a record long after
its publish has failed; its consumer tells its position only to those who wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Iterable
from typing import Any

from service_scaffold.journal.kafka_client import TopicPartition

STOP_LIMIT_S = 0.8


def track(producer: Any, topic: str) -> None:
    """Have a producer's client ask for a topic at each of its updates.

    At its start it learns of all topics, and asks for those alone that it has ever looked up: the
    first look-up would make it forget the others, and wait for their leaders for ever.
    """
    producer.client._topics.add(topic)


def untrack(producer: Any, topics: Iterable[str]) -> None:
    """Let a producer's client ask no more for topics until they are written to again.

    It asks for all topics that it has ever written to, every few seconds; a broker that creates
    topics by itself takes that for a wish, and brings back those that were deleted.
    """
    producer.client._topics.difference_update(topics)


def partition_state(consumer: Any, partition: TopicPartition) -> Any:
    """Return the client's state of an assigned partition (`position`, `paused`), else None."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return None
    return subscription.assignment.state_value(partition)


class Others:
    """All partitions but some; the client asks it, at each look, which to give records of."""

    def __init__(self, held: Container[TopicPartition]) -> None:
        self._held = held

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition not in self._held


async def get_others(
    consumer: Any, held: Container[TopicPartition], limit: int, timeout_s: float
) -> dict[TopicPartition, list[Any]]:
    """Do as the client's `getmany`, but leave out `held`, which may change meanwhile.

    The client's own `pause` throws away what it has fetched, up to a mebibyte, and fetches it
    again after `resume`; what is held here waits in its buffer, which is not filled beyond that.
    """
    consumer._coordinator.check_errors()
    with consumer._subscription.fetch_context():
        found: dict[TopicPartition, list[Any]] = await consumer._fetcher.fetched_records(
            Others(held), timeout_s, max_records=limit
        )
    return found


def look_again(consumer: Any) -> None:
    """Let `get_others` see that less is held."""
    fetcher = consumer._fetcher
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)


def end_fetch(consumer: Any) -> None:
    """Note that a fetch has ended now, which the client forgets to do if it ended by an error.

    It would take the consumer for one that fetches all the time, whatever becomes of it.
    """
    subscription = consumer._subscription
    subscription._fetch_count = 0
    subscription._last_fetch_ended = time.monotonic()


async def discard_consumer(consumer: Any, limit_s: float = STOP_LIMIT_S) -> None:
    """End a consumer: leave its group if the broker answers in time, and leave nothing behind.

    That goes on to its end if whoever waits for it is cancelled.
    """
    await asyncio.shield(_end_consumer(consumer, limit_s))


async def _end_consumer(consumer: Any, limit_s: float) -> None:
    # In a task, because the client lets the cancellation of its own tasks escape from `stop`.
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping}, timeout=limit_s)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    owners = (consumer, consumer._coordinator, consumer._fetcher, consumer._client)
    await _cancel_tasks_of(owners)
    await _close_client(consumer._client)


async def discard_producer(producer: Any) -> None:
    """End a producer at once. What is not confirmed is given up and cannot be sent any more.

    That goes on to its end if whoever waits for it is cancelled.
    """
    await asyncio.shield(_end_producer(producer))


async def _end_producer(producer: Any) -> None:
    producer._closed = True
    accumulator = producer._message_accumulator
    accumulator._closed = True
    await _cancel_tasks_of((producer, producer._sender, accumulator, producer.client))
    await _close_client(producer.client)
    # The client takes a batch out of there when it has ended, also one that was put back for a
    # second attempt, and complains when it finds none.
    accumulator._pending_batches.update(*accumulator._batches.values())
    for batch in set(accumulator._pending_batches):
        for future in (batch.future, batch._drain_waiter, *(f for f, _ in batch._msg_futures)):
            _settle(future)
    manager = producer._txn_manager
    if manager is not None and manager._transaction_waiter is not None:
        _settle(manager._transaction_waiter)


def _settle(future: asyncio.Future[Any]) -> None:
    """Cancel a future, or look at its exception, so that nothing is left to complain about."""
    if not future.cancel() and not future.cancelled():
        future.exception()


async def _close_client(client: Any) -> None:
    closing = asyncio.ensure_future(client.close())
    await asyncio.wait({closing}, timeout=STOP_LIMIT_S / 2)
    _settle(closing)  # its sockets are closed already, only their last bytes were waited for


async def _cancel_tasks_of(owners: Iterable[object]) -> None:
    """Cancel the tasks that run a method of one of `owners`; the client keeps no list of them."""
    wanted = {id(owner) for owner in owners if owner is not None}
    tasks = set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        frame = getattr(task.get_coro(), 'cr_frame', None)
        if frame is not None and id(frame.f_locals.get('self')) in wanted:
            tasks.add(task)
            task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=STOP_LIMIT_S / 2)
        for task in done:
            _settle(task)
