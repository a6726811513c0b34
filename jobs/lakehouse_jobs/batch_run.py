"""One run of a batch job, and what it says about itself in its snapshots and in its rows' `_audit` columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

from pyspark.sql import Column
from pyspark.sql import functions as fn

from lakehouse_contract import commits
from lakehouse_contract.settings import GoldSettings, MaintenanceSettings, SilverSettings
from lakehouse_jobs.iceberg_commits import Lakehouse
from lakehouse_jobs.table_history import History

Settings = TypeVar("Settings", SilverSettings, GoldSettings, MaintenanceSettings)


@dataclass(frozen=True, slots=True)
class BatchRun(Generic[Settings]):
    """What every step of a run needs: the tables, the settings, and when the run started."""

    lakehouse: Lakehouse
    settings: Settings
    started: datetime
    stage: Literal["silver", "gold", "maintenance"]

    def properties(self, sources: Mapping[str, int], touched_days: frozenset[str] | None) -> dict[str, str]:
        """The properties of a snapshot that the run commits.

        Args:
            sources: For each source table the snapshot up to which everything is in the table after the commit.
            touched_days: The event days that the commit changes; None if it may be any.
        """
        run = self.settings.run
        properties = {
            commits.RUN: run.id,
            commits.STAGE: self.stage,
            commits.REVISION: run.revision,
            commits.TOUCHED_DAYS: commits.ALL_DAYS if touched_days is None else ",".join(sorted(touched_days)),
            **{commits.source(table): str(snapshot) for table, snapshot in sources.items()},
        }
        if run.interval_start and run.interval_end:
            properties[commits.INTERVAL] = f"{run.interval_start}/{run.interval_end}"
        return properties

    def audit(self, source_snapshot: int | None = None) -> list[Column]:
        """The `_audit` columns as literals. Without a source snapshot there is no column for it."""
        moment = f"TIMESTAMP '{self.started.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')} UTC'"
        run = self.settings.run
        columns: list[Column] = [fn.lit(run.id).alias("_audit_run_id"), fn.lit(run.revision).alias("_audit_revision")]
        if source_snapshot is not None:
            columns.append(fn.lit(source_snapshot).cast("bigint").alias("_audit_source_snapshot"))
        columns.append(fn.expr(moment).alias("_audit_loaded_at"))
        return columns

    def has_written(self, history: History) -> bool:
        """Whether a commit of this very run is in a table's history."""
        return any(snapshot.summary.get(commits.RUN) == self.settings.run.id for snapshot in history.ancestors())
