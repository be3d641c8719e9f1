"""SIGKILL in the middle of writes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

from test.streams.stores.writer import KEYS


def test_a_killed_writer_leaves_the_last_whole_write(open_durable, durable_url, tmp_path):
    """All or nothing, data as the position says, and nothing that was confirmed is lost."""
    chance = random.Random(1)
    confirmed = 0
    for _ in range(4):
        open_durable().close()
        confirmed = write_and_kill(durable_url, tmp_path, chance.uniform(0.0, 0.05))
        store = open_durable().open('table', 0)

        assert int(store.position) in (confirmed, confirmed + 1)
        assert {store.get(key) for key in KEYS} == {store.position}
        assert len(store) == len(list(store.scan()))
        store.close()
    assert confirmed > 40
    assert not list(tmp_path.glob('*.damaged-*'))


def write_and_kill(url, directory, after_s):
    """Let a process write, kill it after some writes and a moment; return the last it confirmed."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'test.streams.stores.writer', url, str(directory)],
        stdout=subprocess.PIPE,
    )
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    killer = threading.Timer(after_s, process.kill)
    last = 0
    try:
        for count, line in enumerate(process.stdout):
            if line.endswith(b'\n'):
                last = int(line)
            if count == 10:
                killer.start()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
        watchdog.cancel()
    return last
