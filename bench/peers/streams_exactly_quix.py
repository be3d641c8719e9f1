"""A count by key in a state of Quix Streams, in RocksDB, exactly once."""

from quix_count import count

count('exactly-once', 0.2)
