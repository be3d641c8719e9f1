"""When a crontab is due, in a time zone with its summer time."""

from __future__ import annotations

import bisect
import difflib
import math
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo

import cronsim

_DAY_S = 86_400
_NAMES = ('minute', 'hour', 'day-of-month', 'month', 'day-of-week', 'second')


class Crontab:
    """The times of a crontab.

    Args:
        expression: Five fields (minute, hour, day of month, month, day of week), or six, the last
            being seconds. Numbers, names (`MON-FRI`, `JAN`), `*`, lists, ranges, steps; `L`, `LW`
            and `5#2` for days. Where day of month and day of week are both restricted, one of
            them suffices, as in every cron.
        timezone: Name of a zone or a tzinfo; None means UTC.

    A time that the change to summer time leaves out comes when the clocks have changed, and one
    that occurs twice in autumn comes once, the first time. With `*` in the hour or minute it goes
    by what the clock on the wall shows, and so runs on through both changes.

    Raises:
        ValueError: A field is wrong, and named; the zone is unknown; or no time ever fits.
        TypeError: The zone is neither a name nor a tzinfo.
    """

    def __init__(self, expression: str, timezone: str | tzinfo | None = None) -> None:
        self.expression = expression
        self.timezone = zone_of(timezone)
        fields = expression.split()
        if len(fields) not in (5, 6):
            raise ValueError(
                f'The crontab {expression!r} has {len(fields)} fields; it needs 5 (minute, hour,'
                ' day of month, month, day of week) or 6 (then seconds)'
            )
        minute, hour, *days, second = fields if len(fields) == 6 else [*fields, '0']
        self._fields = (minute, hour, *days, second)
        self._expression = ' '.join((second, minute, hour, *days))  # cronsim has seconds first
        self._fixed = not minute.startswith('*') and not hour.startswith('*')
        self._check()

    def __str__(self) -> str:
        return f'{self.expression!r} {self.timezone}'

    def next(self, after: float) -> float:
        """Return the first time that is due after a moment; both are epoch seconds."""
        return self._next_fixed(after) if self._fixed else self._next_shown(after)

    def _next_fixed(self, after: float) -> float:
        local = datetime.fromtimestamp(after, self.timezone).replace(tzinfo=None)
        for due in cronsim.CronSim(self._expression, local):
            moment = self._existing(due).timestamp()
            if moment > after:  # not so in the second of two equal hours
                return moment
        raise LookupError(f'{self} is not due in the next fifty years')

    def _next_shown(self, after: float) -> float:
        # As if the offset never changed; where it does on the way, again from there. Left to
        # itself in a zone, cronsim loses its place where clocks change by half an hour.
        start, since, offset_s = after, after, self._offset_s(after)
        while True:
            local = datetime.fromtimestamp(start + offset_s, UTC).replace(tzinfo=None)
            due = next(cronsim.CronSim(self._expression, local)).replace(tzinfo=UTC)
            moment: float = due.timestamp() - offset_s
            change = self._first_change(since, moment)
            if change is None:
                return moment
            start, since, offset_s = change - 1, change, self._offset_s(change)

    def _first_change(self, since: float, until: float) -> int | None:
        """Return the moment at which another offset begins, after `since` and by `until`."""
        low, offset_s = int(since), self._offset_s(since)
        while low < until:
            high = min(low + _DAY_S, math.ceil(until))
            if self._offset_s(high) != offset_s:
                moments = range(low, high + 1)
                return moments[
                    bisect.bisect(moments, 0, key=lambda m: self._offset_s(m) != offset_s)
                ]
            low = high
        return None

    def _offset_s(self, moment: float) -> float:
        offset = datetime.fromtimestamp(moment, self.timezone).utcoffset()
        return offset.total_seconds() if offset is not None else 0.0

    def _existing(self, local: datetime) -> datetime:
        """Return a local time in its zone; if it is left out there, the first one after."""
        due = local.replace(tzinfo=self.timezone)
        while due.astimezone(UTC).astimezone(self.timezone) != due:
            due = (due.replace(tzinfo=None) + timedelta(minutes=1)).replace(tzinfo=self.timezone)
        return due

    def _check(self) -> None:
        try:
            next(cronsim.CronSim(self._expression, datetime.now(UTC)))
        except StopIteration:
            raise ValueError(f'The crontab {self.expression!r} is never due') from None
        except (cronsim.CronSimError, AssertionError) as error:
            raise ValueError(self._complaint(str(error))) from error

    def _complaint(self, message: str) -> str:
        name = message.removeprefix('Bad ')
        if name not in _NAMES:
            return f'The crontab {self.expression!r} is not valid: {message}'
        field = self._fields[_NAMES.index(name)]
        return f'The crontab {self.expression!r} has a bad {name}: {field!r}'


def zone_of(timezone: str | tzinfo | None) -> tzinfo:
    """Return the zone of a name; None means UTC, a tzinfo is itself.

    Raises:
        ValueError: There is no zone of that name.
        TypeError: It is neither a name nor a tzinfo.
    """
    # A zone of pytz does not follow the changes when it is attached to a time; its namesake does.
    timezone = getattr(timezone, 'zone', None) or timezone
    if timezone is None or timezone == 'UTC':
        return UTC
    if isinstance(timezone, tzinfo):
        return timezone
    if not isinstance(timezone, str):
        raise TypeError(f'timezone must be a name or a tzinfo, got {timezone!r}')
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:  # OSError: 'Europe' is a directory
        near = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise ValueError(f'There is no time zone {timezone!r}{hint}') from error
