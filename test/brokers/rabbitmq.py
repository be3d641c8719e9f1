"""A private RabbitMQ node with an epmd of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from test.brokers.process import HOST, Broker, end, free_port, require, wait_until

_GREETING = b'AMQP\x00\x00\x09\x01'
# The wrapper on PATH changes user and directory; the script below it does neither.
_BIN = Path('/usr/lib/rabbitmq/bin')
_SCHEDULERS = '+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}'


class RabbitMQ(Broker):
    """One RabbitMQ node; without `user` it has guest:guest."""

    name = 'rabbitmq'
    scheme = 'amqp'
    tls_scheme = 'amqps'
    saved_s = 1.5  # see `kill`

    def __init__(
        self,
        *,
        tls: bool = False,
        verify_client: bool = False,
        user: str | None = None,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            tls=tls,
            verify_client=verify_client,
            user='guest' if user is None else user,
            password='guest' if password is None else password,
            settings=settings,
        )
        self.node = f't{self.port}@localhost'
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        if not (_BIN / 'rabbitmq-server').exists():
            return 'rabbitmq-server not found; run scripts/brokers'
        return require('epmd', 'erl')

    def start(self) -> None:
        """Start epmd and the node; see `Broker.start`."""
        if self.missing() is None and (self._epmd is None or self._epmd.poll() is not None):
            # In the foreground and ours: a node that finds none leaves a daemon behind.
            self._epmd = self._spawn(
                ['epmd', '-address', HOST, '-port', str(self._epmd_port)], self._environment()
            )
            wait_until(self._epmd_listens, timeout_s=10)
        super().start()

    def stop(self) -> None:
        """Stop the node, then epmd."""
        super().stop()
        if self._epmd is not None:
            end(self._epmd, timeout_s=5)
            self._epmd = None

    def kill(self) -> None:
        """End the node at once; see `Broker.kill`.

        RabbitMQ loses a quorum queue that was declared less than about a second before: the
        directory of its Raft members is saved twice a second only. Such a queue comes back
        without a leader and refuses everything.
        """
        super().kill()

    def control(self, *arguments: str, timeout_s: float = 30) -> str:
        """Run `rabbitmqctl` against this node (about 1 s) and return what it prints."""
        command = [str(_BIN / 'rabbitmqctl'), '-q', '--node', self.node, *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return done.stdout

    def _epmd_listens(self) -> bool:
        names = ['epmd', '-port', str(self._epmd_port), '-names']
        done = subprocess.run(names, env=self._environment(), capture_output=True, timeout=10)
        return done.returncode == 0

    def _prepare(self) -> None:
        lines = {
            'loopback_users': 'none',
            'default_user': str(self.user),
            'default_pass': str(self.password),
            'log.console': 'false',
            'log.file.level': 'warning',
            'vm_memory_high_watermark.absolute': '512MB',
            'disk_free_limit.absolute': '50MB',
        }
        if self.certificates is None:
            lines['listeners.tcp.default'] = f'{self.host}:{self.port}'
        else:
            lines |= {
                'listeners.tcp': 'none',
                'listeners.ssl.default': f'{self.host}:{self.port}',
                'ssl_options.cacertfile': str(self.certificates.ca),
                'ssl_options.certfile': str(self.certificates.server_certificate),
                'ssl_options.keyfile': str(self.certificates.server_key),
                'ssl_options.verify': 'verify_peer' if self.verify_client else 'verify_none',
                'ssl_options.fail_if_no_peer_cert': 'true' if self.verify_client else 'false',
            }
        lines |= self.settings
        text = ''.join(f'{key} = {value}\n' for key, value in lines.items())
        (self.directory / 'rabbitmq.conf').write_text(text)
        (self.directory / 'enabled_plugins').write_text('[].\n')

    def _environment(self) -> dict[str, str]:
        return {
            'PATH': os.environ.get('PATH', os.defpath),
            'LANG': 'C.UTF-8',
            'HOME': str(self.directory),
            'RABBITMQ_NODENAME': self.node,
            'RABBITMQ_NODE_IP_ADDRESS': self.host,
            'RABBITMQ_NODE_PORT': str(self.port),
            'RABBITMQ_DIST_PORT': str(self._distribution_port),
            'RABBITMQ_MNESIA_BASE': str(self.directory / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(self.directory / 'log'),
            'RABBITMQ_CONFIG_FILE': str(self.directory / 'rabbitmq'),
            'RABBITMQ_CONF_ENV_FILE': str(self.directory / 'none.conf'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(self.directory / 'enabled_plugins'),
            'RABBITMQ_PID_FILE': str(self.directory / 'pid'),
            'ERL_EPMD_ADDRESS': self.host,
            'ERL_EPMD_PORT': str(self._epmd_port),
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': _SCHEDULERS,
        }

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        return [str(_BIN / 'rabbitmq-server')], self._environment()

    def _answers(self) -> bool:
        return self._exchange(_GREETING) != b''
