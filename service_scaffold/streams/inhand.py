"""The events that a body has in hand: one, a batch, or those that it acknowledges itself."""

from __future__ import annotations

from service_scaffold.streams.event import Event


class InHand:
    """The events of one lane that were taken and are not finished.

    With `stream.noack()` a body acknowledges them by hand, in any order. What is written and sent
    counts with the next acknowledgement: it cannot be told which of several events it belongs to,
    but as long as none is acknowledged, all of them come again.

    Attributes:
        current: What is finished when the body asks for more.
        taken: Of those by hand, what the body was given last.
        by_hand: Whether the body has called `noack`.
    """

    def __init__(self) -> None:
        self.current: list[Event] = []
        self.taken: list[Event] = []
        self.by_hand = False
        self._open: dict[str, Event] = {}
        self._passed: list[Event] = []
        self._skipped: list[tuple[int, Event]] = []

    def add(self, event: Event) -> None:
        """Take an event."""
        if self.by_hand:
            self._open[event.dedup_id] = event
            self.taken.append(event)
        else:
            self.current.append(event)

    @property
    def last_given(self) -> list[Event]:
        """What the body was given last: an event, or a batch."""
        return self.current or self.taken

    @property
    def unfinished(self) -> list[Event]:
        """All of them."""
        return [*self.current, *self._open.values()]

    # By hand

    @property
    def unacked(self) -> bool:
        """Whether there are events that the body has to acknowledge."""
        return len(self._open) > len(self._passed)

    def holds(self, event: Event) -> bool:
        """Tell whether an event has to be acknowledged."""
        return event.dedup_id in self._open

    def ack(self, event: Event) -> None:
        """Count an event as acknowledged."""
        self._open.pop(event.dedup_id, None)

    # Those that the body is not to see

    def skip(self, event: Event) -> None:
        """Keep an event from the body."""
        if self.by_hand:
            self.taken.remove(event)
            self._passed.append(event)
        else:
            self.current.remove(event)
            self._skipped.append((len(self.current), event))

    def take_skipped(self) -> list[Event]:
        """Return, and forget, what was kept from the body."""
        events = [*self._passed, *(event for _, event in self._skipped)]
        for event in self._passed:
            self._open.pop(event.dedup_id, None)
        self._passed.clear()
        self._skipped.clear()
        return events

    # After a failure

    def blame_last(self) -> None:
        """Of those by hand: let the last one given be the current one; the others are skipped."""
        passed = {event.dedup_id for event in self._passed}
        given = [event for name, event in self._open.items() if name not in passed]
        last = given[-1] if given else None
        for event in self._open.values():
            if event is last:
                self.current.append(event)
            else:
                self._skipped.append((len(self.current), event))
        self._open.clear()
        self._passed.clear()
        self.taken.clear()

    def give_back(self) -> list[Event]:
        """Forget and return the current ones, and those that were skipped, as they were taken."""
        events = list(self.current)
        for place, event in reversed(self._skipped):
            events.insert(place, event)
        self._skipped.clear()
        self.current.clear()
        return events
