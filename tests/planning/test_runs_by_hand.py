"""A run that a person asks for collides with nothing, and waits for what must come first."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakehouse_operator.planning.batch import BatchDecision, decide
from lakehouse_operator.planning.observed import Capabilities, RunObject
from lakehouse_operator.planning.plan import CreateOnce, Delete, Hold
from planning import examples
from planning.batch_builders import at
from planning.batch_world import START, BatchWorld

EARLIER = {"start": "2026-03-09T22:00:00Z", "end": "2026-03-09T23:00:00Z"}


def by_hand(world: BatchWorld, stage: str = "silver", **spec: Any) -> RunObject:
    before = set(world.runs)
    world.by_hand({"pipelineRef": {"name": "numerals"}, "stage": stage, "reason": "manual", **spec})
    (name,) = set(world.runs) - before
    return world.runs[name]


def begun(decision: BatchDecision) -> list[str]:
    made = [action.manifest for action in decision.actions if isinstance(action, CreateOnce)]
    return [each["metadata"]["labels"]["lakehouse.dev/run"] for each in made if each["kind"] == "SparkApplication"]


def reason(world: BatchWorld, run: RunObject) -> str:
    condition: dict[str, str] = world.runs[run.name].status["conditions"][0]
    return condition["reason"]


def busy(stage: str, **spec: Any) -> BatchWorld:
    """A world in which a run of the schedule is under way."""
    world = BatchWorld("all", "Forbid", bronze_goes_on=False)
    run = by_hand(world, stage, dataInterval=EARLIER, **spec)
    scheduled = replace(run, name="scheduled", spec={**run.spec, "reason": "schedule"}, created_at=at("03-10 00:01"))
    world.runs = {"scheduled": scheduled}
    world.manual.clear()
    world.round()
    return world


@pytest.mark.parametrize(
    ("other", "stage", "spec"),
    [
        ("silver", "silver", {}),
        ("silver", "silver", {"dataInterval": EARLIER}),
    ],
)
def test_it_waits_for_what_is_in_flight(other: str, stage: str, spec: dict[str, Any]) -> None:
    world = busy(other)
    run = by_hand(world, stage, **spec)
    assert begun(world.round()) == []
    assert reason(world, run) == "RunInFlight"
    for _ in range(2):
        world.spark()
        world.round()
    world.round()
    assert run.name in {each.run for each in world.applications.values()}


def test_a_run_of_another_stage_waits_for_nobody() -> None:
    world = busy("silver")
    run = by_hand(world, "gold")
    assert begun(world.round()) == [run.name]


def test_while_bronze_is_rewound_it_waits_and_while_all_is_suspended_it_does_not() -> None:
    world = BatchWorld("all", "Forbid", paused=Hold(reason="Rewinding", message="bronze goes back"))
    run = by_hand(world)
    assert begun(world.round()) == []
    assert reason(world, run) == "Rewinding"
    world.paused = Hold(reason="Suspended", message="spec.suspend is true")
    assert begun(world.round()) == [run.name]


@pytest.mark.parametrize("revision", [{}, {"revision": "0123456789ab"}])
def test_one_of_a_stage_that_the_pipeline_lacks_is_cancelled_with_a_sentence(revision: dict[str, str]) -> None:
    world = BatchWorld("all", "Forbid", bronze_goes_on=False)
    run = by_hand(world, "maintenance", **revision)
    decision = world.round()
    ended = dict(world.runs[run.name].status)
    assert begun(decision) == []
    assert (ended["phase"], ended["conditions"][0]["status"]) == ("Cancelled", "False")
    assert ended["conditions"][0]["message"] == "cancelled, because the pipeline has no maintenance"
    assert [told.reason for told in decision.news] == ["RunCancelled"]
    assert world.round().news == ()
    assert world.runs[run.name].status == ended


def test_a_run_ends_with_its_stage_and_its_attempt_is_stopped() -> None:
    world = busy("gold")
    world.round()
    without = examples.valid("roman-numerals", spec__gold=..., spec__silver=...)
    decision = decide(without, world.see(), definition="d", paused=None, definitions={"d": world.pipeline})
    assert [status.status["phase"] for status in decision.statuses] == ["Cancelled"]
    assert [action.name for action in decision.actions if isinstance(action, Delete)] == list(world.applications)


def test_a_run_is_reconciling_until_it_is_over_and_stalled_when_it_failed() -> None:
    def told(name: str) -> list[tuple[str, str]]:
        return [(each["type"], each["status"]) for each in world.runs[name].status["conditions"]]

    world = BatchWorld("all", "Forbid", bronze_goes_on=False)
    well, badly = by_hand(world, "silver"), by_hand(world, "gold")
    times = set[str]()
    for _ in range(3):
        world.now += timedelta(seconds=10)
        world.round()
        assert told(well.name) == told(badly.name) == [("Succeeded", "Unknown"), ("Reconciling", "True")]
        times.add(world.runs[well.name].status["conditions"][1]["lastTransitionTime"])
    assert len(times) == 1
    world.spark()
    world.spark(only="silver")
    world.spark("bad data")
    for _ in range(2):
        world.round()
        assert told(well.name) == [("Succeeded", "True")]
        assert told(badly.name) == [("Succeeded", "False"), ("Stalled", "True")]


def test_without_the_spark_operator_it_is_stalled() -> None:
    world = BatchWorld("all", "Forbid", bronze_goes_on=False)
    by_hand(world)
    missing = replace(world.see(), capabilities=Capabilities())
    (status,) = decide(world.pipeline, missing, definition="d", paused=None, definitions={}).statuses
    conditions = [(each["type"], each["reason"]) for each in status.status["conditions"]]
    assert conditions == [("Succeeded", "SparkOperatorMissing"), ("Stalled", "SparkOperatorMissing")]


def test_an_attempt_that_was_not_stopped_when_its_run_was_cancelled_is_stopped_later() -> None:
    world = busy("silver")
    (run,) = world.runs
    world.spark()
    world.round()
    status = world.runs[run].status
    ended = {**status["attempts"][0], "outcome": "Cancelled"}
    world.runs[run] = replace(world.runs[run], status={**status, "phase": "Cancelled", "attempts": [ended]})
    world.round()
    assert run not in {each.run for each in world.applications.values()}


def test_of_two_the_first_goes_first() -> None:
    world = BatchWorld("all", "Forbid")
    first, second = by_hand(world), by_hand(world)
    assert begun(world.round()) == [first.name]
    assert reason(world, second) == "RunInFlight"
    world.now = START + timedelta(minutes=1)
    world.round()
    assert second.name not in {each.run for each in world.applications.values()}


def test_one_that_is_replaced_in_the_round_that_would_begin_it_leaves_no_attempt_behind() -> None:
    world = BatchWorld("all", "Replace", bronze_goes_on=False)
    world.round()
    world.now = START + timedelta(minutes=70)
    run = by_hand(world)
    assert begun(world.round()) == []
    assert world.runs[run.name].status["phase"] == "Cancelled"
