"""Keyed silver tables: one row per event, in the table or in its quarantine, whatever the order of arrival.

Of several copies of an event (one `event_id` on one event day) the one with the lowest (Kafka timestamp, partition,
offset) stays, whichever was processed first. So what a table and its quarantine hold is a function of the set of bronze
rows that they have seen, and to see a row a second time changes nothing. That is what makes a run that starts again
after a crash harmless, wherever it crashed.

The event day is part of the identity because a table can only be searched by it at a cost that follows the batch. A
repeat carries the same event time, so it makes no difference to one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as fn
from pyspark.sql.window import Window

from lakehouse_contract.domain import KeyedTable, Severity
from lakehouse_jobs import quality

_EVENT = ("event_id", "_day")
_ORIGIN = ("kafka_timestamp", "kafka_partition", "kafka_offset")

_STAYS = "_stays"
_ADD = "_add_to_"
_DROP = "_drop_from_"
TABLE = "table"
QUARANTINE = "quarantine"
PLACES = (TABLE, QUARANTINE)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a batch holds: days as ISO dates; `added` and `dropped` rows by place (`table` or `quarantine`).

    `newest` is the time of its newest valid event, in microseconds since 1970.
    """

    rows_read: int
    rows_checked: int
    rows_valid: int
    newest: int | None
    added: Mapping[str, int]
    dropped: Mapping[str, int]
    days: Mapping[str, frozenset[str]]
    broken: Mapping[str, int]


def first_copies(rows: DataFrame) -> DataFrame:
    """One row per event: the copy that came first, with how many there were as `_copies`."""
    copies = Window.partitionBy(*_EVENT).orderBy(*_ORIGIN)
    every = copies.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    numbered = rows.withColumn("_day", fn.to_date("event_time")).select(
        "*", fn.row_number().over(copies).alias("_copy"), fn.count(fn.lit(1)).over(every).alias("_copies")
    )
    return numbered.where(fn.col("_copy") == 1).drop("_copy")


def decided(candidates: DataFrame, stored: Mapping[str, DataFrame | None]) -> DataFrame:
    """Say for each candidate whether it stays, where it is added, and where it displaces a row of the same event.

    Args:
        candidates: The first copies of a batch, judged.
        stored: The rows of the table and of the quarantine on the days of the batch; None for those of a new table.
    """
    joined = candidates
    for place in PLACES:
        rows = stored[place]
        if rows is not None:
            found = rows.select("event_id", fn.to_date("event_time").alias("_day"), _rank().alias(f"_rank_in_{place}"))
            joined = joined.join(found, list(_EVENT), "left")
    ranks = {place: fn.col(f"_rank_in_{place}") for place in PLACES if stored[place] is not None}
    beaten = fn.lit(False)
    for rank in ranks.values():
        beaten |= fn.coalesce(rank < _rank(), fn.lit(False))
    decisions = [(~beaten).alias(_STAYS)]
    for place in PLACES:
        there = ranks[place].isNotNull() if place in ranks else fn.lit(False)
        same = fn.coalesce(ranks[place] == _rank(), fn.lit(False)) if place in ranks else fn.lit(False)
        unchanged = _belongs(place) & same
        decisions += [
            (~beaten & _belongs(place) & ~unchanged).alias(_ADD + place),
            (~beaten & there & ~unchanged).alias(_DROP + place),
        ]
    return joined.select(*candidates.columns, *decisions)


def _rank() -> Column:
    return fn.struct(*_ORIGIN)


def placed(candidates: DataFrame) -> DataFrame:
    """The same for whole days that are replaced: nothing that is stored matters."""
    decisions = [fn.lit(True).alias(_STAYS)]
    for place in PLACES:
        decisions += [_belongs(place).alias(_ADD + place), fn.lit(False).alias(_DROP + place)]
    return candidates.select("*", *decisions)


def _belongs(place: str) -> Column:
    return ~fn.col(quality.QUARANTINED) if place == TABLE else fn.col(quality.QUARANTINED)


def slim(rows: DataFrame, table: KeyedTable) -> DataFrame:
    """Keep what is written: the payload only of quarantined rows."""
    return rows.select(
        "event_id", "event_time", "is_late_arrival", *_ORIGIN,
        *(f"_column_{column.name}" for column in table.columns),
        fn.when(fn.col(quality.QUARANTINED), fn.col("payload")).alias("payload"),
        quality.BROKEN, quality.QUARANTINED,
    )  # fmt: skip


def statistics(batch: DataFrame, rules: Mapping[str, Severity]) -> Statistics:
    """Count a decided batch, in one Spark job."""
    names = list(rules)
    valid = fn.col(_STAYS) & ~fn.col(quality.QUARANTINED)
    measures: list[Column] = [
        fn.coalesce(fn.sum("_copies"), fn.lit(0)).alias("read"),
        fn.count_if(_STAYS).alias("checked"),
        fn.count_if(valid).alias("valid"),
        fn.unix_micros(fn.max(fn.when(valid, fn.col("event_time")))).alias("newest"),
    ]
    for place in PLACES:
        added, dropped = fn.col(_ADD + place), fn.col(_DROP + place)
        measures += [
            fn.count_if(added).alias(f"added_{place}"),
            fn.count_if(dropped).alias(f"dropped_{place}"),
            fn.collect_set(fn.when(added | dropped, fn.col("_day"))).alias(f"days_{place}"),
        ]
    for number, name in enumerate(names):
        breaks = fn.col(_STAYS) & fn.array_contains(quality.BROKEN, name)
        measures.append(fn.count_if(breaks).alias(f"rule_{number}"))
    row: Row = batch.agg(*measures).collect()[0]
    return Statistics(
        rows_read=row["read"],
        rows_checked=row["checked"],
        rows_valid=row["valid"],
        newest=row["newest"],
        added={place: row[f"added_{place}"] for place in PLACES},
        dropped={place: row[f"dropped_{place}"] for place in PLACES},
        days={place: frozenset(day.isoformat() for day in row[f"days_{place}"]) for place in PLACES},
        broken={name: row[f"rule_{number}"] for number, name in enumerate(names)},
    )


def additions(batch: DataFrame, place: str, table: KeyedTable, audit: Sequence[Column]) -> DataFrame:
    """The rows of a decided batch that are added to a place, in that table's columns."""
    rows = batch.where(fn.col(_ADD + place))
    if place == TABLE:
        own = [fn.col(f"_column_{column.name}").alias(column.name) for column in table.columns]
        return rows.select("event_id", "event_time", *own, "is_late_arrival", *_ORIGIN, *audit)
    return rows.select("event_id", "event_time", quality.BROKEN, "payload", "is_late_arrival", *_ORIGIN, *audit)


def survivors(stored: DataFrame, batch: DataFrame, place: str) -> DataFrame:
    """The stored rows that a decided batch does not displace."""
    displaced = batch.where(fn.col(_DROP + place)).select("event_id", "_day")
    same_event = (stored["event_id"] == displaced["event_id"]) & (fn.to_date(stored["event_time"]) == displaced["_day"])
    return stored.join(displaced, same_event, "left_anti")
