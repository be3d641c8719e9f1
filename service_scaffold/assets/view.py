"""One asset as it is known here: its latest records, and those who watch them."""

from __future__ import annotations

from collections.abc import Iterator

from service_scaffold import errors
from service_scaffold.assets.record import (
    ABOVE,
    AVAIL,
    AVAILABLE,
    BELOW,
    KIND,
    PATH,
    UNAVAILABLE,
    Attribute,
    Stored,
)
from service_scaffold.assets.watching import Watch


class View:
    """What is known of one asset.

    Attributes:
        id: The asset's id.
        lost_at: When its owner was found to have gone without a word; None: it has not.
        records: The latest record of each attribute, references included.
        watches: Who is told of changes.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.lost_at: float | None = None
        self.records: dict[str, Stored] = {}
        self.watches: list[Watch] = []

    # Reading

    def __contains__(self, attribute: str) -> bool:
        return attribute in self.records

    def __iter__(self) -> Iterator[str]:
        return (id for id in list(self.records) if _is_attribute(id))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def known(self) -> bool:
        """Whether anything is known of the asset."""
        return bool(self.records)

    @property
    def available(self) -> bool:
        """Whether its owner is there."""
        record = self.records.get(AVAIL)
        return record is not None and record.value == AVAILABLE and self.lost_at is None

    @property
    def host(self) -> str:
        """The process that owns it, or did last; '' when none is known."""
        record = self.records.get(AVAIL)
        return '' if record is None else record.host

    @property
    def epoch(self) -> int:
        """When its last owner claimed it."""
        record = self.records.get(AVAIL)
        return 0 if record is None else record.epoch

    @property
    def has_methods(self) -> bool:
        """Whether anybody can call it."""
        return any(record.kind == 'method' for record in list(self.records.values()))

    @property
    def kind(self) -> str:
        """What the asset is, as its owner says."""
        return self._text(KIND)

    @property
    def path(self) -> str:
        """Where the asset stands, as its owner says."""
        return self._text(PATH)

    def _text(self, id: str) -> str:
        record = self.records.get(id)
        return '' if record is None else str(record.value)

    def attribute(self, id: str) -> Attribute:
        """Return one attribute.

        Raises:
            UnknownAttribute: (a KeyError) There is none of that id.
        """
        record = self.records.get(id)
        if record is None:
            raise errors.UnknownAttribute(
                f'{self.id} has no attribute {id!r}' if self.known else f'{self.id} is not known'
            )
        return self.shown(id, record)

    def attributes(self) -> dict[str, Attribute]:
        """Return all attributes by id."""
        records = list(self.records.items())
        return {id: self.shown(id, record) for id, record in records if _is_attribute(id)}

    def get(self, id: str) -> Attribute:
        """Return one attribute; one whose fields say UNAVAILABLE when there is none of that id."""
        record = self.records.get(id)
        if record is None:
            return Attribute(self.id, id, UNAVAILABLE, 'event', '', 0.0, 'stale')
        return self.shown(id, record)

    def shown(self, id: str, record: Stored) -> Attribute:
        """Return a record as users see it."""
        value, timestamp = record.value, record.timestamp
        if id == AVAIL:
            value = AVAILABLE if self.available else UNAVAILABLE
            timestamp = max(timestamp, self.lost_at or 0.0)
            quality = True
        else:
            quality = self.available and record.epoch == self.epoch
        return Attribute(
            self.id,
            id,
            value,
            record.kind,
            record.tag,
            timestamp,
            'good' if quality else 'stale',
        )

    # Changing

    def put(self, id: str, record: Stored | None) -> bool:
        """Take a record, or drop one; False when a newer one is known."""
        known = self.records.get(id)
        if record is None:
            self.records.pop(id, None)
            return known is not None
        if known is not None and record.order <= known.order:
            return False
        self.records[id] = record
        if id == AVAIL and (known is None or known.host != record.host):
            self.lost_at = None
        if _is_attribute(id):
            self.tell(id)
        return True

    def tell(self, id: str) -> None:
        """Tell those who watch of an attribute's present state."""
        if not self.watches:
            return
        shown = self.shown(id, self.records[id])
        for watch in tuple(self.watches):
            if watch.wants(shown):
                watch.tell(shown)


def _is_attribute(id: str) -> bool:
    """Return whether a record is one to see, and no reference."""
    return not id.startswith((ABOVE, BELOW))
