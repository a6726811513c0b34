"""The ledger of runs: one outcome per stage and interval.

It is read from the LakehouseRuns and, where those are gone, from the tables' own commits, which are what is
authoritative: each names its run, revision, interval and source. So a run whose LakehouseRun was pruned or lost is
known, and is not run again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse_contract import commits
from lakehouse_operator.api.pipeline_status import RunPhase
from lakehouse_operator.api.run import Stage
from lakehouse_operator.planning.observed import Observed, RunObject, TableView
from lakehouse_operator.planning.schedule import Interval, parse_instant

FINAL: frozenset[RunPhase] = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run as the ledger has it.

    `at` is when it ended, or was created if it goes on. `upto` is the source snapshot that it covered or is to cover.
    """

    name: str
    stage: Stage
    phase: RunPhase
    at: datetime
    revision: str
    reason: str
    interval: Interval | None = None
    days: tuple[str, str] | None = None
    upto: int | None = None
    failure: str | None = None
    backfill: str | None = None

    @property
    def final(self) -> bool:
        """Whether it has its outcome."""
        return self.phase in FINAL


def entries(seen: Observed) -> tuple[Entry, ...]:
    """Every run that is known, by LakehouseRun or by commit, the one that ended first before the others."""
    objects = {run.name: _from_object(run) for run in seen.runs}
    tables = seen.observation.tables or {}
    lost = {entry.name: entry for entry in _from_commits(tables.values()) if entry.name not in objects}
    return tuple(sorted((*objects.values(), *lost.values()), key=lambda entry: (entry.at, entry.name)))


def _from_object(run: RunObject) -> Entry:
    spec, status = run.spec, run.status
    source = spec.get("sourceRange") or {}
    days = spec.get("days")
    return Entry(
        name=run.name,
        stage=spec["stage"],
        phase=status.get("phase", "Pending"),
        at=parse_instant(status["finishedAt"]) if "finishedAt" in status else run.created_at,
        revision=spec.get("revision") or status.get("revision", ""),
        reason=spec.get("reason", "manual"),
        interval=_interval(spec.get("dataInterval")),
        days=(days["first"], days["last"]) if days else None,
        upto=int(source["upto"]) if "upto" in source else None,
        failure=(status.get("attempts") or [{}])[-1].get("failureClass"),
        backfill=spec.get("backfill"),
    )


def _interval(raw: Mapping[str, Any] | None) -> Interval | None:
    return Interval(parse_instant(raw["start"]), parse_instant(raw["end"])) if raw else None


def _from_commits(tables: Iterable[TableView]) -> Iterable[Entry]:
    for table in tables:
        for commit in table.commits:
            run, interval = commit.properties.get(commits.RUN), commit.properties.get(commits.INTERVAL)
            stage = commit.properties.get(commits.STAGE)
            if not run or not interval or stage not in ("silver", "gold"):
                continue
            start, end = interval.split("/")
            yield Entry(
                name=run,
                stage="silver" if stage == "silver" else "gold",
                phase="Succeeded",
                at=commit.committed_at,
                revision=commit.properties.get(commits.REVISION, ""),
                reason="schedule",
                interval=Interval(parse_instant(start), parse_instant(end)),
                upto=_upto(commit.properties),
            )


def _upto(properties: Mapping[str, str]) -> int | None:
    marks = [value for name, value in properties.items() if name.startswith(commits.source(""))]
    return int(marks[0]) if len(marks) == 1 else None


def scheduled(ledger: Iterable[Entry], stage: Stage) -> tuple[Entry, ...]:
    """The stage's entries that are for an interval, in the order of their ends; of one end, as in the ledger."""
    own = [(entry.interval.end, entry) for entry in ledger if entry.stage == stage and entry.interval]
    return tuple(entry for _, entry in sorted(own, key=lambda item: item[0]))


def through(ledger: Iterable[Entry], stage: Stage) -> datetime | None:
    """The end of the last interval that a run exists for."""
    return max((entry.interval.end for entry in scheduled(ledger, stage) if entry.interval), default=None)


def completed_through(ledger: Iterable[Entry], stage: Stage) -> datetime | None:
    """Up to where every interval has succeeded, counted from the oldest one known; None before the first success.

    What was cancelled is done with the interval after it, whose run takes its rows.
    """
    reached: datetime | None = None
    phases: dict[Interval, set[RunPhase]] = {}
    for entry in scheduled(ledger, stage):
        if entry.interval:
            phases.setdefault(entry.interval, set()).add(entry.phase)
    for interval in sorted(phases):
        if "Succeeded" in phases[interval]:
            reached = interval.end
        elif phases[interval] != {"Cancelled"}:
            return reached
    return reached


def failed_before(ledger: Iterable[Entry], stage: Stage, end: datetime) -> Entry | None:
    """The failure of the first interval before `end` that failed and has not succeeded since, if there is one."""
    failed: dict[Interval, Entry] = {}
    done: set[Interval] = set()
    for entry in scheduled(ledger, stage):
        if entry.interval and entry.interval.start < end and entry.phase == "Failed":
            failed[entry.interval] = entry
        elif entry.interval and entry.phase == "Succeeded":
            done.add(entry.interval)
    return next((failed[interval] for interval in sorted(failed.keys() - done)), None)
