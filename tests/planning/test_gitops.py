"""What Argo CD shows of our objects, by the health checks in examples/gitops, from statuses that the planner writes."""

from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from planning.stream_scenes import at_rest, until
from planning.world import World

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "gitops" / "argocd-cm.yaml"


def health(kind: str, resource: dict[str, Any]) -> tuple[str, str]:
    """Run the check as Argo CD does: the text is the body of a function of `obj`."""
    checks = yaml.safe_load(CONFIG.read_text())["data"]
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    check = lua.execute(f"return function(obj)\n{checks[f'resource.customizations.health.lakehouse.dev_{kind}']}\nend")
    answer = check(lua.table_from(resource, recursive=True))
    return str(answer["status"]), str(answer["message"])


def shown(world: World, **metadata: Any) -> tuple[str, str]:
    generation = world.status.get("observedGeneration", 1)
    resource = {"metadata": {"generation": generation, **metadata}, "spec": world.spec, "status": world.status}
    return health("LakehousePipeline", resource)


def test_a_pipeline_that_runs_is_healthy() -> None:
    assert shown(at_rest())[0] == "Healthy"


def test_what_the_operator_has_not_seen_is_in_progress() -> None:
    assert health("LakehousePipeline", {"metadata": {"generation": 1}, "spec": {}})[0] == "Progressing"
    assert shown(at_rest(), generation=99)[0] == "Progressing"
    assert shown(at_rest(), deletionTimestamp="2026-01-01T00:00:00Z")[0] == "Progressing"


def test_an_upgrade_is_in_progress_and_a_suspended_pipeline_is_suspended() -> None:
    changed = at_rest()
    changed.edit(image="flink:2")
    changed.reconcile()
    assert shown(changed)[0] == "Progressing"
    resting = at_rest()
    resting.suspend()
    assert shown(until(resting, "Suspended"))[0] == "Suspended"


def test_a_stalled_pipeline_is_degraded_and_says_why() -> None:
    failing = at_rest()
    failing.edit(image="flink:2")
    failing.faults = {"savepoints fail"}
    failing.go(60, rounds=80)
    status, message = shown(failing)
    assert (status, message.split(":")[0]) == ("Degraded", "StopFailed")


def test_rounds_that_keep_failing_are_degraded() -> None:
    told = [
        {"type": "Ready", "status": "False", "reason": "ReconcileFailed", "message": "a quota"},
        {"type": "ReconcileFailed", "status": "True", "reason": "ReconcileFailed", "message": "a quota"},
    ]
    resource = {"metadata": {"generation": 1}, "spec": {}, "status": {"observedGeneration": 1, "conditions": told}}
    assert health("LakehousePipeline", resource) == ("Degraded", "ReconcileFailed: a quota")


@pytest.mark.parametrize(
    ("kind", "phase", "wanted"),
    [
        ("LakehouseRun", None, "Progressing"),
        ("LakehouseRun", "Running", "Progressing"),
        ("LakehouseRun", "Succeeded", "Healthy"),
        ("LakehouseRun", "Cancelled", "Healthy"),
        ("LakehouseRun", "Failed", "Degraded"),
        ("LakehouseBackfill", "Proposed", "Suspended"),
        ("LakehouseBackfill", "Approved", "Progressing"),
        ("LakehouseBackfill", "Running", "Progressing"),
        ("LakehouseBackfill", "Succeeded", "Healthy"),
        ("LakehouseBackfill", "Failed", "Degraded"),
    ],
)
def test_runs_and_backfills(kind: str, phase: str | None, wanted: str) -> None:
    status = {"observedGeneration": 1, **({"phase": phase} if phase else {})}
    assert health(kind, {"metadata": {"generation": 1}, "status": status})[0] == wanted
