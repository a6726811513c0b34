"""Failure classes: what a failed attempt was, and what follows."""

from datetime import timedelta
from typing import Any

import pytest

from lakehouse_operator.planning.failure import RetryPolicy, classify, grown, pause_after
from planning.batch_builders import application

POLICY = RetryPolicy(backoff=timedelta(seconds=30), max_backoff=timedelta(minutes=5))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"message": "driver container failed with ExitCode: 1, Reason: Error"}, "Code"),
        ({"message": "driver container failed with ExitCode: 65, Reason: Error"}, "Data"),
        ({"message": "driver container failed with ExitCode: 64, Reason: Error"}, "Code"),
        ({"message": "driver container failed with ExitCode: 69, Reason: Error"}, "Infrastructure"),
        ({"message": "driver container failed with ExitCode: 143, Reason: Error"}, "Infrastructure"),
        ({"message": "driver container failed with ExitCode: 137, Reason: OOMKilled"}, "OutOfMemory"),
        ({"message": "driver container failed with ExitCode: 137, Reason: Error"}, "Infrastructure"),
        ({"exit_code": 137, "pod_reason": "OOMKilled", "message": "Error"}, "OutOfMemory"),
        ({"message": "driver container failed with ExitCode: 52, Reason: Error"}, "OutOfMemory"),
        ({"exit_code": 137, "pod_reason": "Evicted", "message": "Error"}, "Infrastructure"),
        ({"exit_code": 1, "pod_reason": "PreemptionByScheduler", "message": "Error"}, "Infrastructure"),
        ({"exit_code": 137, "pod_reason": "DeletionByTaintManager", "message": "Error"}, "Infrastructure"),
        ({"exit_code": 137, "pod_reason": "ContainerStatusUnknown", "message": "Error"}, "Infrastructure"),
        ({"exit_code": 1, "pod_reason": "Error", "message": "Error"}, "Code"),
        ({"exit_code": 70, "executor_out_of_memory": True, "message": "Error"}, "OutOfMemory"),
        ({"exit_code": 64, "executor_out_of_memory": True, "message": "Error"}, "Code"),
        ({"exit_code": 65, "executor_out_of_memory": True, "message": "Error"}, "Data"),
        ({"message": "failed to run spark-submit: exit status 1"}, "Infrastructure"),
        ({"message": "driver pod not found"}, "Infrastructure"),
        ({"message": None}, "Infrastructure"),
    ],
)
def test_each_failure_has_its_class(seen: dict[str, Any], expected: str) -> None:
    assert classify(application("run-a1", "FAILED", **seen)).failure == expected


def test_what_kubernetes_says_of_the_pod_is_told() -> None:
    seen = application("run-a1", "FAILED", exit_code=137, pod_reason="Evicted", pod_message="Low on memory.")
    told = classify(seen).message
    assert told == "the driver's pod was ended: Evicted (Low on memory.); the Spark operator gives no reason"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (65, "a rule of severity fail was broken, or an audit failed: silver.conversions: nobody_is_free"),
        (64, "the job refused its settings: silver.conversions: nobody_is_free"),
        (69, "silver.conversions: nobody_is_free"),
        (1, "silver.conversions: nobody_is_free"),
        (143, "the driver was stopped from outside: driver container failed"),
    ],
)
def test_what_the_job_said_last_is_told_where_the_job_ended_by_itself(code: int, told: str) -> None:
    seen = application(
        "run-a1", "FAILED", exit_code=code, message="driver container failed",
        last_words="silver.conversions: nobody_is_free",
    )  # fmt: skip
    assert classify(seen).message == told


def test_the_wait_doubles_up_to_its_limit() -> None:
    pauses = [pause_after(POLICY, ("Infrastructure",) * tries) for tries in range(1, 7)]
    assert pauses == [timedelta(seconds=s) for s in (30, 60, 120, 240, 300, 300)]


def test_each_class_has_a_budget_of_its_own() -> None:
    assert pause_after(POLICY, ("Infrastructure",) * 10 + ("Code",)) == timedelta(seconds=30)
    assert pause_after(POLICY, ("Code", "Infrastructure", "Code")) is None


def test_bad_data_is_not_tried_again() -> None:
    assert pause_after(POLICY, ("Data",)) is None


def test_a_timeout_is_tried_again_like_infrastructure() -> None:
    assert pause_after(POLICY, ("Timeout",) * 10) is not None
    assert pause_after(POLICY, ("Timeout",) * 11) is None


def test_memory_grows_with_each_kill_up_to_the_cap_and_never_shrinks() -> None:
    policy = RetryPolicy(memory_growth=1.5, max_memory_mib=2000)
    assert [grown(1024, policy, ("OutOfMemory",) * kills) for kills in range(4)] == [1024, 1536, 2000, 2000]
    assert grown(4096, policy, ("OutOfMemory",)) == 4096
    assert grown(1024, policy, ("Infrastructure",)) == 1024
