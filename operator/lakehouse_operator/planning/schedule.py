"""Cron with a time zone says when runs are due; a grid of UTC intervals says what they are for.

Intervals lie edge to edge: each begins where the one before it ended, whatever daylight saving or an edit of the
schedule does to the ticks. A time zone moves only the moment of the trigger.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from typing_extensions import override


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The half-open span `[start, end)` of UTC time."""

    start: datetime
    end: datetime

    @override
    def __str__(self) -> str:
        return f"{instant(self.start)}/{instant(self.end)}"


def instant(moment: datetime) -> str:
    """An instant as the API writes it: `2026-01-31T05:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(text: str) -> datetime:
    """Read an instant as the API writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def last_tick(schedule: str, time_zone: str, *, now: datetime) -> datetime | None:
    """The newest tick at or before `now`; None if there is none within the 50 years that cronsim looks back.

    The cron rules are Debian's (cronsim): a wildcard hour runs through a change of daylight saving, a fixed hour that
    is skipped runs right after the gap, and one that happens twice runs once.
    """
    following = now + timedelta(seconds=1)
    return next((tick for tick in _ticks(schedule, time_zone, following, reverse=True) if tick <= now), None)


def next_tick(schedule: str, time_zone: str, *, now: datetime) -> datetime | None:
    """The first tick after `now`; None if there is none within 50 years."""
    return next(_ticks(schedule, time_zone, now, reverse=False), None)


def _ticks(schedule: str, time_zone: str, start: datetime, *, reverse: bool) -> Iterator[datetime]:
    for tick in CronSim(schedule, start.astimezone(ZoneInfo(time_zone)), reverse=reverse):
        yield tick.astimezone(UTC)


def due_intervals(length: timedelta, *, through: datetime, tick: datetime) -> tuple[Interval, ...]:
    """The intervals of a length that begin at or after `through` and have ended by a tick, oldest first.

    They lie on a grid that starts at each UTC midnight, so a change of the schedule moves none of them. A first
    interval that began before `through` (the length was changed) is cut there: nothing is done twice or left out.
    """
    intervals: list[Interval] = []
    start = through
    end = midnight(through) + ((through - midnight(through)) // length + 1) * length
    while end <= tick:
        intervals.append(Interval(start, end))
        start, end = end, end + length
    return tuple(intervals)


def midnight(moment: datetime) -> datetime:
    """The UTC midnight at or before a moment."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def days(first: str, last: str) -> tuple[str, ...]:
    """Every day from `first` to `last`, both included, as `2026-01-31`."""
    begin, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    return tuple((begin + timedelta(days=number)).strftime("%Y-%m-%d") for number in range((end - begin).days + 1))
