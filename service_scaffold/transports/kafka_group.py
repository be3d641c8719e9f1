"""A group on Kafka: one member of a consumer group, committing what is finished without gaps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal.base import RebalanceListener, TopicPartition
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_member import KafkaMember
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec
from service_scaffold.transports.kafka_records import to_deliveries
from service_scaffold.transports.kafka_shares import Share

LOGGER = logging.getLogger(__name__)

CHUNK = 500
"""How many records are taken from the client's buffer at once."""
WAIT_S = 0.5
COMMIT_EVERY_S = 0.3
REVOKE_LIMIT_S = 5.0
"""How long a rebalance waits for the handlers of partitions that are about to leave."""
JOIN_LIMIT_S = 6.0
LAST_COMMIT_S = 0.8
NO_PAUSE_LIMIT_S = 20 * 86400.0
"""A slow handler must not cost the membership; a dead process does, by its missing heartbeats."""
MEMBER_ID = 'kafka_member_id'
"""Under this name the group's name for us is kept over reconnects."""
BEGUN = 'kafka_begun'
"""Under this name it is kept that the group is not new."""

Declare = Callable[[str], Awaitable[Exception | None]]
"""Makes sure that a topic exists; returns why it does not."""


def group_id(group: str, exchange: str) -> str:
    """Return Kafka's name of a group, which is one per exchange: `group@exchange`."""
    return f'{group}@{exchange}'


class GroupIntake(Intake, RebalanceListener):
    """Deliveries of a group's topic, from the partitions that are ours at the moment.

    In a rebalance nothing is handed out; what runs may finish for a while and is committed. What
    stays with us, or comes back untouched, goes on as if nothing had happened; what has gone to
    somebody else is void, and delivered there again.

    Attributes:
        closed: Whether `close` has ended it.
    """

    def __init__(self, journal: KafkaJournal, spec: IntakeSpec, declare: Declare) -> None:
        assert spec.group is not None
        self._journal = journal
        self._spec = spec
        self._declare = declare
        self._member: KafkaMember | None = None
        self._shares: dict[int, Share] = {}
        self._ready: deque[tuple[Share, list[Delivery]]] = deque()
        self._returned: list[Delivery] = []
        self._joined = asyncio.Event()
        self._settled = asyncio.Event()
        self._changed = asyncio.Event()
        self._committing = asyncio.Lock()
        self._committer: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._rebalancing = False
        self._paused = False
        self.closed = False

    # Joining

    async def open(self) -> None:
        """Make the member; it joins when it is bound."""
        name = group_id(str(self._spec.group), self._spec.exchange)
        self._member = await self._journal.member(name, self, max_pause_s=NO_PAUSE_LIMIT_S)

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        if self._committer is not None:
            return {}
        refused = await self._declare(self._spec.exchange)
        if refused is not None:
            return dict.fromkeys(bindings, refused)
        try:
            await self._join()
        except errors.AccessRefused as error:
            return dict.fromkeys(bindings, error)
        except errors.JournalError as error:
            raise errors.IntakeLost(str(error)) from error
        return {}

    async def _join(self) -> None:
        member = self._own()
        # Before joining, so that what is published from now on is ours whoever joins when. The
        # broker refuses it once the group has members: then they have done it.
        with contextlib.suppress(errors.GenerationEnded):
            await self._begin()
        await member.subscribe([self._spec.exchange], self._spec.keep.get(MEMBER_ID, ''))
        self._committer = asyncio.create_task(self._commit_now_and_then(), name='kafka commits')
        with contextlib.suppress(TimeoutError):
            # A member that was killed holds up the group until its session ends; the offsets
            # are safe, so nobody has to wait for that.
            async with asyncio.timeout(JOIN_LIMIT_S):
                await self._joined.wait()

    async def _begin(self) -> Mapping[TopicPartition, int]:
        """Fix where a new group begins, for all partitions at once; return what is committed.

        A partition without a commit beside others that have one was made later: it is new from
        its first record on.
        """
        topic = self._spec.exchange
        count = (await self._journal.partitions([topic]))[topic] or 0
        everything = [TopicPartition(topic, number) for number in range(count)]
        committed = await self._own().committed(everything)
        known = {where: commit.offset for where, commit in committed.items() if commit is not None}
        # Without any commit and yet not new: the topic was deleted, and made again.
        if known or self._spec.start == 'first' or self._spec.keep.get(BEGUN):
            return known
        ends = await self._journal.offsets(everything, 'end')
        await self._own().commit(ends)
        return ends

    def _own(self) -> KafkaMember:
        if self._member is None or self.closed:
            raise errors.IntakeLost('The consumer is closed')
        return self._member

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        """Nothing to do: Kafka filters nothing, the patterns are matched above."""

    # Rebalances

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._rebalancing = True
        self._ready.clear()  # `position` says where reading goes on
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_LIMIT_S):
                while self._running() and not self.closed:
                    self._settled.clear()
                    await self._settled.wait()
        try:
            await self._commit()
        except (errors.JournalError, errors.TransportError) as error:
            LOGGER.debug('%s: commit before a rebalance failed: %s', self._spec.group, error)

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        member = self._own()
        committed = await member.committed(partitions)
        offsets = {where: commit and commit.offset for where, commit in committed.items()}
        if None in offsets.values():
            with contextlib.suppress(errors.GenerationEnded):  # then this is not the last one
                begun = await self._begin()
                offsets = {where: begun.get(where) for where in partitions}
        shares: dict[int, Share] = {}
        for where, offset in offsets.items():
            share = self._shares.get(where.partition)
            if share is None or not share.continues(offset):
                share = Share(member.position(where) if offset is None else offset, offset)
            shares[where.partition] = share
        await member.seek({where: shares[where.partition].position for where in partitions})
        gone = [n for n, share in self._shares.items() if shares.get(n) is not share]
        if any(self._shares[number].out for number in gone):
            self.epoch += 1
        self._returned = [d for d in self._returned if d.raw.partition not in gone]
        self._shares = shares
        self._rebalancing = False
        self._spec.keep[BEGUN] = True
        self._spec.keep[MEMBER_ID] = member.member_id
        self._joined.set()
        self._changed.set()

    def _running(self) -> int:
        return sum(share.running for share in self._shares.values()) - len(self._returned)

    # Deliveries

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            await asyncio.sleep(0)
            if self._error is not None:
                raise self._error
            taken = self._take(limit)
            if taken:
                return taken
            if self._paused:
                await asyncio.wait({self._journal.lost}, timeout=WAIT_S)
            try:
                runs = await self._own().fetch_runs(max(limit, CHUNK), WAIT_S)
            except errors.JournalError as error:
                raise errors.IntakeLost(str(error)) from error
            for where, records in runs.items():
                share = self._shares.get(where.partition)
                if share is not None:
                    self._ready.append((share, to_deliveries(records)))

    def _take(self, limit: int) -> list[Delivery]:
        if self._rebalancing or self._paused:
            return []
        taken = self._returned[:limit]
        if taken:
            del self._returned[:limit]
        while self._ready and len(taken) < limit:
            share, deliveries = self._ready[0]
            part = deliveries[: limit - len(taken)]
            if len(part) == len(deliveries):
                self._ready.popleft()
            else:
                self._ready[0] = (share, deliveries[len(part) :])
            share.hand_out(part)
            taken = taken + part if taken else part
        return taken

    def alive(self, delivery: Delivery) -> bool:
        record = delivery.raw
        share = self._shares.get(record.partition)
        return share is not None and record.offset >= share.start

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        numbers = [delivery.raw.partition for delivery in deliveries]
        offsets = [delivery.raw.offset for delivery in deliveries]
        if numbers and numbers.count(numbers[0]) == len(numbers):
            self._settle(numbers[0], offsets)
        else:
            for number in set(numbers):
                here = [o for n, o in zip(numbers, offsets, strict=True) if n == number]
                self._settle(number, here)
        self._changed.set()
        self._settled.set()

    def _settle(self, number: int, offsets: list[int]) -> None:
        share = self._shares.get(number)
        if share is not None:
            share.settle(offsets)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        held = {(d.raw.partition, d.raw.offset) for d in self._returned}
        for delivery in deliveries:
            where = (delivery.raw.partition, delivery.raw.offset)
            share = self._shares.get(where[0])
            if share is not None and where not in held and share.is_out(where[1]):
                self._returned.append(delivery)
        self._returned.sort(key=_position)
        self._settled.set()

    # Commits

    async def _commit_now_and_then(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(COMMIT_EVERY_S)
            if self._rebalancing:
                continue
            try:
                await self._commit()
            except errors.GenerationEnded:
                pass  # a rebalance is coming, and commits what it may
            except errors.ConnectionLost as error:
                LOGGER.debug('%s: commit failed: %s', self._spec.group, error)
                self._changed.set()
            except (errors.TransportError, errors.JournalError) as error:
                self._error = errors.IntakeLost(str(error))
                return

    async def _commit(self) -> None:
        async with self._committing:  # or an older commit could come after a newer one
            finished = {
                number: share.lowest_unfinished
                for number, share in self._shares.items()
                if share.lowest_unfinished != share.committed
            }
            shares = self._shares
            topic = self._spec.exchange
            await self._own().commit(
                {TopicPartition(topic, number): offset for number, offset in finished.items()}
            )
            for number, offset in finished.items():
                shares[number].committed = offset

    # The end

    async def pause(self) -> None:
        self._paused = True
        self._ready.clear()
        with contextlib.suppress(errors.GenerationEnded, errors.ConnectionLost):
            await self._commit()

    def void(self) -> None:
        """The connection is lost: nothing handed out can be settled any more."""
        self.epoch += 1
        self._shares = {}
        self._returned = []
        self._settled.set()

    async def close(self, *, forget: bool = False) -> None:
        if self.closed:
            return
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.wait({self._committer})
        if self._shares and not self._journal.lost.done():
            with contextlib.suppress(errors.ScaffoldError, TimeoutError):
                async with asyncio.timeout(LAST_COMMIT_S):
                    await self._commit()
            self._spec.keep.pop(MEMBER_ID, None)  # we leave the group, and our name with it
        self.closed = True
        self.void()
        if self._member is not None:
            await self._member.close()


def _position(delivery: Delivery) -> tuple[int, int]:
    return delivery.raw.partition, delivery.raw.offset
