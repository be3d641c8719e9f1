"""What a worker has on its disk: the stores, and its name in the group."""

from __future__ import annotations

import uuid

from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.stores import Backend, Claim, claim, open_backend

MEMBER_FILE = 'member'
WORKER_FILE = 'worker'


class Workplace:
    """The stores of one worker; on disk, in a directory that nobody else uses meanwhile.

    A worker that was killed is replaced by the next one in its directory, which goes on in its
    name: the group does not wait until the session of the dead one ends.

    Args:
        settings: Say what the stores are, and where.
        stores: Those to use instead; they are not on a disk.

    Attributes:
        stores: The open stores.

    Raises:
        ConfigError: The URL or the directory cannot be used.
    """

    def __init__(self, settings: StreamSettings, stores: Backend | None = None) -> None:
        self._claim: Claim | None = None
        self._member_id = ''
        self._worker_id = uuid.uuid4().hex[:12]
        if stores is not None:
            self.stores = stores
            return
        if not settings.store.startswith('memory:'):
            self._claim = claim(settings.directory, settings.id)
        try:
            path = settings.directory if self._claim is None else self._claim.path
            self.stores = open_backend(settings.store, path)
        except BaseException:
            self._release()
            raise

    @property
    def worker_id(self) -> str:
        """The name of whoever works here, kept with the directory: copies stay where they are."""
        if self._claim is None:
            return self._worker_id
        path = self._claim.path / WORKER_FILE
        if not path.exists():
            path.write_text(self._worker_id)
        return path.read_text().strip()

    @property
    def member_id(self) -> str:
        """The group's name for whoever worked here last."""
        if self._claim is None:
            return self._member_id
        try:
            return (self._claim.path / MEMBER_FILE).read_text().strip()
        except FileNotFoundError:
            return ''

    @member_id.setter
    def member_id(self, name: str) -> None:
        self._member_id = name
        if self._claim is not None:
            (self._claim.path / MEMBER_FILE).write_text(name)

    def close(self) -> None:
        """Close the stores, and let another worker have the directory."""
        self.stores.close()
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
