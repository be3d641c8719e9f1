"""The type that a handler declares."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from service_scaffold.events.signature import message_type


class Handler:
    async def method(self, subscription: Any, key: str, message: bytes) -> None: ...

    async def __call__(self, subscription: Any, key: str, message: int) -> None: ...


async def plain(subscription: Any, key: str, message) -> None: ...  # type: ignore[no-untyped-def]


async def bound(factor: float, subscription: Any, key: str, message: str) -> None: ...


async def starred(*args: int) -> None: ...


@pytest.mark.parametrize(
    ('handler', 'expected'),
    [
        (plain, None),
        (Handler().method, bytes),
        (Handler(), int),
        (functools.partial(bound, 2.0), str),
        (starred, None),
        (lambda *_: None, None),
    ],
)
def test_the_third_parameter_counts(handler: Any, expected: object) -> None:
    assert message_type(handler) is expected


def test_a_handler_of_two_is_refused_by_name() -> None:
    async def two(subscription: Any, key: str) -> None: ...

    with pytest.raises(TypeError, match=r'two.*\(subscription, key, message\)'):
        message_type(two)


def test_a_type_that_cannot_be_found_is_named() -> None:
    async def lost(subscription: Any, key: str, message: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match=r"'Nowhere'.*module level"):
        message_type(lost)
