"""The dimensions of a silver run: each follows the commits of the silver table that it is derived from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract import layout
from lakehouse_contract.domain import Dimension
from lakehouse_jobs import audits, dimensions
from lakehouse_jobs.audits import Check
from lakehouse_jobs.dimensions import Statistics
from lakehouse_jobs.event_days import on_days
from lakehouse_jobs.silver_batch import SilverRun
from lakehouse_jobs.table_history import History, Snapshot


@dataclass(frozen=True, slots=True)
class Task:
    """A dimension as it is before the run, and its source, up to whose snapshot `upto` it is brought."""

    dimension: Dimension
    target: History
    source: History
    upto: int


def update(run: SilverRun) -> list[dict[str, Any]]:
    """Bring every dimension up to the current snapshot of its source; answer what was done to each."""
    tables = {table.name: table for table in run.settings.tables}
    reports = []
    for dimension in run.settings.dimensions:
        table = layout.dimension(dimension, tables[dimension.source], run.settings.compression)
        target, source = run.lakehouse.ensure(table), run.lakehouse.history(dimension.source)
        if source.head is None:
            reports.append({"table": dimension.name, "skipped": f"{source.table} is empty"})
        else:
            reports.append(_update(run, Task(dimension, target, source, source.head)))
    return reports


def audit(run: SilverRun, staged: Mapping[str, int | None], days: frozenset[str]) -> Iterator[Check]:
    """Look at what the dimensions will become when tables change on some days as it is staged.

    Args:
        run: The run.
        staged: For each table that changes, the snapshot that holds it as it will be.
        days: The days that change.
    """
    for dimension in run.settings.dimensions:
        upto = staged.get(dimension.source)
        target = run.lakehouse.find(dimension.name)
        if upto is None:
            continue
        head = run.lakehouse.history(dimension.source).head
        before, after = (
            dimensions.observations(run.lakehouse.read(dimension.source, snapshot).where(on_days(days)), dimension)
            for snapshot in (head, upto)
        )
        changed = dimensions.changed_between(before, after, dimension).persist(StorageLevel.MEMORY_AND_DISK)
        try:
            seen = dimensions.observations(run.lakehouse.read(dimension.source, upto), dimension)
            since = dimensions.since_change(seen, changed, dimension)
            if target is None or target.head is None:
                yield audits.version_check(dimensions.versions(since, None, dimension), dimension)
                continue
            stored = run.lakehouse.read(target.table, target.head)
            affected = dimensions.affected(stored, changed, dimension)
            made = dimensions.versions(since, affected, dimension)
            columns = (dimension.key, "valid_from", "valid_to", "is_current")
            own = stored.join(changed.select(dimension.key), dimension.key, "left_semi").select(*columns)
            kept = own.join(affected.select(dimension.key, "valid_from"), [dimension.key, "valid_from"], "left_anti")
            yield audits.version_check(kept.unionByName(made.select(*columns)), dimension)
        finally:
            changed.unpersist()


def _update(run: SilverRun, task: Task) -> dict[str, Any]:
    report: dict[str, Any] = {"table": task.dimension.name, "upto": task.upto}
    mark = task.target.mark(task.source.table)
    steps = None if mark is None else task.source.between(mark, task.upto)
    if steps is not None and not any(step.changes_rows for step in steps):
        return {**report, "skipped": "already done"}
    if mark is not None and steps is None:
        report["note"] = f"snapshot {mark} of {task.source.table}, up to which it had come, is gone: computed anew"
    changes = _changes(run, task, mark, steps).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        last_day = max(run.lakehouse.stored_days(task.source.table, task.upto), default=None)
        found = dimensions.statistics(changes, last_day)
        _write(run, task, changes, found)
    finally:
        changes.unpersist()
    return {
        **report,
        "after": mark,
        "inserted": found.inserted,
        "updated": found.updated,
        "deleted": found.deleted,
        "touchedDays": sorted(found.days),
        "snapshot": run.lakehouse.history(task.target.table).head,
    }


def _changes(run: SilverRun, task: Task, mark: int | None, steps: Sequence[Snapshot] | None) -> DataFrame:
    """What must change in the dimension: for the keys that the source's commits changed, or for all of them."""
    stored = run.lakehouse.read(task.target.table, task.target.head)
    seen = dimensions.observations(run.lakehouse.read(task.source.table, task.upto), task.dimension)
    days = None if steps is None else run.lakehouse.changed_days(task.source.table, steps)
    changed = None if mark is None or steps is None else _changed(run, task, mark, steps, days)
    if changed is None:
        return dimensions.differences(stored, dimensions.versions(seen, None, task.dimension), task.dimension)
    if days:
        seen = seen.where(fn.col("event_time") >= fn.lit(min(days)).cast("timestamp"))
    affected = dimensions.affected(stored, changed, task.dimension)
    since = dimensions.since_change(seen, changed, task.dimension)
    return dimensions.differences(affected, dimensions.versions(since, affected, task.dimension), task.dimension)


def _changed(
    run: SilverRun, task: Task, mark: int, steps: Sequence[Snapshot], days: frozenset[str] | None
) -> DataFrame | None:
    """The keys that the commits after `mark` changed, each with its earliest change; None if it can't be told."""
    news = [step for step in steps if step.changes_rows]
    if all(step.operation == "append" for step in news):
        appended = run.lakehouse.read_appended(task.source.table, mark, task.upto)
        return dimensions.changed_by(dimensions.observations(appended, task.dimension), task.dimension)
    if days is None or mark not in task.source.snapshots:
        return None
    before, after = (
        dimensions.observations(run.lakehouse.read(task.source.table, snapshot).where(on_days(days)), task.dimension)
        for snapshot in (mark, task.upto)
    )
    return dimensions.changed_between(before, after, task.dimension)


def _write(run: SilverRun, task: Task, changes: DataFrame, found: Statistics) -> None:
    table, head, dimension = task.target.table, task.target.head, task.dimension
    properties = run.properties({task.source.table: task.upto}, found.days)
    columns = ("version_id", dimension.key, *dimension.tracked, "valid_from", "valid_to", "is_current")
    rows = changes.select(*columns, *run.audit(task.upto), dimensions.OPERATION)
    if not (found.inserted or found.updated or found.deleted):
        run.lakehouse.stamp(table, properties)
    elif head is None or not (found.updated or found.deleted):
        run.lakehouse.append(rows.drop(dimensions.OPERATION), table, head, properties)
    else:
        run.lakehouse.merge(rows, table, head, properties, key="version_id", operation=dimensions.OPERATION)
