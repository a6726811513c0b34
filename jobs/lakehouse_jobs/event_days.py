"""Event days: UTC dates, as ISO text."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from pyspark.sql import Column
from pyspark.sql import functions as fn

from lakehouse_contract.settings import DayRange


def every_day(days: DayRange) -> frozenset[str]:
    """Each day of a range, both ends included."""
    first, last = date.fromisoformat(days.first), date.fromisoformat(days.last)
    return frozenset((first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1))


def on_days(days: Iterable[str]) -> Column:
    """Rows whose `event_time` is on one of these days, as ranges, which Iceberg turns into partitions."""
    condition = fn.lit(False)
    for first, last in runs(sorted(date.fromisoformat(day) for day in days)):
        after = last + timedelta(days=1)
        condition |= fn.expr(f"event_time >= TIMESTAMP '{first}' AND event_time < TIMESTAMP '{after}'")
    return condition


def days_in(column: str, days: Iterable[str]) -> Column:
    """Rows whose date `column` is one of these days, as ranges, which Spark pushes through a cast from a timestamp."""
    condition = fn.lit(False)
    for first, last in runs(sorted(date.fromisoformat(day) for day in days)):
        condition |= fn.col(column).between(fn.lit(first), fn.lit(last))
    return condition


def runs(days: Sequence[date]) -> list[tuple[date, date]]:
    """Runs of consecutive days in ascending order: the first and the last of each."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and day - found[-1][1] == timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
