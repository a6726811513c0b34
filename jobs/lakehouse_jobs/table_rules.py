"""Rules over a table as a whole: `unique`, `freshness` and `rowCount`.

They are judged before a run writes, on what the table will hold after it. What is read for them follows the days that
the run changes, not the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract.domain import KeyedTable, RowCount, Rule, Unique
from lakehouse_jobs.quality import Finding

_DAY = "_day"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a run will make of a table.

    `rows` are the table's rows on `days`, the days that the run changes, as they will be after it; None for none.
    `brought` counts the valid rows that it brings. `newest` is the time of the newest event in the table after it, in
    microseconds since 1970; it is None for an empty table. `at` is the instant that ages are counted from; None if the
    run looks at no ages.
    """

    rows: DataFrame | None
    days: frozenset[str]
    brought: int
    newest: int | None
    at: datetime
    judges_age: bool


def has_any(table: KeyedTable) -> bool:
    """Whether a table has such rules."""
    return any(not rule.is_about_rows for rule in table.rules)


def findings(table: KeyedTable, outlook: Outlook) -> Iterator[Finding]:
    """What each such rule of a table finds."""
    per_day = _rows_by_day(outlook) if any(_is_per_day(rule) for rule in table.rules) else {}
    for rule in table.rules:
        if rule.unique is not None:
            yield _unique(table, rule, rule.unique, outlook.rows)
        elif rule.freshness is not None and outlook.judges_age:
            yield _freshness(table, rule, timedelta(seconds=rule.freshness.max_age_seconds), outlook)
        elif rule.row_count is not None and rule.row_count.per == "run":
            yield _run_count(table, rule, rule.row_count, outlook.brought)
        elif rule.row_count is not None:
            yield _day_count(table, rule, rule.row_count, per_day, outlook.at)


def _is_per_day(rule: Rule) -> bool:
    return rule.row_count is not None and rule.row_count.per == "day"


def _finding(table: KeyedTable, rule: Rule, checked: int, broken: int, detail: str | None) -> Finding:
    return Finding(table.name, rule.name, rule.severity, checked, broken, rule.kind, detail)


def _unique(table: KeyedTable, rule: Rule, unique: Unique, rows: DataFrame | None) -> Finding:
    if rows is None:
        return _finding(table, rule, 0, 0, None)
    complete = fn.lit(True)
    for name in unique.columns:
        complete &= fn.col(name).isNotNull()
    alike = rows.where(complete).groupBy(fn.to_date("event_time"), *unique.columns).agg(fn.count(fn.lit(1)).alias("n"))
    found = alike.agg(_total(fn.col("n")), _total(fn.when(fn.col("n") > 1, fn.col("n")))).collect()[0]
    detail = f"{found[1]} rows share {', '.join(unique.columns)} with another row of their day" if found[1] else None
    return _finding(table, rule, found[0], found[1], detail)


def _total(numbers: Column) -> Column:
    return fn.coalesce(fn.sum(numbers), fn.lit(0))


def _freshness(table: KeyedTable, rule: Rule, allowed: timedelta, outlook: Outlook) -> Finding:
    if outlook.newest is None:
        return _finding(table, rule, 0, 1, "the table is empty")
    newest = _EPOCH + timedelta(microseconds=outlook.newest)
    if outlook.at - newest <= allowed:
        return _finding(table, rule, 1, 0, None)
    said = f"the newest event is of {_shown(newest)}, more than {allowed} before {_shown(outlook.at)}"
    return _finding(table, rule, 1, 1, said)


def _shown(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _run_count(table: KeyedTable, rule: Rule, wanted: RowCount, brought: int) -> Finding:
    wrong = _outside(wanted, brought, judges_min=True)
    return _finding(table, rule, brought, int(wrong is not None), wrong and f"the run brings {brought} rows, {wrong}")


def _day_count(table: KeyedTable, rule: Rule, wanted: RowCount, per_day: dict[str, int], at: datetime) -> Finding:
    wrong = [
        f"{day} has {rows} rows, {said}"
        for day, rows in sorted(per_day.items())
        if (said := _outside(wanted, rows, judges_min=_is_over(day, at)))
    ]
    detail = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more days" if len(wrong) > 5 else "")
    return _finding(table, rule, sum(per_day.values()), len(wrong), detail or None)


def _outside(wanted: RowCount, rows: int, *, judges_min: bool) -> str | None:
    if wanted.max is not None and rows > wanted.max:
        return f"more than {wanted.max}"
    if judges_min and wanted.min is not None and rows < wanted.min:
        return f"less than {wanted.min}"
    return None


def _is_over(day: str, at: datetime) -> bool:
    return date.fromisoformat(day) < at.astimezone(UTC).date()


def _rows_by_day(outlook: Outlook) -> dict[str, int]:
    counts = dict.fromkeys(outlook.days, 0)
    if outlook.rows is not None:
        by_day = outlook.rows.groupBy(fn.to_date("event_time").alias(_DAY)).count().collect()
        counts |= {row[_DAY].isoformat(): row["count"] for row in by_day}
    return counts
