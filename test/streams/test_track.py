"""How far a consumer has come, and the note that says so."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from service_scaffold.journal.base import NOTE_LIMIT
from service_scaffold.streams.track import Note, Track, fits, lead, read_note, write_note


def _finished(track: Track, offsets: range, without: set[int]) -> None:
    for offset in offsets:
        assert track.take(offset)
        if offset not in without:
            track.finish(offset)


def test_the_lowest_unfinished_offset_is_what_may_be_committed() -> None:
    track = Track(5)
    _finished(track, range(5, 20), without={10})
    assert (track.lowest, track.next, track.pending) == (10, 20, 1)
    track.finish(10)
    assert track.lowest == 20


def test_gaps_in_the_log_are_no_gaps_in_the_work() -> None:
    """Compaction and transaction markers leave offsets out."""
    track = Track(0)
    for offset in (3, 7, 50):
        track.take(offset)
        track.finish(offset)
    assert track.lowest == 51


def test_a_restored_track_wants_only_what_was_unfinished() -> None:
    track = Track(0)
    _finished(track, range(100), without={3, 17, 64})
    text = write_note(7, track.lowest, {'count': track})
    note = read_note(text)
    assert note.checkpoint == 7
    again = note.track('count', 3)
    assert [offset for offset in range(3, 104) if again.take(offset)] == [
        3,
        17,
        64,
        *range(100, 104),
    ]


def test_an_agent_that_the_note_does_not_know_begins_at_the_offset() -> None:
    behind, ahead = Track(0), Track(0)
    _finished(behind, range(10), without=set(range(2, 10)))
    _finished(ahead, range(10), without=set())
    note = read_note(write_note(1, 2, {'behind': behind, 'ahead': ahead}))
    assert note.track('new', 2).take(2)
    assert not note.track('ahead', 2).take(9)


@pytest.mark.parametrize('text', ['', 'somebody else wrote this', '{"a": 1}', '[1, 2, 3'])
def test_a_foreign_note_says_nothing(text: str) -> None:
    assert read_note(text) == Note()


@pytest.mark.parametrize('share', [0.01, 0.5, 0.99])
def test_the_note_of_the_furthest_lead_fits(share: float) -> None:
    """4 096 events ahead, whatever is unfinished among them, for three agents at once."""
    chance = random.Random(4)
    tracks = {}
    for name in ('one', 'two', 'three'):
        track = tracks[name] = Track(0)
        _finished(track, range(4_096), without={n for n in range(4_096) if chance.random() < share})
    assert len(write_note(2**40, 0, tracks).encode()) < NOTE_LIMIT


@pytest.mark.parametrize('seed', range(20))
def test_any_order_of_finishing_is_restored(seed: int) -> None:
    """What a restored track wants is exactly what was not finished."""
    chance = random.Random(seed)
    track = Track(0)
    taken, finished = 0, set()
    for _ in range(300):
        if chance.random() < 0.6 or taken == len(finished):
            track.take(taken)
            taken += 1
        else:
            done = chance.choice([n for n in range(taken) if n not in finished])
            track.finish(done)
            finished.add(done)
        lowest = min(set(range(taken)) - finished, default=taken)
        assert track.lowest == lowest
    again = read_note(write_note(1, track.lowest, {'a': track})).track('a', track.lowest)
    wanted = {n for n in range(track.lowest, taken) if again.take(n)}
    assert wanted == set(range(taken)) - finished


class _Record(NamedTuple):
    offset: int


@pytest.mark.parametrize('seed', range(20))
def test_a_run_is_taken_as_its_records_are_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    unfinished = rng.sample(range(50), 5)
    one, other = Track(50, unfinished), Track(50, unfinished)
    for _ in range(10):
        first = rng.randrange(100)
        run = [_Record(n) for n in range(first, first + rng.randrange(30)) if rng.random() < 0.9]
        wanted = one.take_run(run)
        assert list(wanted) == [record for record in run if other.take(record.offset)]
        for record in wanted:
            if rng.random() < 0.7:
                one.finish(record.offset)
                other.finish(record.offset)
        assert (one.next, one.lowest) == (other.next, other.lowest)
        assert one.unfinished() == other.unfinished()


@pytest.mark.parametrize('agents', [1, 2, 3, 5, 8, 13, 21])
def test_the_lead_of_many_agents_is_as_short_as_their_note_needs(agents: int) -> None:
    chance = random.Random(agents)
    names = [f'an-agent-with-a-name-{number}' for number in range(agents)]
    ahead = lead(names)
    tracks = {}
    for name in names:
        track = tracks[name] = Track(0)
        _finished(track, range(ahead), without={n for n in range(ahead) if chance.random() < 0.5})
    assert fits(write_note(2**63, 0, tracks))
    assert ahead >= 4_096 // agents


def test_an_agent_may_be_far_ahead_where_the_log_has_a_hole() -> None:
    """Compaction may leave out any number of offsets."""
    track = Track(0)
    track.take(0)
    track.take(50_000_000)
    note = write_note(1, 0, {'a': track})
    assert fits(note)
    again = read_note(note).track('a', 0)
    assert (again.lowest, again.unfinished()) == (0, [0, 50_000_000])
