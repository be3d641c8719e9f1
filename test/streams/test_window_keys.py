"""Tests of `service_scaffold.streams.window_keys`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold.streams.window_keys import (
    close_range,
    decode_close,
    decode_key,
    encode_close,
    encode_key,
    encode_prefix,
    key_range,
)

# Bytes that the encoding itself uses come often.
KEYS = st.binary(max_size=6) | st.lists(st.sampled_from([0, 1, 2, 254, 255]), max_size=6).map(bytes)
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
ENTRIES = st.tuples(KEYS, TIMES, TIMES)


@given(KEYS, TIMES, TIMES)
def test_a_windowed_key_round_trips(key: bytes, start: int, end: int) -> None:
    assert decode_key(encode_key(key, start, end)) == (key, (start, end))


@given(st.lists(ENTRIES, max_size=10))
def test_windowed_keys_sort_by_key_then_start_then_end(
    entries: list[tuple[bytes, int, int]],
) -> None:
    encoded = sorted(encode_key(*entry) for entry in entries)

    assert [(key, *window) for key, window in map(decode_key, encoded)] == sorted(entries)


@given(KEYS, KEYS, TIMES, TIMES)
def test_a_prefix_holds_the_windows_of_its_key_and_no_other(
    key: bytes, other: bytes, start: int, end: int
) -> None:
    encoded = encode_key(other, start, end)
    low, high = key_range(key)

    assert encoded.startswith(encode_prefix(key)) == (key == other)
    assert (low <= encoded < high) == (key == other)


@given(KEYS, KEYS, TIMES, TIMES, TIMES, st.none() | TIMES)
def test_a_range_holds_the_starts_within_reach(
    key: bytes, other: bytes, start: int, end: int, below: int, first: int | None
) -> None:
    low, high = key_range(key, (first, below))
    within = key == other and (first is None or first <= start) and start < below

    assert (low <= encode_key(other, start, end) < high) == within


@given(KEYS, TIMES, TIMES)
def test_an_entry_of_the_closings_round_trips(key: bytes, start: int, end: int) -> None:
    assert decode_close(encode_close(end, key, start)) == (key, (start, end))


@given(st.lists(ENTRIES, max_size=10), st.integers(-(2**63), 2**63 - 2))
def test_the_entries_that_have_closed_are_one_range_in_order(
    entries: list[tuple[bytes, int, int]], until: int
) -> None:
    low, high = close_range(until)
    index = sorted(encode_close(end, key, start) for key, start, end in entries)

    found = [decode_close(entry) for entry in index if low <= entry < high]

    assert [window.end_ms for _, window in found] == sorted(
        end for _, _, end in entries if end <= until
    )


@pytest.mark.parametrize('encoded', [b'', b'key', b'x' * 40, encode_key(b'k', 1, 2)[:-1]])
def test_other_bytes_are_no_windowed_key(encoded: bytes) -> None:
    with pytest.raises(ValueError, match='windowed key'):
        decode_key(encoded)


def test_other_bytes_are_no_entry_of_the_closings() -> None:
    with pytest.raises(ValueError, match='index of closings'):
        decode_close(b'short')
