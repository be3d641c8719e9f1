"""Who gets which partition: shared evenly, and whoever has one keeps it if that is fair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from service_scaffold.journal.base import TopicPartition

Owner = TypeVar('Owner', bound=Hashable)


def assign(
    wanted: Mapping[Owner, frozenset[str]],
    counts: Mapping[str, int],
    owned: Mapping[Owner, frozenset[TopicPartition]],
) -> dict[Owner, frozenset[TopicPartition]]:
    """Share partitions among members.

    Topics of equal partition count that the same members want are shared alike: whoever has
    partition 1 of one has partition 1 of the others, so that they can be joined.

    Args:
        wanted: What each member subscribes to, in order of joining.
        counts: Partitions of each topic that exists.
        owned: What each member has now.
    """
    plan: dict[Owner, set[TopicPartition]] = {member: set() for member in wanted}
    alike: dict[tuple[tuple[Owner, ...], int], list[str]] = defaultdict(list)
    for topic in sorted(counts):
        members = tuple(member for member in wanted if topic in wanted[member])
        if members:
            alike[members, counts[topic]].append(topic)
    for (members, count), topics in alike.items():
        held = [_holder(members, owned, topics, number) for number in range(count)]
        load = {member: len(plan[member]) for member in members}
        for number, member in enumerate(_share(members, held, load)):
            plan[member].update(TopicPartition(topic, number) for topic in topics)
    return {member: frozenset(partitions) for member, partitions in plan.items()}


def _holder(
    members: Sequence[Owner],
    owned: Mapping[Owner, frozenset[TopicPartition]],
    topics: Sequence[str],
    number: int,
) -> Owner | None:
    for topic in topics:
        for member in members:
            if TopicPartition(topic, number) in owned.get(member, ()):
                return member
    return None


def _share(
    members: Sequence[Owner], held: Sequence[Owner | None], load: Mapping[Owner, int]
) -> list[Owner]:
    """Return a member for each number; `held` says who has it now."""
    base, extra = divmod(len(held), len(members))
    order = sorted(members, key=lambda member: (-held.count(member), load[member]))
    room = {member: base + (place < extra) for place, member in enumerate(order)}
    shared: list[Owner | None] = []
    for member in held:
        kept = member if member is not None and room[member] > 0 else None
        if kept is not None:
            room[kept] -= 1
        shared.append(kept)
    free = iter([member for member in members for _ in range(room[member])])
    return [next(free) if member is None else member for member in shared]
