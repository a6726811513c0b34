"""Slowly changing dimensions, type 2: from the rows of a silver table to versions, whatever the order of arrival.

A version lasts from the first event with its values to the first event with others. What a change of the source can
alter is bounded: for each key, nothing before the earliest event that came, went or changed. So for the keys that
changed, the versions from that instant on are computed again from the source's rows from that instant on, starting from
the version that was in force just before it; and of these only those that differ are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.window import Window

from lakehouse_contract.domain import Dimension

OPERATION = "_operation"
INSERT, UPDATE, DELETE = "I", "U", "D"
_SINCE = "_since"


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many versions a change inserts, updates and deletes, and the days on which it makes a difference."""

    inserted: int
    updated: int
    deleted: int
    days: frozenset[str]


def observations(rows: DataFrame, dimension: Dimension) -> DataFrame:
    """What the source's rows say about keys: key, instant, event id and the tracked values."""
    return rows.where(fn.col(dimension.key).isNotNull()).select(
        dimension.key, "event_time", "event_id", *dimension.tracked
    )


def changed_by(appended: DataFrame, dimension: Dimension) -> DataFrame:
    """The keys of added observations, each with the earliest instant at which something changed."""
    return appended.groupBy(dimension.key).agg(fn.min("event_time").alias(_SINCE))


def changed_between(before: DataFrame, after: DataFrame, dimension: Dimension) -> DataFrame:
    """The same for observations that were rewritten: what is in one state and not in the other."""
    old, new = (rows.withColumn("_is_new", fn.lit(is_new)) for rows, is_new in ((before, False), (after, True)))
    sides = old.unionByName(new).groupBy(*before.columns)  # which takes two NULLs for the same
    seen = sides.agg(fn.min("_is_new").alias("_in_new_only"), fn.max("_is_new").alias("_in_new"))
    return changed_by(seen.where(fn.col("_in_new_only") == fn.col("_in_new")), dimension)


def affected(stored: DataFrame, changed: DataFrame, dimension: Dimension) -> DataFrame:
    """The stored versions that a change can alter: those in force just before it or beginning later."""
    ends_before = fn.col("valid_to").isNotNull() & (fn.col("valid_to") < fn.col(_SINCE))
    return stored.join(changed, dimension.key).where((fn.col("valid_from") >= fn.col(_SINCE)) | ~ends_before)


def since_change(seen: DataFrame, changed: DataFrame, dimension: Dimension) -> DataFrame:
    """The observations of the changed keys from their earliest change on."""
    return seen.join(changed, dimension.key).where(fn.col("event_time") >= fn.col(_SINCE)).drop(_SINCE)


def versions(seen: DataFrame, affected_versions: DataFrame | None, dimension: Dimension) -> DataFrame:
    """The versions that follow from observations.

    Args:
        seen: The observations of the changed keys, each since its own `_since`.
        affected_versions: What `affected` answers; the versions that began before `_since` are kept as they began.
        dimension: What is tracked.

    Returns:
        Key, tracked values, `valid_from`, `valid_to` and `is_current`.
    """
    key, tracked = dimension.key, dimension.tracked
    values = fn.struct(*tracked)
    # Of several events of a key at one instant the one with the largest id counts, so that no version is empty.
    points = seen.groupBy(key, fn.col("event_time").alias("valid_from")).agg(
        fn.max_by(values, fn.col("event_id")).alias("_values")
    )
    if affected_versions is not None:
        in_force = affected_versions.where(fn.col("valid_from") < fn.col(_SINCE))
        points = points.unionByName(in_force.select(key, "valid_from", values.alias("_values")))
    of_key = Window.partitionBy(key).orderBy("valid_from")
    with_previous = points.select(
        "*", fn.lag("_values").over(of_key).alias("_previous"), fn.row_number().over(of_key).alias("_number")
    )
    begins = (fn.col("_number") == 1) | ~fn.col("_values").eqNullSafe(fn.col("_previous"))
    return (
        with_previous.where(begins)
        .select(key, "valid_from", "_values", fn.lead("valid_from").over(of_key).alias("valid_to"))
        .select(
            key,
            *(fn.col(f"_values.{name}").alias(name) for name in tracked),
            "valid_from",
            "valid_to",
            fn.col("valid_to").isNull().alias("is_current"),
        )
    )


def version_id(key: str) -> Column:
    """Names a version: SHA-256 of `<key>@<valid_from in microseconds since 1970>`, in hexadecimal."""
    return fn.sha2(fn.concat(fn.col(key).cast("string"), fn.lit("@"), fn.unix_micros("valid_from").cast("string")), 256)


def differences(stored: DataFrame, computed: DataFrame, dimension: Dimension) -> DataFrame:
    """What must change in the dimension: its columns with `OPERATION`, and the period in which it makes a difference.

    `_differs_from` is inclusive, `_differs_to` exclusive and NULL for "still".
    """
    identity = (dimension.key, "valid_from")
    columns = (*dimension.tracked, "valid_to", "is_current")
    old = stored.select(*identity, fn.struct(*columns).alias("_old"))
    new = computed.select(*identity, fn.struct(*columns).alias("_new"))
    both = old.join(new, list(identity), "full").where(~fn.col("_old").eqNullSafe(fn.col("_new")))
    operation = fn.when(fn.col("_old").isNull(), INSERT).when(fn.col("_new").isNull(), DELETE).otherwise(UPDATE)
    same_values = fn.lit(True)
    for name in dimension.tracked:
        same_values &= fn.col(f"_old.{name}").eqNullSafe(fn.col(f"_new.{name}"))
    only_its_end = (operation == UPDATE) & same_values
    # LEAST and GREATEST skip NULL: of two ends the earlier one is right so, the later one is NULL if either is.
    earlier_end = fn.least("_old.valid_to", "_new.valid_to")
    still = (fn.col("_old").isNotNull() & fn.col("_old.valid_to").isNull()) | (
        fn.col("_new").isNotNull() & fn.col("_new.valid_to").isNull()
    )
    return both.select(
        version_id(dimension.key).alias("version_id"),
        dimension.key,
        *(
            fn.when(operation == DELETE, fn.col(f"_old.{name}")).otherwise(fn.col(f"_new.{name}")).alias(name)
            for name in dimension.tracked
        ),
        "valid_from",
        fn.col("_new.valid_to").alias("valid_to"),
        fn.coalesce("_new.is_current", fn.lit(False)).alias("is_current"),
        operation.alias(OPERATION),
        fn.when(only_its_end, earlier_end).otherwise(fn.col("valid_from")).alias("_differs_from"),
        fn.when(~still, fn.greatest("_old.valid_to", "_new.valid_to")).alias("_differs_to"),
    )


def statistics(changes: DataFrame, last_day: str | None) -> Statistics:
    """Count differences, in one Spark job. No day after `last_day` is named: it is the source's last."""
    first = fn.to_date("_differs_from")
    last = fn.to_date(fn.col("_differs_to") - fn.expr("INTERVAL 1 MICROSECOND"))
    row = changes.agg(
        *(fn.count_if(fn.col(OPERATION) == name).alias(name) for name in (INSERT, UPDATE, DELETE)),
        fn.collect_set(fn.struct(first.alias("first"), last.alias("last"))).alias("periods"),
    ).collect()[0]
    periods = [(period["first"], period["last"]) for period in row["periods"]]
    cap = date.fromisoformat(last_day) if last_day else date.min
    return Statistics(row[INSERT], row[UPDATE], row[DELETE], _days(periods, cap))


def _days(periods: Sequence[tuple[date, date | None]], cap: date) -> frozenset[str]:
    days: set[date] = set()
    for first, last in sorted(periods, key=lambda period: period[0]):
        day, end = first, min(last or cap, cap)
        while day <= end:
            days.add(day)
            day += timedelta(days=1)
    return frozenset(day.isoformat() for day in days)
