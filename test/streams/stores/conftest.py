"""Each backend in turn, and only those with files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service_scaffold.streams.stores import base

OpenBackend = Callable[[], base.Backend]


@pytest.fixture(params=['memory://', 'sqlite://', 'rocksdb://'])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[base.Backend]:
    """A backend of each kind, empty."""
    opened = base.open_backend(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def store(backend: base.Backend) -> base.Store:
    """An empty store of each kind."""
    return backend.open('table', 0)


@pytest.fixture(params=['sqlite://', 'rocksdb://'])
def durable_url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind that keeps files."""
    return str(request.param)


@pytest.fixture
def open_durable(durable_url: str, tmp_path: Path) -> Iterator[OpenBackend]:
    """Opens the same directory again and again, as a restarted worker does."""
    opened = []

    def again() -> base.Backend:
        while opened:
            opened.pop().close()
        opened.append(base.open_backend(durable_url, tmp_path))
        return opened[0]

    yield again
    while opened:
        opened.pop().close()
