"""The models of a gold run: which of them, and which of their days, silver's changes concern, and the commits.

A model's table says in its commits which snapshots of the tables that it reads are in it. What those tables changed
since then is what the model must compute again: the days for an `incrementalByDay` model, everything for a `full` one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame

from lakehouse_contract import layout
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.names import split
from lakehouse_jobs import gold_backfill, sql_models
from lakehouse_jobs.event_days import every_day
from lakehouse_jobs.gold_backfill import Staged
from lakehouse_jobs.gold_batch import GoldRun, Task, Work, properties, replaced
from lakehouse_jobs.sql_models import Query
from lakehouse_jobs.table_history import History


def check(run: GoldRun, sources: Mapping[str, History]) -> list[Query]:
    """Refuse models that can't be computed, before anything is written; answer their checked texts.

    Raises:
        SettingsRefused: With the path `models[i].sql` or `models[i].dayColumn`.
    """
    tables = {name: run.lakehouse.read(name, history.head) for name, history in sources.items()}
    queries: list[Query] = []
    problems: list[Problem] = []
    for number, model in enumerate(run.settings.models):
        try:
            query = sql_models.parse(run.lakehouse.spark, run.lakehouse.catalog, model, tuple(tables))
            rows = sql_models.bind(run.lakehouse.spark, query, tables)
            sql_models.check_columns(model, rows)
            sql_models.check_as_of(model, rows)
        except SettingsRefused as refused:
            problems += [Problem(f"models[{number}].{problem.path}", problem.message) for problem in refused.problems]
            break  # those behind it may read it
        queries.append(query)
        tables[model.name] = rows
    if problems:
        raise SettingsRefused(tuple(problems))
    return queries


def update(run: GoldRun, queries: Sequence[Query], sources: Mapping[str, History]) -> list[dict[str, Any]]:
    """Bring every model up to date, in order; answer what was done to each.

    Every model reads the silver tables at the same snapshots, whatever is committed meanwhile. A run over days stages
    and audits its models before the first of them changes (`gold_backfill`).

    Raises:
        SettingsRefused: A model can't follow the columns that its table has, and its days are to be kept.
        BadData: What a run over days staged did not pass its audit.
        Conflict: Another run changed a model meanwhile.
    """
    read = dict(sources)
    reports: list[dict[str, Any]] = []
    staged: list[Staged] = []
    for model, query in zip(run.settings.models, queries, strict=True):
        own = {name: read[name] for name in query.reads}
        report, swap = _update(run, Task(model, query, run.lakehouse.find(model.name), own))
        reports.append(report)
        staged += [swap] if swap else []
        read[model.name] = gold_backfill.as_staged(run, swap) if swap else run.lakehouse.history(model.name)
    if run.settings.run.days is not None:
        gold_backfill.swap(run, staged, run.settings.run.days)
    return [{**report, "snapshot": run.lakehouse.history(report["table"]).head} for report in reports]


def _update(run: GoldRun, task: Task) -> tuple[dict[str, Any], Staged | None]:
    """Write a model, or stage it; answer what was done, and what is to be published yet."""
    tables = {name: run.lakehouse.read(name, history.head) for name, history in task.sources.items()}
    rows = sql_models.bind(run.lakehouse.spark, task.query, tables)
    audited = rows.select("*", *run.audit())
    work = decide(run, task, fits=_fits(run, task, audited))
    report: dict[str, Any] = {"table": task.model.name}
    if task.target is not None and work.days == frozenset():
        return {**report, "skipped": work.reason}, None
    staged = _write(run, task, audited, work, _touched(run, task, rows, work))
    return {**report, "reason": work.reason, "days": "all" if work.days is None else sorted(work.days)}, staged


def decide(run: GoldRun, task: Task, *, fits: bool) -> Work:
    """What a model must compute. `fits` says whether its table can take its rows beside those that are there."""
    wanted = run.settings.run.days
    if task.target is None or task.target.head is None:
        return Work(None, "the table is new")
    if not task.is_same and task.model.when_changed == "rebuild":
        return Work(None, "the model changed")
    if not fits:
        return Work(None, "its columns changed with those of what it reads")
    if wanted is not None and task.model.kind == "incrementalByDay":
        done = run.has_written(task.target)
        return Work(frozenset(), "already done") if done else Work(every_day(wanted), "asked for")
    return _changed(run, task, task.target)


def _changed(run: GoldRun, task: Task, target: History) -> Work:
    changed: set[str] = set()
    for name, history in task.sources.items():
        days = _days_since(run, history, target.mark(name))
        if days is None:
            return Work(None, f"{name} changed, and it is not known on which days")
        changed |= days
    if not changed:
        return Work(frozenset(), "nothing that it reads has changed")
    return Work(frozenset(changed) if task.model.kind == "incrementalByDay" else None, "what it reads has changed")


def _days_since(run: GoldRun, source: History, mark: int | None) -> frozenset[str] | None:
    """The days that a table changed since a snapshot; None if that is not known."""
    if mark == source.head:
        return frozenset()
    steps = None if mark is None or source.head is None else source.between(mark, source.head)
    return None if steps is None else run.lakehouse.changed_days(source.table, steps)


def _touched(run: GoldRun, task: Task, rows: DataFrame, work: Work) -> frozenset[str] | None:
    """The days on which the table's rows may change by this commit; None if it may be any.

    A `full` model has no days of its own. If each of its rows is one row of one table, that table's days are its days.
    """
    if task.model.kind == "incrementalByDay" or task.target is None or not task.is_same:
        return work.days
    if not sql_models.is_row_by_row(rows):
        return None
    ((name, source),) = task.sources.items()
    return _days_since(run, source, task.target.mark(name))


def _fits(run: GoldRun, task: Task, rows: DataFrame) -> bool:
    """Whether a model's table has its columns, or with `keep` can follow them.

    Raises:
        SettingsRefused: It can't, and its days are to be kept. The path is `models[i].sql`.
    """
    if task.target is None or task.target.head is None:
        return False
    if task.model.when_changed == "rebuild":
        return run.lakehouse.has_columns(task.model.name, rows, task.partitions)
    if wrong := run.lakehouse.left_behind(task.model.name, rows):
        path = f"models[{run.settings.models.index(task.model)}].sql"
        raise SettingsRefused(tuple(Problem(path, text) for text in wrong))
    return True


def _write(run: GoldRun, task: Task, rows: DataFrame, work: Work, touched: frozenset[str] | None) -> Staged | None:
    model = task.model
    where = replaced(model, work)
    takes_rows = task.target is not None and task.target.head is not None and work.days is not None
    if takes_rows:
        run.lakehouse.follow(model.name, rows)
    if takes_rows or (task.target is not None and run.lakehouse.has_columns(model.name, rows, task.partitions)):
        assert task.target is not None
        if run.settings.run.days is not None and task.target.head is not None:
            return gold_backfill.stage(run, task, rows, work, touched)
        stamps = properties(run, task, work, touched)
        run.lakehouse.replace(rows.where(where), model.name, where, task.target.head, stamps)
        return None
    run.lakehouse.ensure_namespace(split(model.name).namespace)
    run.lakehouse.create(
        rows.where(where),
        model.name,
        task.partitions,
        layout.properties(run.settings.compression),
        properties(run, task, work, touched),
        replace=task.target is not None,
    )
    return None
