"""Event bus URLs: read once, and never shown with their credentials."""

from __future__ import annotations

import re

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
    address = Address.parse('kafka+ssl://h?sasl=SCRAM-SHA-256')
    assert dict(address.query) == {'sasl': 'SCRAM-SHA-256'}
    assert address.tls
    assert (address.host, address.port) == ('h', 9093)
    assert dict(Address.parse('amqp://h?heartbeat=&auth=external').query) == {
        'heartbeat': '',
        'auth': 'external',
    }


@pytest.mark.parametrize(
    ('url', 'said'),
    [
        (
            'amqp://u:hunter2@h/v?heartbaet=hunter2',
            "Unknown option 'heartbaet' in the amqp:// event bus URL; did you mean 'heartbeat'?"
            ' known are: auth, heartbeat',
        ),
        (
            'kafka://u:hunter2@h?sasl=PLAIN&sasl_mechanism=hunter2',
            "Unknown option 'sasl_mechanism' in the kafka:// event bus URL; did you mean 'sasl'?"
            ' known are: sasl',
        ),
        (
            'amqps://u:hunter2@h?x=1',
            "Unknown option 'x' in the amqps:// event bus URL; known are: auth, heartbeat",
        ),
        (
            'mqtt://u:hunter2@h?keepalive=5',
            "Unknown option 'keepalive' in the mqtt:// event bus URL; it takes none",
        ),
        ('memory://name?x', "Unknown option 'x' in the memory:// event bus URL; it takes none"),
        ('mqtt://u:hunter2@h/hunter2', 'The mqtt:// event bus URL has a path'),
        ('kafka://u:hunter2@h:1,g/hunter2', 'The kafka:// event bus URL has a path'),
        ('memory://name/more', 'The memory:// event bus URL has a path'),
    ],
)
def test_what_its_scheme_does_not_know_is_an_error_that_names_what_it_knows(
    url: str, said: str
) -> None:
    with pytest.raises(errors.ConfigError, match=re.escape(said)) as raised:
        Address.parse(url)
    assert 'hunter2' not in f'{raised.value} {raised.value!r}'


def test_a_last_slash_is_no_path_and_the_schemes_of_others_are_their_own() -> None:
    assert str(Address.parse('mqtt://h/')) == 'mqtt://h:1883'
    other = Address.parse('nats://h:4222/path?tries=3')
    assert (other.path, dict(other.query)) == ('path', {'tries': '3'})


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
