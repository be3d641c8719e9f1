"""Which partition a key belongs to: murmur2, as in every Kafka client."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

Partitioner = Callable[[bytes, int], int]
"""Returns the partition of a key in a topic of so many partitions."""

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of `data`, unsigned, with Kafka's seed."""
    size = len(data)
    whole = size & ~3
    result = _SEED ^ size
    for position in range(0, whole, 4):
        word = int.from_bytes(data[position : position + 4], 'little') * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        result = (result * _MULTIPLIER & _MASK) ^ word
    if whole < size:
        rest = int.from_bytes(data[whole:], 'little')
        result = (result ^ rest) * _MULTIPLIER & _MASK
    result = (result ^ result >> 13) * _MULTIPLIER & _MASK
    return result ^ result >> 15


@lru_cache(maxsize=10_000)  # the hash takes microseconds, and keys come again and again
def partition_of(key: bytes | str, partitions: int) -> int:
    """Return the partition of `key` (text as UTF-8) in a topic of `partitions` partitions."""
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions
