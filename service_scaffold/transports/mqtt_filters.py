"""The topic filters of one consumer: which bindings need them, and what they are numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from service_scaffold.transports.base import Binding, Delivery
from service_scaffold.transports.patterns import Matcher

RETIRED = 1000
"""How many filters that nobody needs any more are remembered with their identifiers."""


class Filters:
    """What is subscribed to: each filter once, with the bindings that need it.

    The last filters that were given up keep their identifiers: copies of messages that the broker
    has sent for them meanwhile are still to come, and are nobody's.
    """

    def __init__(self) -> None:
        self.bindings: dict[str, list[Binding]] = {}
        self.identifiers: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._retired: dict[str, int] = {}
        self._matchers: dict[str, Matcher[Binding]] = {}

    def add(self, text: str, binding: Binding, identifier: Callable[[str], Iterable[int]]) -> None:
        """Note that `binding` needs the filter; give the filter its identifier if it is new."""
        if text not in self.bindings:
            free = self._retired.pop(text, None)
            if free is None:
                free = next(number for number in identifier(text) if number not in self._texts)
            self.identifiers[text] = free
            self._texts[free] = text
        self.bindings.setdefault(text, []).append(binding)
        matcher = self._matchers.setdefault(binding.exchange, Matcher())
        matcher.add(binding.pattern, binding, binding.exchange_type)

    def remove(self, text: str, binding: Binding) -> bool:
        """Note that `binding` needs the filter no longer; tell whether nobody does."""
        self.bindings[text].remove(binding)
        self._matchers[binding.exchange].remove(binding.pattern, binding, binding.exchange_type)
        if self.bindings[text]:
            return False
        del self.bindings[text]
        self._retired[text] = self.identifiers.pop(text)
        if len(self._retired) > RETIRED:
            oldest = next(iter(self._retired))
            del self._texts[self._retired.pop(oldest)]
        return True

    def text(self, identifier: int) -> str | None:
        """Return the filter of an identifier, also if it was given up a while ago."""
        return self._texts.get(identifier)

    def matching(self, delivery: Delivery) -> Sequence[Binding]:
        """Return the bindings that want a delivery, through whatever filter."""
        matcher = self._matchers.get(delivery.exchange)
        return () if matcher is None else matcher.match(delivery.routing)
