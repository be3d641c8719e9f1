"""All that a worker does with one partition number of topics that belong together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import TopicPartition
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.checkpoint import (
    Committer,
    Snapshot,
    read_position,
    write_position,
)
from service_scaffold.streams.effects import Effects
from service_scaffold.streams.layout import used_by
from service_scaffold.streams.node import Node, Spawn
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stream_time import StreamTimes
from service_scaffold.streams.track import Note, fits, lead, write_note

LOGGER = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long the end of a task waits for its checkpoint."""

Phase = Literal['recovering', 'running', 'held', 'closed']

Replied = Callable[['Task', frozenset[str]], None]


class Task:
    """Partition `number` of every topic with `count` partitions.

    They stand and fall together: agents of several topics may write one table.

    Args:
        stopped: Told of the error with which an error hook wants the application to end.
        replied: Told of itself, and of the topics of the answers that finished events have sent.

    Attributes:
        number: The partition.
        count: How many partitions each of its topics has.
        nodes: One per agent.
        phase: What it is doing.
        committed: By topic: the offset that the group has committed.
        committed_number: Of the checkpoint that has committed them.
        times: How late it is by the events' timestamps.
    """

    def __init__(
        self,
        number: int,
        count: int,
        agents: Sequence[Agent],
        clock: Clock,
        stopped: Callable[[Exception], None],
        replied: Replied = lambda task, topics: None,
    ) -> None:
        self.number = number
        self.count = count
        self.nodes = [Node(agent, self, clock) for agent in agents]
        self.phase: Phase = 'recovering'
        self.committed: dict[str, int] = {}
        self.committed_number = 0
        self.times = StreamTimes()
        self._clock = clock
        self._by_topic: dict[str, list[Node]] = {}
        for node in self.nodes:
            for topic in node.topics:
                self._by_topic.setdefault(topic, []).append(node)
        self._leads = {
            topic: lead([node.name for node in nodes]) for topic, nodes in self._by_topic.items()
        }
        self._states: dict[str, PartitionState] = {}
        self._committer: Committer | None = None
        self._written: dict[str, tuple[int, str]] = {}
        self._number = 0
        self._postponed = False
        self._committing = asyncio.Lock()
        self._stopped = stopped
        self.replied = replied

    def __str__(self) -> str:
        return f'partition {self.number} of {", ".join(sorted(self._by_topic))}'

    @property
    def partitions(self) -> list[TopicPartition]:
        """What it reads."""
        return [TopicPartition(topic, self.number) for topic in self._by_topic]

    # Its life

    def begin(
        self,
        commits: Mapping[str, tuple[int, Note]],
        states: Mapping[str, PartitionState],
        committer: Committer,
        spawn: Spawn,
    ) -> None:
        """Start the agents where the group's commits say."""
        self._states = dict(states)
        self._committer = committer
        for topic, (offset, note) in commits.items():
            self.committed[topic] = offset
            self._number = max(self._number, note.checkpoint)
            for node in self._by_topic[topic]:
                node.begin(topic, offset, note)
        self.committed_number = self._number
        self._written = self._progress()
        self._begin_times(spawn)
        for node in self.nodes:
            node.start(spawn)
        self.phase = 'running'

    def _begin_times(self, spawn: Spawn) -> None:
        keepers = [state.keeper for state in self._states.values() if state.keeper is not None]
        if keepers:
            self.times = StreamTimes(
                self.nodes, lambda node: [table.name for table in used_by(node.agent)], keepers
            )
            self.times.begin(self, self._clock, spawn)
            for node in self.nodes:
                node.told = self.times.poke

    @property
    def held(self) -> bool:
        return self.phase != 'running'

    def hold(self) -> None:
        """Begin nothing new: a rebalance is under way."""
        if self.phase == 'running':
            self.phase = 'held'

    def release(self) -> None:
        """Go on."""
        if self.phase == 'held':
            self.phase = 'running'
            for node in self.nodes:
                node.wake()
            self.times.poke()

    async def close(self) -> None:
        """End all that runs; what is not committed happens again, here or elsewhere."""
        self.phase = 'closed'
        try:
            await asyncio.gather(*(node.close() for node in self.nodes), self.times.close())
            await self._checkpoint_ended()
            if self._committer is not None:
                await self._committer.close()
        finally:  # also when this is cancelled: else they were in use for whoever comes next
            for state in self._states.values():
                self._note_whole(state)
                state.close()

    def _note_whole(self, state: PartitionState) -> None:
        """Write down which checkpoint a store has all of, should its changelog be lost."""
        if state.store.closed:
            return
        try:
            position = read_position(state.store.position)
            if position is not None and position.checkpoint == 0:
                state.store.write({}, write_position(position.offset, whole=self.committed_number))
        except errors.StoreError as error:
            LOGGER.warning('%s: %s', self, error)

    async def _checkpoint_ended(self) -> None:
        """Wait for a checkpoint under way, which would be left without its store; not for long."""
        try:
            async with asyncio.timeout(CLOSE_S), self._committing:
                pass
        except TimeoutError:
            LOGGER.warning('%s: its checkpoint did not end within %g s', self, CLOSE_S)

    # Records in

    def feed(self, topic: str, records: Sequence[Any]) -> None:
        """Give records of one of its topics to the agents that read it."""
        self.times.feed(topic, records)
        for node in self._by_topic[topic]:
            node.feed(topic, records)

    @property
    def wanted(self) -> set[str]:
        """Topics without a record that hold up those of others, where several are read in order."""
        return {topic for node in self.nodes for topic in node.wanted}

    def flow(self, exhausted: Collection[str]) -> None:
        """Go on without waiting for topics that have no more records now."""
        for node in self.nodes:
            node.flow(exhausted)

    def position(self, topic: str) -> int:
        """Return the offset after the highest one that was fed."""
        return max(node.tracks[topic].next for node in self._by_topic[topic])

    def start_of(self, topic: str) -> int:
        """Return the offset to read from after `begin`."""
        return min(node.tracks[topic].lowest for node in self._by_topic[topic])

    def waiting(self, topic: str) -> int:
        """How many records of the topic, at most, no body has seen."""
        return max(node.waiting(topic) for node in self._by_topic[topic])

    def ahead(self, topic: str) -> int:
        """How far feeding is ahead of the lowest unfinished record."""
        return max(
            node.tracks[topic].next - node.tracks[topic].lowest for node in self._by_topic[topic]
        )

    def lead(self, topic: str) -> int:
        """How far feeding may be ahead; of a batch that is larger, checkpoints may have to wait."""
        return self._leads[topic]

    def asks_for_more(self, topic: str) -> bool:
        """Whether whoever reads a topic has all of it in hand and waits, as for a large batch."""
        nodes = self._by_topic[topic]
        lanes = [lane for node in nodes for lane in node.lanes]
        return all(node.idle for node in nodes) and not any(lane.unacked for lane in lanes)

    @property
    def resting(self) -> bool:
        """Whether no body is busy with an event."""
        return self.times.resting and all(node.resting for node in self.nodes)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do until another record comes, or time passes."""
        return self.at_rest and not self.dirty

    @property
    def at_rest(self) -> bool:
        """Whether everybody waits for a record, or for time to pass."""
        return self.times.idle and all(node.idle for node in self.nodes)

    @property
    def backing_off(self) -> bool:
        """Whether somebody pauses before another attempt."""
        return self.times.backing_off or any(node.backing_off for node in self.nodes)

    def rested(self) -> None:
        """Tell whoever waits for that that somebody has become idle."""
        for node in self.nodes[:1]:
            node.agent.rested()

    # Asked by lanes

    def state(self, table: Any) -> PartitionState:
        state = self._states.get(table.name)
        if state is None:
            raise errors.CoPartitionError(table.misplaced(self._by_topic, self.count))
        return state

    def find_state(self, table: str) -> PartitionState | None:
        """Return this partition of a table, None if it has none here."""
        return self._states.get(table)

    def apply(self, effects: Effects) -> None:
        for state, changes in effects.writes.items():
            state.apply(changes)
        if effects.replies:
            self.replied(self, effects.replies)
        if effects.sends and self._committer is not None:
            self._committer.send(effects.sends)
        for call in effects.then:
            call()

    def stop(self, error: Exception) -> None:
        self._stopped(error)

    # Checkpoints

    @property
    def dirty(self) -> bool:
        """Whether something is finished that is not committed."""
        if self._committer is None:
            return False
        return (
            self._committer.dirty
            or any(state.dirty for state in self._states.values())
            or self._progress() != self._written
        )

    def _progress(self) -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for topic, nodes in self._by_topic.items():
            tracks = {node.agent.name: node.tracks[topic] for node in nodes if node.tracks}
            if tracks:
                offset = min(track.lowest for track in tracks.values())
                found[topic] = (offset, write_note(self._number, offset, tracks))
        return found

    def _fits(self, progress: Mapping[str, tuple[int, str]]) -> bool:
        """Tell whether it can be written down how far everybody is; if not, it soon can be.

        Only batches that are larger than `lead`, in several lanes, leave so much unfinished.
        """
        strewn = [topic for topic, (_, note) in progress.items() if not fits(note)]
        if strewn and not self._postponed:
            LOGGER.warning(
                '%s: the checkpoint waits, as too much of %s is unfinished, here and there;'
                ' smaller batches would help',
                self,
                ', '.join(strewn),
            )
        self._postponed = bool(strewn)
        return not strewn

    async def checkpoint(self) -> bool:
        """Commit what is finished; nothing that runs has to wait for it.

        Returns:
            Whether there was anything to commit.

        Raises:
            GenerationEnded: A rebalance is under way; what was not committed here may go on here,
                or happens again elsewhere.
        """
        if self.phase in ('recovering', 'closed') or self._committer is None:
            return False
        async with self._committing:
            if not self.dirty:
                return False
            self._number += 1
            self.times.note()
            progress = self._progress()
            if not self._fits(progress):
                return False
            snapshot = Snapshot(
                self._number,
                {TopicPartition(topic, self.number): at for topic, (at, _) in progress.items()},
                {TopicPartition(topic, self.number): note for topic, (_, note) in progress.items()},
                [(state, state.take()) for state in self._states.values() if state.dirty],
            )
            self._committer.take(snapshot)
            await self._committer.commit(snapshot)
            self._written = progress
            self.committed_number = snapshot.number
            self.committed = {topic: offset for topic, (offset, _) in progress.items()}
            return True
