"""What a silver run has in hand for each keyed table before it writes."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame

from lakehouse_contract.domain import KeyedTable
from lakehouse_contract.settings import SilverSettings
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.keyed_tables import PLACES, Statistics
from lakehouse_jobs.table_history import History

SilverRun = BatchRun[SilverSettings]


@dataclass(frozen=True, slots=True)
class Target:
    """A keyed table and its quarantine as they are before the run, by place."""

    definition: KeyedTable
    histories: Mapping[str, History]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a run does to a target.

    `rows` are the decided rows; None if there is nothing to decide. `replaced` are the days that a run over days
    replaces. `done` are the places that have it already.
    """

    target: Target
    upto: int
    after: int | None = None
    rows: DataFrame | None = None
    found: Statistics | None = None
    replaced: frozenset[str] | None = None
    done: frozenset[str] = frozenset()
    note: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.done == frozenset(PLACES)

    @property
    def name(self) -> str:
        """The table's name."""
        return self.target.definition.name
