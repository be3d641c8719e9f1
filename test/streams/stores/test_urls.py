"""A backend is chosen by its URL."""

from __future__ import annotations

import sys

import pytest

from service_scaffold import errors
from service_scaffold.streams.stores import base


def test_an_unknown_scheme_names_the_known_ones_and_the_nearest(tmp_path):
    """A typing error is mended from the message alone."""
    with pytest.raises(errors.ConfigError) as caught:
        base.open_backend('sqlite3://user:secret@host', tmp_path)

    assert "'sqlite3://'" in str(caught.value)
    assert 'memory://, rocksdb://, sqlite://; did you mean sqlite://?' in str(caught.value)
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('url', ['rocksdb', 'sqlite:///var/lib', ''])
def test_a_url_is_a_scheme_and_nothing_else(url, tmp_path):
    """The directory is not part of it."""
    with pytest.raises(errors.ConfigError):
        base.open_backend(url, tmp_path)


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    """Without rocksdict, `rocksdb://` says what to install."""
    monkeypatch.setitem(sys.modules, 'rocksdict', None)
    monkeypatch.delitem(sys.modules, 'service_scaffold.streams.stores.rocksdb', raising=False)

    with pytest.raises(errors.ConfigError, match=r'pip install service-scaffold\[rocksdb\]'):
        base.open_backend('rocksdb://', tmp_path)


def test_a_directory_that_cannot_be_made_is_named(durable_url, tmp_path):
    """A file stands in the way."""
    (tmp_path / 'file').touch()

    with pytest.raises(errors.ConfigError, match='file/stores: Not a directory'):
        base.open_backend(durable_url, tmp_path / 'file' / 'stores')


def test_a_backend_of_others_can_be_registered(tmp_path, monkeypatch):
    """A scheme of one's own opens one's own class."""
    monkeypatch.setattr(base, 'SCHEMES', dict(base.SCHEMES))
    base.register('mine', 'service_scaffold.streams.stores.memory:MemoryBackend')

    assert base.open_backend('mine://', tmp_path).open('t', 0).position is None
