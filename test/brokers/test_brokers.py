"""The private brokers themselves: they keep port and data, and clients of each get in."""

from __future__ import annotations

import socket
import subprocess

import pytest

from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker, BrokerFailed, free_port
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker

KINDS = (RabbitMQ, Kafka, Mosquitto)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(('127.0.0.1', port)) == 0


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def session_broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the brokers that serve the whole session."""
    broker: Broker = request.getfixturevalue(request.param.name)
    return broker


def test_a_killed_broker_comes_back_at_its_address(session_broker):
    """What a chaos test does: the URL stays good over a crash."""
    url = session_broker.url
    session_broker.kill()
    assert not session_broker.running
    assert not listens(session_broker.port)

    session_broker.start()

    assert session_broker.running
    assert (session_broker.url, listens(session_broker.port)) == (url, True)


def test_the_proxied_address_is_another_one(session_broker):
    """A test that cuts the proxy leaves the direct address alone."""
    session_broker.proxy.down()

    assert session_broker.proxied_url != session_broker.url
    assert not listens(session_broker.proxy.port)
    assert listens(session_broker.port)


def test_the_mosquitto_of_the_session_does_not_save_each_change(mosquitto, unique):
    """It would write all it has for each message of a group; publishers would run out of time."""
    database = mosquitto.directory / 'mosquitto.db'
    before = database.stat().st_mtime_ns if database.exists() else None
    where = ['-h', mosquitto.host, '-p', str(mosquitto.port), '-t', unique, '-q', '1', '-r']

    for body in (['-m', 'kept'], ['-n']):
        subprocess.run(['mosquitto_pub', *where, *body], check=True, timeout=10)

    assert (database.stat().st_mtime_ns if database.exists() else None) == before


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_urls_carry_scheme_and_quoted_credentials(kind):
    """The URL is what the service gets, as it stands."""
    broker = kind(user='al', password='p@ss:/w')
    try:
        assert broker.url == f'{kind.scheme}://al:p%40ss%3A%2Fw@127.0.0.1:{broker.port}'
    finally:
        broker.close()


def test_tls_and_scram_show_in_the_url():
    """A client needs nothing but the URL and the CA."""
    with_scram = Kafka(tls=True, user='al', password='pw', sasl='SCRAM-SHA-256')
    try:
        assert with_scram.url.startswith('kafka+ssl://al:pw@')
        assert with_scram.url.endswith('?sasl=SCRAM-SHA-256')
    finally:
        with_scram.close()


def test_a_broker_that_cannot_start_says_why():
    """The last lines of its log are in the error."""
    require_broker(Mosquitto)
    broker = Mosquitto(settings={'no_such_setting': '1'})
    try:
        with pytest.raises(BrokerFailed, match='no_such_setting'):
            broker.start()
    finally:
        broker.close()


def test_close_leaves_nothing():
    """Neither process nor directory."""
    require_broker(Mosquitto)
    with Mosquitto() as broker:
        assert listens(broker.port)

    assert not listens(broker.port)
    assert not broker.directory.exists()


@pytest.mark.parametrize('variable', ['CI=true', 'SERVICE_SCAFFOLD_REQUIRE_BROKERS=1', 'OTHER=1'])
def test_a_missing_broker_fails_where_it_is_required(variable, monkeypatch, tmp_path):
    """Elsewhere it is a skip that says what to run."""
    for name in ('CI', 'SERVICE_SCAFFOLD_REQUIRE_BROKERS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(*variable.split('='))
    monkeypatch.setenv('SERVICE_SCAFFOLD_CACHE', str(tmp_path))
    outcome = pytest.skip.Exception if variable == 'OTHER=1' else pytest.fail.Exception

    with pytest.raises(outcome, match='run scripts/brokers'):
        require_broker(Kafka)


def test_ports_are_handed_out_once():
    """Two brokers of one process never get the same port."""
    ports = [free_port() for _ in range(200)]

    assert len(set(ports)) == 200
