"""Whatever happens to runs, and wherever the operator dies: no interval is run twice at a time or again after it
succeeded, gold never goes before silver, no range of bronze is left out, and everything settles.

A Hypothesis state machine drives the batch rules over a small world: schedules, Spark, people, losses and crashes.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lakehouse_contract import commits
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.planning import ledger
from lakehouse_operator.planning.batch import BatchDecision, decide
from lakehouse_operator.planning.ledger import FINAL, Entry
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
def pipeline(revision: int, catch_up: str, concurrency: str) -> ValidPipeline:
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
class World:
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
        return pipeline(self.revision, self.catch_up, self.concurrency)

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


class BatchLife(RuleBasedStateMachine):
    """The runs of a pipeline, through everything that can happen to them."""

    @initialize(catch_up=st.sampled_from(("all", "latest", "none")), concurrency=st.sampled_from(("Forbid", "Replace")))
    def begin(self, *, catch_up: str, concurrency: str) -> None:
        self.world = World(catch_up, concurrency)
        self.world.round()

    # --- time and Spark -----------------------------------------------------------------------------------------------

    @rule(minutes=st.sampled_from((1, 7, 31, 61, 200, 1500)), rounds=st.integers(0, 3))
    def time_passes(self, minutes: int, rounds: int) -> None:
        self.world.now += timedelta(minutes=minutes)
        for _ in range(rounds):
            self.world.bronze()
            self.world.round()
            self.world.now += timedelta(seconds=45)

    @rule(rounds=st.integers(1, 4))
    def spark_goes_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.spark()
            self.world.round()

    @rule(
        failure=st.sampled_from(sorted(FAILURES)),
        only=st.sampled_from((None, "silver", "gold")),
        then=st.integers(0, 2),
    )
    def runs_fail(self, failure: str, only: str | None, then: int) -> None:
        self.world.spark(failure, only)
        for _ in range(then):
            self.world.round()

    @rule(minutes=st.sampled_from((31, 200)))
    def an_hour_of_silver_has_bad_data_and_nobody_looks(self, minutes: int) -> None:
        self.world.now += timedelta(minutes=61)
        for _ in range(4):
            self.world.bronze()
            self.world.round()
            self.world.now += timedelta(seconds=45)
        self.world.spark()
        self.world.round()
        self.world.spark("bad data", "silver")
        self.world.round()
        self.world.now += timedelta(minutes=minutes)
        self.world.round()

    @rule()
    def a_plan_is_applied_twice(self) -> None:
        planned = self.world.round()
        once = deepcopy(vars(self.world) | {"numbers": None})
        self.world.apply(planned)
        self.world.writes = once["writes"]
        assert vars(self.world) | {"numbers": None} == once

    @rule(crash_after=st.integers(0, 20), then=st.integers(0, 2))
    def the_operator_dies_in_a_round(self, crash_after: int, then: int) -> None:
        with suppress(Crash):
            self.world.round(crash_after)
        for _ in range(then):
            self.world.round()

    @rule(on=st.booleans())
    def bronze_stands_still_or_goes_on(self, on: bool) -> None:
        self.world.bronze_goes_on = on
        self.world.bronze()

    @rule(on=st.booleans())
    def everything_is_paused_or_not(self, on: bool) -> None:
        self.world.paused = Hold(reason="Suspended", message="the pipeline is suspended") if on else None
        self.world.round()

    # --- people -------------------------------------------------------------------------------------------------------

    @rule()
    def somebody_changes_the_definition(self) -> None:
        self.world.revision = (self.world.revision + 1) % 3
        self.world.round()

    @precondition(lambda self: self.world.runs)
    @rule(which=st.integers(0, 20))
    def a_run_that_has_its_outcome_is_pruned(self, which: int) -> None:
        """Those that wrote nothing leave no trace in the tables, so the history's limits keep them for a while."""
        done = [name for name, run in self.world.runs.items() if run.status.get("phase") == "Succeeded"]
        if done:
            self.world.lose(done[which % len(done)])
            self.world.round()

    @precondition(lambda self: self.world.applications)
    @rule(which=st.integers(0, 20))
    def somebody_deletes_an_application(self, which: int) -> None:
        names = sorted(self.world.applications)
        del self.world.applications[names[which % len(names)]]
        self.world.round()

    @rule(stages=st.sampled_from((("silver",), ("gold",), ("silver", "gold"))), most=st.integers(1, 3))
    def somebody_approves_a_backfill(self, stages: tuple[str, ...], most: int) -> None:
        number = next(self.world.numbers)
        days = {"first": "2026-03-01", "last": "2026-03-03"}
        spec = {
            "pipelineRef": {"name": "numerals"}, "range": days, "stages": list(stages), "approved": True,
            "maxConcurrent": most, "reprocess": "all",
        }  # fmt: skip
        self.world.backfills[f"mend-{number}"] = BackfillObject(
            name=f"mend-{number}", uid=f"b{number}", generation=1, created_at=self.world.now, spec=spec, status={},
            deleting=False,
        )  # fmt: skip
        self.world.round()

    @rule(
        stage=st.sampled_from(("silver", "gold")), what=st.sampled_from(("all", "days", "retry")),
        which=st.integers(0, 20),
    )  # fmt: skip
    def somebody_runs_a_stage_by_hand(self, stage: str, what: str, which: int) -> None:
        """What is new, whole days, or, as `lakehouse retry` does, the interval of a run that failed."""
        spec: dict[str, Any] = {"pipelineRef": {"name": "numerals"}, "stage": stage, "reason": "manual"}
        if what == "days":
            spec["days"] = {"first": "2026-03-01", "last": "2026-03-01"}
        if what == "retry":
            failed = [run for run in self.world.runs.values() if run.status.get("phase") == "Failed"]
            failed = [run for run in failed if run.spec["reason"] == "schedule"]
            if not failed:
                return
            old = failed[which % len(failed)].spec
            spec = {key: value for key, value in old.items() if key not in ("revision", "definition")}
            spec["reason"] = "manual"
        self.world.by_hand(spec)
        self.world.round()

    @precondition(lambda self: self.world.backfills)
    @rule(which=st.integers(0, 20), crash_after=st.none() | st.integers(0, 4))
    def somebody_cancels_a_backfill(self, which: int, crash_after: int | None) -> None:
        names = sorted(self.world.backfills)
        name = names[which % len(names)]
        backfill = self.world.backfills[name]
        self.world.backfills[name] = replace(backfill, spec={**backfill.spec, "cancel": True}, generation=2)
        with suppress(Crash):
            self.world.round(crash_after)

    # --- what must always be true -------------------------------------------------------------------------------------

    @invariant()
    def no_interval_is_run_twice_and_gold_follows_silver(self) -> None:
        if not hasattr(self, "world"):
            return
        known = ledger.entries(self.world.see())
        for stage in ("silver", "gold"):
            self._one_at_a_time([entry for entry in known if entry.stage == stage])
        self._by_hand_collides_with_nobody()
        for run in self.world.runs.values():
            attempts = [each for each in self.world.applications.values() if each.run == run.name]
            assert sum(each.state not in ("COMPLETED", "FAILED") for each in attempts) <= 1, "one attempt at a time"
        self._no_range_is_left_out()

    def _one_at_a_time(self, own: list[Entry]) -> None:
        going_on = [entry for entry in own if not entry.final and entry.reason != "manual"]
        for_intervals = [entry for entry in going_on if entry.interval]
        assert len(for_intervals) <= 1, "one scheduled run of a stage at a time"
        assert not (for_intervals and any(entry.days for entry in going_on)), (
            "a backfill's days wait for it, and it for them"
        )
        by_interval: dict[Any, list[Entry]] = {}
        for entry in own:
            if entry.interval and entry.reason == "schedule" and entry.name not in self.world.manual:
                by_interval.setdefault((entry.interval, entry.revision), []).append(entry)
        for entries in by_interval.values():
            assert sum(entry.phase == "Succeeded" for entry in entries) <= 1, "an interval succeeds once"

    def _by_hand_collides_with_nobody(self) -> None:
        """A run by hand has an attempt only while no other run of its stage has one, and no maintenance of its days."""
        live = {each.run for each in self.world.applications.values() if each.state not in ("COMPLETED", "FAILED")}
        busy = [self.world.runs[name] for name in live]
        for run in (each for each in busy if each.name in self.world.manual):
            others = [other.spec for other in busy if other.name != run.name]
            assert run.spec["stage"] not in [other["stage"] for other in others], "one run of a stage at a time"
            if "days" in run.spec:
                assert "maintenance" not in [other["stage"] for other in others], "maintenance waits for days"

    def _no_range_is_left_out(self) -> None:
        """Each silver run begins where one before it ended, or where bronze does.

        (The job itself goes on from where its table is, so a run that was cancelled leaves no gap.)
        """
        order = {commit.id: number for number, commit in enumerate(self.world.tables[BRONZE])}
        for run in self.world.runs.values():
            source = run.spec.get("sourceRange")
            if source and "after" in source:
                assert order[int(source["after"])] <= order[int(source["upto"])]
                assert source["after"] in self.world.pinned

    @invariant()
    def gold_starts_after_silver(self) -> None:
        if not hasattr(self, "world"):
            return
        known = ledger.entries(self.world.see())
        reached = ledger.completed_through(known, "silver")
        for run in self.world.runs.values():
            if run.spec["stage"] == "gold" and run.annotations.get("lakehouse.dev/started-because") == "SilverDone":
                assert reached is not None
                assert reached >= parse_instant(run.spec["dataInterval"]["end"])

    def teardown(self) -> None:
        """Once everything works again it settles, and every backfill that was approved has its outcome."""
        if not hasattr(self, "world"):
            return
        self.world.paused, self.world.bronze_goes_on = None, True
        self.world.settle()
        self.no_interval_is_run_twice_and_gold_follows_silver()
        for backfill in self.world.backfills.values():
            assert backfill.status["phase"] in ("Succeeded", "Failed", "Cancelled"), backfill.status
        assert all(run.status["phase"] in FINAL for run in self.world.runs.values())


EXAMPLES = int(os.environ.get("LAKEHOUSE_EXAMPLES", "0"))
"""How many lives to try at random; without it, always the same few, so that a failure is one of the change at hand."""

BatchLife.TestCase.settings = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestBatchLife = BatchLife.TestCase
