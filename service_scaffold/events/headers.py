"""The headers that we put on messages."""

from __future__ import annotations

DEADLINE = 'x-deadline'
REPLAY_GROUP = 'x-replay-group'
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


def of_error(error: BaseException) -> dict[str, str]:
    """Return the headers that tell a requester what went wrong: type and message only."""
    return {ERROR_TYPE: type(error).__name__, ERROR_MESSAGE: str(error)[:LONGEST_ERROR]}
