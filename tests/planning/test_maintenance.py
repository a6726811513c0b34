"""When maintenance runs, what it waits for, and what it is told."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from lakehouse_contract.settings import RunSettings
from lakehouse_operator.planning import batch, job_settings
from lakehouse_operator.planning.batch import BatchDecision, decide, stage_policy
from lakehouse_operator.planning.observed import BackfillObject, Observed, RunObject
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.plan import CreateOnce, Delete, Hold
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.planning.validate import validate
from planning import examples
from planning.batch_builders import application, at, run, seen

NIGHT = at("03-10 03:00")
REWINDING = Hold(reason=batch.REWINDING, message="bronze goes back to a recovery point")


def pipeline(**maintenance: Any) -> ValidPipeline:
    return examples.valid("roman-numerals", spec__maintenance=maintenance)


def world(now: datetime, *runs: RunObject, since: str = "2026-03-09T03:00:00Z", **more: Any) -> Observed:
    """Silver and gold rest; only maintenance is looked at."""
    layers = {stage: {"since": instant(now)} for stage in ("silver", "gold")}
    return seen(now, runs=runs, status={"layers": {**layers, "maintenance": {"since": since}}}, **more)


def decided(observed: Observed, *, paused: Hold | None = None, **maintenance: Any) -> BatchDecision:
    return decide(pipeline(**maintenance), observed, definition="kept", paused=paused, definitions={})


def started(decision: BatchDecision) -> list[str]:
    """The intervals of the maintenance runs that are created."""
    specs = [action.manifest["spec"] for action in decision.actions if isinstance(action, CreateOnce)]
    own = [spec["dataInterval"] for spec in specs if spec.get("stage") == "maintenance"]
    return [f"{interval['start'][5:16]} {interval['end'][5:16]}" for interval in own]


def done(start: datetime, phase: str = "Succeeded", *, hours: int = 24, **more: Any) -> RunObject:
    revision = job_settings.revision(pipeline(), "maintenance")
    return run(start, phase, stage="maintenance", hours=hours, **{"revision": revision, **more})


def backfill(*, approved: bool, phase: str, **changes: Any) -> BackfillObject:
    days = {"first": "2026-03-01", "last": "2026-03-02"}
    spec = {"pipelineRef": {"name": "numerals"}, "range": days, "approved": approved}
    return BackfillObject(
        name="mend",
        uid="b",
        generation=1,
        created_at=NIGHT,
        spec=spec,
        status={"phase": phase},
        deleting=False,
        **changes,
    )


def test_it_is_due_at_each_tick_of_its_own_schedule() -> None:
    assert started(decided(world(NIGHT - timedelta(minutes=1)))) == []
    assert started(decided(world(NIGHT))) == ["03-09T03:00 03-10T03:00"]
    assert started(decided(world(NIGHT, done(at("03-09 03:00"))))) == []
    often = world(at("03-10 08:59"), done(at("03-10 00:00"), hours=6))
    assert started(decided(often, schedule="0 */6 * * *")) == []
    assert started(decided(replace(often, now=at("03-10 12:00")), schedule="0 */6 * * *")) == [
        "03-10T06:00 03-10T12:00"
    ]


def test_each_layer_says_with_which_image_and_revision_new_runs_work() -> None:
    layers = decided(world(NIGHT), image="tidy:1").layers
    valid = pipeline(image="tidy:1")
    assert {stage: layer.image for stage, layer in layers.items()} == {
        "silver": valid.image("silver"),
        "gold": valid.image("silver"),
        "maintenance": "tidy:1",
    }
    assert all(layer.revision == job_settings.revision(valid, stage) for stage, layer in layers.items())


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    late = world(at("03-14 10:00"), done(at("03-08 03:00")))
    assert started(decided(late)) == ["03-09T03:00 03-14T03:00"]
    after = replace(late, runs=(*late.runs, done(at("03-09 03:00"), hours=120)))
    assert started(decided(after)) == []


def test_a_failed_night_does_not_hold_the_next_one() -> None:
    assert started(decided(world(at("03-11 03:00"), done(at("03-09 03:00"), "Failed")))) == ["03-10T03:00 03-11T03:00"]
    assert started(decided(world(at("03-10 12:00"), done(at("03-09 03:00"), "Failed")))) == []


def test_another_definition_tries_the_newest_failed_night_again_and_no_other() -> None:
    failed = [done(at(f"03-0{day} 03:00"), "Failed", revision="bbbbbbbbbbbb") for day in (7, 8, 9)]
    assert started(decided(world(at("03-10 12:00"), *failed))) == ["03-09T03:00 03-10T03:00"]


def test_it_waits_for_no_data_but_for_the_run_before_it() -> None:
    policy = stage_policy(pipeline(), "maintenance")
    assert (policy.trigger, policy.after, policy.concurrency) == ("clock", None, "Forbid")
    busy = world(at("03-11 03:00"), done(at("03-09 03:00"), "Running"))
    decision = decided(busy)
    assert (started(decision), decision.holds["maintenance"].reason) == ([], "RunInFlight")


@pytest.mark.parametrize(
    ("approved", "phase", "waits"),
    [
        (False, "Proposed", False),
        (True, "Proposed", True),
        (True, "Approved", True),
        (True, "Running", True),
        (True, "Succeeded", False),
        (True, "Failed", False),
    ],
)
def test_it_waits_for_a_backfill_that_is_going_on(approved: bool, phase: str, waits: bool) -> None:
    observed = replace(world(NIGHT), backfills=(backfill(approved=approved, phase=phase),))
    decision = decided(observed)
    assert bool(started(decision)) is not waits
    if waits:
        assert decision.holds["maintenance"].message == "waits for mend, which has not ended yet"
        assert decision.layers["maintenance"].held_because == "waits for mend, which has not ended yet"


def test_it_waits_for_a_run_over_days_that_a_person_created() -> None:
    by_hand = run(NIGHT, "Running", stage="gold", name="by-hand", reason="manual")
    spec = {key: value for key, value in by_hand.spec.items() if key != "dataInterval"}
    days = {"first": "2026-03-01", "last": "2026-03-01"}
    decision = decided(world(NIGHT, replace(by_hand, spec={**spec, "days": days})))
    assert (started(decision), decision.holds["maintenance"].reason) == ([], "BackfillInFlight")


def test_days_that_a_person_asks_for_wait_for_maintenance_that_is_under_way() -> None:
    by_hand = run(NIGHT, "Pending", stage="gold", name="by-hand", reason="manual")
    spec = {key: value for key, value in by_hand.spec.items() if key != "dataInterval"}
    asked = replace(by_hand, spec={**spec, "days": {"first": "2026-03-01", "last": "2026-03-01"}}, status={})
    for phase, attempts in (("Running", 0), ("Succeeded", 1)):
        decision = decided(world(NIGHT, done(at("03-09 03:00"), phase), asked))
        status = next(each.status for each in decision.statuses if each.name == "by-hand")
        assert len(status.get("attempts", ())) == attempts


def test_a_backfill_waits_for_maintenance_that_is_under_way() -> None:
    running = done(at("03-09 03:00"), "Running")
    observed = replace(world(NIGHT, running), backfills=(backfill(approved=True, phase="Approved"),))
    decision = decided(observed)
    assert not any("days" in a.manifest["spec"] for a in decision.actions if isinstance(a, CreateOnce))
    status = next(status for status in decision.statuses if status.kind == "LakehouseBackfill").status
    assert status["message"] == f"waits for {running.name}, which has not ended yet"
    over = replace(observed, runs=(done(at("03-09 03:00")),))
    assert any(isinstance(action, CreateOnce) and "days" in action.manifest["spec"] for action in decided(over).actions)


def test_while_bronze_goes_back_to_a_recovery_point_none_starts_and_the_running_one_is_stopped() -> None:
    assert started(decided(world(NIGHT), paused=REWINDING)) == []
    running = done(
        at("03-08 03:00"),
        "Running",
        attempts=[{"number": 1, "application": "nightly-a1", "startedAt": instant(NIGHT), "outcome": "Running"}],
    )
    spark = replace(application("nightly-a1", "RUNNING"), run=running.name)
    decision = decided(world(NIGHT, running, applications=(spark,)), paused=REWINDING)
    status = next(status for status in decision.statuses if status.name == running.name).status
    assert (status["phase"], status["attempts"][0]["outcome"]) == ("Cancelled", "Cancelled")
    assert [action.name for action in decision.actions if isinstance(action, Delete)] == ["nightly-a1"]
    suspended = Hold(reason="Suspended", message="spec.suspend is true")
    assert decided(world(NIGHT, running, applications=(spark,)), paused=suspended).actions == ()


def test_it_is_told_all_tables_and_who_reads_bronze() -> None:
    wanted = {"compaction": {"minInputFiles": 8, "maxSize": "1Gi"}}
    told = job_settings.maintenance_settings(pipeline(**wanted), RunSettings(id="nightly"))
    assert told.bronze_table == "bronze.conversion_events"
    assert told.readers == ("silver.conversions", "silver.conversions_quarantine")
    assert told.compaction is not None
    assert (told.compaction.min_input_files, told.compaction.max_bytes) == (8, 1024**3)
    alone = examples.valid("minimal", spec__maintenance={"image": "spark:1"})
    told = job_settings.maintenance_settings(alone, RunSettings(id="nightly"))
    assert (told.tables, told.readers) == ((told.bronze_table,), ())


def test_snapshots_are_kept_as_long_as_a_run_may_read_them() -> None:
    spec = examples.changed(
        "roman-numerals", spec__maintenance={"expiry": {"retention": "5h"}}, spec__silver__timeout="1h"
    )
    found = validate(spec, examples.maps("roman-numerals"))
    assert isinstance(found, Problems)
    (problem,) = found.problems
    assert problem.path == "spec.maintenance.expiry.retention"
    assert problem.message == "must be at least 21600 s, spec.gold.timeout: a run may read a snapshot so long"
