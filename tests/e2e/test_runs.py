"""Spark runs on real pods: what fails is handled by its class, and a backfill swaps what it has computed."""

import json
from typing import Any

import pytest

from e2e.life import Life
from e2e.platform import TENANT

pytestmark = pytest.mark.timeout(1200)


def _begin(life: Life, stage: str) -> str:
    return life.pipeline.lakehouse("run", life.pipeline.name, "--stage", stage).split()[-1]


def _attempts(run: dict[str, Any]) -> list[dict[str, Any]]:
    return list(run.get("attempts", []))


def _driver(life: Life, run: str) -> str | None:
    """The driver's pod once its container runs."""
    for pod in life.platform.cluster.find(TENANT, "pods", {"spark-role": "driver", "lakehouse.dev/run": run}):
        statuses = pod["status"].get("containerStatuses", [])
        if statuses and "running" in statuses[0]["state"]:
            return str(pod["metadata"]["name"])
    return None


def test_a_killed_driver_is_tried_again(well: Life) -> None:
    run = _begin(well, "silver")
    pod = well.platform.cluster.until(
        lambda: _driver(well, run), "the driver runs", seconds=180, tell=well.pipeline.tell
    )
    well.platform.cluster.kill(TENANT, pod)
    outcome = well.pipeline.outcome(run)
    assert outcome["phase"] == "Succeeded", outcome
    assert next(attempt.get("failureClass") for attempt in _attempts(outcome)) == "Infrastructure"


def test_a_driver_without_enough_memory_is_tried_again_with_more(well: Life) -> None:
    well.pipeline.patch({"silver": {"driver": {"memory": "512Mi", "memoryOverhead": "64Mi"}}})
    well.pipeline.until_ready()
    run = _begin(well, "silver")
    outcome = well.pipeline.outcome(run, seconds=600)
    assert outcome["phase"] == "Succeeded", outcome
    assert "OutOfMemory" in [attempt.get("failureClass") for attempt in _attempts(outcome)]


def test_bad_data_fails_the_run_at_once_and_holds_what_follows(well: Life) -> None:
    spec = json.loads(json.dumps(well.document["spec"]["silver"]))
    spec["tables"][0]["rules"].append(
        {"name": "nobody_is_free", "expression": "user_plan <> 'free'", "severity": "fail"}
    )
    well.pipeline.patch({"silver": {"tables": spec["tables"]}})
    run = _begin(well, "silver")
    outcome = well.pipeline.outcome(run)
    assert outcome["phase"] == "Failed", outcome
    assert [attempt.get("failureClass") for attempt in _attempts(outcome)] == ["Data"]
    assert well.pipeline.condition("RunsHealthy")["status"] == "False"
    well.restored()
    assert well.pipeline.run("silver")["phase"] == "Succeeded"


def test_a_backfill_is_planned_approved_run_and_right(well: Life) -> None:
    assert well.pipeline.run("silver")["phase"] == "Succeeded"
    well.backfilled(well.first_day, well.first_day)
    well.judged()
