"""A process that writes until it is killed: `writer.py URL DIRECTORY`.

Each write sets the same 300 keys, and some that are its own, to its number.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from service_scaffold.streams.stores import base

KEYS = [b'%03d' % number for number in range(300)]


def main(url: str, directory: str) -> None:
    store = base.open_backend(url, Path(directory)).open('table', 0)
    for number in itertools.count(int(store.position or b'0') + 1):
        text = b'%d' % number
        own = {b'own %d' % (number % 50): text if number % 3 else None}
        store.write(dict.fromkeys(KEYS, text) | own, text)
        print(number, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
