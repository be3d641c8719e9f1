"""A worker's own directory, against real other processes."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys

import pytest

from service_scaffold import errors
from service_scaffold.streams.stores.directory import claim

HOLD = """
import sys
from pathlib import Path
from service_scaffold.streams.stores.directory import claim
held = claim(Path(sys.argv[1]), 'app')
print(held.slot, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def other_worker(root):
    """A process that holds a slot; yields the process and the slot."""
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


def test_a_restarted_worker_finds_its_directory(tmp_path, caplog):
    """The first free slot again, with what lies in it; a line names it."""
    caplog.set_level(logging.INFO)
    with claim(tmp_path, 'app') as first:
        (first.path / 'state').touch()
    with claim(tmp_path, 'app') as second:
        assert (second.path / 'state').exists()
        assert (first.slot, second.slot) == (0, 0)

    assert f'{second.path} (slot 0)' in caplog.text


def test_workers_of_one_host_do_not_clash(tmp_path):
    """Each has a slot of its own, in one process and in two; another app has its own slots."""
    with (
        other_worker(tmp_path) as (_, other),
        claim(tmp_path, 'app') as first,
        claim(tmp_path, 'app') as second,
        claim(tmp_path, 'App') as stranger,
    ):
        assert (other, first.slot, second.slot, stranger.slot) == (0, 1, 2, 0)
        assert len({first.path, second.path, stranger.path}) == 3


def test_the_directory_of_a_killed_worker_is_taken_over(tmp_path):
    """Its lock ends with it, and nothing has to be cleaned up."""
    with other_worker(tmp_path) as (process, slot):
        process.kill()
        process.wait(10)

        with claim(tmp_path, 'app') as mine:
            assert mine.slot == slot == 0


def test_a_pinned_slot_that_is_held_names_path_and_process(tmp_path):
    """The message says whom to stop."""
    with other_worker(tmp_path) as (process, _), pytest.raises(errors.ConfigError) as caught:
        claim(tmp_path, 'app', slot=0)

    assert str(tmp_path / 'app' / 'worker-0') in str(caught.value)
    assert f'process {process.pid};' in str(caught.value)


def test_a_pinned_slot_that_is_free_is_taken(tmp_path):
    """Whatever else is free."""
    with claim(tmp_path, 'app', slot=7) as mine:
        assert (mine.slot, mine.path.name, mine.path.is_dir()) == (7, 'worker-7', True)


def test_release_lets_another_have_it(tmp_path):
    """Also when it is called twice."""
    held = claim(tmp_path, 'app')
    held.release()
    held.release()

    with claim(tmp_path, 'app', slot=0) as mine:
        assert mine.path == held.path


def test_missing_parents_are_made(tmp_path):
    """A first start needs no preparation."""
    with claim(tmp_path / 'a' / 'b', 'app') as mine:
        assert mine.path.is_dir()


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path):
    """Not a traceback of the operating system."""
    (tmp_path / 'file').touch()

    with pytest.raises(errors.ConfigError, match='file/app: Not a directory'):
        claim(tmp_path / 'file', 'app')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_root_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    """Before anything has started."""
    tmp_path.chmod(0o500)

    with pytest.raises(errors.ConfigError, match='Permission denied'):
        claim(tmp_path, 'app')
