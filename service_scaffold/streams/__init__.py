"""Streams: agents, topics and tables over the journal."""
