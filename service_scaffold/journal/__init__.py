"""Journals: partitioned logs with groups, offsets and transactions (Kafka, memory)."""
