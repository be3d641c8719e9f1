"""Every error that leaves this package, as one tree.

In brackets the builtin that a leaf also is, so that code written for plain Python catches it too:

    ScaffoldError
    ├─ ConfigError [AssertionError]          an option is missing, wrong, or contradicts another
    ├─ FeatureError
    │  ├─ UnknownFeature [KeyError]          nothing was added under that type or key
    │  ├─ FeatureExists [KeyError]           the key is taken
    │  └─ FeatureMismatch [AssertionError]   the feature found is of another type; no identifier
    ├─ CodecError [ValueError]
    │  ├─ EncodeError                        a value that the content type cannot express
    │  └─ DecodeError                        bytes that are not of the content type
    │     └─ InvalidBody                     decoded, but not of the declared shape
    ├─ EventError
    │  ├─ TransportError [ConnectionError]
    │  │  ├─ BrokerUnreachable               no connection could be made
    │  │  ├─ AccessRefused                   the broker does not accept our credentials
    │  │  ├─ ConnectionLost                  a connection that was up has ended
    │  │  └─ PublishError                    the broker has not confirmed; see `phase`, `maybe_sent`
    │  │     ├─ TooLarge                     the broker takes no message of that size
    │  │     └─ InvalidRecord                the topic's options do not allow the record
    │  ├─ IntakeLost                         one consumer ended, the connection is still up
    │  │  └─ SessionTakenOver                another process uses our MQTT session
    │  ├─ BindingRefused                     the broker refuses one exchange, queue or pattern
    │  ├─ NoResponder                        nobody can answer that request
    │  └─ RemoteError                        the responder failed; `type` and `message` only
    ├─ JournalError
    │  ├─ Fenced                             a newer producer with the same id has taken over
    │  ├─ OffsetsLost                        committed offsets are no longer in the log
    │  └─ GenerationEnded                    the group has rebalanced; the commit came too late
    ├─ StreamError
    │  ├─ CoPartitionError [ValueError]      topics that belong together differ in partitions
    │  ├─ NotOwned [LookupError]             another worker has the partition of that key
    │  ├─ OutsideAgent [TypeError]           a table was written where no event is handled
    │  └─ StoreError                         the state of a table cannot be opened, read, written
    │     └─ StoreDamaged                    it was moved aside; opened again, it is empty
    ├─ AssetError
    │  ├─ UnknownAttribute [KeyError]        the asset has no attribute of that id
    │  ├─ BadRequest [ValueError]            arguments that the method does not take; see `errors`
    │  ├─ UnknownMethod [LookupError]        the asset has no method of that name
    │  ├─ AssetUnavailable [ConnectionError] its owner is away, so it cannot be asked
    │  ├─ MethodFailed                       the method was called, and raised
    │  └─ AssetFenced                        a newer owner has taken over; `assets.Fenced`
    └─ StorageError [OSError]               the back end of a storage cannot be reached or used

Signals, raised by handlers and not errors: `Reject`, `RetryLater`, `RepeaterCancelled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Phase = Literal['connect', 'send', 'confirm']


class ScaffoldError(Exception):
    """Base of every error of this package."""


class ConfigError(ScaffoldError, AssertionError):
    """An option is missing, has a wrong value, or contradicts another."""


class FeatureError(ScaffoldError):
    """Something is wrong with how a feature was added or looked up."""


class UnknownFeature(FeatureError, KeyError):
    """No feature was added under that type or key."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would show the repr


class FeatureExists(FeatureError, KeyError):
    """Another feature was already added under that key."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class FeatureMismatch(FeatureError, AssertionError):
    """The feature found is not of the requested type, or no identifier was given."""


class CodecError(ScaffoldError, ValueError):
    """A body could not be encoded or decoded."""


class EncodeError(CodecError):
    """A value that the content type cannot express."""


class DecodeError(CodecError):
    """Bytes that are not valid for their content type."""


class InvalidBody(DecodeError):
    """A body that decodes, but does not have the shape the handler declares."""


class EventError(ScaffoldError):
    """Base of the errors of events and transports."""


class TransportError(EventError, ConnectionError):
    """The connection to the broker failed, or was refused."""


class BrokerUnreachable(TransportError):
    """No connection to the broker could be made."""


class AccessRefused(TransportError):
    """The broker does not accept the credentials, or forbids the resource."""


class ConnectionLost(TransportError):
    """A connection that was up has ended."""


class PublishError(TransportError):
    """The broker has not confirmed a message.

    Attributes:
        phase: What was under way: `connect`, `send` or `confirm`.
        maybe_sent: Whether the broker may have the message all the same, so that publishing it
            again could duplicate it. False in phase `connect`.
        failed: Positions of the items without a confirm (`publish_many`), else empty.
    """

    def __init__(
        self,
        message: str,
        *,
        phase: Phase = 'connect',
        maybe_sent: bool | None = None,
        failed: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message)
        self.phase: Phase = phase
        self.maybe_sent = phase != 'connect' if maybe_sent is None else maybe_sent
        self.failed = failed


class TooLarge(PublishError):
    """The broker takes no message of that size, now or later."""

    def __init__(self, message: str) -> None:
        super().__init__(message, phase='confirm', maybe_sent=False)


class InvalidRecord(PublishError):
    """The options of the topic do not allow the record: a compacted one wants keys."""

    def __init__(self, message: str) -> None:
        super().__init__(message, phase='confirm', maybe_sent=False)


class IntakeLost(EventError):
    """One consumer was ended by the broker while the connection is still up."""


class SessionTakenOver(IntakeLost):
    """Another process with the same `--instance` uses our kept MQTT session."""


class BindingRefused(EventError):
    """The broker refuses one exchange, queue or pattern; others are not affected."""


class NoResponder(EventError):
    """Nobody can answer that request: no subscription with `reply=True` matches it."""


class RemoteError(EventError):
    """The responder failed. Only type and message travel, never a traceback.

    Attributes:
        type: Name of the exception class on the other side.
        message: Its text.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f'{type}: {message}')
        self.type = type
        self.message = message


class JournalError(ScaffoldError):
    """Base of the errors of a journal."""


class Fenced(JournalError):
    """A newer producer with the same transactional id has taken over."""


class OffsetsLost(JournalError):
    """A group's committed offsets are no longer in the log; reading on would skip records.

    Attributes:
        offsets: `(topic, partition)` to `(committed, first offset still there)`.
    """

    def __init__(self, message: str, offsets: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        super().__init__(message)
        self.offsets = offsets


class GenerationEnded(JournalError):
    """The group has rebalanced since; what the old generation commits is refused."""


class StreamError(ScaffoldError):
    """Base of the errors of agents, tables and their topics."""


class CoPartitionError(StreamError, ValueError):
    """Topics that are joined, or write one table, differ in their number of partitions."""


class NotOwned(StreamError, LookupError):
    """Another worker has the partition of that key, or nobody has it yet."""


class OutsideAgent(StreamError, TypeError):
    """A table was written where no event is being handled, so that no partition is known."""


class StoreError(StreamError):
    """The local state of a table partition cannot be opened, read or written, or is closed."""


class StoreDamaged(StoreError):
    """The local state is unreadable and was moved aside; opened again, it is empty."""


class AssetError(ScaffoldError):
    """Base of the errors of assets."""


class UnknownAttribute(AssetError, KeyError):
    """The asset has no attribute of that id, or none that is known yet."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class BadRequest(AssetError, ValueError):
    """The arguments are none that the method takes.

    Attributes:
        errors: What is wrong, one sentence for each argument.
    """

    def __init__(self, message: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class UnknownMethod(AssetError, LookupError):
    """The asset has no method of that name."""


class AssetUnavailable(AssetError, ConnectionError):
    """The asset's owner is away, or went away before it answered."""


class MethodFailed(AssetError):
    """The method was called, and raised. Only type and message travel, never a traceback.

    Attributes:
        type: Name of the exception class on the owner's side.
        message: Its text.
    """

    def __init__(self, method: str, type: str, message: str) -> None:
        super().__init__(f'{method} failed: {type}: {message}')
        self.type = type
        self.message = message


class AssetFenced(AssetError):
    """A newer owner has taken the asset over: nothing more is published from here."""


class StorageError(ScaffoldError, OSError):
    """The back end of a storage cannot be reached, or not be used."""


class Reject(Exception):
    """Raised by a handler: this message can never be handled; dead-letter it, never retry."""


class RetryLater(Exception):
    """Raised by a handler: try this message again after `after_s` seconds.

    Args:
        after_s: Seconds to wait, 0 to 60; None means the subscription's back-off.
    """

    def __init__(self, after_s: float | None = None, reason: str = '') -> None:
        if after_s is not None and not 0 <= after_s <= 60:
            raise ValueError(f'after_s must be 0 to 60 seconds, got {after_s!r}')
        super().__init__(reason or 'retry later')
        self.after_s = after_s


class RepeaterCancelled(Exception):
    """Raised in `prepare()` or `run()` of a repeater: end it quietly."""
