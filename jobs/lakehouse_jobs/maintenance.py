"""The maintenance job: `python -m lakehouse_jobs.maintenance --settings JSON [--dry-run]`.

Table by table it rewrites small files and manifests, removes old snapshots, and removes files that no snapshot knows.
It changes no row and keeps what anybody still needs. Where another run changes a table at the same moment, it gives way
and says so. Each step is one commit or none: after a crash at any point the next run goes on.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_contract import decoding
from lakehouse_contract.settings import MaintenanceSettings
from lakehouse_jobs import maintenance_compaction as compaction
from lakehouse_jobs import maintenance_removal as removal
from lakehouse_jobs import maintenance_retention as retention
from lakehouse_jobs.batch_job import Result, execute
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.iceberg_commits import Conflict, Lakehouse
from lakehouse_jobs.maintenance_retention import Limits
from lakehouse_jobs.table_history import History

MaintenanceRun = BatchRun[MaintenanceSettings]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="lakehouse_jobs.maintenance")
    parser.add_argument("--settings", required=True, help="the settings of the job, as JSON")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    options = parser.parse_args(arguments)

    def job(spark: SparkSession, settings: MaintenanceSettings, started: datetime) -> Result:
        return run(spark, settings, started, dry_run=options.dry_run)

    return execute("maintenance", lambda: decoding.from_json(MaintenanceSettings, options.settings), job)


def run(spark: SparkSession, settings: MaintenanceSettings, started: datetime, *, dry_run: bool = False) -> Result:
    """Put the tables of a pipeline into good shape. Answer what was done to each, or would be."""
    lakehouse = Lakehouse(spark, settings.catalog.name)
    job: MaintenanceRun = BatchRun(lakehouse, settings, started, "maintenance")
    names = tuple(dict.fromkeys(settings.tables))
    # Read before anything is removed: how far a table has come only moves on.
    pipeline = {name: history for name in names if (history := lakehouse.find(name))}
    folders = {name: _folder(lakehouse, name) for name in pipeline}
    tables = [_Table(job, name, pipeline, folders, dry_run).maintain() for name in names]
    return {"run": settings.run.id, "dryRun": dry_run, "tables": tables}


@dataclass(slots=True)
class _Table:
    """One table among those of its pipeline, as they were at the start, and what was done to it so far."""

    run: MaintenanceRun
    name: str
    pipeline: Mapping[str, History]
    folders: Mapping[str, str]
    dry_run: bool
    report: dict[str, Any] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    gave_way: list[str] = field(default_factory=list)

    @property
    def now(self) -> int:
        """When the run started, in milliseconds since 1970."""
        return int(self.run.started.timestamp() * 1000)

    @property
    def properties(self) -> Mapping[str, str]:
        """What the run's commits say about themselves: no source, and no day whose rows they touch."""
        return self.run.properties({}, frozenset())

    def maintain(self) -> dict[str, Any]:
        before = self.pipeline.get(self.name)
        if before is None:
            return {"table": self.name, "skipped": "it does not exist yet"}
        for step in (self._compact, self._rewrite_manifests, self._expire, self._remove_orphans):
            self._giving_way(step)
        after = before if self.dry_run else self.run.lakehouse.history(self.name)
        sizes = {key: {"before": _sizes(before)[key], "after": _sizes(after)[key]} for key in _sizes(before)}
        said = {"kept": self.kept, "gaveWay": self.gave_way}
        return {"table": self.name, **sizes, **self.report, **{key: text for key, text in said.items() if text}}

    def _giving_way(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Conflict as conflict:
            self.gave_way.append(str(conflict))

    def _compact(self) -> None:
        settings, lakehouse = self.run.settings.compaction, self.run.lakehouse
        if settings is None:
            return
        parts = compaction.parts(lakehouse, lakehouse.history(self.name), settings, self.now)
        choice = compaction.choose(parts, settings)
        self.kept += choice.left
        days = [part.day.isoformat() for part in choice.parts if part.day]
        if self.dry_run:
            small = sum(part.small + part.deletes for part in choice.parts)
            self.report["compacted"] = {"days": days, "filesRewritten": small}
            return
        done: dict[str, Any] = {"days": days}
        self.report["compacted"] = done
        for batch in choice.batches():
            self._giving_way(lambda batch=batch: self._rewrite(batch, done))  # type: ignore[misc]

    def _rewrite(self, batch: Sequence[compaction.Part], done: dict[str, Any]) -> None:
        settings, lakehouse = self.run.settings.compaction, self.run.lakehouse
        assert settings is not None
        counts = compaction.rewrite(lakehouse, lakehouse.loaded(self.name), batch, settings, self.properties)
        for key, count in counts.items():
            done[key] = done.get(key, 0) + count

    def _rewrite_manifests(self) -> None:
        if self.run.settings.compaction is None:
            return
        lakehouse = self.run.lakehouse
        count, wanted = compaction.manifests(lakehouse, lakehouse.history(self.name))
        if not compaction.are_too_many(count, wanted):
            return
        self.report["manifestsRewritten"] = count
        if not self.dry_run:
            compaction.rewrite_manifests(lakehouse, lakehouse.loaded(self.name), self.properties)

    def _expire(self) -> None:
        settings, lakehouse = self.run.settings.expiry, self.run.lakehouse
        if settings is None or not self._may_remove():
            return
        history = lakehouse.history(self.name)
        limits = Limits(self.now, settings.retention_seconds * 1000, settings.keep_snapshots)
        wanted = retention.needs(history, self.pipeline.values(), self._awaited())
        decided = retention.decide(history, wanted, limits)
        self.kept += decided.kept
        files = {} if self.dry_run else removal.expire(lakehouse, self.name, decided)
        self.report["expired"] = {"snapshots": len(decided.expire), "refs": list(decided.stale_refs), **files}

    def _awaited(self) -> list[str]:
        """The readers of bronze that have not said yet how far they have come."""
        if self.name != self.run.settings.bronze_table:
            return []
        marked = {name for name, history in self.pipeline.items() if history.mark(self.name) is not None}
        return [name for name in self.run.settings.readers if name not in marked]

    def _remove_orphans(self) -> None:
        settings, lakehouse = self.run.settings.expiry, self.run.lakehouse
        if settings is None or not self._may_remove():
            return
        shared = self._shares_its_folder()
        if shared is not None:
            self.kept.append(f"unknown files: {shared} lies in the same folder")
            return
        limits = Limits(self.now, settings.orphan_retention_seconds * 1000, 0)
        before, why = retention.orphans_before(lakehouse.history(self.name), limits)
        self.kept += [why] if why else []
        self.report["orphansRemoved"] = removal.remove_orphans(lakehouse, self.name, before, dry_run=self.dry_run)

    def _may_remove(self) -> bool:
        allowed = removal.is_allowed(self.run.lakehouse.loaded(self.name))
        reason = "all snapshots and files: gc.enabled is false"
        if not allowed and reason not in self.kept:
            self.kept.append(reason)
        return allowed

    def _shares_its_folder(self) -> str | None:
        """Another of the tables whose files lie in this one's folder: they would look unknown."""
        own = self.folders[self.name]
        return next((name for name, at in self.folders.items() if name != self.name and at.startswith(own)), None)


def _folder(lakehouse: Lakehouse, table: str) -> str:
    return str(lakehouse.loaded(table).location()).rstrip("/") + "/"


def _sizes(history: History) -> dict[str, int]:
    """A table's size, as its metadata say: the files and bytes that a reader of main meets, and all its snapshots."""
    head = history.snapshots[history.head].summary if history.head is not None else {}
    files = int(head.get("total-data-files", "0")) + int(head.get("total-delete-files", "0"))
    return {"files": files, "bytes": int(head.get("total-files-size", "0")), "snapshots": len(history.snapshots)}


if __name__ == "__main__":
    sys.exit(main())
