"""Tables that are partitioned by day, and Iceberg's own expressions for whole days of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Any

from lakehouse_jobs.event_days import runs


@dataclass(frozen=True, slots=True)
class Days:
    """By which column a table is partitioned into days: a timestamp's day, or a date as it is."""

    column: str
    is_timestamp: bool

    def within(self, jvm: Any, days: Iterable[str | date]) -> Any:
        """Iceberg's expression for the rows of these days. It matches whole files."""
        expressions = jvm.org.apache.iceberg.expressions.Expressions
        suffix = "T00:00:00+00:00" if self.is_timestamp else ""
        chosen = sorted(day if isinstance(day, date) else date.fromisoformat(day) for day in days)
        ranges = [
            getattr(expressions, "and")(
                expressions.greaterThanOrEqual(self.column, f"{first}{suffix}"),
                expressions.lessThan(self.column, f"{last + timedelta(days=1)}{suffix}"),
            )
            for first, last in runs(chosen)
        ]
        return reduce(getattr(expressions, "or"), ranges, expressions.alwaysFalse())


def days_of(table: Any) -> Days | None:
    """How an Iceberg table is partitioned by day now; None if it is not."""
    fields = list(table.spec().fields())
    if len(fields) != 1:
        return None
    transform = str(fields[0].transform().toString())
    source = table.schema().findField(fields[0].sourceId())
    kind = str(source.type().toString())
    if transform == "day" and kind == "timestamptz":
        return Days(str(source.name()), is_timestamp=True)
    if transform == "identity" and kind == "date":
        return Days(str(source.name()), is_timestamp=False)
    return None


def always_days_of(table: Any) -> Days | None:
    """The same; None also if files may be left from when it was partitioned in another way."""
    return days_of(table) if table.specs().size() == 1 else None
