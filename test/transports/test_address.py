"""Event bus URLs: read once, and never shown with their credentials."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.transports.address import Address


@pytest.mark.parametrize(
    ('url', 'shown', 'user', 'password', 'path'),
    [
        ('amqp://localhost', 'amqp://localhost:5672', None, None, None),
        ('AMQPS://u:p@h:1/', 'amqps://h:1', 'u', 'p', ''),
        ('amqp://u:p%40%2F%3F@h/v%2Fh', 'amqp://h:5672/v/h', 'u', 'p@/?', 'v/h'),
        ('kafka://a:1,b', 'kafka://a:1,b:9092', None, None, None),
        ('kafka+ssl://u:a:b@[::1]:7,h', 'kafka+ssl://[::1]:7,h:9093', 'u', 'a:b', None),
        ('mqtt://:secret@h', 'mqtt://h:1883', '', 'secret', None),
        ('memory://', 'memory://', None, None, None),
        ('memory://name', 'memory://name', None, None, None),
    ],
)
def test_it_is_read_and_shown_without_credentials(
    url: str, shown: str, user: str | None, password: str | None, path: str | None
) -> None:
    address = Address.parse(url)
    assert (str(address), address.user, address.password, address.path) == (
        shown, user, password, path,
    )  # fmt: skip
    assert 'secret' not in f'{address} {address!r}'


def test_the_query_and_tls() -> None:
    address = Address.parse('kafka+ssl://h?sasl=SCRAM-SHA-256&x=')
    assert dict(address.query) == {'sasl': 'SCRAM-SHA-256', 'x': ''}
    assert address.tls
    assert (address.host, address.port) == ('h', 9093)


@pytest.mark.parametrize(
    'url',
    [
        'localhost:5672',
        '://h',
        'amqp://u:hunter2@h:port',
        'amqp://u:hunter2@h:0',
        'amqp://u:1/hunter2@h',
        'amqp://u:1?hunter2@h',
        'amqp://u:hunter2/x@h',
    ],
)
def test_what_cannot_be_read_is_an_error_without_the_password(url: str) -> None:
    with pytest.raises(errors.ConfigError) as raised:
        Address.parse(url)
    assert 'hunter2' not in f'{raised.value} {raised.value!r}'
