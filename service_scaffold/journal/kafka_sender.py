"""Committing offsets in a transaction in the name of a member of the group."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from service_scaffold.journal.kafka_client import ConnectionGroup, kafka_errors, sender
from service_scaffold.journal.kafka_protocol import Exactly, TxnOffsetCommitRequestV3
from service_scaffold.journal.kafka_splitting import SplittingSender, split_refused


class Membership(NamedTuple):
    """Who commits: a member of a group in one generation. The defaults mean nobody's."""

    generation: int = -1
    member_id: str = ''


class _OffsetCommit(sender.TxnOffsetCommitHandler):  # type: ignore[misc] # as above
    """Commits a transaction's offsets in the name of a member."""

    group = ConnectionGroup.COORDINATION

    def __init__(self, owner: Any, offsets: Any, group_id: str, member: Membership) -> None:
        super().__init__(owner, offsets, group_id)
        self._member = member

    def create_request(self) -> Exactly:
        manager = self._sender._txn_manager
        by_topic: dict[str, list[Any]] = defaultdict(list)
        for (topic, partition), offset in sorted(self._offsets.items()):
            by_topic[topic].append((partition, offset.offset, -1, offset.metadata, {}))
        return Exactly(
            TxnOffsetCommitRequestV3(
                manager.transactional_id,
                self._group_id,
                manager.producer_id,
                manager.producer_epoch,
                self._member.generation,
                self._member.member_id,
                None,
                [(topic, partitions, {}) for topic, partitions in by_topic.items()],
                {},
            )
        )

    def handle_response(self, response: Any) -> float | None:
        abortable = (
            kafka_errors.IllegalGenerationError,
            kafka_errors.UnknownMemberIdError,
            kafka_errors.RebalanceInProgressError,
            kafka_errors.OffsetMetadataTooLargeError,
        )
        for _, partitions in response.errors:
            for _, code in partitions:
                error = kafka_errors.for_code(code)
                if error in abortable:  # the client would take it for a fatal error
                    self._sender._txn_manager.error_transaction(error(self._group_id))
                    return None
        delay_s: float | None = super().handle_response(response)
        return delay_s


class MemberSender(SplittingSender):
    """The client's sender, which commits offsets in the name of the member given last.

    Attributes:
        member: Whose generation must be the group's current one.
    """

    member = Membership()

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        if not offsets:
            return
        try:
            node = await self._find_coordinator(sender.CoordinationType.GROUP, group_id)
        except kafka_errors.GroupAuthorizationFailedError as error:
            self._txn_manager.error_transaction(error)
            return
        await _OffsetCommit(self, offsets, group_id, self.member).do(node)


def commit_as_member(producer: Any) -> MemberSender:
    """Give a producer that has not started a `MemberSender`, and return it."""
    member = split_refused(producer, MemberSender)
    assert isinstance(member, MemberSender)
    return member
