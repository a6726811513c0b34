"""Audits: what is looked at before days that were computed again take the place of what is there.

The checks read what was staged, as it was written, and ask bronze and the present tables again. They share no result
with the computation that they judge.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.window import Window

from lakehouse_contract import layout
from lakehouse_contract.domain import Dimension
from lakehouse_contract.settings import AuditLimits, DayRange
from lakehouse_jobs.quality import BadData
from lakehouse_jobs.silver_batch import SilverRun

_EVENT = ("event_id", "_day")
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what was found."""

    table: str
    name: str
    passed: bool
    found: str
    replaced: int | None = None
    staged: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The rows of some event days in a table and its quarantine together, with their day as `_day`."""

    before: DataFrame
    after: DataFrame
    bronze: DataFrame
    """Event id and day of every row of bronze that belongs to the table; repeats are still in it."""


def events(rows: DataFrame) -> DataFrame:
    """The identity of each row."""
    return rows.select("event_id", fn.to_date("event_time").alias("_day"))


def table_checks(table: str, sides: Sides, limits: AuditLimits) -> Iterator[Check]:
    """Whether what was staged for a table and its quarantine is one row per event of bronze, and loses none."""
    there = sides.after.groupBy(*_EVENT).count()
    row = there.agg(fn.count(fn.lit(1)), fn.coalesce(fn.sum("count"), fn.lit(0))).collect()[0]
    distinct, rows = row[0], row[1]
    said = f"{rows} rows of {distinct} events in the table and its quarantine"
    yield Check(table, "keys_unique", rows == distinct, said)
    wanted = sides.bronze.distinct()
    missing = wanted.join(sides.after, list(_EVENT), "left_anti").count()
    foreign = sides.after.distinct().join(wanted, list(_EVENT), "left_anti").count()
    found = f"bronze has {wanted.count()} events; {missing} of them are missing, and {foreign} are not in bronze"
    yield Check(table, "reconciles_with_bronze", missing == 0 and foreign == 0, found)
    old = sides.before.distinct()
    before, lost = old.count(), old.join(sides.after, list(_EVENT), "left_anti").count()
    found = f"{lost} of {before} events that are there now would be gone; allowed: {limits.max_events_lost:.0%}"
    yield Check(table, "events_kept", lost <= limits.max_events_lost * before, found)


def null_checks(
    table: str, columns: Sequence[str], before: DataFrame | None, after: DataFrame | None, limits: AuditLimits
) -> Iterator[Check]:
    """Whether a column lost its values. Where there are no rows on either side there is nothing to compare."""
    old, new = _nulls(before, columns), _nulls(after, columns)
    if not old or not new:
        yield Check(table, "nulls", True, "there are no rows on one of the sides to compare")
        return
    worse = [name for name in columns if name in old and new[name] - old[name] > limits.max_null_increase]
    shown = "; ".join(f"{name} from {old[name]:.0%} to {new[name]:.0%}" for name in worse)
    found = f"NULLs rise in {shown}" if worse else "no column has many more NULLs"
    yield Check(table, "nulls", not worse, f"{found}; allowed: {limits.max_null_increase:.0%} more")


def _nulls(rows: DataFrame | None, columns: Sequence[str]) -> dict[str, float]:
    """The share of NULLs by column; nothing for no rows. A column that the rows do not have yet is left out."""
    if rows is None:
        return {}
    known = [name for name in columns if name in rows.columns]
    row = rows.agg(fn.count(fn.lit(1)), *(fn.count_if(fn.col(name).isNull()) for name in known)).collect()[0]
    return {name: row[at] / row[0] for at, name in enumerate(known, start=1)} if row[0] else {}


def version_check(versions: DataFrame, dimension: Dimension) -> Check:
    """Whether versions make one unbroken line for each key: no gap, no overlap, one current version."""
    line = Window.partitionBy(dimension.key).orderBy("valid_from")
    following = fn.lead("valid_from").over(line)
    is_last = following.isNull()
    wrong = (
        ~fn.col("valid_to").eqNullSafe(following)
        | (fn.col("is_current") != is_last)
        | fn.coalesce(fn.col("valid_to") <= fn.col("valid_from"), fn.lit(False))
    )
    looked = versions.select(fn.col(dimension.key).cast("string").alias("_key"), wrong.alias("_wrong"))
    summary = looked.agg(fn.count(fn.lit(1)), fn.count_if("_wrong"), _some(fn.when(fn.col("_wrong"), fn.col("_key"))))
    row = summary.collect()[0]
    found = f"{row[0]} versions of the keys that change make one line each"
    if row[1]:
        found = (
            f"{row[1]} of {row[0]} versions leave a gap, overlap, or are wrongly current, of {', '.join(row[2])}; "
            f"drop {dimension.name}: the next run makes it anew from {dimension.source}"
        )
    return Check(dimension.name, "versions_unbroken", not row[1], found)


def _some(names: Column) -> Column:
    return fn.slice(fn.array_sort(fn.collect_set(names)), 1, _MOST_NAMED)


def record(run: SilverRun, namespace: str, checks: Sequence[Check], days: DayRange, upto: int) -> None:
    """Write down what was found. A run that finds it again replaces its own."""
    table = layout.audits(namespace, run.settings.compression)
    run.lakehouse.ensure(table)
    schema = (
        "table_name string, check_name string, passed boolean, found string, first_day string, last_day string, "
        "replaced_snapshot bigint, staged_snapshot bigint"
    )
    values = [
        (each.table, each.name, each.passed, each.found, days.first, days.last, each.replaced, each.staged)
        for each in checks
    ]
    rows = run.lakehouse.spark.createDataFrame(values, schema).coalesce(1).select("*", *run.audit(upto))
    own_rows = ("_audit_run_id", run.settings.run.id)
    properties = run.properties({}, frozenset())
    run.lakehouse.upsert(rows, table.name, scope=own_rows, key=("table_name", "check_name"), properties=properties)


def stop_if_failing(checks: Sequence[Check], branches: Mapping[str, str]) -> None:
    """Stop a run before it publishes what does not pass.

    Args:
        checks: What was found.
        branches: The branch that holds what was staged, by table.

    Raises:
        BadData: A check did not pass.
    """
    failing = [each for each in checks if not each.passed]
    if failing:
        said = "; ".join(f"{each.table}, {each.name}: {each.found}" for each in failing)
        kept = ", ".join(f"{table} on its branch {branch}" for table, branch in sorted(branches.items()))
        raise BadData(f"the audit failed: {said}. No table was changed. What was staged can be read for a day: {kept}")
