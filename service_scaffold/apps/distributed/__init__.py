"""Distributed applications: functions that share a bus, each an application of its own."""
