"""The keyed tables of a silver run: what each one reads, what it makes of it, and the commits.

All tables are computed and judged before the first one is written, because a rule of severity `fail` must stop the run
while nothing has changed. What the rules found is written down before that, so that it can be read of a run that
stopped, too. Then comes for each table its quarantine and the table itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract import layout
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.domain import KeyedTable
from lakehouse_contract.names import split
from lakehouse_contract.settings import DayRange
from lakehouse_contract.tables import spark_schema, spark_type
from lakehouse_jobs import (
    bronze_rows,
    expressions,
    keyed_tables,
    payload,
    quality,
    silver_backfill,
    source_range,
    table_rules,
)
from lakehouse_jobs.event_days import every_day, on_days
from lakehouse_jobs.expressions import Asked
from lakehouse_jobs.iceberg_commits import Conflict
from lakehouse_jobs.keyed_tables import PLACES, QUARANTINE, TABLE
from lakehouse_jobs.quality import Finding
from lakehouse_jobs.silver_batch import Batch, SilverRun, Target
from lakehouse_jobs.source_range import Appended, NotInHistory, SourceRange, UpToDate
from lakehouse_jobs.table_history import History
from lakehouse_jobs.table_rules import Outlook

_BRONZE_COLUMNS = tuple(column.name for column in layout.bronze("bronze.any").columns)
_NO_DAYS: frozenset[str] = frozenset()
_ATTEMPTS = 3
"""How often days are computed again that other runs change meanwhile."""


def update(run: SilverRun) -> list[dict[str, Any]]:
    """Bring the keyed tables up to date, or recompute days of them; answer what was done to each.

    Days that another run changes meanwhile are computed again.

    Raises:
        SettingsRefused: An expression can't be used, or a table of that name is another one.
        BadData: A rule of severity `fail` is broken, or days did not pass their audit. No table was changed.
        Conflict: Another run changed a table meanwhile, for days: again and again.
    """
    _check(run)
    for _ in range(_ATTEMPTS - 1 if run.settings.run.days else 0):
        with suppress(Conflict):
            return _update(run)
    return _update(run)


def _update(run: SilverRun) -> list[dict[str, Any]]:
    bronze = run.lakehouse.history(run.settings.bronze_table)
    targets = [_target(run, definition) for definition in run.settings.tables]
    if bronze.head is None:
        return [{"table": target.definition.name, "skipped": f"{bronze.table} is empty"} for target in targets]
    with ExitStack() as persisted:
        batches = [_batch(run, bronze, target, persisted) for target in targets]
        findings = [finding for batch in batches for finding in _findings(run, batch)]
        _record(run, batches, findings)
        quality.stop_if_failing(findings)
        if run.settings.run.days is not None:
            silver_backfill.swap(run, batches, run.settings.run.days)
        return [_write(run, batch) for batch in batches]


def _target(run: SilverRun, definition: KeyedTable) -> Target:
    tables = {
        TABLE: layout.silver(definition, run.settings.compression),
        QUARANTINE: layout.quarantine(definition, run.settings.compression),
    }
    return Target(definition, {place: run.lakehouse.ensure(table) for place, table in tables.items()})


def _batch(run: SilverRun, bronze: History, target: Target, persisted: ExitStack) -> Batch:
    days = run.settings.run.days
    if days is None:
        return _new_batch(run, bronze, target, persisted)
    return _days_batch(run, bronze, target, days, persisted)


def _new_batch(run: SilverRun, bronze: History, target: Target, persisted: ExitStack) -> Batch:
    """What the target has not seen yet."""
    upto = run.settings.run.snapshots.upto if run.settings.run.snapshots else bronze.head
    assert upto is not None
    reading = _reading(bronze, target, upto)
    if isinstance(reading, UpToDate):
        return Batch(target=target, upto=upto, done=frozenset(PLACES))
    note, after = getattr(reading, "note", None), getattr(reading, "after", None)
    days = None
    if isinstance(reading, Appended):
        days = run.lakehouse.appended_days(bronze.table, reading.after, upto)
        if not days:
            return Batch(target=target, upto=upto, after=after, note=note)
    stored = {place: bronze_rows.stored(run.lakehouse, target.histories[place], days) for place in PLACES}
    source = bronze_rows.unseen(run.lakehouse, bronze, reading, list(target.histories.values()))
    rows = keyed_tables.decided(_candidates(run, source, target.definition), stored)
    return _counted(run, Batch(target=target, upto=upto, after=after, note=note), rows, persisted)


def _days_batch(run: SilverRun, bronze: History, target: Target, days: DayRange, persisted: ExitStack) -> Batch:
    """Whole event days again, from one snapshot of bronze, which is at least the one that the target has come to."""
    done = frozenset(place for place in PLACES if run.has_written(target.histories[place]))
    upto, note = _days_snapshot(bronze, target, days)
    wanted = every_day(days)
    batch = Batch(target=target, upto=upto, replaced=wanted, done=done, note=note)
    if batch.is_done:
        return batch
    source = run.lakehouse.read(bronze.table, upto).where(on_days(wanted))
    return _counted(run, batch, keyed_tables.placed(_candidates(run, source, target.definition)), persisted)


def _counted(run: SilverRun, batch: Batch, rows: DataFrame, persisted: ExitStack) -> Batch:
    kept = rows.persist(StorageLevel.MEMORY_AND_DISK)
    persisted.callback(kept.unpersist)
    rules = quality.severities(batch.target.definition, run.settings.columns)
    return Batch(
        target=batch.target,
        upto=batch.upto,
        after=batch.after,
        rows=kept,
        found=keyed_tables.statistics(kept, rules),
        replaced=batch.replaced,
        done=batch.done,
        note=batch.note,
    )


def _days_snapshot(bronze: History, target: Target, days: DayRange) -> tuple[int, str | None]:
    """The snapshot to recompute days from: the pinned one, or a later one that the target has come to.

    From an older one the rows in between would be lost, as the target's own mark says that they are in.
    """
    pinned = bronze.head if days.at_snapshot is None else days.at_snapshot
    assert pinned is not None
    if not bronze.has_ancestor(pinned):
        message = f"snapshot {pinned} is not in the history of {bronze.table}: it was rewound or expired"
        raise SettingsRefused((Problem("run.days.atSnapshot", message),))
    upto = pinned
    for history in target.histories.values():
        mark = history.mark(bronze.table)
        if mark is not None and bronze.has_ancestor(mark) and bronze.between(upto, mark) is not None:
            upto = mark
    if upto == pinned:
        return upto, None
    return upto, f"read at snapshot {upto} instead of {pinned}: the table holds what came in between"


def _reading(bronze: History, target: Target, upto: int) -> SourceRange:
    """What the target must read: for the table and its quarantine together, from the one that has come less far."""
    histories = list(target.histories.values())
    marks = [history.mark(bronze.table) for history in histories]
    try:
        if None in marks:
            unmarked = [history for history, mark in zip(histories, marks, strict=True) if mark is None]
            return source_range.decide(bronze, None, upto, has_rows=any(history.rows() for history in unmarked))
        return source_range.widest(bronze, [source_range.decide(bronze, mark, upto, has_rows=True) for mark in marks])
    except NotInHistory as gone:
        raise SettingsRefused((Problem("run.snapshots.upto", str(gone)),)) from None


def _candidates(run: SilverRun, rows: DataFrame, definition: KeyedTable) -> DataFrame:
    """The first copy of each event of a table in a batch, with the table's columns and the rules that it breaks."""
    read = payload.parsed(rows.select(*_BRONZE_COLUMNS), run.settings.columns)
    judged = quality.judged(quality.belonging(read, definition), definition, run.settings.columns)
    return keyed_tables.first_copies(keyed_tables.slim(judged, definition))


def _check(run: SilverRun) -> None:
    """Refuse expressions that can't be used, all at once, with their paths."""
    settings = run.settings
    payload_columns = ", ".join(f"`{column.name}` {spark_type(column.type)}" for column in settings.columns)
    schema = f"{spark_schema(layout.bronze(settings.bronze_table))}, {payload_columns}"
    over = run.lakehouse.spark.createDataFrame([], schema)
    asked: list[Asked] = []
    for number, table in enumerate(settings.tables):
        path = f"tables[{number}]"
        asked += [
            Asked(f"{path}.columns[{index}].expression", column.expression, spark_type(column.type))
            for index, column in enumerate(table.columns)
        ]
        asked += [
            Asked(f"{path}.rules[{i}].expression", rule.expression, "boolean")
            for i, rule in enumerate(table.rules)
            if rule.expression is not None
        ]
        asked += [Asked(f"{path}.where", table.where, "boolean")] if table.where is not None else []
    problems = [*expressions.problems_of(asked, over)]
    problems += [
        problem
        for number, table in enumerate(settings.tables)
        for i, rule in enumerate(table.rules)
        if rule.pattern is not None
        for problem in expressions.regex_problems(rule.pattern.regex, f"tables[{number}].rules[{i}].pattern.regex")
    ]
    if problems:
        raise SettingsRefused(tuple(problems))


def _findings(run: SilverRun, batch: Batch) -> Iterator[Finding]:
    """What the rules of a table found: those over rows where there are rows, those over the table at any rate."""
    table = batch.target.definition
    if batch.found is not None and batch.found.rows_checked:
        kinds = {rule.name: rule.kind for rule in table.rules}
        for rule, severity in quality.severities(table, run.settings.columns).items():
            checked, broken = batch.found.rows_checked, batch.found.broken[rule]
            yield Finding(batch.name, rule, severity, checked, broken, kinds.get(rule, "builtIn"))
    # A run that has written is judged already, and what it wrote is no news to itself.
    if table_rules.has_any(table) and not run.has_written(batch.target.histories[TABLE]):
        yield from table_rules.findings(table, _outlook(run, batch))


def _outlook(run: SilverRun, batch: Batch) -> Outlook:
    history, found, interval_end = batch.target.histories[TABLE], batch.found, run.settings.run.interval_end
    days = (found.days[TABLE] if found else _NO_DAYS) | (batch.replaced or _NO_DAYS)
    asks_age = any(rule.freshness is not None for rule in batch.target.definition.rules)
    stored = _newest_stored(run, history) if asks_age else None
    newest = [each for each in (found.newest if found else None, stored) if each is not None]
    return Outlook(
        rows=_rows_after(run, batch, days),
        days=days,
        brought=found.rows_valid if found else 0,
        newest=max(newest, default=None),
        at=datetime.fromisoformat(interval_end) if interval_end else run.started,
        judges_age=batch.replaced is None,
    )


def _rows_after(run: SilverRun, batch: Batch, days: frozenset[str]) -> DataFrame | None:
    """The table's rows on these days as they will be after the run."""
    kept = (
        None if batch.replaced is not None else bronze_rows.stored(run.lakehouse, batch.target.histories[TABLE], days)
    )
    if batch.rows is None:
        return kept
    added = keyed_tables.additions(batch.rows, TABLE, batch.target.definition, ())
    if kept is None:
        return added
    survivors = keyed_tables.survivors(kept, batch.rows, TABLE)
    return added.unionByName(survivors.select(*added.columns))


def _newest_stored(run: SilverRun, history: History) -> int | None:
    """The time of the newest stored event, from the files of the last day that has any."""
    if history.head is None or not (days := run.lakehouse.stored_days(history.table, history.head)):
        return None
    rows = run.lakehouse.read(history.table, history.head).where(on_days({max(days)}))
    found: int | None = rows.agg(fn.unix_micros(fn.max("event_time"))).collect()[0][0]
    return found


def _record(run: SilverRun, batches: Sequence[Batch], findings: Sequence[Finding]) -> None:
    for namespace in sorted({split(batch.name).namespace for batch in batches}):
        upto = max(batch.upto for batch in batches)
        own = [finding for finding in findings if split(finding.table).namespace == namespace]
        if own:
            quality.record(run, namespace, own, upto)


def _write(run: SilverRun, batch: Batch) -> dict[str, Any]:
    report: dict[str, Any] = {"table": batch.name, "upto": batch.upto}
    if batch.is_done:
        return {**report, "skipped": "already done"}
    if batch.replaced is None:
        for place in reversed(PLACES):
            _commit(run, batch, place)
    heads = {place: run.lakehouse.history(batch.target.histories[place].table).head for place in PLACES}
    found = batch.found
    return {
        **report,
        **({"note": batch.note} if batch.note else {}),
        "after": batch.after,
        "rowsRead": found.rows_read if found else 0,
        "rowsWritten": found.added[TABLE] if found else 0,
        "rowsQuarantined": found.added[QUARANTINE] if found else 0,
        "rowsDisplaced": sum(found.dropped.values()) if found else 0,
        "touchedDays": sorted(found.days[TABLE] | found.days[QUARANTINE]) if found else [],
        "snapshot": heads[TABLE],
        "quarantineSnapshot": heads[QUARANTINE],
    }


def _commit(run: SilverRun, batch: Batch, place: str) -> None:
    """One commit of the table or its quarantine."""
    history, bronze = batch.target.histories[place], run.settings.bronze_table
    days = batch.found.days[place] if batch.found else _NO_DAYS
    properties = run.properties({bronze: batch.upto}, days)
    if days and batch.rows is not None:
        _add(run, batch, place, properties)
    elif history.mark(bronze) != batch.upto:
        run.lakehouse.stamp(history.table, properties)


def _add(run: SilverRun, batch: Batch, place: str, properties: Mapping[str, str]) -> None:
    """Add rows; where a copy that came earlier is processed later, write the days of the batch again without the other.

    All of its days, so that a rival run over the same rows conflicts with this one whatever it finds.
    """
    history, found = batch.target.histories[place], batch.found
    assert batch.rows is not None
    assert found is not None
    rows = keyed_tables.additions(batch.rows, place, batch.target.definition, run.audit(batch.upto))
    if not found.dropped[place]:
        run.lakehouse.append(rows, history.table, history.head, properties)
        return
    stored = bronze_rows.stored(run.lakehouse, history, found.days[place])
    assert stored is not None
    kept = keyed_tables.survivors(stored, batch.rows, place)
    run.lakehouse.replace(rows.unionByName(kept), history.table, on_days(found.days[place]), history.head, properties)
