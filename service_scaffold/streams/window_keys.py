"""Windowed keys as bytes whose order is that of keys, starts and closings.

    encode_key(key, start_ms, end_ms)      escaped key, start, end: the windows of a key stand
                                           together, sorted by start
    encode_close(end_ms, key, start_ms)    end, key, start: sorted by the time they close

Times are 64 bits, big-endian and shifted, so that times before the epoch sort first.
"""

from __future__ import annotations

import struct

from service_scaffold.streams.window_plan import Reach, Window

_SHIFT = 1 << 63
_TIMES = struct.Struct('>QQ')
_TIME = struct.Struct('>Q')
_END = b'\x00\x01'  # a zero within a key is followed by 255, so no key is the beginning of another

SHORTEST = 1 + _TIMES.size
"""Bytes of a record's name and two times; what is shorter is none of ours."""


def encode_key(key: bytes, start_ms: int, end_ms: int) -> bytes:
    """Return the bytes under which the value of a window stands."""
    return encode_prefix(key) + _TIMES.pack(start_ms + _SHIFT, end_ms + _SHIFT)


def decode_key(encoded: bytes) -> tuple[bytes, Window]:
    """Return what `encode_key` was given.

    Raises:
        ValueError: It did not make these bytes.
    """
    body, times = encoded[: -_TIMES.size], encoded[-_TIMES.size :]
    if not body.endswith(_END):
        raise ValueError(f'not a windowed key: {encoded!r}')
    start, end = _TIMES.unpack(times)
    key = body[: -len(_END)].replace(b'\x00\xff', b'\x00')
    return key, Window(start - _SHIFT, end - _SHIFT)


def encode_prefix(key: bytes) -> bytes:
    """Return what the windows of a key, and those of no other, begin with."""
    return key.replace(b'\x00', b'\x00\xff') + _END


def key_range(key: bytes, reach: Reach = (None, _SHIFT)) -> tuple[bytes, bytes]:
    """Return from where on and below where the windows of a key stand, by their start.

    Args:
        reach: The starts, as `Windows.reach` gives them; all of them by default.
    """
    prefix = encode_prefix(key)
    first, below = reach
    low = prefix if first is None else prefix + _TIME.pack(first + _SHIFT)
    # Above every time there is nothing but what follows the prefix itself.
    high = prefix[:-1] + b'\x02' if below >= _SHIFT else prefix + _TIME.pack(below + _SHIFT)
    return low, high


def encode_close(end_ms: int, key: bytes, start_ms: int) -> bytes:
    """Return the entry of a window in the index of closings."""
    return _TIME.pack(end_ms + _SHIFT) + key + _TIME.pack(start_ms + _SHIFT)


def decode_close(encoded: bytes) -> tuple[bytes, Window]:
    """Return the key and the window of an entry in the index of closings.

    Raises:
        ValueError: `encode_close` did not make these bytes.
    """
    if len(encoded) < _TIMES.size:
        raise ValueError(f'not an entry of the index of closings: {encoded!r}')
    (end,) = _TIME.unpack_from(encoded)
    (start,) = _TIME.unpack_from(encoded, len(encoded) - _TIME.size)
    return encoded[_TIME.size : -_TIME.size], Window(start - _SHIFT, end - _SHIFT)


def close_range(until_ms: int) -> tuple[bytes, bytes]:
    """Return from where on and below where the entries stand whose end is `until_ms` or before.

    The windows that have closed at a stream time are those until `stream time - grace`.
    """
    return b'', _TIME.pack(until_ms + 1 + _SHIFT)
