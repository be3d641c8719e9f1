"""How large a record may be."""

from __future__ import annotations

from service_scaffold import errors

SMALL = 64_000
"""Bytes of key and value together that nobody has to think about."""
OVERHEAD = 512
"""Bytes that are kept free for headers, and for what the log adds."""


def check_size(what: str, key: bytes | None, value: bytes | None, limit: int) -> None:
    """Refuse a record that the log would refuse.

    In the handler of an event this fails that event. Found out only when all is committed, it
    would fail the application, again and again.

    Args:
        what: Whose record it is, for the message.
        limit: Bytes.

    Raises:
        EncodeError: It is too large.
    """
    size = len(key or b'') + len(value or b'')
    if size > limit - OVERHEAD:
        raise errors.EncodeError(
            f'{what}: key and value have {size} bytes, more than a record may have; the option'
            f' producer_max_request_size is {limit}'
        )
