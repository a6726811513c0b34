"""The CRDs on a real API server: what it takes, what it refuses and what it says, and that the types agree with it."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from control_plane.api_server import ControlPlane
from crds.spoilers import SPOILED, SPOILED_CHANGES, WRONG_VALUES, Spoiled, SpoiledChange, backfill, run
from lakehouse_operator.api.backfill import BackfillSpec, BackfillStatus, LakehouseBackfill
from lakehouse_operator.api.crd import RESOURCES, definition
from lakehouse_operator.api.pipeline import LakehousePipeline, PipelineSpec
from lakehouse_operator.api.pipeline_status import PipelineStatus
from lakehouse_operator.api.run import LakehouseRun, RunSpec, RunStatus
from lakehouse_operator.planning.flink_manifest import build_flink_deployment
from lakehouse_operator.planning.pipeline import Problems
from lakehouse_operator.planning.structure import read
from planning import examples

KINDS = {kind.__name__: kind for kind in (LakehousePipeline, LakehouseRun, LakehouseBackfill)}


@pytest.fixture
def send(control_plane: ControlPlane, namespace: str) -> Callable[..., str]:
    def send(verb: str, raw: dict[str, Any], *arguments: str) -> str:
        command = (verb, "--validate=strict", f"--namespace={namespace}", "--output=json", "--filename=-", *arguments)
        return control_plane.kubectl(*command, stdin=json.dumps(raw))

    return send


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        action()
    return str(caught.value.stderr)


@pytest.mark.parametrize("name", examples.names())
def test_an_example_is_accepted_and_gets_the_defaults_of_the_types(send: Callable[..., str], name: str) -> None:
    stored = json.loads(send("create", examples.raw(name)))["spec"]
    assert PipelineSpec.from_raw(stored).to_raw() == PipelineSpec.from_raw(examples.raw(name)["spec"]).to_raw()
    assert stored["bronze"]["restart"]["recovery"]["retries"] == 5, "the server itself fills in nested defaults"
    from_file, from_server = (examples.raw(name), {**examples.raw(name), "spec": stored})
    manifests = [json.dumps(build_flink_deployment(examples.valid(each))) for each in (from_file, from_server)]
    assert manifests[0] == manifests[1], "to the letter, or the stream would be restarted"


def test_a_run_and_a_backfill_are_accepted_and_get_the_defaults_of_the_types(send: Callable[..., str]) -> None:
    stored = json.loads(send("create", run()))["spec"]
    assert RunSpec.from_raw(stored) == RunSpec.from_raw(run()["spec"])
    stored = json.loads(send("create", backfill()))["spec"]
    assert BackfillSpec.from_raw(stored) == BackfillSpec.from_raw(backfill()["spec"])
    assert stored["order"] == "oldestFirst"


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_a_broken_rule_is_refused_with_its_message_by_the_server_and_by_the_types(
    send: Callable[..., str], spoiled: Spoiled
) -> None:
    assert spoiled.says in refusal(lambda: send("create", spoiled.raw, "--dry-run=server"))
    offline = read(KINDS[spoiled.raw["kind"]], spoiled.raw)
    assert isinstance(offline, Problems)
    assert spoiled.says in str(offline)


@pytest.mark.parametrize("spoiled", SPOILED_CHANGES.values(), ids=SPOILED_CHANGES)
def test_a_forbidden_change_is_refused_with_its_message(send: Callable[..., str], spoiled: SpoiledChange) -> None:
    send("create", spoiled.before)
    assert spoiled.says in refusal(lambda: send("replace", spoiled.after))


def test_spelling_out_the_default_table_is_no_change(send: Callable[..., str]) -> None:
    send("create", examples.raw("minimal"))
    send("replace", examples.changed("minimal", spec__bronze__table="bronze.clicks"))


@pytest.mark.parametrize("raw", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_value_that_does_not_fit_is_refused_by_the_server_and_by_the_types(
    send: Callable[..., str], raw: dict[str, Any]
) -> None:
    refusal(lambda: send("create", raw, "--dry-run=server"))
    assert isinstance(read(KINDS[raw["kind"]], raw), Problems)


def test_a_null_is_as_good_as_nothing(send: Callable[..., str]) -> None:
    raw = examples.changed("minimal", spec__bronze__parallelism=None, spec__storage=None)
    assert json.loads(send("create", raw, "--dry-run=server"))["spec"]["bronze"]["parallelism"] == 1
    assert not isinstance(read(LakehousePipeline, raw), Problems)


def test_every_rule_has_an_object_that_breaks_it() -> None:
    rules = {rule["message"] for resource in RESOURCES for rule in _rules(definition(resource))}
    told = [*(spoiled.says for spoiled in SPOILED.values()), *(spoiled.says for spoiled in SPOILED_CHANGES.values())]
    assert [rule for rule in sorted(rules) if not any(said in rule for said in told)] == []


def _rules(node: Any) -> list[dict[str, str]]:
    if isinstance(node, dict):
        below = [rule for child in node.values() for rule in _rules(child)]
        return [*node.get("x-kubernetes-validations", ()), *below]
    return [rule for child in node for rule in _rules(child)] if isinstance(node, list) else []


CONDITION = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "Starting",
    "message": "",
    "lastTransitionTime": "2026-01-31T05:00:00Z",
    "observedGeneration": 1,
}
AT = "2026-01-31T05:00:00Z"
PIPELINE_STATUS = {
    "observedGeneration": 1,
    "conditions": [CONDITION],
    "acceptedGeneration": 1,
    "definition": "clicks-spec-0123456789ab",
    "problems": [{"path": "spec.silver", "message": "is wrong"}],
    "changes": [{"path": "spec.bronze.image", "effect": "restart"}],
    "stream": {
        "state": "Soaking",
        "revision": "0123456789ab",
        "image": "i:1",
        "jobId": "a" * 32,
        "startedAt": AT,
        "recoveries": 0,
        "upgrade": {"stage": "Soaking", "toRevision": "0123456789ab", "startedAt": AT, "soakUntil": AT},
        "lastGood": {"revision": "0123456789ab", "definition": "clicks-spec-0123456789ab", "since": AT},
    },
    "layers": {
        "bronze": {"table": "bronze.clicks"},
        "silver": {"completedThrough": AT, "nextRun": AT, "lastRun": {"name": "r", "phase": "Running"}},
    },
    "recoveryPoints": [{"name": "p", "path": "s3://a/b", "takenAt": AT, "trigger": "manual", "proven": True}],
    "stale": [{"first": "2026-01-01", "last": "2026-01-02", "stage": "gold", "reason": "Rewind"}],
}
RUN_STATUS = {
    "observedGeneration": 1,
    "conditions": [{**CONDITION, "type": "Succeeded"}],
    "phase": "Running",
    "startedBecause": "DataComplete",
    "revision": "0123456789ab",
    "attempts": [
        {
            "number": 1,
            "application": "a",
            "startedAt": AT,
            "finishedAt": AT,
            "outcome": "Failed",
            "failureClass": "OutOfMemory",
            "message": "killed",
            "exitCode": 137,
            "driverMemory": "1024Mi",
            "executorMemory": "2048Mi",
        }
    ],
    "nextAttemptAt": AT,
    "tables": [{"table": "silver.a", "snapshot": "8437218941234567890", "rows": 3}],
    "touchedDays": ["2026-01-31"],
    "startedAt": AT,
    "finishedAt": AT,
}
BACKFILL_STATUS = {
    "observedGeneration": 1,
    "conditions": [{**CONDITION, "type": "Succeeded"}],
    "phase": "Running",
    "intervals": [{"stage": "silver", "first": "2026-01-01", "last": "2026-01-01", "state": "Running", "run": "r"}],
    "counts": {"total": 1, "running": 1, "succeeded": 0, "failed": 0, "skipped": 0},
    "sourceSnapshot": "17",
    "startedAt": AT,
}


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        (examples.raw("minimal"), PIPELINE_STATUS, PipelineStatus),
        (run(), RUN_STATUS, RunStatus),
        (backfill(), BACKFILL_STATUS, BackfillStatus),
    ],
    ids=["pipeline", "run", "backfill"],
)
def test_a_status_is_stored_as_it_was_written(
    send: Callable[..., str], raw: dict[str, Any], status: dict[str, Any], kind: Any
) -> None:
    send("create", raw)
    stored = json.loads(send("replace", {**raw, "status": status}, "--subresource=status"))["status"]
    assert stored == status, "no field is dropped, and none is added: that would be written again and again"
    assert kind.from_raw(stored).to_raw().keys() >= status.keys()


def test_a_change_of_the_spec_leaves_the_status_alone(send: Callable[..., str]) -> None:
    raw = examples.raw("minimal")
    send("create", raw)
    send("replace", {**raw, "status": PIPELINE_STATUS}, "--subresource=status")
    stored = json.loads(send("replace", examples.changed("minimal", spec__suspend=True)))
    assert stored["metadata"]["generation"] == 2
    assert stored["status"]["stream"]["state"] == "Soaking"


def test_short_names_the_category_and_the_columns_show_what_matters(
    control_plane: ControlPlane, namespace: str, send: Callable[..., str]
) -> None:
    raw = examples.raw("minimal")
    send("create", raw)
    send("replace", {**raw, "status": PIPELINE_STATUS}, "--subresource=status")
    send("create", run())
    send("create", backfill())
    shown = control_plane.kubectl("get", "lhp", f"--namespace={namespace}").split()
    assert "Soaking" in shown
    assert AT in shown
    both = control_plane.kubectl("get", "lakehouse", f"--namespace={namespace}")
    assert "lakehouserun.lakehouse.dev/clicks-silver-20260131t0500" in both
    assert "lakehousebackfill.lakehouse.dev/january" in both
    assert "2026-01-07" in control_plane.kubectl("get", "lhb", f"--namespace={namespace}")
    assert "silver" in control_plane.kubectl("get", "lhr", f"--namespace={namespace}")


def test_the_description_of_a_field_is_the_docstring_under_it(control_plane: ControlPlane) -> None:
    explained = control_plane.kubectl("explain", "lhp.spec.bronze.dedupTtl")
    assert "How long a repeat of an event is recognized" in " ".join(explained.split())


def test_two_columns_of_one_name_are_refused(send: Callable[..., str]) -> None:
    twice = examples.raw("roman-numerals")
    twice["spec"]["silver"]["columns"].append(twice["spec"]["silver"]["columns"][0])
    assert "Duplicate value" in refusal(lambda: send("create", twice, "--dry-run=server"))
