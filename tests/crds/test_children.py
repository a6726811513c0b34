"""FlinkDeployments and SparkApplications on a real API server, with the CRDs as upstream ships them."""

import json
import subprocess

import pytest

from control_plane.api_server import ControlPlane
from control_plane.fixtures import new_namespace
from lakehouse_operator.planning import names
from lakehouse_operator.planning.definition import build_definition_record
from lakehouse_operator.planning.flink_manifest import build_flink_deployment, build_state_snapshot
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.plan import Manifest
from planning import children, examples

RICH = {
    "spec__source__security": {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "secretRef": {"name": "kafka"},
        "verifyWith": "secret",
        "clientCertificate": True,
    },
    "spec__bronze__pod": {
        "labels": {"team": "data"},
        "annotations": {"example.com/cost-center": "42"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "streams", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
        "priorityClassName": "streams",
        "imagePullSecrets": [{"name": "registry"}],
    },
    "spec__silver__pod": {"tolerations": [{"key": "batch", "value": "yes"}]},
    "spec__silver__executor": {"instances": 3, "cores": 2, "cpu": 1.5},
    "spec__maintenance": {},
}
"""Every optional part at once."""


def create(plane: ControlPlane, manifest: Manifest, namespace: str) -> None:
    plane.kubectl("create", "--validate=strict", "--filename=-", f"--namespace={namespace}", stdin=json.dumps(manifest))


def in_namespace(pipeline: ValidPipeline, namespace: str) -> ValidPipeline:
    raw = {"apiVersion": "lakehouse.dev/v1alpha1", "kind": "LakehousePipeline", "spec": pipeline.spec.to_raw()}
    return examples.valid({**raw, "metadata": {"name": pipeline.name, "namespace": namespace, "uid": "1-2-3"}})


@pytest.mark.parametrize("name", [*examples.names(), "rich"])
def test_upstream_accepts_every_field_of_the_children(control_plane: ControlPlane, namespace: str, name: str) -> None:
    pipeline = examples.valid("roman-numerals", **RICH) if name == "rich" else examples.valid(name)
    pipeline = in_namespace(pipeline, namespace)
    create(control_plane, on_flink_1(build_flink_deployment(pipeline)), namespace)
    create(control_plane, build_definition_record(pipeline), namespace)
    for stage in pipeline.stages:
        create(control_plane, children.application(pipeline, stage), namespace)


def test_upstream_accepts_every_field_of_a_savepoint_that_is_asked_for(
    control_plane: ControlPlane, namespace: str
) -> None:
    pipeline = in_namespace(examples.valid("roman-numerals"), namespace)
    asked = build_state_snapshot(pipeline, names.savepoint(pipeline.name, "2026-01-31T12:00:00Z"))
    create(control_plane, asked, namespace)
    with pytest.raises(subprocess.CalledProcessError, match="unknown field") as refused:
        create(control_plane, {**asked, "spec": {**asked["spec"], "disposal": True}}, namespace)
    assert "disposal" in str(refused.value.stderr)


def test_an_old_flink_operator_accepts_the_deployment(bare_control_plane: ControlPlane) -> None:
    bare_control_plane.install_operators(flink="1.7.0", spark=None)
    namespace = new_namespace(bare_control_plane)
    pipeline = in_namespace(examples.valid("roman-numerals", **RICH), namespace)
    create(bare_control_plane, on_flink_1(build_flink_deployment(pipeline)), namespace)
    bare_control_plane.remove_crds(bare_control_plane.crds / "flink-1.7.0.yaml")


def on_flink_1(deployment: Manifest) -> Manifest:
    """With a version that these CRDs know; Flink 2 is known from 1.12 on, which can't be had here."""
    return {**deployment, "spec": {**deployment["spec"], "flinkVersion": "v1_18"}}
