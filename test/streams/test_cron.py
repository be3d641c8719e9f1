"""Tests of `service_scaffold.streams.cron`."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_scaffold.streams.cron import Crontab, zone_of

BERLIN = 'Europe/Berlin'
# The days on which clocks change: by an hour, by half an hour, and at midnight.
CHANGES = [
    (BERLIN, datetime(2026, 3, 29)),
    (BERLIN, datetime(2026, 10, 25)),
    ('America/New_York', datetime(2026, 3, 8)),
    ('America/New_York', datetime(2026, 11, 1)),
    ('Australia/Lord_Howe', datetime(2026, 4, 5)),
    ('Australia/Lord_Howe', datetime(2026, 10, 4)),
    ('Asia/Beirut', datetime(2022, 3, 27)),
    ('Asia/Beirut', datetime(2022, 10, 30)),
    ('Asia/Kolkata', datetime(2026, 3, 29)),
]


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def times(expression: str, zone: str | None, start: str, count: int) -> list[str]:
    """Return the first times due after `start`, as the clock on the wall shows them."""
    crontab = Crontab(expression, zone)
    due = epoch(start)
    found = []
    for _ in range(count):
        due = crontab.next(due)
        found.append(datetime.fromtimestamp(due, crontab.timezone).isoformat())
    return found


def test_a_time_in_the_hour_left_out_comes_once_after_the_change() -> None:
    assert times('30 2 * * *', BERLIN, '2026-03-28T12:00+01:00', 2) == [
        '2026-03-29T03:00:00+02:00',
        '2026-03-30T02:30:00+02:00',
    ]


def test_a_time_in_the_hour_that_comes_twice_comes_once() -> None:
    assert times('30 2 * * *', BERLIN, '2026-10-24T12:00+02:00', 2) == [
        '2026-10-25T02:30:00+02:00',
        '2026-10-26T02:30:00+01:00',
    ]


def test_after_a_restart_in_the_second_of_two_hours_it_does_not_come_again() -> None:
    assert times('30 2 * * *', BERLIN, '2026-10-25T02:10+01:00', 1) == ['2026-10-26T02:30:00+01:00']


def test_seconds_do_not_change_that() -> None:
    assert times('30 2 * * * 15', BERLIN, '2026-03-28T12:00+01:00', 2) == [
        '2026-03-29T03:00:15+02:00',
        '2026-03-30T02:30:15+02:00',
    ]
    assert times('30 2 * * * 15', BERLIN, '2026-10-25T00:00+02:00', 2) == [
        '2026-10-25T02:30:15+02:00',
        '2026-10-26T02:30:15+01:00',
    ]


def test_every_hour_runs_through_both_changes() -> None:
    spring = times('0 * * * *', BERLIN, '2026-03-29T00:30+01:00', 3)
    autumn = times('0 * * * *', BERLIN, '2026-10-25T01:30+02:00', 3)

    assert [text[11:16] for text in spring] == ['01:00', '03:00', '04:00']
    assert [text[11:] for text in autumn] == ['02:00:00+02:00', '02:00:00+01:00', '03:00:00+01:00']


def test_a_far_time_does_not_hide_the_second_of_two_hours() -> None:
    """The next 02:15 of a 25th of October is not a year away."""
    assert times('15 */2 25 10 *', BERLIN, '2026-10-25T02:20+02:00', 1) == [
        '2026-10-25T02:15:00+01:00'
    ]


def test_the_sixth_field_is_seconds() -> None:
    assert times('* * * * * */20', None, '2026-01-01T00:00:05+00:00', 3) == [
        '2026-01-01T00:00:20+00:00',
        '2026-01-01T00:00:40+00:00',
        '2026-01-01T00:01:00+00:00',
    ]


@pytest.mark.parametrize(
    ('expression', 'due'),
    [
        ('0 9 * * 1-5', '2026-01-02T09:00:00+00:00'),
        ('0 9 * * mon-fri', '2026-01-02T09:00:00+00:00'),
        ('*/15 * * * *', '2026-01-02T00:15:00+00:00'),
        ('0 0 * * 7', '2026-01-04T00:00:00+00:00'),
        ('0 0 * * 0', '2026-01-04T00:00:00+00:00'),
        ('0 0 1 jan,jul *', '2026-07-01T00:00:00+00:00'),
        ('0 0 29 2 *', '2028-02-29T00:00:00+00:00'),
        ('0 0 13 * 5', '2026-01-09T00:00:00+00:00'),
        ('0 0 L * *', '2026-01-31T00:00:00+00:00'),
        ('  0   9 *\t* * ', '2026-01-02T09:00:00+00:00'),
    ],
)
def test_what_every_cron_understands(expression: str, due: str) -> None:
    assert times(expression, None, '2026-01-02T00:00+00:00', 1) == [due]


def test_the_next_time_is_after_the_moment_never_at_it() -> None:
    crontab = Crontab('0 * * * *')
    due = epoch('2026-01-01T01:00+00:00')

    assert crontab.next(due - 0.001) == due
    assert crontab.next(due) == due + 3600


@pytest.mark.parametrize(('zone', 'day'), CHANGES, ids=str)
@settings(max_examples=20, deadline=None)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.integers(0, 4), min_size=1, max_size=4),
)
def test_fixed_times_come_once_a_day_whatever_the_clocks_do(
    zone: str, day: datetime, minutes: set[int], hours: set[int]
) -> None:
    """Against brute force over every minute that exists."""
    expression = f'{",".join(map(str, minutes))} {",".join(map(str, hours))} * * *'
    crontab = Crontab(expression, zone)
    existing = local_minutes(zone, day)
    expected = set()
    for hour in hours:
        for minute in minutes:
            wanted = day.replace(hour=hour, minute=minute)
            expected.add(next(utc for local, utc in existing if local >= wanted))

    assert all_due(crontab, day) == sorted(expected)


@pytest.mark.parametrize(('zone', 'day'), CHANGES, ids=str)
@pytest.mark.parametrize(
    'expression', ['*/20 * * * *', '15 * * * *', '*/30 0-3 * * *', '*/7 */2 * * *', '5 */2 * * *']
)
def test_what_goes_by_the_wall_comes_whenever_the_wall_shows_it(
    zone: str, day: datetime, expression: str
) -> None:
    minute, hour, *_ = expression.split()
    expected = [
        utc
        for local, utc in local_minutes(zone, day)
        if local.date() == day.date() and shows(minute, local.minute) and shows(hour, local.hour)
    ]

    assert all_due(Crontab(expression, zone), day) == expected


@functools.cache
def local_minutes(zone: str, day: datetime) -> list[tuple[datetime, float]]:
    """Return every minute of a day and some of the next, as the wall shows it, and its epoch."""
    start = day.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    shown = (
        (start + timedelta(minutes=number)).astimezone(ZoneInfo(zone))
        for number in range(-120, 27 * 60)
    )
    return [
        (local, moment.timestamp())
        for moment in shown
        if (local := moment.replace(tzinfo=None)) >= day
    ]


def all_due(crontab: Crontab, day: datetime) -> list[float]:
    """Return what is due on one local day."""
    due = day.replace(tzinfo=crontab.timezone).astimezone(UTC).timestamp() - 1
    found = []
    while datetime.fromtimestamp(due := crontab.next(due), crontab.timezone).date() == day.date():
        found.append(due)
    assert all(a < b for a, b in pairwise(found))
    return found


def shows(field: str, value: int) -> bool:
    """Tell whether a field of the expressions above allows a value."""
    if field.startswith('*/'):
        return value % int(field[2:]) == 0
    if '-' in field:
        first, last = map(int, field.split('-'))
        return first <= value <= last
    return field == '*' or int(field) == value


@pytest.mark.parametrize(
    ('expression', 'told'),
    [
        ('60 * * * *', "bad minute: '60'"),
        ('0 25 * * *', "bad hour: '25'"),
        ('0 0 0 * *', "bad day-of-month: '0'"),
        ('0 0 1 13 *', "bad month: '13'"),
        ('0 0 * * 8', "bad day-of-week: '8'"),
        ('0 0 * * FRY', "bad day-of-week: 'FRY'"),
        ('0 0 * * * 60', "bad second: '60'"),
        ('5-1 * * * *', "bad minute: '5-1'"),
        ('*/0 * * * *', r"bad minute: '\*/0'"),
        ('0 0 30 2 *', "bad day-of-month: '30'"),
        ('* * * *', 'has 4 fields; it needs 5'),
        ('', 'has 0 fields'),
        ('0 0 * * * 0 2026', 'has 7 fields'),
        ('@daily', 'has 1 fields'),
        ('0 0 * * 5#2/2', 'not valid|bad'),
    ],
)
def test_a_wrong_field_is_named(expression: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Crontab(expression)


def test_a_zone_is_a_name_or_a_tzinfo() -> None:
    fixed = timezone(timedelta(hours=2))

    assert zone_of(None) is UTC
    assert zone_of('UTC') is UTC
    assert zone_of(BERLIN) == ZoneInfo(BERLIN)
    assert zone_of(fixed) is fixed
    assert Crontab('0 0 * * *', fixed).next(0.0) == 22 * 3600


@pytest.mark.parametrize(
    ('name', 'told'),
    [
        ('Europe/Berln', "did you mean 'Europe/Berlin'"),
        ('Europe', "no time zone 'Europe'"),
        ('', 'no time zone'),
        ('../etc', 'no time zone'),
        ('Nowhere at all', "no time zone 'Nowhere at all'$"),
    ],
)
def test_an_unknown_zone_is_told(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Crontab('0 0 * * *', name)


def test_what_is_no_zone_is_a_type_error() -> None:
    with pytest.raises(TypeError, match='timezone'):
        zone_of(2)  # type: ignore[arg-type]  # the test


def test_a_zone_of_pytz_is_taken_for_its_namesake() -> None:
    class Pytz(tzinfo):
        zone = BERLIN

    assert zone_of(Pytz()) == ZoneInfo(BERLIN)
