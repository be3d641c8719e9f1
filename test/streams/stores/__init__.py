"""Tests of service_scaffold.streams.stores."""
