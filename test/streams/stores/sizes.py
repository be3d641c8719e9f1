"""A process that writes 1 to 100 rows at a time to eight stores: `sizes.py URL DIRECTORY`.

It prints by how many KiB that made it larger.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from service_scaffold.streams.stores import base
from test.memory import resident_kib

STORES = 8
MOST_ROWS = 100
ROUNDS = 2_000


def main(url: str, directory: str) -> None:
    chance = random.Random(1)
    backend = base.open_backend(url, Path(directory))
    stores = [backend.open('table', number) for number in range(STORES)]
    keys = [b'%03d' % number for number in range(500)]
    for store in stores:
        store.write(dict.fromkeys(keys, b'a value'), b'0')
    before = resident_kib()
    for number in range(ROUNDS):
        rows = chance.sample(keys, chance.randint(1, MOST_ROWS))
        stores[number % STORES].write(dict.fromkeys(rows, b'another'), b'%d' % number)
    print(resident_kib() - before)


if __name__ == '__main__':
    main(*sys.argv[1:])
