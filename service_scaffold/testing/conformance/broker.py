"""The broker as the suite sees it: an address, and the faults."""

from __future__ import annotations

from abc import ABC, abstractmethod


class BrokerControl(ABC):
    """What a transport's author says about a broker; one per test or one for all of them.

    The faults may be those of the broker itself, or of a proxy in front of it. What the broker has
    confirmed must survive them. Each method returns when its effect is there.

    Attributes:
        url: The event bus URL that the tests connect to, through which the faults are felt.
        breakable: Whether the faults can be made at all; without, tests of outages are skipped.
    """

    url: str
    breakable: bool = True

    @abstractmethod
    def stop(self) -> None:
        """Lose all connections and refuse new ones."""

    @abstractmethod
    def half_open(self) -> None:
        """Fall silent: connections stay, nothing comes through, either way."""

    @abstractmethod
    def start(self) -> None:
        """End every fault."""
