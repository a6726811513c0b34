"""The commands for a cluster: what a person asks for stands in the objects afterwards, as the operator reads it.

The same is true of a real API server, and of a world on this machine.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from typer.testing import CliRunner, Result

from control_plane.api_server import ControlPlane
from control_plane.fixtures import new_namespace
from handlers.actors import NAME, manifest
from lakehouse_operator.api.run import LakehouseRun
from lakehouse_operator.cli import app
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL, LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN, Kind
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.commands import remote
from lakehouse_operator.local import engines
from lakehouse_operator.local.directory import world_directory
from lakehouse_operator.local.world import cluster_of
from lakehouse_operator.planning import names
from lakehouse_operator.planning.pipeline import Problems
from lakehouse_operator.planning.situation import FORGET_ANNOTATION, RESTORE_ANNOTATION, SAVEPOINT_ANNOTATION
from lakehouse_operator.planning.structure import read

T = TypeVar("T")
WORLD = "test-commands"
_numbers = count(1)


@dataclass
class Place:
    """A pipeline in a namespace of its own, and how the commands find it."""

    where: list[str]
    namespace: str
    control_plane: ControlPlane | None

    def lakehouse(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "-n", self.namespace, *self.where])

    def told(self, *arguments: str) -> str:
        """What a command says that succeeds."""
        result = self.lakehouse(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def do(self, work: Callable[[Cluster], Coroutine[None, None, T]]) -> T:
        """Do something to the cluster as the operator would."""

        async def run() -> T:
            if self.control_plane is None:
                return await work(cluster_of(world_directory(engines.find().home, WORLD)))
            async with KubernetesCluster(Login(self.control_plane.kubeconfig)) as cluster:
                return await work(cluster)

        return asyncio.run(run())

    def read(self, kind: Kind, name: str) -> Resource:
        return self.do(lambda cluster: cluster.read(kind, self.namespace, name))

    @property
    def pipeline(self) -> Resource:
        return self.read(LAKEHOUSE_PIPELINE, NAME)

    def report(self, status: dict[str, Any]) -> None:
        uid = self.pipeline["metadata"]["uid"]
        self.do(lambda cluster: cluster.write_status(LAKEHOUSE_PIPELINE, self.namespace, NAME, uid=uid, status=status))


@pytest.fixture(params=["world", "api server"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "world":
        directory = world_directory(engines.find().home, WORLD)
        directory.make()
        made = Place(["--world", WORLD], f"test-{next(_numbers)}", None)
    else:
        plane: ControlPlane = request.getfixturevalue("control_plane")
        made = Place(["--kubeconfig", str(plane.kubeconfig)], new_namespace(plane), plane)
    made.do(lambda cluster: cluster.apply(manifest(made.namespace, silver=True)))
    yield made
    if made.control_plane is None:
        directory.clear()


STATUS = {
    "conditions": [
        {
            "type": "Ready", "status": "True", "reason": "Running", "message": "it runs",
            "lastTransitionTime": "2026-01-31T12:00:00Z",
        }
    ],
    "stream": {"state": "Running", "revision": "0b502c911bdd", "jobId": "ab" * 16},
    "layers": {"silver": {"completedThrough": "2026-01-31T11:00:00Z"}},
    "recoveryPoints": [
        {
            "name": "manual-1", "path": "s3://lake/savepoints/1", "takenAt": "2026-01-31T10:00:00Z",
            "trigger": "manual", "proven": True,
        }
    ],
}  # fmt: skip


def test_status_shows_the_pipelines_of_a_namespace_and_one_of_them_in_full(place: Place) -> None:
    place.report(STATUS)
    line = next(line for line in place.told("status").splitlines() if line.startswith(NAME))
    assert line.split() == [NAME, "True", "Running", "2026-01-31T11:00:00Z", "it", "runs"]
    shown = place.told("status", NAME)
    for part in ("stream: Running, revision 0b502c911bdd", "manual-1", "s3://lake/savepoints/1", "it runs"):
        assert part in shown
    assert json.loads(place.told("status", NAME, "-o", "json")) == place.pipeline["status"]
    assert yaml.safe_load(place.told("status", "-o", "yaml"))[0]["name"] == NAME


def test_what_does_not_exist_is_an_error_in_one_line(place: Place) -> None:
    for command in (["status", "nothing"], ["suspend", "nothing"], ["retry", "nothing"], ["approve", "nothing"]):
        result = place.lakehouse(*command)
        assert result.exit_code == 1
        assert result.output.startswith("error: ")
        assert "not found" in result.output
        assert "Traceback" not in result.output


def test_a_stage_is_run_by_hand_over_what_is_new_or_over_days(place: Place) -> None:
    name = place.told("run", NAME, "--stage", "silver").split()[-1]
    run = place.read(LAKEHOUSE_RUN, name)
    assert run["spec"] == {"pipelineRef": {"name": NAME}, "stage": "silver", "reason": "manual"}
    assert run["metadata"]["labels"] == {names.PIPELINE_LABEL: NAME}
    assert not isinstance(read(LakehouseRun, run), Problems)
    assert name in place.told("runs", NAME)
    [listed] = json.loads(place.told("runs", NAME, "-o", "json"))
    assert (listed["name"], listed["spec"]) == (name, run["spec"])


def test_the_runs_say_of_which_class_the_last_attempt_failed_and_why(place: Place) -> None:
    name = place.told("run", NAME, "--stage", "silver").split()[-1]
    uid = place.read(LAKEHOUSE_RUN, name)["metadata"]["uid"]
    failed = {"application": "an-attempt", "startedAt": "2026-01-31T11:00:00Z", "outcome": "Failed"}
    first = {**failed, "number": 1, "failureClass": "Infrastructure", "message": "evicted"}
    last = {**failed, "number": 2, "failureClass": "Data", "message": "the rule positive is broken"}
    told = {
        "type": "Succeeded", "status": "False", "reason": "Data", "message": last["message"],
        "lastTransitionTime": "2026-01-31T11:00:00Z",
    }  # fmt: skip
    status = {"phase": "Failed", "attempts": [first, last], "conditions": [told]}
    place.do(lambda cluster: cluster.write_status(LAKEHOUSE_RUN, place.namespace, name, uid=uid, status=status))
    (heads, line) = place.told("runs", NAME).splitlines()
    assert heads.split()[-3:] == ["ATTEMPTS", "CLASS", "MESSAGE"]
    assert line.split()[-8:] == ["Failed", "2", "Data", *last["message"].split()]


def test_days_are_run_by_hand_the_last_one_is_the_first_one_if_none_is_given(place: Place) -> None:
    name = place.told("run", NAME, "--stage", "silver", "--from", "2026-01-31").split()[-1]
    assert place.read(LAKEHOUSE_RUN, name)["spec"]["days"] == {"first": "2026-01-31", "last": "2026-01-31"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--stage", "bronze"], 'spec.stage: must be one of silver, gold, maintenance, not "bronze"'),
        (["--stage", "silver", "--from", "2026-02-01", "--to", "2026-01-31"], "first must not lie after last"),
        (["--stage", "maintenance", "--from", "2026-02-01"], "days belong to stage silver or gold"),
        (["--stage", "maintenance"], f"{NAME} has no maintenance: spec.maintenance is not set"),
    ],
)
def test_a_run_that_can_not_be_is_refused_with_its_field(place: Place, options: list[str], sentence: str) -> None:
    result = place.lakehouse("run", NAME, *options)
    assert result.exit_code == 1
    assert sentence in result.output
    assert place.do(lambda cluster: cluster.list_labelled(LAKEHOUSE_RUN, place.namespace, {})) == []


def test_a_failed_run_is_tried_again_with_the_definition_of_today(place: Place) -> None:
    old = {
        "apiVersion": LAKEHOUSE_RUN.api_version,
        "kind": LAKEHOUSE_RUN.name,
        "metadata": {"name": "old", "namespace": place.namespace, "labels": {names.PIPELINE_LABEL: NAME}},
        "spec": {
            "pipelineRef": {"name": NAME}, "stage": "silver", "reason": "schedule", "revision": "0b502c911bdd",
            "dataInterval": {"start": "2026-01-31T10:00:00Z", "end": "2026-01-31T11:00:00Z"},
        },
    }  # fmt: skip
    created = place.do(lambda cluster: cluster.create_once(old)).resource
    refused = place.lakehouse("retry", "old")
    assert (refused.exit_code, "old is Pending; only a run that failed" in refused.output) == (1, True)
    place.do(
        lambda cluster: cluster.write_status(
            LAKEHOUSE_RUN, place.namespace, "old", uid=created["metadata"]["uid"], status={"phase": "Failed"}
        )
    )
    name = place.told("retry", "old").split()[-1]
    assert place.read(LAKEHOUSE_RUN, name)["spec"] == {
        "pipelineRef": {"name": NAME},
        "stage": "silver",
        "reason": "manual",
        "dataInterval": {"start": "2026-01-31T10:00:00Z", "end": "2026-01-31T11:00:00Z"},
    }


def test_a_savepoint_is_asked_for_by_annotation(place: Place) -> None:
    before = place.pipeline
    place.told("savepoint", NAME)
    after = place.pipeline
    assert after["metadata"]["annotations"][SAVEPOINT_ANNOTATION]
    assert after["spec"] == before["spec"]


def test_only_a_recovery_point_that_is_known_can_be_restored(place: Place) -> None:
    place.report(STATUS)
    refused = place.lakehouse("restore", NAME, "manual-2")
    assert refused.exit_code == 1
    assert f"{NAME} has no recovery point manual-2; there are: manual-1" in refused.output
    assert "annotations" not in place.pipeline["metadata"]
    place.told("restore", NAME, "manual-1")
    assert place.pipeline["metadata"]["annotations"][RESTORE_ANNOTATION].startswith("manual-1/")


def test_only_a_recovery_point_that_is_known_can_be_given_up(place: Place) -> None:
    place.report(STATUS)
    assert "has no recovery point manual-2" in place.lakehouse("forget", NAME, "manual-2").output
    assert "annotations" not in place.pipeline["metadata"]
    place.told("forget", NAME, "manual-1")
    assert place.pipeline["metadata"]["annotations"][FORGET_ANNOTATION].startswith("manual-1/")


def test_a_pipeline_is_suspended_and_resumed_and_nothing_else_of_it_changes(place: Place) -> None:
    before = place.pipeline["spec"]
    place.told("suspend", NAME)
    assert place.pipeline["spec"] == {**before, "suspend": True}
    place.told("resume", NAME)
    assert place.pipeline["spec"] == {**before, "suspend": False}


def test_what_one_command_has_set_is_not_taken_back_by_another(place: Place) -> None:
    place.report(STATUS)
    place.told("suspend", NAME)
    place.told("savepoint", NAME)
    place.told("restore", NAME, "manual-1")
    assert place.pipeline["spec"]["suspend"] is True
    assert place.pipeline["metadata"]["annotations"].keys() >= {SAVEPOINT_ANNOTATION, RESTORE_ANNOTATION}


def test_a_backfill_is_proposed_and_runs_only_when_it_is_approved(place: Place) -> None:
    said = place.told("backfill", NAME, "--from", "2026-01-01", "--to", "2026-01-31", "--reprocess", "failed")
    name = said.split()[2]
    backfill = place.read(LAKEHOUSE_BACKFILL, name)
    assert backfill["spec"]["range"] == {"first": "2026-01-01", "last": "2026-01-31"}
    assert backfill["spec"]["reprocess"] == "failed"
    assert not backfill["spec"].get("approved")
    place.told("approve", name)
    assert place.read(LAKEHOUSE_BACKFILL, name)["spec"] == {**backfill["spec"], "approved": True}


def test_what_the_audit_of_a_backfill_lets_pass_is_part_of_the_proposal(place: Place) -> None:
    days = ("--from", "2026-01-01", "--to", "2026-01-01")
    said = place.told("backfill", NAME, *days, "--max-events-lost", "0.25", "--max-null-increase", "0")
    audit = {"maxEventsLost": 0.25, "maxNullIncrease": 0}
    assert place.read(LAKEHOUSE_BACKFILL, said.split()[2])["spec"]["audit"] == audit
    refused = place.lakehouse("backfill", NAME, *days, "--max-events-lost", "25")
    assert refused.exit_code == 2
    assert "--max-events-lost" in refused.output


def test_proposals_of_a_pipeline_with_a_long_name_are_told_apart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = (f"2026-02-01T12:00:0{second}Z" for second in (0, 1, 1))
    monkeypatch.setattr(remote, "_token", lambda: next(tokens))
    pipeline = "a-pipeline-with-a-name-of-forty-characters"
    days = ("--from", "2026-01-01", "--to")
    for last in ("2026-01-31", "2026-01-31"):
        place.told("backfill", pipeline, *days, last)
    backfills = place.do(lambda cluster: cluster.list_labelled(LAKEHOUSE_BACKFILL, place.namespace, {}))
    assert len({each["metadata"]["name"] for each in backfills}) == 2

    refused = place.lakehouse("backfill", pipeline, *days, "2026-01-31", "--reprocess", "none")
    assert refused.exit_code == 1
    assert "there is another LakehouseBackfill" in refused.output


def test_a_program_is_told_which_object_tells_of_what_it_asked_for(place: Place) -> None:
    place.report(STATUS)
    about_pipeline = {"kind": "LakehousePipeline", "namespace": place.namespace, "name": NAME}
    for command in (["savepoint"], ["restore"], ["forget"], ["suspend"], ["resume"]):
        point = ["manual-1"] if command[0] in ("restore", "forget") else []
        assert json.loads(place.told(*command, NAME, *point, "-o", "json")) == about_pipeline
    run = yaml.safe_load(place.told("run", NAME, "--stage", "silver", "-o", "yaml"))
    assert place.read(LAKEHOUSE_RUN, run["name"])["metadata"]["namespace"] == run["namespace"]
    days = ["--from", "2026-01-01", "--to", "2026-01-02"]
    backfill = json.loads(place.told("backfill", NAME, *days, "-o", "json"))
    assert backfill["kind"] == "LakehouseBackfill"
    assert json.loads(place.told("approve", backfill["name"], "-o", "json")) == backfill
    assert place.read(LAKEHOUSE_BACKFILL, backfill["name"])["spec"]["approved"]


def test_the_program_is_a_plugin_of_kubectl(control_plane: ControlPlane) -> None:
    namespace = new_namespace(control_plane)
    programs = f"{control_plane._binaries}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["kubectl", "lakehouse", "status", "-n", namespace, "-o", "json"],
        env={**os.environ, "PATH": programs, "KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("given", ["2026-01-32", "yesterday"])
def test_a_backfill_of_days_that_are_none_is_refused(place: Place, given: str) -> None:
    result = place.lakehouse("backfill", NAME, "--from", "2026-01-01", "--to", given)
    assert result.exit_code == 1
    assert "spec.range.last" in result.output


@pytest.mark.parametrize("place", ["api server"], indirect=True)
def test_without_a_namespace_that_of_the_kubeconfigs_context_is_meant(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.control_plane is not None
    place.report(STATUS)
    config = yaml.safe_load(place.control_plane.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = place.namespace
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["status", NAME, "-o", "json", "--kubeconfig", str(kubeconfig)])
    assert (result.exit_code, json.loads(result.output)) == (0, place.pipeline["status"])

    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert CliRunner().invoke(app, ["suspend", NAME]).exit_code == 0
    assert place.pipeline["spec"]["suspend"] is True


@pytest.mark.parametrize("place", ["api server"], indirect=True)
def test_another_context_of_the_kubeconfig_is_meant_where_it_is_named(place: Place, tmp_path: Path) -> None:
    assert place.control_plane is not None
    place.report(STATUS)
    config = yaml.safe_load(place.control_plane.kubeconfig.read_text())
    (current,) = config["contexts"]
    config["contexts"].append({"name": "other", "context": {**current["context"], "namespace": place.namespace}})
    config["clusters"].append({"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}})
    current["context"]["cluster"] = "gone"  # the current context leads nowhere
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    asked = ["status", NAME, "-o", "json", "--kubeconfig", str(kubeconfig), "--context"]
    result = CliRunner().invoke(app, [*asked, "other"])
    assert (result.exit_code, json.loads(result.output)) == (0, place.pipeline["status"])
    unknown = CliRunner().invoke(app, [*asked, "nowhere"])
    assert unknown.exit_code == 1
    assert "nowhere" in unknown.output
