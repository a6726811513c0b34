"""The rows of bronze that a silver table has not seen, by a `SourceRange`."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from lakehouse_jobs.event_days import on_days
from lakehouse_jobs.iceberg_commits import Lakehouse
from lakehouse_jobs.source_range import Appended, Rewritten, SourceRange, Unknown
from lakehouse_jobs.table_history import History

_ORIGIN = ("kafka_partition", "kafka_offset", "kafka_timestamp")
_DELETED = 2
"""The status of a deleted file in Iceberg's table `entries`."""


def stored(lakehouse: Lakehouse, history: History, days: frozenset[str] | None) -> DataFrame | None:
    """The rows that a silver table holds on these days, or on all; None if it holds none at all."""
    if history.head is None or history.rows() == 0:
        return None
    rows = lakehouse.read(history.table, history.head)
    return rows if days is None else rows.where(on_days(days))


def unseen(lakehouse: Lakehouse, bronze: History, reading: SourceRange, held: Sequence[History]) -> DataFrame:
    """The rows of bronze in a range.

    Args:
        lakehouse: The tables.
        bronze: The bronze table.
        reading: Which rows.
        held: The silver table and its quarantine, for a range that follows from what they hold.
    """
    if isinstance(reading, Appended):
        return lakehouse.read_appended(bronze.table, reading.after, reading.upto)
    rows = lakehouse.read(bronze.table, reading.upto)
    if isinstance(reading, Rewritten):
        return rows.where(_in_files_of(lakehouse, bronze, reading))
    if isinstance(reading, Unknown):
        come_to = frozenset.intersection(*(history.marks(bronze.table) for history in held))
        taken = [_taken_in_order(lakehouse, history, come_to) for history in held]
        return rows.where(_arrived_since([origins for origins in taken if origins is not None]))
    return rows


def _in_files_of(lakehouse: Lakehouse, bronze: History, reading: Rewritten) -> Column:
    """Rows that may be in a file of the range's snapshots: by the lowest Kafka timestamp in those still there."""
    came_with = fn.col("snapshot_id").isin(list(reading.written)) & (fn.col("status") != _DELETED)
    lowest = fn.col("readable_metrics.kafka_timestamp.lower_bound")
    files = lakehouse.entries(bronze.table, reading.upto).where(came_with)
    row = files.agg(
        fn.unix_micros(fn.min(lowest)).alias("lowest"), fn.count_if(lowest.isNull()).alias("unknown")
    ).collect()[0]
    if row["unknown"]:
        return fn.lit(True)
    return fn.lit(False) if row["lowest"] is None else fn.col("kafka_timestamp") >= _instant(row["lowest"])


def _taken_in_order(lakehouse: Lakehouse, history: History, come_to: frozenset[int]) -> DataFrame | None:
    """Where the rows came from that a table took as it went along: those of the snapshots that all have come to.

    Others tell nothing about what is missing: a run over days takes rows ahead of some that are still to come, and a
    run that crashed has brought the quarantine farther than the table.
    """
    rows = stored(lakehouse, history, None)
    if rows is None or not come_to:
        return None
    return rows.where(fn.col("_audit_source_snapshot").isin(list(come_to))).select(*_ORIGIN)


def _arrived_since(taken: Sequence[DataFrame]) -> Column:
    """Rows that arrived at or after the newest taken row of their Kafka partition, by timestamp or by offset.

    Timestamps rise with offsets unless producers set them; offsets start again when a topic is made anew. What either
    of them calls new is read, and everything of a partition of which nothing was taken.
    """
    if not taken:
        return fn.lit(True)
    newest = (
        reduce(DataFrame.unionByName, taken)
        .groupBy("kafka_partition")
        .agg(fn.unix_micros(fn.max("kafka_timestamp")).alias("at"), fn.max("kafka_offset").alias("offset"))
    )
    partition, condition, known = fn.col("kafka_partition"), fn.lit(False), []
    for row in newest.collect():
        later = (fn.col("kafka_timestamp") >= _instant(row["at"])) | (fn.col("kafka_offset") > fn.lit(row["offset"]))
        condition |= (partition == fn.lit(row["kafka_partition"])) & later
        known.append(row["kafka_partition"])
    return condition | ~partition.isin(known)


def _instant(microseconds: int) -> Column:
    """An instant as a literal. Python's datetimes would go through the driver's own time zone, where hours repeat."""
    return fn.timestamp_micros(fn.lit(microseconds))
