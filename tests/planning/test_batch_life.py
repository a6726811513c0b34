"""Whatever happens to runs, and wherever the operator dies: no interval is run twice at a time or again after it
succeeded, gold never goes before silver, no range of bronze is left out, and everything settles.

A Hypothesis state machine drives the batch rules over a small world: schedules, Spark, people, losses and crashes.
"""

import os
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lakehouse_operator.planning import ledger
from lakehouse_operator.planning.ledger import FINAL, Entry
from lakehouse_operator.planning.observed import BackfillObject
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.schedule import parse_instant
from planning.batch_world import BRONZE, FAILURES, BatchWorld, Crash


class BatchLife(RuleBasedStateMachine):
    """The runs of a pipeline, through everything that can happen to them."""

    @initialize(catch_up=st.sampled_from(("all", "latest", "none")), concurrency=st.sampled_from(("Forbid", "Replace")))
    def begin(self, *, catch_up: str, concurrency: str) -> None:
        self.world = BatchWorld(catch_up, concurrency)
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
