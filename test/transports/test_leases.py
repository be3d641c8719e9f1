"""The judge of presence: signs of life in, losses out; no broker, no time but ours."""

from __future__ import annotations

import pytest

from service_scaffold.transports.leases import Leases, Sign, Watch


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


def sign(payload: bytes, lease_s: float = 8.0) -> bytes:
    return Sign(lease_s, payload).encode()


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
    leases.see('old', sign(b'1'), age_s=10.0)
    leases.see('young', sign(b'2'), age_s=9.0)
    leases.lose('gone', b'3')
    leases.see('left', sign(b'4'))
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
    leases.see('mill', sign(b'1'))
    for _ in range(5):
        time.now += 9.0
        leases.expire()
        leases.see('mill', sign(b'1'))
    assert told.take() == [('present', 'mill', b'1')]


def test_silence_is_a_loss_once(leases, time, told):
    leases.see('mill', sign(b'1'))
    time.now += 9.9
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]
    time.now += 0.1
    leases.expire()
    leases.expire()
    leases.lose('mill', b'1')
    assert told.take() == [('lost', 'mill', b'1')]


def test_who_was_lost_by_mistake_is_present_again(leases, told):
    leases.see('mill', sign(b'1'))
    leases.lose('mill', b'1')
    leases.see('mill', sign(b'1'))
    assert [what for what, *_ in told.take()] == ['present', 'lost', 'present']


def test_the_loss_of_an_older_life_says_nothing(leases, told):
    leases.see('mill', sign(b'1'))
    leases.see('mill', sign(b'2'))
    leases.lose('mill', b'1')
    assert told.take() == [('present', 'mill', b'1'), ('present', 'mill', b'2')]


def test_an_older_sign_does_not_shorten_a_lease(leases, time, told):
    leases.see('mill', sign(b'1'))
    leases.see('mill', sign(b'1'), age_s=9.0)
    time.now += 5.0
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]


def test_leaving_is_told_to_nobody(leases, time, told):
    leases.see('mill', sign(b'1'))
    leases.leave('mill')
    time.now += 20.0
    leases.expire()
    assert told.take() == [('present', 'mill', b'1')]


def test_who_watches_later_is_told_how_it_stands(leases, told):
    leases.see('mill', sign(b'1'))
    leases.lose('drill', b'2')
    late = Told()
    leases.watch(late.watch)
    assert sorted(late.take()) == [('lost', 'drill', b'2'), ('present', 'mill', b'1')]


def test_the_time_in_which_we_stood_still_is_not_counted(leases, time, told):
    leases.see('mill', sign(b'1'))
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
    leases.see('mill', sign(b'1'))
    assert told.take() == other.take() == [('present', 'mill', b'1')]
    assert 'not today' in caplog.text


def test_present_need_not_be_watched(time):
    lost: list[str] = []
    leases = Leases(8.0, time)
    leases.watch(Watch(lambda id, payload: lost.append(id), None))
    leases.open()
    leases.see('mill', sign(b'1'))
    leases.lose('mill', b'1')
    assert lost == ['mill']


def test_each_is_judged_by_its_own_lease_not_by_that_of_the_watcher(leases, time, told):
    leases.see('hasty', sign(b'1', 2.0))
    leases.see('slow', sign(b'2', 60.0))
    told.take()
    time.now += 2.5
    leases.expire()
    assert told.take() == [('lost', 'hasty', b'1')]
    time.now += 72.4
    leases.expire()
    assert told.take() == []
    time.now += 0.1
    leases.expire()
    assert told.take() == [('lost', 'slow', b'2')]


def test_it_is_looked_as_often_as_the_shortest_lease_of_those_who_are_there_wants(leases, time):
    assert (leases.shortest_s, leases.longest_s) == (8.0, 8.0)
    leases.see('hasty', sign(b'1', 2.0))
    leases.see('slow', sign(b'2', 60.0))
    assert (leases.shortest_s, leases.longest_s) == (2.0, 60.0)
    time.now += 10.0
    leases.expire()
    assert leases.shortest_s == 8.0


@pytest.mark.parametrize('payload', [b'', b'1', b'a b', b'+1 \x00'])
def test_a_sign_is_read_as_it_was_written(payload):
    assert Sign.decode(Sign(1.5, payload).encode()) == Sign(1.5, payload)


@pytest.mark.parametrize('value', [b'', b'+', b'+1', b'-1 x', b'1 x', b'+x y', b'+inf y', b'+-1 '])
def test_what_is_no_sign_is_passed_over(leases, told, value):
    leases.see('mill', value)
    assert told.take() == []
