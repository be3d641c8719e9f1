"""Records: one attribute's latest value, and what of it goes over the wire."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from service_scaffold import codecs, errors

Kind = Literal['sample', 'event', 'condition', 'method', 'system']
"""What an attribute is: a measured value, something that happened, a state of health, a method's
contract, or one of our own."""

Quality = Literal['good', 'stale']
"""`stale`: not set since its owner has gone, or has come back."""

AVAILABLE = 'AVAILABLE'
UNAVAILABLE = 'UNAVAILABLE'

AVAIL = 'avail'
"""Id of the attribute that tells whether an owner is there."""
KIND = 'kind'
PATH = 'path'
ABOVE = 'above:'
BELOW = 'below:'
"""Ids of references begin with these; the asset's id on the other side follows."""

_ASSET_ID = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_:-]*(\.[A-Za-z0-9_:-]+)*')
_ATTRIBUTE_ID = re.compile(r'[A-Za-z_][A-Za-z0-9_.-]*')
_MAX_ASSET_ID = 100
_MAX_ATTRIBUTE_ID = 100

MAX_BYTES = 900_000
"""How large a value may be, as JSON: with its record it fits in what Kafka takes by default."""


class Attribute(msgspec.Struct, frozen=True):
    """One attribute of an asset, as it is known now.

    Attributes:
        asset: The asset's id.
        id: Its own id.
        value: Any JSON value, of the type it was set with; `'UNAVAILABLE'` before the first.
        kind: `sample`, `event`, `condition`, `method` or `system`.
        tag: What it means to the outside, as `Temp`.
        timestamp: When it was set: epoch seconds.
        quality: `good`, or `stale` when the owner has not set it since it was last away.
    """

    asset: str
    id: str
    value: Any
    kind: Kind
    tag: str
    timestamp: float
    quality: Quality

    def __str__(self) -> str:
        return str(self.value)


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record as brokers keep it, in JSON; `(epoch, seq)` orders the records of one asset.

    Attributes:
        epoch: When its owner claimed the asset: microseconds, larger than any epoch before.
        seq: Counts the owner's records.
        host: Of availability: the process that owns the asset, by its presence.
        reason: Of being unavailable: `stopped`, or why.
    """

    value: Any
    kind: Kind
    timestamp: float
    epoch: int
    seq: int
    tag: str = ''
    host: str = ''
    reason: str = ''

    @property
    def order(self) -> tuple[int, int]:
        """What the newer one has more of."""
        return self.epoch, self.seq


_DECODER = msgspec.json.Decoder(Stored)


def encode(record: Stored) -> bytes:
    """Return the record as brokers keep it."""
    return msgspec.json.encode(record)


def decode(body: bytes) -> Stored:
    """Return the record in `body`.

    Raises:
        DecodeError: It is none.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise errors.DecodeError(f'not a record of an asset: {error}') from error


def check_value(asset: str, attribute: str, value: Any) -> Any:
    """Return `value` as others will read it.

    Raises:
        EncodeError: JSON cannot express it, or it is too large.
    """
    if type(value) in (bool, int) or value is None or (type(value) is str and len(value) < 1000):
        return value
    try:
        codecs.check_finite(value)
        body = msgspec.json.encode(value)
        if len(body) > MAX_BYTES:
            raise ValueError(f'it has {len(body)} bytes, and may have {MAX_BYTES}')
        return msgspec.json.decode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.EncodeError(
            f'{asset}.{attribute}: {type(value).__name__} {value!r:.80} is no JSON value: {error}'
        ) from error


def check_asset_id(id: str) -> str:
    """Return `id`.

    Raises:
        ValueError: It cannot name an asset.
    """
    if not isinstance(id, str) or len(id) > _MAX_ASSET_ID or not _ASSET_ID.fullmatch(id):
        raise ValueError(
            f'Not an id of an asset: {id!r}; allowed are 1 to {_MAX_ASSET_ID} letters, digits, `_`,'
            ' `-`, `:`, and single dots in between'
        )
    return id


def check_attribute_id(id: str) -> str:
    """Return `id`.

    Raises:
        ValueError: It cannot name an attribute or a method that a user declares.
    """
    if not isinstance(id, str) or len(id) > _MAX_ATTRIBUTE_ID or not _ATTRIBUTE_ID.fullmatch(id):
        raise ValueError(
            f'Not an id of an attribute: {id!r}; allowed are up to {_MAX_ATTRIBUTE_ID} letters,'
            ' digits, `_`, `-` and `.`, beginning with a letter'
        )
    if id in (AVAIL, KIND, PATH):
        raise ValueError(f'The attribute {id!r} is set by the system')
    return id


def is_method_name(name: str) -> bool:
    """Return whether a method may be named so: like an attribute, without dots."""
    return '.' not in name and bool(_ATTRIBUTE_ID.fullmatch(name))


def kind_of(value: Any) -> Kind:
    """Return the kind of an attribute that nobody has declared: numbers are samples."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return 'sample' if number else 'event'
