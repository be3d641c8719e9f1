"""What is a key, and what is not, on every transport."""

from __future__ import annotations

import pytest

from service_scaffold.transports.state import check_changes, check_key, check_part, group_of


@pytest.mark.parametrize('key', ['mill-1/temp', 'a.b.c/d.e', '$SYS/x', 'größe/温度', 'a b/c d'])
def test_two_printable_parts_are_a_key(key: str):
    check_key(key)


@pytest.mark.parametrize(
    ('key', 'why'),
    [
        ('mill', 'two parts'),
        ('a/b/c', 'two parts'),
        ('/b', 'empty'),
        ('a/ ', 'empty'),
        ('a /b', 'spaces'),
        ('a/+', 'printable'),
        ('a#/b', 'printable'),
        ('a/b\x00', 'printable'),
        ('a/\ufeffb', 'printable'),
        ('a/\ud800', 'printable'),
        ('é' * 64 + '/' + 'é' * 64, 'bytes'),
    ],
)
def test_anything_else_is_refused_with_the_reason(key: str, why: str):
    with pytest.raises(ValueError, match=why):
        check_key(key)


def test_an_id_may_be_as_long_as_a_key():
    check_part('x' * 255)
    with pytest.raises(ValueError, match='bytes'):
        check_part('x' * 256)


def test_one_bad_change_refuses_all():
    with pytest.raises(ValueError, match="'a/b' is empty"):
        check_changes([('a/c', b'1'), ('a/b', b'')])


def test_the_group_is_what_stands_before_the_slash():
    assert group_of('mill.1/temp') == 'mill.1'
