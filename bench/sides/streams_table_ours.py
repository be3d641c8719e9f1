"""A count by key in a table with a store on disk, at least once."""

from bench import streaming

streaming.handle(count=True)
