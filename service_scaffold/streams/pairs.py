"""Pairs of values as records: the bytes of both sides, each decoded as its own topic says."""

from __future__ import annotations

from typing import Any

import msgspec

from service_scaffold import errors
from service_scaffold.streams.forms import Coder, Decode

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None])


def join_bytes(left: bytes | None, right: bytes | None) -> bytes:
    """Return the bytes of a pair."""
    return _ENCODER.encode((left, right))


class PairSerializer:
    """Pairs `(left, right)`; None on a side that has no value."""

    def __init__(self, left: Coder, right: Coder) -> None:
        self._left = left
        self._right = right

    def encode(self, value: Any) -> bytes | None:
        """Return the bytes of a pair, None for None.

        Raises:
            EncodeError: It is no pair, or a side does not fit its topic.
        """
        if value is None or isinstance(value, bytes):
            return value
        try:
            left, right = value
        except (TypeError, ValueError):
            raise errors.EncodeError(f'{value!r} is no pair (left, right)') from None
        return join_bytes(self._left.encode(left), self._right.encode(right))

    def decoder(self, annotation: Any) -> Decode:
        """Return what decodes a pair; its sides know their types."""
        decode_left, decode_right = self._left.decode, self._right.decode

        def decode(body: bytes) -> tuple[Any, Any]:
            try:
                left, right = _DECODER.decode(body)
            except msgspec.MsgspecError as error:
                raise errors.DecodeError(f'Not a pair: {error}') from error
            return (
                None if left is None else decode_left(left),
                None if right is None else decode_right(right),
            )

        return decode
