"""A private Mosquitto."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from test.brokers.process import Broker, require, search_path

# CONNECT of MQTT 3.1.1: clean session, keep-alive 5 s, client id `ready`.
_CONNECT = b'\x10\x11\x00\x04MQTT\x04\x02\x00\x05\x00\x05ready'
_CONNACK = b'\x20'


class Mosquitto(Broker):
    """One Mosquitto; with `persistence` its sessions and retained messages survive `kill`."""

    name = 'mosquitto'
    scheme = 'mqtt'
    tls_scheme = 'mqtts'
    saved_s = 2.5  # it writes its database once a second at most

    def __init__(
        self,
        *,
        tls: bool = False,
        verify_client: bool = False,
        user: str | None = None,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
        persistence: bool = True,
    ) -> None:
        super().__init__(
            tls=tls, verify_client=verify_client, user=user, password=password, settings=settings
        )
        self.persistence = persistence

    @classmethod
    def missing(cls) -> str | None:
        return require('mosquitto', 'mosquitto_passwd')

    def reload(self) -> None:
        """Have it read its passwords and its access list again; returns before it has."""
        assert self._process is not None, 'start it first'
        self._process.send_signal(signal.SIGHUP)

    def _prepare(self) -> None:
        lines = {
            'listener': f'{self.port} {self.host}',
            'allow_anonymous': 'true' if self.user is None else 'false',
            'log_dest': 'stdout',
            'max_queued_messages': '0',
            'persistence': 'false',
        }
        if os.geteuid() == 0:
            lines['user'] = 'root'  # else it drops to a user that cannot read the directory
        if self.persistence:
            lines |= {
                'persistence': 'true',
                'persistence_location': f'{self.directory}/',
                'autosave_interval': '1',
                'autosave_on_changes': 'true',
            }
        if self.certificates is not None:
            lines |= {
                'cafile': str(self.certificates.ca),
                'certfile': str(self.certificates.server_certificate),
                'keyfile': str(self.certificates.server_key),
                'require_certificate': 'true' if self.verify_client else 'false',
            }
        if self.user is not None:
            lines['password_file'] = self._write_passwords()
        lines |= self.settings
        text = ''.join(f'{key} {value}\n' for key, value in lines.items())
        (self.directory / 'mosquitto.conf').write_text(text)

    def _write_passwords(self) -> str:
        path = self.directory / 'passwords'
        command = ['mosquitto_passwd', '-b', '-c', str(path), str(self.user), str(self.password)]
        subprocess.run(command, check=True, capture_output=True, timeout=10)
        return str(path)

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        return ['mosquitto', '-c', 'mosquitto.conf'], {'PATH': search_path(), 'LANG': 'C.UTF-8'}

    def _answers(self) -> bool:
        return self._exchange(_CONNECT) == _CONNACK
