"""A small world for the batch rules: the objects that they see and write, Spark, bronze, and crashes."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from lakehouse_contract import commits
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.planning import ledger
from lakehouse_operator.planning.batch import BatchDecision, decide
from lakehouse_operator.planning.ledger import FINAL
from lakehouse_operator.planning.observed import (
    Application,
    BackfillObject,
    Commit,
    Observation,
    Observed,
    PartitionProgress,
    RunObject,
    TableView,
)
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.plan import CreateOnce, Delete, Hold
from lakehouse_operator.planning.schedule import parse_instant
from lakehouse_operator.planning.validate import validate
from planning.batch_builders import at, seen
from planning.examples import raw

BRONZE, TABLES = "bronze.conversion_events", {"silver": "silver.conversions", "gold": "gold.daily_metrics"}
FAILURES = {
    "bad data": "driver container failed with ExitCode: 65, Reason: Error",
    "a fault of the code": "driver container failed with ExitCode: 70, Reason: Error",
    "out of memory": "driver container failed with ExitCode: 137, Reason: OOMKilled",
    "an eviction": "driver pod not found",
}
START = at("03-10 00:10")
_QUIET = 6
"""Rounds without a write after which nothing more will come."""


class Crash(Exception):
    """The operator dies."""


@cache
def hourly(revision: int, catch_up: str, concurrency: str) -> ValidPipeline:
    """The reference pipeline with gold by the hour too; a revision has another rule."""
    spec = raw("roman-numerals")
    spec["metadata"] |= {"namespace": "data", "uid": "p"}
    common = {
        "catchUp": {"policy": catch_up, "limit": 5}, "concurrency": concurrency,
        "history": {"succeeded": 2, "failed": 2},
    }  # fmt: skip
    spec["spec"]["silver"] |= {**common, "trigger": {"mode": "dataComplete", "deadline": "6h"}}
    spec["spec"]["gold"] |= {**common, "schedule": "30 * * * *", "interval": "1h", "trigger": {"deadline": "2h"}}
    rule = {"name": f"rule_{revision}", "expression": f"input_number > -{revision + 1}"}
    spec["spec"]["silver"]["tables"][0]["rules"].append(rule)
    made = validate(spec)
    assert not isinstance(made, Problems), made
    return made


@dataclass
class BatchWorld:
    """The objects that the batch rules see and write, Spark, and bronze."""

    catch_up: str
    concurrency: str
    now: Any = START
    revision: int = 0
    layers: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, RunObject] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    backfills: dict[str, BackfillObject] = field(default_factory=dict)
    tables: dict[str, list[Commit]] = field(default_factory=lambda: {BRONZE: [], "silver": [], "gold": []})
    bronze_goes_on: bool = True
    paused: Hold | None = None
    pinned: set[str] = field(default_factory=set)
    manual: set[str] = field(default_factory=set)
    writes: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def pipeline(self) -> ValidPipeline:
        return hourly(self.revision, self.catch_up, self.concurrency)

    def see(self) -> Observed:
        views = {TABLES.get(name, name): made for name, made in self.tables.items()}
        observation = Observation(
            tables={name: TableView(name=name, commits=tuple(made)) for name, made in views.items() if made},
            kafka=(PartitionProgress(partition=0, committed=self._committed(), start=0, end=10**9, end_at=_Every()),),
        )
        made = seen(
            self.now,
            runs=tuple(self.runs.values()),
            applications=tuple(self.applications.values()),
            observation=observation,
            status={"layers": self.layers},
        )
        return replace(made, backfills=tuple(self.backfills.values()))

    def _committed(self) -> int:
        """Offsets are seconds of arrival."""
        head = self.tables[BRONZE][-1] if self.tables[BRONZE] else None
        return _offset(head.kafka_timestamp_max) if head and head.kafka_timestamp_max else 0

    def round(self, crash_after: int | None = None) -> BatchDecision:
        decision = decide(
            self.pipeline, self.see(), definition=f"definition-{self.revision}", paused=self.paused, definitions={}
        )
        self.apply(decision, None if crash_after is None else iter([None] * crash_after))
        return decision

    def apply(self, decision: BatchDecision, left: Iterator[Any] | None = None) -> None:
        """Write the statuses and do the actions. `left` are the writes before the operator dies."""
        left = left or count()
        layers = {name: layer.to_raw() for name, layer in decision.layers.items()}
        if layers != self.layers:
            self._write(left)
            self.layers = layers
        for status in decision.statuses:
            self._report(left, status.kind, status.name, dict(status.status))
        for action in decision.actions:
            self._write(left)
            self._do(action)
        self._no_attempt_outlives_its_outcome()

    def _no_attempt_outlives_its_outcome(self) -> None:
        for each in self.applications.values():
            if each.state not in ("COMPLETED", "FAILED"):
                attempt = self.runs[each.run].status["attempts"][each.attempt - 1]
                assert attempt.get("outcome", "Running") == "Running", f"{each.name} goes on, but its attempt is over"

    def _write(self, left: Iterator[Any]) -> None:
        if next(left, Crash) is Crash:
            raise Crash
        self.writes += 1

    def _report(self, left: Iterator[Any], kind: str, name: str, status: dict[str, Any]) -> None:
        objects: dict[str, Any] = self.runs if kind == "LakehouseRun" else self.backfills
        if name in objects and objects[name].status != status:
            self._write(left)
            objects[name] = replace(objects[name], status=deepcopy(status))

    def _do(self, action: Any) -> None:
        if isinstance(action, Delete):
            if action.kind == "LakehouseRun":
                self.lose(action.name)
            else:
                self.applications.pop(action.name, None)
            return
        assert isinstance(action, CreateOnce)
        manifest = action.manifest
        name, metadata = manifest["metadata"]["name"], manifest["metadata"]
        if manifest["kind"] == "LakehouseRun":
            known = self.runs.get(name)
            if known is None:
                self._gold_may_start(manifest["spec"])
            assert known is None or known.spec == manifest["spec"], f"{name} stands for two runs"
            if "sourceRange" in manifest["spec"]:
                self.pinned.add(manifest["spec"]["sourceRange"]["upto"])
            self.runs[name] = known or RunObject(
                name=name,
                uid=f"uid-{next(self.numbers)}",
                owner_uid="p",
                created_at=self.now,
                spec=RunSpec.from_raw(manifest["spec"]).to_raw(),
                status={},
                annotations=metadata["annotations"],
                deleting=False,
            )
        elif name not in self.applications:
            run, number = metadata["labels"]["lakehouse.dev/run"], int(metadata["labels"]["lakehouse.dev/attempt"])
            assert self.runs[run].status["phase"] not in FINAL, "an attempt of a run that is over"
            self.applications[name] = Application(
                name=name, uid=f"uid-{next(self.numbers)}", run=run, attempt=number, state="", message=None,
                exit_code=None, started_at=None, finished_at=None,
            )  # fmt: skip

    def by_hand(self, spec: dict[str, Any]) -> None:
        """A person creates a LakehouseRun."""
        number = next(self.numbers)
        name = f"by-hand-{number}"
        self.manual.add(name)
        self.runs[name] = RunObject(
            name=name, uid=f"uid-{number}", owner_uid="p", created_at=self.now, spec=RunSpec.from_raw(spec).to_raw(),
            status={}, annotations={}, deleting=False,
        )  # fmt: skip

    def _gold_may_start(self, spec: dict[str, Any]) -> None:
        """Whatever lets it start: a scheduled run of gold never goes past an hour of silver that failed."""
        if spec["stage"] != "gold" or spec["reason"] != "schedule":
            return
        outcomes: dict[Any, set[str]] = {}
        for entry in ledger.entries(self.see()):
            if entry.stage == "silver" and entry.interval:
                outcomes.setdefault(entry.interval, set()).add(entry.phase)
        end = parse_instant(spec["dataInterval"]["end"])
        for interval, phases in outcomes.items():
            assert interval.end > end or "Failed" not in phases or "Succeeded" in phases, "silver failed"

    def lose(self, run: str) -> None:
        """A LakehouseRun goes, and what it owns."""
        self.runs.pop(run, None)
        for name in [name for name, each in self.applications.items() if each.run == run]:
            del self.applications[name]

    def bronze(self) -> None:
        """A checkpoint is committed, with all that has arrived."""
        if self.bronze_goes_on:
            self._commit(BRONZE, kafka_timestamp_max=self.now)

    def _commit(self, table: str, kafka_timestamp_max: Any = None, **properties: str) -> None:
        history = self.tables[table]
        history.append(
            Commit(
                id=next(self.numbers), parent=history[-1].id if history else None, committed_at=self.now,
                operation="append", properties=properties, kafka_timestamp_max=kafka_timestamp_max,
            )
        )  # fmt: skip

    def spark(self, failure: str | None = None, only: str | None = None) -> None:
        """Every application goes one step further; one that ends does so well, or as told."""
        for name, each in list(self.applications.items()):
            if each.state == "":
                self.applications[name] = replace(each, state="RUNNING", started_at=self.now)
            elif each.state == "RUNNING" and (only is None or self.runs[each.run].spec["stage"] == only):
                self._end(each, failure)

    def _end(self, application: Application, failure: str | None) -> None:
        ended = replace(application, finished_at=self.now, state="FAILED" if failure else "COMPLETED")
        self.applications[application.name] = replace(ended, message=FAILURES[failure] if failure else None)
        run = self.runs[application.run]
        if failure is None and run.spec["stage"] in TABLES:
            spec = run.spec
            properties = {
                commits.RUN: run.name, commits.STAGE: spec["stage"], commits.REVISION: spec.get("revision", "")
            }  # fmt: skip
            if "dataInterval" in spec:
                properties[commits.INTERVAL] = f"{spec['dataInterval']['start']}/{spec['dataInterval']['end']}"
            if "sourceRange" in spec:
                properties[commits.source(BRONZE)] = spec["sourceRange"]["upto"]
            self._commit(spec["stage"], **properties)

    def settle(self) -> None:
        """Everything works from now on: after a while nothing is written any more, while time goes on."""
        quiet = 0
        for _ in range(400):
            before = self.writes, dict(self.applications)
            self.round()
            self.spark()
            quiet = quiet + 1 if before == (self.writes, self.applications) else 0
            if quiet >= _QUIET:
                return
            if quiet == _QUIET // 2:
                self.now += timedelta(minutes=16)  # beyond every pause between attempts
            self.bronze()
            self.now += timedelta(seconds=20)
        raise AssertionError(f"it does not settle: {[run.status.get('phase') for run in self.runs.values()]}")


class _Every(dict[Any, int]):
    """The offset at any boundary that is asked for."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, boundary: Any) -> int:
        return _offset(boundary)


def _offset(moment: Any) -> int:
    return int((moment - START).total_seconds()) + 86_400
