"""A count by key in a state of Quix Streams, in RocksDB, at least once."""

from quix_count import count

count('at-least-once', 0.5)
