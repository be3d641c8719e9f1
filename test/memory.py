"""How much of a process is in memory."""

from __future__ import annotations

from pathlib import Path


def resident_kib(pid: int | str = 'self') -> int:
    """Return the resident memory of a process, of our own by default."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(status.partition('VmRSS:')[2].split()[0])
