"""Batches that Kafka refuses as a whole are split, until each record is judged for itself.

A broker says no to a batch because of one record in it, or because it is larger than the topic
takes although no record is. The client would fail all of them; Kafka's own clients split such a
batch as is done here: both halves go first in line, so that the order of a partition stays. In a
transaction they have the numbers that the batch had, as the broker has not counted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service_scaffold.journal.kafka_client import (
    DefaultRecordBatch,
    InvalidRecordError,
    MessageBatch,
    kafka_errors,
    sender,
)

_FOR_ALL = frozenset(
    error.errno
    for error in (
        kafka_errors.MessageSizeTooLargeError,
        kafka_errors.RecordListTooLargeError,
        InvalidRecordError,
    )
)
"""What the broker says of a whole batch, and may be true of some of its records, or of none."""


class Parted(Exception):
    """The records of a batch have fared differently.

    Attributes:
        outcomes: Of each an offset, or the client's error.
    """

    def __init__(self, outcomes: Sequence[int | BaseException]) -> None:
        super().__init__('the batch was split')
        self.outcomes = outcomes


class _Produce(sender.SendProduceReqHandler):  # type: ignore[misc] # aiokafka has no types
    """Splits what is refused, and leaves the rest to the client."""

    def handle_response(self, response: Any) -> None:
        for topic, partitions in response.topics:
            for number, code, *_ in partitions:
                where = sender.TopicPartition(topic, number)
                batch = self._batches.get(where)
                if batch is None or code not in _FOR_ALL:
                    continue
                self._take_numbers_back(batch)
                if batch.record_count > 1:
                    del self._batches[where]  # so the client does not fail it
                    self._sender._message_accumulator._batches[where].extendleft(
                        reversed(_split(self._sender._message_accumulator, batch))
                    )
        super().handle_response(response)

    def _take_numbers_back(self, batch: Any) -> None:
        manager = self._sender._txn_manager
        if manager is not None:  # no other batch of the partition has numbers: one goes at a time
            manager.increment_sequence_number(batch.tp, -batch.record_count)


class SplittingSender(sender.Sender):  # type: ignore[misc] # as above
    """The client's sender, which fails records instead of batches."""

    async def _send_produce_req(self, node_id: int, batches: dict[Any, Any]) -> None:
        await _Produce(self, dict(batches)).do(node_id)
        self._in_flight.remove(node_id)
        self._muted_partitions.difference_update(batches)


def _split(accumulator: Any, batch: Any) -> list[Any]:
    """Return the halves of a batch, which ends when both have."""
    records = list(DefaultRecordBatch(bytes(batch.get_data_buffer())))
    futures = [future for future, _ in batch._msg_futures]  # none of a batch of our own
    half = len(records) // 2
    parts = [
        _part(accumulator, batch, records[where], futures[where])
        for where in (slice(half), slice(half, None))
    ]

    def done(_: object) -> None:
        if all(part.future.done() for part in parts):
            _conclude(batch, parts)

    for part in parts:
        part.future.add_done_callback(done)
    return parts


def _part(accumulator: Any, batch: Any, records: list[Any], futures: list[Any]) -> Any:
    builder = accumulator.create_builder()
    told = [
        builder.append(
            timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers
        )
        for record in records
    ]
    builder.close()
    part = MessageBatch(batch.tp, builder, batch._ttl, batch._linger_time)
    part._ctime = batch._ctime  # it has no more time than the whole had
    part._msg_futures = list(zip(futures, told, strict=False))
    return part


def _conclude(batch: Any, parts: Sequence[Any]) -> None:
    """End a batch whose parts have ended."""
    outcomes: list[int | BaseException] = []
    for part in parts:
        if part.future.cancelled():
            batch.future.cancel()
            return
        error = part.future.exception()
        if isinstance(error, Parted):
            outcomes += error.outcomes
        elif error is not None:
            outcomes += [error] * part.record_count
        elif part.future.result() is not None:
            first = part.future.result().offset
            outcomes += range(first, first + part.record_count)
    if batch.future.done():
        return
    if batch._msg_futures:  # each of which has been told
        batch.future.set_result(None)
    else:
        batch.future.set_exception(Parted(outcomes))


def split_refused(producer: Any, kind: type[SplittingSender] = SplittingSender) -> SplittingSender:
    """Give a producer that has not started a sender that splits, and return it."""
    plain = producer._sender
    producer._sender = kind(
        plain.client,
        acks=plain._acks,
        txn_manager=plain._txn_manager,
        message_accumulator=plain._message_accumulator,
        retry_backoff_ms=int(plain._retry_backoff * 1000),
        request_timeout_ms=plain._request_timeout_ms,
    )
    made: SplittingSender = producer._sender
    return made
