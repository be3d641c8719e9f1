"""The services' processes, as a supervisor would handle them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from test.brokers.process import free_port, kill, wait_until

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 30.0
PUBLISH_TIMEOUT_S = 5.0


class Service:
    """One instance of a service under test; its files are the same for all of its processes.

    Args:
        role: What it is to be: `publisher` or `consumer`.
        instance: Its `--instance`.
        directory: Where its files go.
        options: Further options, with underscores.

    Attributes:
        module: What its process runs.
        waits: Roles that are waited for at their start.
        port: Of its HTTP server.
        failures: What was not as it should be, in words.
    """

    module = 'bench.soak.service'
    waits = frozenset({'consumer'})

    def __init__(self, role: str, instance: str, directory: Path, **options: object) -> None:
        self.role = role
        self.instance = instance
        self.log = directory / f'{instance}.log'
        self.record = directory / f'{instance}.record'
        self.samples = directory / f'{instance}.samples'
        self.port = free_port()
        self.failures: list[str] = []
        given: dict[str, object] = {
            'instance': instance,
            'record': self.record,
            'samples': self.samples,
            'host': '127.0.0.1',
            'port': self.port,
            'publish_timeout_s': PUBLISH_TIMEOUT_S,
            **options,
        }
        self._arguments = [f'--{key.replace("_", "-")}={value}' for key, value in given.items()]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process; one of `waits` is waited for until it is at work."""
        # Warnings are on, so that a socket that nobody closed is told.
        command = [sys.executable, '-W', 'default', '-m', self.module, self.role]
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                cwd=ROOT,
                env={'PATH': os.environ['PATH'], 'PYTHONPATH': str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self.role in self.waits:
            self._wait_active(self._process)

    def terminate(self) -> None:
        """Send SIGTERM and wait for the end; a status other than 0 is a failure."""
        self._signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            status = self._running().wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.failures.append(f'{self.instance} has not ended {STOP_S:.0f} s after SIGTERM')
            kill(self._running())
        else:
            if status:
                seconds = time.monotonic() - began
                what = f'{self.instance} ended with {status}, {seconds:.1f} s after SIGTERM'
                self.failures.append(what)
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            kill(process)

    def pause(self) -> None:
        """Send SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def check(self) -> None:
        """Note it if it has ended by itself, and start it again, as a supervisor would."""
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self.failures.append(f'{self.instance} ended by itself with {status}')
            self.start()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f'{self.instance} does not run')
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def _wait_active(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it says so; if it ends instead, that is for `check` to note."""
        active = f'active {process.pid}\n'

        def settled() -> bool:
            said = self.samples.exists() and active in self.samples.read_text()
            return said or process.poll() is not None

        try:
            wait_until(settled, START_S, interval_s=0.1)
        except TimeoutError:
            self.failures.append(f'{self.instance} is not in its group {START_S:.0f} s later')
