"""What a feature says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Health(msgspec.Struct, frozen=True):
    """How a feature is. It is made at each question: a dataclass would cost five times as much.

    Args:
        ok: Whether all is well; else the status says `degraded` and shows `detail`.
        ready: Whether the service may be given work as far as this feature is concerned.
        detail: What the status shows: JSON values, no credentials.
    """

    ok: bool
    ready: bool = True
    detail: Mapping[str, object] = {}
