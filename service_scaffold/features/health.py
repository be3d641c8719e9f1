"""What a feature says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """How a feature is.

    Args:
        ok: Whether all is well; else the status says `degraded` and shows `detail`.
        ready: Whether the service may be given work as far as this feature is concerned.
        detail: What the status shows: JSON values, no credentials.
    """

    ok: bool
    ready: bool = True
    detail: Mapping[str, object] = field(default_factory=dict)
