"""Fills the changelog of the table `counts` of an application: each key once.

Its name is the same for Faust and for us. The keys are JSON text, which both of us can read.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable

from bench.fill_topic import Pair, create, fill
from bench.meter import payload


def changes(total: int) -> Iterable[Pair]:
    """Return key and value of each record."""
    for number in range(total):
        yield b'"boiler-%d"' % number, json.dumps(payload(number)).encode()


async def main(url: str, total: int, topic: str) -> None:
    """Make an empty source, and the changelog of a table that was counted from it."""
    changelog = f'{topic}-counts-changelog'
    await create(url, [topic])
    await create(url, [changelog], {'cleanup.policy': 'compact'})
    await fill(url, changelog, changes(total))


if __name__ == '__main__':
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
