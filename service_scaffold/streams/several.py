"""Several topics, known by their names or by a pattern, that one agent reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn

from service_scaffold import errors
from service_scaffold.journal.naming import is_topic_name
from service_scaffold.streams.deadletters import store_of
from service_scaffold.streams.event import OWN_KEY, Acks, Event
from service_scaffold.streams.steps import Kind
from service_scaffold.streams.topic import Outlet, Topic

LOGGER = logging.getLogger(__name__)

LONGEST = 200
"""Characters of a name that topics derived from this have in theirs."""
DEAD = '.dlq'
"""What names of dead letters end with, which a pattern leaves out."""


class Several(Topic):
    """Stands for topics with the same types; made by `app.topic('a', 'b')`.

    An agent reads each of them by itself: with its own partitions, as many as it has, its own
    offsets, and its own lanes. Records of one key are in order within their topic; between topics
    there is no order. Nothing can be sent to it.

    Args:
        members: The topics.
        pattern: Instead of them: what a topic's whole name has to match.
        declare: Returns the topic of a name.

    Attributes:
        members: The topics, as far as they are known.
    """

    members: Sequence[Topic]

    def __init__(
        self,
        outlet: Outlet,
        names: Sequence[str],
        pattern: str | re.Pattern[str] | None,
        declare: Callable[[str], Topic],
        **types: Any,
    ) -> None:
        text = '-'.join(names)
        if pattern is not None:
            self._pattern = re.compile(pattern)
            self._left_out: set[str] = set()
            text = 'like-' + re.sub('[^a-zA-Z0-9._-]+', '_', self._pattern.pattern)
        super().__init__(text[:LONGEST], outlet, **types)
        self._declare = declare
        self.members = [declare(name) for name in dict.fromkeys(names)]

    def __repr__(self) -> str:
        return f'<Topics {self._shown}>'

    @property
    def _shown(self) -> str:
        return ', '.join(topic.name for topic in self.members) or self.name

    def match(self, names: Iterable[str], own: Collection[str]) -> None:
        """See which topics there are now, for a pattern.

        Args:
            names: Of all topics.
            own: Those of the application's own, which are left out.
        """
        self.members = [
            self._declare(name)
            for name in sorted(names)
            if self._pattern.fullmatch(name)
            and not (name in own or name.endswith(DEAD) or name.startswith('__'))
            and self._can_be_read(name)
        ]

    def _can_be_read(self, name: str) -> bool:
        """Leave out what can have no dead letters, and say so once."""
        if is_topic_name(store_of(name)):
            return True
        if name not in self._left_out:
            self._left_out.add(name)
            LOGGER.error(
                'Topic %s matches %s, but is not read: %s, for its dead letters, would be no name'
                ' for a topic; give it a shorter one',
                name,
                self._pattern.pattern,
                store_of(name),
            )
        return False

    def decode(self, record: Any, lane: Acks | None = None) -> Event:
        for topic in self.members:
            if topic.name == record.topic:
                return topic.decode(record, lane)
        return super().decode(record, lane)

    @property
    def model(self) -> Topic | None:
        return self.members[0] if self.members else None

    # Nothing goes there

    def record(self, *args: Any, **options: Any) -> NoReturn:
        """Send nowhere.

        Raises:
            StreamError: Always.
        """
        raise errors.StreamError(
            f'app.topic stands for several topics here ({self._shown}); send to one of them'
        )

    async def append(self, record: Any) -> NoReturn:
        self.record()

    async def forward(self, event: Event, key: Any = OWN_KEY) -> NoReturn:
        self.record()

    def paired(self, name: str, left: Kind, right: Kind) -> NoReturn:
        """Take part in no join.

        Raises:
            StreamError: Always.
        """
        raise errors.StreamError(
            f'Several topics ({self._shown}) take part in no join and are not combined; send them'
            ' through() one topic first'
        )
