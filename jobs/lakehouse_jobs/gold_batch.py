"""What a gold run has in hand for each model before it writes."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as fn

from lakehouse_contract import commits
from lakehouse_contract.domain import Model
from lakehouse_contract.settings import GoldSettings
from lakehouse_jobs import sql_models
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.event_days import days_in
from lakehouse_jobs.sql_models import Query
from lakehouse_jobs.table_history import History

GoldRun = BatchRun[GoldSettings]


@dataclass(frozen=True, slots=True)
class Work:
    """What a model must compute: these days, or everything (`days` is None). No day is nothing."""

    days: frozenset[str] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """A model as it is before the run: its table, if there is one, and the tables that it reads."""

    model: Model
    query: Query
    target: History | None
    sources: Mapping[str, History]

    @property
    def is_same(self) -> bool:
        """Whether the table was computed with this very definition of the model."""
        return self.target is not None and self.target.newest(commits.MODEL) == sql_models.revision(self.model)

    @property
    def partitions(self) -> tuple[str, ...]:
        """What the model's table is partitioned by."""
        return (self.model.day_column,) if self.model.day_column else ()


def replaced(model: Model, work: Work) -> Column:
    """The rows that are computed, and that they replace. A row without a day belongs to none, so it is left out."""
    if model.day_column is None:
        return fn.lit(True)
    if work.days is None:
        return fn.col(model.day_column).isNotNull()
    return days_in(model.day_column, work.days)


def properties(run: GoldRun, task: Task, work: Work, touched: frozenset[str] | None) -> dict[str, str]:
    """The properties of the commit of a model that touches these days, or any."""
    return {**run.properties(_marks(run, task, work), touched), commits.MODEL: sql_models.revision(task.model)}


def _marks(run: GoldRun, task: Task, work: Work) -> dict[str, int]:
    """How far the table has come after the commit: days that were asked for leave that as it was."""
    if run.settings.run.days is not None and work.days is not None and task.target is not None:
        marks = {name: task.target.mark(name) for name in task.sources}
    else:
        marks = {name: history.head for name, history in task.sources.items()}
    return {name: mark for name, mark in marks.items() if mark is not None}
