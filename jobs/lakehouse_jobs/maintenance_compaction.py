"""Compaction: which days of a table have too many small files, and writing those anew, then the manifests.

A day that got rows a short while ago is left alone: it will get more. What is rewritten holds the same rows, and each
commit says so (`replace`), so that nobody who reads by snapshot reads a row again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import functions as fn

from lakehouse_contract import commits
from lakehouse_contract.settings import CompactionSettings
from lakehouse_jobs.day_partitions import always_days_of
from lakehouse_jobs.iceberg_commits import Lakehouse, conflicts
from lakehouse_jobs.table_history import History

_SMALL = 0.75
"""A file below this part of the target size is small, for Iceberg too."""
_COMMIT_BYTES = 4 * 1024**3
"""What is rewritten in one commit: less is lost when another run changes the same days meanwhile."""
_DELETED = 2
"""The status of a deleted file in Iceberg's table `entries`."""
_MANIFEST_BYTES = 8 * 1024**2
_MANIFESTS_TOO_MANY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is rewritten as a whole: a day of a table that is partitioned by day, or a table (`day` is None)."""

    day: date | None
    small: int
    deletes: int
    bytes: int
    is_busy: bool
    """Whether it got rows a short while ago."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The parts to rewrite, each in a commit with its neighbours, and what is left for another time, and why."""

    parts: tuple[Part, ...]
    left: tuple[str, ...]

    def batches(self) -> Iterator[tuple[Part, ...]]:
        """The parts by commit, each of about `_COMMIT_BYTES`."""
        batch: list[Part] = []
        for part in self.parts:
            if batch and sum(each.bytes for each in batch) + part.bytes > _COMMIT_BYTES:
                yield tuple(batch)
                batch = []
            batch.append(part)
        if batch:
            yield tuple(batch)


def choose(parts: Sequence[Part], settings: CompactionSettings) -> Choice:
    """Choose what is rewritten, the newest days first, because those are read most."""
    fewest = settings.min_input_files
    worth = [part for part in parts if part.small >= fewest or part.deletes >= fewest]
    worth.sort(key=lambda part: part.day or date.min, reverse=True)
    busy = [_named(part) for part in worth if part.is_busy]
    left = [f"the files of {', '.join(busy)}: got rows in the last {settings.min_age_seconds} s"] if busy else []
    chosen: list[Part] = []
    total, beyond = 0, 0
    for part in worth:
        if part.is_busy:
            continue
        if chosen and total + part.bytes > settings.max_bytes:
            beyond += 1
            continue
        chosen.append(part)
        total += part.bytes
    if beyond:
        left.append(f"the files of {beyond} more days: the next run goes on, as this one has rewritten its most")
    return Choice(tuple(chosen), tuple(left))


def _named(part: Part) -> str:
    return part.day.isoformat() if part.day else "the table"


def parts(lakehouse: Lakehouse, history: History, settings: CompactionSettings, now: int) -> list[Part]:
    """The parts of a table as its metadata say, at `now` in milliseconds since 1970."""
    if history.head is None:
        return []
    days = always_days_of(lakehouse.loaded(history.table))
    recent = [
        snapshot.id
        for snapshot in history.ancestors()
        if not snapshot.keeps_rows and now - snapshot.committed_at < settings.min_age_seconds * 1000
    ]
    if days is None and _repeats_its_commits(history):
        recent = []  # it gets rows with every run, and is never at rest
    file, content = "data_file.file_size_in_bytes", fn.col("data_file.content")
    part = fn.lit(None).cast("date") if days is None else fn.col("data_file.partition")[history.partitions[0]]
    small = (content == 0) & (fn.col(file) < int(settings.target_file_bytes * _SMALL))
    rows = (
        lakehouse.entries(history.table, history.head)
        .where(fn.col("status") != _DELETED)
        .groupBy(part.alias("day"))
        .agg(
            fn.count_if(small).alias("small"),
            fn.count_if(content != 0).alias("deletes"),
            fn.sum(file).alias("bytes"),
            fn.max(fn.col("snapshot_id").isin(recent)).alias("is_busy"),
        )
        .collect()
    )
    known = [row for row in rows if days is None or row["day"] is not None]
    return [Part(**row.asDict()) for row in known]


def _repeats_its_commits(history: History) -> bool:
    """Whether the table is written by this project's jobs, which make a commit again that compaction got in the way of.

    Another writer may fail then, so its tables are left alone while they get rows.
    """
    newest = next((each for each in history.ancestors() if not each.keeps_rows), None)
    return newest is not None and commits.RUN in newest.summary


def rewrite(
    lakehouse: Lakehouse,
    table: Any,
    batch: Sequence[Part],
    settings: CompactionSettings,
    properties: Mapping[str, str],
) -> dict[str, int]:
    """Rewrite the small files of some parts in one commit, and the files with deletes; answer what was done.

    Raises:
        Conflict: Another run changed these files meanwhile. Nothing was written.
    """
    jvm: Any = lakehouse.spark._jvm
    action = _actions(lakehouse).rewriteDataFiles(table)
    options = {
        "target-file-size-bytes": settings.target_file_bytes,
        "min-input-files": settings.min_input_files,
        "delete-file-threshold": 1,
        "remove-dangling-deletes": "true",
    }
    for key, value in options.items():
        action = action.option(key, str(value))
    for key, value in properties.items():
        action = action.snapshotProperty(key, value)
    days = always_days_of(table)
    if days is not None:
        chosen = sorted(part.day for part in batch if part.day)
        action = action.filter(days.within(jvm, chosen))
    with conflicts(str(table.name())):
        result = action.execute()
    return {
        "filesRewritten": int(result.rewrittenDataFilesCount()),
        "filesAdded": int(result.addedDataFilesCount()),
        "bytesRewritten": int(result.rewrittenBytesCount()),
        "deleteFilesRemoved": int(result.removedDeleteFilesCount()),
    }


def manifests(lakehouse: Lakehouse, history: History) -> tuple[int, int]:
    """How many manifests main's snapshot has, and how many their size calls for."""
    if history.head is None:
        return 0, 0
    listed = lakehouse.spark.read.table(f"{lakehouse.identifier(history.table)}.manifests")
    row = listed.agg(fn.count("*").alias("count"), fn.sum("length").alias("bytes")).collect()[0]
    return int(row["count"]), math.ceil((row["bytes"] or 0) / _MANIFEST_BYTES)


def are_too_many(count: int, wanted: int) -> bool:
    """Whether writing the manifests anew is worth its commit."""
    return count >= wanted + _MANIFESTS_TOO_MANY


def rewrite_manifests(lakehouse: Lakehouse, table: Any, properties: Mapping[str, str]) -> None:
    """Write the manifests of a table anew, sorted by partition.

    Raises:
        Conflict: Another run merged some of them meanwhile. Nothing was written.
    """
    action = _actions(lakehouse).rewriteManifests(table)
    for key, value in properties.items():
        action = action.snapshotProperty(key, value)
    with conflicts(str(table.name())):
        action.execute()


def _actions(lakehouse: Lakehouse) -> Any:
    jvm: Any = lakehouse.spark._jvm
    return jvm.org.apache.iceberg.spark.actions.SparkActions.get(lakehouse.spark._jsparkSession)
