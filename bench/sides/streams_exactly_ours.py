"""A count by key in a table with a store on disk, exactly once."""

from bench import streaming

streaming.handle('exactly_once', count=True)
