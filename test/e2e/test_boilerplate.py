"""The boilerplate, as its user meets it: a process, curl, and the tools of each broker."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker, end, free_port, require, wait_until
from test.brokers.rabbitmq import RabbitMQ

ROOT = Path(__file__).resolve().parents[2]
BOILERPLATE = ROOT / 'boilerplate'
TIMEOUT_S = 30.0


def environment(directory: Path) -> dict[str, str]:
    """Return a fresh environment in which the package in `directory` and ours are found."""
    return {'PATH': os.environ['PATH'], 'PYTHONPATH': f'{directory}{os.pathsep}{ROOT}'}


class Service:
    """The boilerplate in a process of its own."""

    def __init__(self, *options: str) -> None:
        port = free_port()
        self._url = f'http://127.0.0.1:{port}'
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'your_service', '--host=127.0.0.1', f'--port={port}', *options],
            cwd=BOILERPLATE,
            env=environment(BOILERPLATE),
            start_new_session=True,
        )

    def get(self, path: str) -> Any:
        """Return the JSON of a GET; None while there is none."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as response:
                return json.load(response)
        except OSError:  # not yet, or not found
            return None

    def post(self, path: str, value: object) -> None:
        """Post JSON; what is not accepted is an error."""
        body = json.dumps(value).encode()
        headers = {'Content-Type': 'application/json'}
        request = urllib.request.Request(self._url + path, body, headers)
        urllib.request.urlopen(request, timeout=10).close()

    def expect(self, path: str, condition: Callable[[Any], object]) -> Any:
        """Return the first answer with which `condition` holds."""
        found: list[Any] = []

        def holds() -> bool:
            found.append(self.get(path))
            return found[-1] is not None and bool(condition(found[-1]))

        try:
            wait_until(holds, TIMEOUT_S)
        except TimeoutError:
            pytest.fail(f'{path} is still {found[-1]!r}')
        return found[-1]


@contextmanager
def running(*options: str) -> Iterator[Service]:
    """Run the service; when all went well, SIGTERM must end it with status 0."""
    service = Service(*options)
    try:
        service.expect('/_service/ready', bool)
        yield service
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(TIMEOUT_S) == 0
    finally:
        end(service.process, timeout_s=5)


def test_on_the_memory_bus_readings_and_an_alert_appear_by_themselves():
    """With no option and no broker there is something to see within seconds."""
    with running() as service:
        assert service.get('/_service/status') == {'status': 'ok'}
        sensor = 'simulated.temperature'
        service.expect('/your_service/readings', lambda latest: sensor in latest)
        (alert,) = service.expect('/your_service/alerts', bool)

        assert alert['sensor'] == sensor
        assert alert['state'] == 'raised'


def test_the_first_answer_comes_within_a_second():
    """With compiled bytecode, from the start of the process; the best of three, as we share."""
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        service = Service()
        try:
            service.expect('/_service/status', bool)
            taken.append(time.monotonic() - begun)
        finally:
            end(service.process, timeout_s=5)

    assert min(taken) < 1.0, taken


Command = Sequence[str]


def amqp_tools(broker: RabbitMQ, sensor: str) -> tuple[Command, Command]:
    """Return the commands of amqp-tools that publish standard input, and that print alerts."""
    route = ('-u', broker.url, '-r', sensor)
    return (
        ['amqp-publish', *route, '-e', 'sensors'],
        ['amqp-consume', *route, '-e', 'alerts', '--', 'sh', '-c', 'cat; echo'],
    )


def kafka_tools(broker: Kafka, sensor: str) -> tuple[Command, Command]:
    """Return those of kcat."""
    kcat = ('kcat', '-q', '-b', broker.bootstrap)
    return (
        [*kcat, '-P', '-t', 'sensors', '-k', sensor],
        [*kcat, '-C', '-u', '-t', 'alerts', '-o', 'end'],
    )


def mqtt_tools(broker: Mosquitto, sensor: str) -> tuple[Command, Command]:
    """Return those of mosquitto-clients."""
    server = ('-h', broker.host, '-p', str(broker.port))
    level = sensor.replace('.', '/')
    return (
        ['mosquitto_pub', *server, '-q', '1', '-t', f'sensors/{level}', '-s'],
        ['mosquitto_sub', *server, '-t', f'alerts/{level}'],
    )


TOOLS: dict[str, tuple[str, Callable[[Any, str], tuple[Command, Command]]]] = {
    'rabbitmq': ('amqp-publish', amqp_tools),
    'kafka': ('kcat', kafka_tools),
    'mosquitto': ('mosquitto_pub', mqtt_tools),
}


@contextmanager
def lines_of(command: Command) -> Iterator[queue.Queue[bytes]]:
    """Run a command, and give what it prints, line by line."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    lines: queue.Queue[bytes] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()])
    reader.start()
    try:
        yield lines
    finally:
        end(process, timeout_s=5)
        reader.join(5)
        process.stdout.close()


def next_alert(lines: queue.Queue[bytes], publish: Callable[[float], None]) -> dict[str, Any]:
    """Return the first alert raised that is printed.

    Readings pass the limit again and again, as no tool tells when it begins to listen.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        publish(91.5)
        try:
            alert: dict[str, Any] = json.loads(lines.get(timeout=0.5))
        except queue.Empty:
            publish(20)
            continue
        if alert['state'] == 'raised':
            return alert
    pytest.fail('no alert was printed')


@pytest.mark.parametrize('name', TOOLS)
def test_the_tools_of_the_broker_publish_a_reading_and_read_its_alert(request, unique, name):
    """Bodies are plain JSON, so nothing but the broker's own tools is needed."""
    tool, commands = TOOLS[name]
    if missing := require(tool):
        pytest.skip(missing)
    broker: Broker = request.getfixturevalue(name)
    sensor = f'{unique}.temperature'
    publishing, consuming = commands(broker, sensor)

    def publish(value: float) -> None:
        body = json.dumps({'value': value, 'unit': 'C'}).encode()
        subprocess.run(publishing, input=body, check=True, timeout=TIMEOUT_S)

    with running(f'--eventbus-url={broker.url}', '--simulate-after-s=0') as service:
        publish(91.5)
        history = f'/your_service/readings/{sensor}'
        (reading,) = service.expect(history, bool)
        assert (reading['value'], reading['unit']) == (91.5, 'C')
        with lines_of(consuming) as lines:
            alert = next_alert(lines, publish)

    assert alert.pop('time') > 1.7e9
    assert alert == {'sensor': sensor, 'state': 'raised', 'value': 91.5, 'limit': 80}


@pytest.mark.parametrize('name', TOOLS)
def test_two_instances_know_all_and_raise_each_alert_once(request, unique, tmp_path, name):
    """Live views show every reading everywhere; the group shares the work of alerting."""
    broker: Broker = request.getfixturevalue(name)
    sensors = [f'{unique}.{number}' for number in range(6)]
    logs = [tmp_path / 'a.log', tmp_path / 'b.log']
    # A name of its own is a group of its own: on MQTT members that are gone keep their share.
    common = (f'--eventbus-url={broker.url}', '--simulate-after-s=0', f'--name={unique}')

    with (
        running(*common, f'--output={logs[0]}', f'--instance={unique}-a') as a,
        running(*common, f'--output={logs[1]}', f'--instance={unique}-b') as b,
    ):
        for sensor in sensors * 2:
            a.post(f'/{unique}/readings/{sensor}', {'value': 91.5})
        for service in (a, b):
            latest = service.expect(f'/{unique}/readings', lambda all: {*sensors} <= {*all})
            assert all(latest[sensor]['value'] == 91.5 for sensor in sensors)
            service.expect(
                f'/{unique}/alerts',
                lambda alerts: {*sensors} <= {alert['sensor'] for alert in alerts},
            )

    raised = re.findall(f'Alert raised: ({unique}.[0-9])', ''.join(log.read_text() for log in logs))
    assert sorted(raised) == sensors


@pytest.mark.parametrize('name', ['memory', *TOOLS])
def test_its_own_tests_pass_with_another_url(request, name):
    """The same tests, unchanged; the URL is all that differs."""
    url = 'memory://' if name == 'memory' else request.getfixturevalue(name).url

    run_tests(BOILERPLATE, SERVICE_EVENTBUS_URL=url)


def test_renamed_it_is_a_repository_of_its_own(tmp_path):
    """Nothing of the old name stays, and its tests pass."""
    ours = tmp_path / 'ours'
    skipped = shutil.ignore_patterns('__pycache__', '*.egg-info', '.*_cache')
    shutil.copytree(BOILERPLATE, ours, ignore=skipped)

    subprocess.run([sys.executable, 'rename.py', 'green_house'], cwd=ours, check=True, timeout=30)

    left = {
        path.name
        for path in ours.rglob('*')
        if re.search('your[_-]service', path.name + (path.read_text() if path.is_file() else ''))
    }
    assert left == {'rename.py'}
    assert (ours / 'green_house' / '__main__.py').exists()
    assert 'name = green-house\n' in (ours / 'setup.cfg').read_text()
    run_tests(ours)


@pytest.mark.parametrize('name', ['Green', 'green-house', 'class', 'test', 'json', '../up', ''])
def test_a_name_that_is_no_package_name_changes_nothing(tmp_path, name):
    """It is refused before the first file is touched."""
    script = shutil.copy(BOILERPLATE / 'rename.py', tmp_path)
    package = shutil.copytree(BOILERPLATE / 'your_service', tmp_path / 'your_service')

    done = subprocess.run([sys.executable, script, name], capture_output=True, timeout=30)

    assert done.returncode == 1
    assert repr(name).encode() in done.stderr
    assert (package / '__main__.py').read_text() == (
        BOILERPLATE / 'your_service' / '__main__.py'
    ).read_text()


def run_tests(directory: Path, **variables: str) -> None:
    """Run the tests of a repository in a process of their own."""
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(directory / 'test')],
        cwd=directory,
        env=environment(directory) | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
