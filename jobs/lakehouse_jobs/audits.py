"""Audits: what is looked at before days that were computed again take the place of what is there.

The checks read what was staged, as it was written, and ask bronze and the present tables again. They share no result
with the computation that they judge.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.window import Window

from lakehouse_contract import layout
from lakehouse_contract.domain import Dimension
from lakehouse_contract.settings import AuditLimits, DayRange, GoldSettings, SilverSettings
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.quality import BadData

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
    by_side = {"before": sides.before, "after": sides.after, "bronze": sides.bronze}
    together = reduce(
        DataFrame.unionByName, (rows.select(*_EVENT, fn.lit(side).alias("_side")) for side, rows in by_side.items())
    )
    counted = together.groupBy(*_EVENT).agg(*(fn.count_if(fn.col("_side") == side).alias(side) for side in by_side))
    is_in = {side: fn.col(side) > 0 for side in by_side}
    row = counted.agg(
        fn.coalesce(fn.sum("after"), fn.lit(0)).alias("rows"),
        fn.count_if(is_in["after"]).alias("distinct"),
        fn.count_if(is_in["bronze"]).alias("wanted"),
        fn.count_if(is_in["bronze"] & ~is_in["after"]).alias("missing"),
        fn.count_if(is_in["after"] & ~is_in["bronze"]).alias("foreign"),
        fn.count_if(is_in["before"]).alias("old"),
        fn.count_if(is_in["before"] & ~is_in["after"]).alias("lost"),
    ).collect()[0]
    said = f"{row['rows']} rows of {row['distinct']} events in the table and its quarantine"
    yield Check(table, "keys_unique", row["rows"] == row["distinct"], said)
    found = (
        f"bronze has {row['wanted']} events; {row['missing']} of them are missing, "
        f"and {row['foreign']} are not in bronze"
    )
    yield Check(table, "reconciles_with_bronze", row["missing"] == row["foreign"] == 0, found)
    found = (
        f"{row['lost']} of {row['old']} events that are there now would be gone; allowed: {limits.max_events_lost:.0%}"
    )
    yield Check(table, "events_kept", row["lost"] <= limits.max_events_lost * row["old"], found)


def null_check(table: str, columns: Sequence[str], before: DataFrame, after: DataFrame, limits: AuditLimits) -> Check:
    """Whether a column lost its values. Where there are no rows on either side there is nothing to compare."""
    both = before.select(fn.lit("before").alias("_side"), *columns).unionByName(
        after.select(fn.lit("after").alias("_side"), *columns)
    )
    counted = both.groupBy("_side").agg(
        fn.count(fn.lit(1)).alias("_rows"), *(fn.count_if(fn.col(name).isNull()).alias(name) for name in columns)
    )
    shares = {row["_side"]: {name: row[name] / row["_rows"] for name in columns} for row in counted.collect()}
    return _null_check(table, columns, shares, limits)


def _null_check(
    table: str, columns: Sequence[str], shares: Mapping[str, Mapping[str, float]], limits: AuditLimits
) -> Check:
    """Compare the shares of NULLs `before` and `after`, by column."""
    old, new = shares.get("before"), shares.get("after")
    if old is None or new is None:
        return Check(table, "nulls", True, "there are no rows on one of the sides to compare")
    worse = [name for name in columns if new[name] - old[name] > limits.max_null_increase]
    shown = "; ".join(f"{name} from {old[name]:.0%} to {new[name]:.0%}" for name in worse)
    found = f"NULLs rise in {shown}" if worse else "no column has many more NULLs"
    return Check(table, "nulls", not worse, f"{found}; allowed: {limits.max_null_increase:.0%} more")


@dataclass(frozen=True, slots=True)
class Feed:
    """By which column a model has days, and the days on which what it reads has rows. Both None for one without."""

    day_column: str | None
    days: frozenset[str] | None


def model_checks(model: str, before: DataFrame, after: DataFrame, feed: Feed, limits: AuditLimits) -> Iterator[Check]:
    """Whether the rows of a gold model, or of days of it, that were computed again look like those they replace.

    A model is any SELECT, so nothing is known of its rows but what they are compared with: whether days, or the whole
    of it, got empty, whether a column lost its values, and whether rows are there twice now.
    """
    columns = [name for name in after.columns if not name.startswith("_audit")]
    sides = {"before": before, "after": after}
    both = reduce(
        DataFrame.unionByName, (rows.select(fn.lit(side).alias("_side"), *columns) for side, rows in sides.items())
    )
    alike = both.groupBy("_side", *columns).agg(fn.count(fn.lit(1)).alias("_alike"))
    day = fn.lit("all") if feed.day_column is None else fn.col(feed.day_column).cast("string")
    summary = alike.groupBy("_side").agg(
        fn.sum("_alike").alias("_rows"),
        fn.sum(fn.col("_alike") - 1).alias("_repeated"),
        fn.collect_set(day).alias("_days"),
        *(fn.sum(fn.when(fn.col(name).isNull(), fn.col("_alike")).otherwise(0)).alias(name) for name in columns),
    )
    found = {row["_side"]: row for row in summary.collect()}
    old, new = found.get("before"), found.get("after")
    were = frozenset(old["_days"]) if old else frozenset[str]()
    empty = were - frozenset(new["_days"] if new else ())
    unfed = empty if feed.days is None else empty & feed.days
    what = "days that have rows now" if feed.day_column else "tables that have rows now"
    said = (
        f"{len(unfed)} of {len(were)} {what} would have none, though what the model reads has some"
        f"{': ' + ', '.join(sorted(unfed)[:_MOST_NAMED]) if unfed and feed.day_column else ''}"
        f"; allowed: {limits.max_events_lost:.0%}"
    )
    yield Check(model, "rows_kept", len(unfed) <= limits.max_events_lost * len(were), said)
    repeated = {side: row["_repeated"] for side, row in found.items()}
    now, then = repeated.get("after", 0), repeated.get("before", 0)
    yield Check(
        model, "rows_unique", not now or bool(then), f"{now} rows repeat another one in all columns, {then} did before"
    )
    shares = {side: {name: row[name] / row["_rows"] for name in columns} for side, row in found.items()}
    yield _null_check(model, columns, shares, limits)


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


def record(
    run: BatchRun[SilverSettings] | BatchRun[GoldSettings],
    namespace: str,
    checks: Sequence[Check],
    days: DayRange,
    upto: int | None,
) -> None:
    """Write down what was found, and the source's snapshot if there is one source. A run replaces its own findings."""
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
    rows = run.lakehouse.few_rows(schema, values).select("*", *run.audit(upto))
    if upto is None:
        rows = rows.withColumn("_audit_source_snapshot", fn.lit(None).cast("bigint"))
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
        raise BadData(f"the audit failed: {said}. Nothing was published. What was staged can be read for a day: {kept}")
