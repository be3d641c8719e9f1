"""The judge of presence: signs of life in, losses out; no broker, no time but ours."""

from __future__ import annotations

import pytest

from service_scaffold.transports.leases import Leases, Watch


class Told:
    """A watch that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, bytes]] = []
        self.watch = Watch(
            lambda id, payload: self.calls.append(('lost', id, payload)),
            lambda id, payload: self.calls.append(('present', id, payload)),
        )

    def take(self) -> list[tuple[str, str, bytes]]:
        calls, self.calls = self.calls, []
        return calls


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def leases(time: Time, told: Told) -> Leases:
    """A lease of 8 s, so a limit of 10."""
    made = Leases(8.0, time)
    made.watch(told.watch)
    made.open()
    return made


def test_nothing_is_told_before_all_that_was_stored_is_known(time, told):
    opened: list[bool] = []
    leases = Leases(8.0, time, lambda: opened.append(True))
    leases.watch(told.watch)
    leases.see('old', b'1', age_s=10.0)
    leases.see('young', b'2', age_s=9.0)
    leases.lose('gone', b'3')
    leases.see('left', b'4')
    leases.leave('left')
    leases.expire()
    assert (told.take(), opened) == ([], [])

    leases.open()

    assert sorted(told.take()) == [
        ('lost', 'gone', b'3'),
        ('lost', 'old', b'1'),
        ('present', 'young', b'2'),
    ]
    assert opened == [True]
    time.now += 1.1  # nine seconds old then: its time is over
    leases.expire()
    assert told.take() == [('lost', 'young', b'2')]


def test_signs_of_life_keep_one_present(leases, time, told):
    leases.see('mill', b'1')
    for _ in range(5):
        time.now += 9.0
        leases.expire()
        leases.see('mill', b'1')
    assert told.take() == [('present', 'mill', b'1')]


def test_silence_is_a_loss_once(leases, time, told):
    leases.see('mill', b'1')
    time.now += 9.9
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]
    time.now += 0.1
    leases.expire()
    leases.expire()
    leases.lose('mill', b'1')
    assert told.take() == [('lost', 'mill', b'1')]


def test_who_was_lost_by_mistake_is_present_again(leases, told):
    leases.see('mill', b'1')
    leases.lose('mill', b'1')
    leases.see('mill', b'1')
    assert [what for what, *_ in told.take()] == ['present', 'lost', 'present']


def test_the_loss_of_an_older_life_says_nothing(leases, told):
    leases.see('mill', b'1')
    leases.see('mill', b'2')
    leases.lose('mill', b'1')
    assert told.take() == [('present', 'mill', b'1'), ('present', 'mill', b'2')]


def test_an_older_sign_does_not_shorten_a_lease(leases, time, told):
    leases.see('mill', b'1')
    leases.see('mill', b'1', age_s=9.0)
    time.now += 5.0
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]


def test_leaving_is_told_to_nobody(leases, time, told):
    leases.see('mill', b'1')
    leases.leave('mill')
    time.now += 20.0
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]


def test_who_watches_later_is_told_how_it_stands(leases, told):
    leases.see('mill', b'1')
    leases.lose('drill', b'2')
    late = Told()
    leases.watch(late.watch)
    assert sorted(late.take()) == [('lost', 'drill', b'2'), ('present', 'mill', b'1')]


def test_the_time_in_which_we_stood_still_is_not_counted(leases, time, told):
    leases.see('mill', b'1')
    time.now += 60.0
    leases.forgive(60.0)
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]


def test_a_watch_that_fails_is_logged_and_the_next_one_told(leases, told, caplog):
    def fail(id: str, payload: bytes) -> None:
        raise RuntimeError('not today')

    other = Told()
    leases.watch(Watch(fail, fail))
    leases.watch(other.watch)
    leases.see('mill', b'1')
    assert told.take() == other.take() == [('present', 'mill', b'1')]
    assert 'not today' in caplog.text


def test_present_need_not_be_watched(time):
    lost: list[str] = []
    leases = Leases(8.0, time)
    leases.watch(Watch(lambda id, payload: lost.append(id), None))
    leases.open()
    leases.see('mill', b'1')
    leases.lose('mill', b'1')
    assert lost == ['mill']
