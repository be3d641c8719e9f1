"""What a group's consumer holds of one partition: how far it may be committed."""

from __future__ import annotations

from collections.abc import Sequence

from service_scaffold.transports.base import Delivery


class Share:
    """One partition while it is ours.

    Attributes:
        start: Where we have begun reading it.
        position: The next offset to be handed out.
        committed: What is committed, as far as we know; None: nothing.
        out: Offsets handed out, in order, without those that are settled before the first that
            is not.
        done: Those of `out` that are settled.
    """

    __slots__ = ('committed', 'done', 'out', 'position', 'start')

    def __init__(self, start: int, committed: int | None) -> None:
        self.start = start
        self.position = start
        self.committed = committed
        self.out: list[int] = []
        self.done: set[int] = set()

    def hand_out(self, deliveries: Sequence[Delivery]) -> None:
        """Note deliveries, in order, as handed out."""
        self.out.extend([delivery.raw.offset for delivery in deliveries])
        self.position = self.out[-1] + 1

    def settle(self, offsets: list[int]) -> None:
        """Note that offsets are finished; those that are not out are ignored."""
        out, done = self.out, self.done
        count = len(offsets)
        if not done and out[:count] == offsets:  # in order, as nearly always
            del out[:count]
            return
        if not out:
            return
        done.update(offset for offset in offsets if offset >= out[0])
        count = 0
        for offset in out:
            if offset not in done:
                break
            done.remove(offset)
            count += 1
        del out[:count]
        if not out:
            done.clear()

    def is_out(self, offset: int) -> bool:
        """Tell whether an offset is handed out and not settled."""
        return offset in self.out and offset not in self.done

    @property
    def running(self) -> int:
        """How many handed-out offsets are not settled."""
        return len(self.out) - len(self.done)

    @property
    def lowest_unfinished(self) -> int:
        """What may be committed: everything before it is finished."""
        return self.out[0] if self.out else self.position

    def continues(self, committed: int | None) -> bool:
        """Tell whether nobody else has worked on it, given what is committed now."""
        if committed == self.committed:
            return True
        return (
            committed is not None and (self.committed or 0) <= committed <= self.lowest_unfinished
        )
