"""Everything that the charts render is accepted by a real API server, field by field."""

import json
import subprocess
from typing import Any

import pytest

from helm.chart import SAMPLE, Manifest, render
from helm.guarded import Guarded
from helm.matrix import EVERYTHING, MATRIX


@pytest.fixture(scope="module")
def teams(guarded: Guarded) -> Guarded:
    """The API server with the namespaces that the matrix names, under the restricted Pod Security Standard."""
    for name in ("lakehouse", "team-a", "team-b"):
        guarded.plane.create_namespace(name)
        guarded.plane.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        guarded.plane.kubectl("create", "serviceaccount", "default", f"--namespace={name}")
    return guarded


def accept(server: Guarded, manifests: list[Manifest], *, replace: bool = False) -> list[str]:
    """Let the API server check them strictly, without keeping them; what they are called."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    how = ["apply", "--server-side", "--force-conflicts"] if replace else ["create"]
    options = ["--dry-run=server", "--validate=strict", "--filename=-", "--output=name"]
    return server.plane.kubectl(*how, *options, stdin=listed).split()


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_what_it_renders_is_accepted(teams: Guarded, values: dict[str, Any]) -> None:
    manifests = render(values)
    # CRDs of an earlier test may be there.
    crds = [each for each in manifests if each["kind"] == "CustomResourceDefinition"]
    # A pod is not accepted before its service account.
    others = [each for each in manifests if each["kind"] not in ("CustomResourceDefinition", "Pod")]
    assert len(accept(teams, others)) == len(others)
    if crds:
        assert len(accept(teams, crds, replace=True)) == len(crds)
    for pod in (each for each in manifests if each["kind"] == "Pod"):
        accept(teams, [{**pod, "spec": {**pod["spec"], "serviceAccountName": "default"}}])


@pytest.mark.parametrize(
    ("kind", "field"),
    [("Deployment", "spec"), ("ServiceMonitor", "spec"), ("PrometheusRule", "spec"), ("NetworkPolicy", "spec")],
)
def test_the_check_is_strict(teams: Guarded, kind: str, field: str) -> None:
    (manifest,) = (each for each in render(EVERYTHING) if each["kind"] == kind)
    manifest[field]["notAField"] = 1
    with pytest.raises(subprocess.CalledProcessError) as refused:
        accept(teams, [manifest])
    assert "notAField" in refused.value.stderr


def test_the_sample_is_accepted(teams: Guarded) -> None:
    teams.plane.install_own_crds()
    assert accept(teams, render(chart=SAMPLE)) == ["lakehousepipeline.lakehouse.dev/lakehouse"]
