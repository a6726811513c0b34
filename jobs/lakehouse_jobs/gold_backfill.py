"""Gold's days again, by write-audit-publish, as silver's are: staged on branches, audited there, then swapped in.

The models are staged in their order, and one that reads another reads what was staged of it. When all have passed their
audit, they are published in the same order, each in one commit: the very files that were audited. Until then nobody
sees a row of them. Another run that changes the same days meanwhile makes the swap fail with `Conflict`. A run that is
started again after a crash finds the models that it has published by their stamps, and computes only the others.

A model whose table is made anew, because it is new or its columns changed, is not staged: that is one commit of its
own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame

from lakehouse_contract import commits
from lakehouse_contract.names import split
from lakehouse_contract.settings import DayRange
from lakehouse_jobs import audits
from lakehouse_jobs.audits import Check
from lakehouse_jobs.gold_batch import GoldRun, Task, Work, properties, replaced
from lakehouse_jobs.iceberg_commits import staging_branch
from lakehouse_jobs.table_history import History


@dataclass(frozen=True, slots=True)
class Staged:
    """What will take the place of a model's rows on the days of its work, or of all of them."""

    task: Task
    work: Work
    touched: frozenset[str] | None
    before: History
    snapshot: int

    @property
    def name(self) -> str:
        """The model's name."""
        return self.task.model.name


def stage(run: GoldRun, task: Task, rows: DataFrame, work: Work, touched: frozenset[str] | None) -> Staged:
    """Write the rows of a model to a branch of its table.

    Raises:
        Conflict: Another process of the same run stages the model.
    """
    before, where = run.lakehouse.history(task.model.name), replaced(task.model, work)
    snapshot = run.lakehouse.stage(rows.where(where), before.table, where, before.head, run.properties({}, touched))
    return Staged(task, work, touched, before, snapshot)


def as_staged(run: GoldRun, staged: Staged) -> History:
    """The model's table as those see it that are computed after it: with what was staged as its newest snapshot."""
    return replace(run.lakehouse.history(staged.name), head=staged.snapshot)


def swap(run: GoldRun, staged: Sequence[Staged], days: DayRange) -> None:
    """Audit what was staged, and publish it.

    Raises:
        BadData: An audit failed. Nothing of what was staged is published.
        Conflict: Another run changed these days meanwhile.
    """
    if staged:
        _audit(run, staged, days)
    published: dict[str, int] = {}
    for each in staged:
        sources = {
            name: replace(history, head=published.get(name, history.head))
            for name, history in each.task.sources.items()
        }
        stamps = properties(run, replace(each.task, sources=sources), each.work, each.touched)
        run.lakehouse.publish(each.name, each.snapshot, each.work.days, each.before.head, stamps)
        published[each.name] = _own_commit(run, each.name)
    for model in run.settings.models:  # also of a run that crashed between its last swap and this
        run.lakehouse.drop_staging(model.name, run.settings.run.id)


def _own_commit(run: GoldRun, table: str) -> int:
    """The snapshot that the run has just committed. Another may have come after it."""
    history = run.lakehouse.history(table)
    return next(each.id for each in history.ancestors() if each.summary.get(commits.RUN) == run.settings.run.id)


def _audit(run: GoldRun, staged: Sequence[Staged], days: DayRange) -> None:
    rows_on = {each.name: each.snapshot for each in staged}
    checks = [check for each in staged for check in _checks(run, each, rows_on, days)]
    for namespace in sorted({split(check.table).namespace for check in checks}):
        own = [check for check in checks if split(check.table).namespace == namespace]
        audits.record(run, namespace, own, days, None)
    branch = staging_branch(run.settings.run.id)
    audits.stop_if_failing(checks, {each.name: branch for each in staged})


def _checks(run: GoldRun, staged: Staged, rows_on: Mapping[str, int], days: DayRange) -> Iterator[Check]:
    day, where = staged.task.model.day_column, replaced(staged.task.model, staged.work)
    before, after = (
        run.lakehouse.read(staged.name, snapshot).where(where) for snapshot in (staged.before.head, staged.snapshot)
    )
    fed: frozenset[str] | None = None
    if day is not None:
        fed = frozenset()
        for name, history in staged.task.sources.items():
            fed |= run.lakehouse.partition_days(name, rows_on.get(name, history.head)) or frozenset()
    for check in audits.model_checks(staged.name, before, after, audits.Feed(day, fed), days.audit):
        yield replace(check, replaced=staged.before.head, staged=staged.snapshot)
