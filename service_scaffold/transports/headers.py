"""The names of our headers: a contract with every other service on the bus, kept in one place."""

from __future__ import annotations

ROUTING_KEY = 'x-routing-key'
MESSAGE_ID = 'x-message-id'
CORRELATION_ID = 'x-correlation-id'
REPLY_TO = 'x-reply-to'
CONTENT_TYPE = 'content-type'
KEY = 'x-key'
"""The ordering key, where it is not the routing key and the protocol has no place for it."""
TIMESTAMP = 'x-timestamp'
"""The exact time, where the protocol has none, or whole seconds only."""

DEADLINE = 'x-deadline'
REPLAY_GROUP = 'x-replay-group'
SPECIAL = frozenset({DEADLINE, REPLAY_GROUP})
"""What makes a delivery special: its envelope must be read before it is handled."""
ERROR_TYPE = 'x-error-type'
ERROR_MESSAGE = 'x-error-message'

DEATH_REASON = 'x-death-reason'
DEATH_ERROR = 'x-death-error'
DEATH_ATTEMPTS = 'x-death-attempts'
DEATH_TIME = 'x-death-time'
ORIGIN = 'x-origin'
ORIGIN_ROUTING = 'x-origin-routing'
ORIGIN_GROUP = 'x-origin-group'
ORIGIN_MESSAGE_ID = 'x-origin-message-id'

LONGEST_ERROR = 1000
"""Characters of an error's text that travel."""
