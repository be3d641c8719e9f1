"""One of the workers is the leader: the one that has the only partition of a topic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.plan import Plan
from service_scaffold.streams.runtime import Runtime
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topic import Topic


def leader_topic(id: str) -> str:
    """Return the name of that topic."""
    return f'{id}-leader'


async def lead(stream: Any) -> None:
    """Read it: nobody writes to it."""
    async for _ in stream:
        pass


class Leading(ABC):
    """Elects the leader of the workers of an application.

    Attributes:
        elects: Whether something declared asks for a leader.
    """

    settings: StreamSettings
    elects: bool
    runtime: Runtime | None

    @abstractmethod
    def topic(self, topic: str, *, partitions: int | None = None, internal: bool = False) -> Topic:
        """Declare a topic."""

    def elector(self) -> Agent:
        """Return the agent of our own whose partition makes the leader.

        Raises:
            ConfigError: There shall be no leader.
        """
        if not self.settings.may_elect:
            raise errors.ConfigError(
                'Something is declared on_leader=True, and --topic-disable-leader is set'
            )
        topic = self.topic(leader_topic(self.settings.id), partitions=1, internal=True)
        return Agent('leader', lead, Plan(topic), group=self.settings.id)

    def is_leader(self) -> bool:
        """Return whether this worker is the one that does what is done once for all workers.

        Of all workers of the application at most one is, and one is soon after the other has gone.

        Raises:
            StreamError: There is no election: nothing is declared `on_leader=True`.
        """
        if not (self.elects or self.settings.elect):
            raise errors.StreamError(
                f'The workers of {self.settings.id} have no leader: nothing is declared'
                ' on_leader=True'
            )
        return self.runtime is not None and self.runtime.owns(leader_topic(self.settings.id), 0)
