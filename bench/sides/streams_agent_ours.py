"""An agent with a typed value, at least once."""

from bench import streaming

streaming.handle()
