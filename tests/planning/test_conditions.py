"""The status: conditions that tell the truth, valid after the API's own types, and still while nothing happens."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse_operator.api.pipeline_status import PipelineStatus
from lakehouse_operator.planning.reconcile import reconcile
from planning.stream_scenes import at_rest, until, upgraded, world


def shown(made):
    """The status that would be written now."""
    return reconcile(made.see()).statuses[0].status


def conditions(made):
    return {each["type"]: (each["status"], each["reason"]) for each in shown(made)["conditions"]}


def suspended():
    made = at_rest()
    made.suspend()
    return until(made, "Suspended")


def refused():
    made = at_rest()
    made.edit(parallelism=0)
    return made


def failing():
    made = at_rest()
    made.fail_job(for_good=True)
    made.flink_operator()
    return made


def stopping():
    made = at_rest()
    made.edit(image="flink:2")
    made.reconcile()
    return made


def soaking():
    return until(upgraded("flink:2"), "Soaking")


def rolled_back():
    return until(upgraded("flink:2-crashes"), "Held")


@pytest.mark.parametrize(
    ("scene", "ready", "besides"),
    [
        pytest.param(world, ("Unknown", "Deploying"), "Reconciling", id="at first it is unknown"),
        pytest.param(at_rest, ("True", "Running"), None, id="it runs what is asked for"),
        pytest.param(suspended, ("True", "Suspended"), None, id="it rests as asked for"),
        pytest.param(stopping, ("False", "Stopping"), "Reconciling", id="it is being stopped"),
        pytest.param(
            lambda: until(upgraded("flink:2"), "Soaking"), ("False", "Soaking"), "Reconciling", id="it is watched"
        ),
        pytest.param(
            lambda: until(upgraded("flink:2-crashes"), "Held"),
            ("False", "RolledBack"),
            "Stalled",
            id="it was rolled back",
        ),
        pytest.param(refused, ("False", "SpecRefused"), "Stalled", id="the spec is refused"),
        pytest.param(failing, ("False", "Recovering"), "Reconciling", id="it is started again"),
    ],
)
def test_ready_and_what_stands_beside_it(scene, ready, besides):
    found = conditions(scene())
    assert found["Ready"] == ready
    assert {"Reconciling", "Stalled"} & set(found) == ({besides} if besides else set())


def test_a_condition_keeps_its_time_until_its_status_flips():
    made = at_rest()
    made.reconcile()
    before = made.condition("Ready")["lastTransitionTime"]
    made.now += timedelta(hours=1)
    assert shown(made)["conditions"][0]["lastTransitionTime"] == before
    made.edit(parallelism=0)
    assert shown(made)["conditions"][0]["lastTransitionTime"] != before


def test_every_condition_and_the_status_name_the_generation_they_speak_of():
    made = at_rest()
    made.edit(recoveryPoints={"interval": "0s"})
    made.reconcile()
    assert made.status["observedGeneration"] == made.generation == 2
    assert {each["observedGeneration"] for each in made.status["conditions"]} == {2}
    assert made.status["acceptedGeneration"] == 2
    made.edit(parallelism=0)
    made.reconcile()
    assert (made.status["observedGeneration"], made.status["acceptedGeneration"]) == (3, 2)
    assert made.status["problems"][0]["path"] == "spec.bronze.parallelism"


@pytest.mark.parametrize("scene", [world, at_rest, suspended, refused, failing, stopping])
def test_the_status_is_what_the_api_declares(scene):
    status = shown(scene())
    assert PipelineStatus.from_raw(deepcopy(status)).to_raw() == status, "no field that the CRD would drop"


@pytest.mark.parametrize("scene", [at_rest, suspended, refused, rolled_back])
def test_time_alone_changes_no_status(scene):
    made = scene()
    made.go(rounds=2)
    before = shown(made)
    for _ in range(10):
        made.now += timedelta(minutes=7)
        assert shown(made) == before


def test_growing_lag_and_new_commits_change_no_status():
    made = at_rest()
    before = shown(made)
    made.produce(1_000_000)
    made.go(rounds=3)
    assert shown(made) == before


def test_the_age_of_a_recovery_point_counts_in_two_steps():
    made = at_rest()
    made.faults = {"savepoints fail"}
    made.go(600, rounds=40)
    assert made.condition("RecoveryPointCurrent")["status"] == "True"
    made.go(600, rounds=60)
    assert made.condition("RecoveryPointCurrent")["reason"] == "TooOld"


def test_what_is_not_observed_is_said():
    made = at_rest(observing=False)
    found = made.condition("Observing")
    assert (found["status"], found["reason"]) == ("False", "NotSwitchedOn")
    assert "triggers follow the clock" in found["message"]


def test_the_status_lists_the_points_the_newest_first():
    made = at_rest(recoveryPoints={"interval": "1h", "keep": 3})
    made.go(600, rounds=20)
    points = made.status["recoveryPoints"]
    assert [point["takenAt"] for point in points] == sorted((point["takenAt"] for point in points), reverse=True)
    assert points[0]["bronzeSnapshot"] == str(made.record.points[-1].bronze_snapshot)


def test_no_message_asks_for_a_value_of_the_present_moment():
    made = at_rest(observing=False)
    made.child.deleting = True
    made.flink_operator()
    first = shown(made)
    made.now += timedelta(hours=3)
    second = shown(made)
    strip = [{**each, "lastTransitionTime": ""} for each in first["conditions"]]
    assert strip == [{**each, "lastTransitionTime": ""} for each in second["conditions"]]


def test_timestamps_by_the_producers_clocks_are_told():
    made = at_rest()
    observed = made.see()
    told = replace(observed, observation=replace(observed.observation, timestamps="CreateTime"))
    status = next(each.status for each in reconcile(told).statuses if each.kind == "LakehousePipeline")
    observing = next(each for each in status["conditions"] if each["type"] == "Observing")
    assert (observing["status"], observing["reason"]) == ("True", "TimestampsOfProducers")
    assert "message.timestamp.type is CreateTime" in observing["message"]
