"""What the three brokers share: one private process, its ports, its directory, its life."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from test.brokers.proxy import Proxy
from test.brokers.tls import Certificates

HOST = '127.0.0.1'
# Below the range from which the kernel takes the ports of outgoing connections, and not those of
# another process of the same test run: a broker that was killed must find its port free when it
# comes back.
_PROCESS = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
_PROCESSES = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
_PORTS = range(15_000 + _PROCESS % _PROCESSES, 32_000, _PROCESSES)
_handed_out: set[int] = set()
_alive: weakref.WeakSet[Broker] = weakref.WeakSet()


class BrokerFailed(RuntimeError):
    """A broker did not start, or ended while it was starting; the message has its last lines."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on and nobody got before."""
    for _ in range(1000):
        port = random.choice(_PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise BrokerFailed(f'No free port between {_PORTS.start} and {_PORTS.stop}')


class Broker(ABC):
    """One private broker: made stopped, keeps its ports and its data until `close`.

    Args:
        tls: Listen with TLS only; `certificates` then has the CA and a client certificate.
        verify_client: With TLS, refuse clients without a certificate of our CA.
        user: Name that clients must give; without it they need none.
        password: The password of `user`.
        settings: More lines for the broker's own configuration file; they win over ours.
    """

    name: str
    scheme: str
    tls_scheme: str
    start_timeout_s = 60.0
    stop_timeout_s = 20.0
    saved_s = 0.0
    """What is younger than this a `kill` may take with it, although it was confirmed."""

    def __init__(
        self,
        *,
        tls: bool = False,
        verify_client: bool = False,
        user: str | None = None,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError('Give user and password, or neither')
        self.host = HOST
        self.port = free_port()
        self.user = user
        self.password = password
        self.verify_client = verify_client
        self.settings = dict(settings or {})
        self.directory = Path(tempfile.mkdtemp(prefix=f'{self.name}-'))
        self.certificates = Certificates.make(self.directory / 'tls') if tls else None
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._proxy: Proxy | None = None
        self._prepared = False
        _alive.add(self)

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Return what this machine lacks to run the broker, or None."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write configuration and credentials, once before the first start."""

    @abstractmethod
    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the command line and the whole environment of the process."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether the broker answers in its own protocol; OSError counts as no."""

    @property
    def running(self) -> bool:
        """Whether our process lives; says nothing about the proxy."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The file with everything that the process has printed."""
        return self.directory / f'{self.name}.log'

    @property
    def url(self) -> str:
        """The event bus URL, with credentials if there are any."""
        return self._url(self.port)

    @property
    def proxy(self) -> Proxy:
        """A proxy in front of the broker, made and opened at the first use."""
        if self._proxy is None:
            self._proxy = self._make_proxy()
        return self._proxy

    @property
    def proxied_url(self) -> str:
        """As `url`, through `proxy`."""
        return self._url(self.proxy.port)

    def start(self) -> None:
        """Start the broker and return when it serves clients; does nothing when it runs.

        Raises:
            BrokerFailed: It ended, or does not answer within `start_timeout_s`.
        """
        if self.running:
            return
        if reason := self.missing():
            raise BrokerFailed(reason)
        if not self._prepared:
            self._prepare()
            self._prepared = True
        command, environment = self._command()
        self._process = self._spawn(command, environment)
        self._wait_ready(self._process)

    def stop(self) -> None:
        """Ask the broker to end and wait for it; kill it after `stop_timeout_s`."""
        process = self._process
        if process is not None:
            end(process, self.stop_timeout_s)
        self._process = None

    def kill(self) -> None:
        """End the broker at once with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            kill(process)
            # The node is a child of the script that started it, and may outlive it a moment.
            wait_until(lambda: not self._listens(), timeout_s=10)

    def restart(self) -> None:
        """Stop and start, with the same port and data."""
        self.stop()
        self.start()

    def restore(self) -> None:
        """End every fault of the proxy, if it was ever used."""
        if self._proxy is not None:
            self._proxy.restore()

    def close(self) -> None:
        """Stop broker and proxy for good and remove the directory."""
        self.stop()
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def abandon(self) -> None:
        """Kill all that was started and remove the directory, when nobody has closed us."""
        for child in self._children:
            kill(child)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a client's context with our CA and client certificate; None without TLS."""
        return None if self.certificates is None else self.certificates.client_context()

    def _make_proxy(self) -> Proxy:
        return Proxy(self.host, self.port, port=free_port())

    def _url(self, port: int) -> str:
        scheme = self.tls_scheme if self.certificates else self.scheme
        login = ''
        if self.user is not None and self.password is not None:
            login = f'{quote(self.user, safe="")}:{quote(self.password, safe="")}@'
        return f'{scheme}://{login}{self.host}:{port}'

    def _spawn(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with self.log.open('ab') as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children = [child for child in self._children if child.poll() is None]
        self._children.append(process)
        return process

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            wait_until(lambda: process.poll() is not None or self._is_ready(), self.start_timeout_s)
        except TimeoutError:
            self.kill()
            raise BrokerFailed(
                f'{self.name} does not answer after {self.start_timeout_s:.0f} s{self._tail()}'
            ) from None
        if process.poll() is not None:
            raise BrokerFailed(f'{self.name} ended with {process.returncode}{self._tail()}')

    def _is_ready(self) -> bool:
        try:
            return self._answers()
        except OSError:
            return False

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex((self.host, self.port)) == 0

    def _tail(self) -> str:
        text = self.log.read_text(errors='replace') if self.log.exists() else ''
        return ':\n' + '\n'.join(text.splitlines()[-30:])

    def _exchange(self, greeting: bytes) -> bytes:
        """Return the first byte of the broker's answer to `greeting`, b'' if it hung up."""
        with socket.create_connection((self.host, self.port), timeout=5) as plain:
            context = self.ssl_context()
            if context is None:
                plain.sendall(greeting)
                return plain.recv(1)
            with context.wrap_socket(plain, server_hostname='localhost') as secure:
                secure.sendall(greeting)
                return secure.recv(1)


def wait_until(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.02) -> None:
    """Return when `condition()` holds.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f'Still waiting after {timeout_s} s')
        time.sleep(interval_s)


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask our process to end, wait, and kill what is left of its group."""
    if process.poll() is not None:
        return
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    _kill_group(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it has started; nothing if it has ended by itself."""
    # Once it is reaped its number may be somebody else's.
    if process.poll() is None:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def require(*binaries: str) -> str | None:
    """Return which of `binaries` are missing, as a sentence that says what to do, or None."""
    absent = [name for name in binaries if shutil.which(name, path=search_path()) is None]
    return f'{", ".join(absent)} not found; run scripts/brokers' if absent else None


def search_path() -> str:
    """Return PATH with the directories for administrators, where brokers are installed."""
    return os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'])


@atexit.register
def _kill_what_is_left() -> None:
    for broker in list(_alive):
        broker.abandon()
