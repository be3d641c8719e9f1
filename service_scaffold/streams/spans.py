"""Spans of time, as users give them: seconds, or timedeltas."""

from __future__ import annotations

from datetime import timedelta

Span = float | timedelta
"""Seconds, or a timedelta."""


def seconds(value: Span) -> float:
    """Return a span in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def milliseconds(name: str, value: Span) -> int:
    """Return a span in whole milliseconds.

    Args:
        name: Of the parameter, for the error.

    Raises:
        ValueError: It is negative.
    """
    span_s = seconds(value)
    if span_s < 0:
        raise ValueError(f'{name} must not be negative: {value!r}')
    return round(span_s * 1000)
