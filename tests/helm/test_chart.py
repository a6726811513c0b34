"""The chart as files: what it says about itself, what it refuses, and that it agrees with the rest of the project."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from cluster.fake_cluster import FakeCluster
from control_plane.api_server import REPOSITORY
from helm.chart import CHART, SAMPLE, HelmRefused, Manifest, helm, is_hook, of_kind, render
from helm.matrix import EVERYTHING, MATRIX, NOTHING
from lakehouse_operator.config import Config, read_config
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.metrics import REGISTRY
from lakehouse_operator.planning.flink_manifest import build_flink_deployment
from lakehouse_operator.planning.names import deployment
from planning.examples import valid

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("chart", [CHART, SAMPLE], ids=lambda chart: chart.name)
def test_a_chart_has_the_version_of_the_project(chart: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert described["version"] == described["appVersion"] == project["version"]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_helm_finds_no_fault_with_it(values: dict[str, Any]) -> None:
    helm("lint", "--strict", str(CHART), values=values)


def test_helm_finds_no_fault_with_the_sample() -> None:
    helm("lint", "--strict", str(SAMPLE), values={"spec": {"suspend": True}})


# --- values -----------------------------------------------------------------------------------------------------------


def leaves(schema: dict[str, Any], path: str = "") -> set[str]:
    """The paths of the fields that the schema knows and does not divide further."""
    properties = schema.get("properties", {})
    if not properties:
        return {path}
    return set().union(*(leaves(part, f"{path}.{name}".lstrip(".")) for name, part in properties.items()))


def lines_of_values() -> Iterator[tuple[str, str]]:
    """Each key of values.yaml as a path, and the line above it."""
    path: list[str] = []
    above = ""
    for line in VALUES.splitlines():
        if key := re.match(r"( *)([A-Za-z]+):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            yield ".".join(path), above.strip()
        above = line


def test_values_and_schema_name_the_same_fields() -> None:
    known = leaves(SCHEMA) - {"global"}
    keys = {path for path, _ in lines_of_values()}
    assert known <= keys
    assert not [
        key for key in keys if not any(f"{leaf}.".startswith(f"{key}.") or key.startswith(f"{leaf}.") for leaf in known)
    ]


def test_every_value_is_explained() -> None:
    known = leaves(SCHEMA)
    assert [path for path, above in lines_of_values() if path in known and not above.startswith("#")] == []


def test_the_defaults_fit_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(yaml.safe_load(VALUES))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": "two"}, "'/replicas': got string, want integer"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"watchNamespaces": ["Team_A"]}, "'/watchNamespaces/0': 'Team_A' does not match"),
        ({"watchNamespaces": "team-a"}, "'/watchNamespaces': got string, want array"),
        ({"image": {"digest": "latest"}}, "'/image/digest': 'latest' does not match"),
        ({"image": {"pullPolicy": "Sometimes"}}, "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ({"staleAfterSeconds": 5}, "'/staleAfterSeconds': minimum: got 5, want 10"),
        ({"metrics": {"port": 70000}}, "'/metrics/port': maximum"),
        ({"observation": {"allowedEndpoints": ["a,b"]}}, "'/observation/allowedEndpoints/0'"),
        ({"observation": {"secrets": {"team-a": []}}}, "'/observation/secrets/team-a': minItems"),
        ({"metrics": {"rules": {"notReadyFor": "soon"}}}, "'/metrics/rules/notReadyFor': 'soon' does not match"),
        ({"extraEnv": [{"name": "CONCURRENCY", "value": "1"}]}, "'/extraEnv/0/name': 'not' failed"),
        ({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, "'/networkPolicy/apiServer/cidrs/0'"),
        ({"replicas": 2, "leaderElection": {"enabled": False}}, "set leaderElection.enabled to true"),
        ({"metrics": {"enabled": False, "rules": {"enabled": True}}}, "metrics.enabled is false"),
        ({"serviceAccount": {"create": False}}, "set serviceAccount.name"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:40],
)
def test_a_wrong_value_is_refused_and_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        render(values)
    assert message in str(refused.value)


# --- what is rendered -------------------------------------------------------------------------------------------------


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in manifests
        if each["kind"] in ("Pod", "Deployment", "Job")
    ]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_every_pod_keeps_to_the_restricted_standard(values: dict[str, Any]) -> None:
    found = pods(render(values))
    assert len(found) == 3
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(container["resources"])
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}


def operator_container(values: dict[str, Any]) -> Manifest:
    (deployment,) = of_kind(render(values), "Deployment")
    container: Manifest = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def test_the_operator_reads_every_setting_as_it_was_given() -> None:
    container = operator_container(
        {
            "watchNamespaces": ["team-a", "team-b"],
            "observation": {"allowedEndpoints": ["kafka:9092", "*.data.svc:*"]},
            "concurrency": 1_000_000,
            "staleAfterSeconds": 60,
            "probes": {"port": 9001},
            "metrics": {"port": 9000},
            "leaderElection": {"enabled": False},
        }
    )
    environment = {each["name"]: each.get("value", each["name"].lower()) for each in container["env"]}
    config = read_config(environment)
    assert config.namespaces == ("team-a", "team-b")
    assert config.allowed_endpoints == ("kafka:9092", "*.data.svc:*")
    assert (config.concurrency, config.stale_after, config.leader_election) == (1_000_000, 60, False)
    assert (config.metrics_port, config.health_port) == (9000, 9001)
    assert (config.namespace, config.identity) == ("pod_namespace", "pod_name_pod_uid")
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {"metrics": 9000, "health": 9001}


def test_no_setting_of_the_operator_is_out_of_reach() -> None:
    class Asked(dict[str, str]):
        def __init__(self) -> None:
            self.names: set[str] = set()

        def get(self, name: str, default: Any = None) -> Any:
            self.names.add(name)
            return default

    asked = Asked()
    read_config(asked)
    assert {each["name"] for each in operator_container({})["env"]} == asked.names


def test_without_metrics_none_are_served() -> None:
    container = operator_container(NOTHING)
    assert {"name": "METRICS_PORT", "value": "0"} in container["env"]
    assert [each["name"] for each in container["ports"]] == ["health"]


@pytest.mark.parametrize(("values", "lease"), [({}, Config().lease), ({"leaseName": "other"}, "other")])
def test_the_lease_of_the_role_is_the_one_that_the_operator_asks_for(values: dict[str, str], lease: str) -> None:
    rendered = render({"leaderElection": values})
    named = [
        name
        for role in of_kind(rendered, "Role")
        for rule in role["rules"]
        if rule["resources"] == ["leases"]
        for name in rule.get("resourceNames", [])
    ]
    (deployment,), (test,) = of_kind(rendered, "Deployment"), of_kind(rendered, "Pod")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = [each["value"] for each in container["env"] if each["name"] == "LEASE_NAME"]
    assert (named, told) == ([lease], [lease])
    assert f"--lease={lease}" in test["spec"]["containers"][0]["args"]


def test_the_service_finds_the_operators_pods_and_no_others() -> None:
    manifests = render({"podLabels": {"app.kubernetes.io/component": "other"}})
    (service,) = of_kind(manifests, "Service")
    labels = {
        each["kind"]: each["metadata"]["labels"]
        if each["kind"] == "Pod"
        else each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if each["kind"] in ("Pod", "Deployment", "Job")
    }
    selector = service["spec"]["selector"].items()
    assert {kind for kind, carried in labels.items() if selector <= carried.items()} == {"Deployment"}


def test_with_namespaces_there_is_nothing_of_the_cluster_but_the_crds() -> None:
    kinds = {each["kind"] for each in render({"watchNamespaces": ["team-a"]})}
    assert not {kind for kind in kinds if kind.startswith("Cluster")}


def test_no_secret_can_be_read_but_those_that_are_named() -> None:
    rules = [
        (role["metadata"].get("namespace"), rule)
        for role in (*of_kind(render(EVERYTHING), "Role"), *of_kind(render(EVERYTHING), "ClusterRole"))
        for rule in role["rules"]
        if "secrets" in rule["resources"]
    ]
    assert [(namespace, rule["verbs"], rule["resourceNames"]) for namespace, rule in rules] == [
        ("team-a", ["get"], ["lakehouse-s3", "lakehouse-catalog"]),
        ("team-b", ["get"], ["lakehouse-s3"]),
    ]
    assert not [
        rule for role in of_kind(render(), "ClusterRole") for rule in role["rules"] if "secrets" in rule["resources"]
    ]


OBSERVING: dict[str, Any] = {
    "observation": {"allowedEndpoints": ["kafka:9092"]},
    "networkPolicy": {"enabled": True},
}


def job_managers(values: dict[str, Any]) -> list[Manifest]:
    """The rules of the network policy by which the operator reaches pods of Flink."""
    (policy,) = of_kind(render(values), "NetworkPolicy")
    return [rule for rule in policy["spec"]["egress"] if any("podSelector" in peer for peer in rule.get("to", ()))]


@pytest.mark.parametrize(
    ("values", "namespaces"),
    [
        (OBSERVING, {}),
        (
            {**OBSERVING, "watchNamespaces": ["team-a", "team-b"]},
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}
                ]
            },
        ),
    ],
    ids=["every namespace", "two namespaces"],
)
def test_the_network_policy_lets_the_operator_ask_the_job_managers_of_streams(
    values: dict[str, Any], namespaces: dict[str, Any]
) -> None:
    (rule,) = job_managers(values)
    (peer,) = rule["to"]
    asked = urlsplit(Sight(FakeCluster()).rest_url("team-a", deployment("clicks")))
    assert rule["ports"] == [{"port": asked.port, "protocol": "TCP"}]
    assert peer["namespaceSelector"] == namespaces
    # What Flink's native mode adds to the labels of the pod template (KubernetesUtils.getJobManagerSelectors).
    spec = build_flink_deployment(valid("minimal"))["spec"]
    flinks = {"type": "flink-native-kubernetes", "app": deployment("clicks"), "component": "jobmanager"}
    assert spec["mode"] == "native"
    assert peer["podSelector"]["matchLabels"].items() <= {**spec["podTemplate"]["metadata"]["labels"], **flinks}.items()
    assert peer["podSelector"]["matchLabels"]["component"] == "jobmanager"


def test_an_operator_that_observes_nothing_may_reach_no_job_manager() -> None:
    assert job_managers({"networkPolicy": {"enabled": True}}) == []


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_no_rule_has_a_wildcard(values: dict[str, Any]) -> None:
    manifests = render(values)
    rules = [
        rule for role in (*of_kind(manifests, "Role"), *of_kind(manifests, "ClusterRole")) for rule in role["rules"]
    ]
    assert not [rule for rule in rules if "*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])]


def test_the_jobs_accounts_are_those_that_pipelines_name_by_default() -> None:
    crd = yaml.safe_load((REPOSITORY / "crds" / "lakehousepipelines.lakehouse.dev.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    wanted = {spec[stage]["properties"]["serviceAccount"]["default"] for stage in ("bronze", "silver", "gold")}
    manifests = [
        each for each in render({"watchNamespaces": ["team-a"]}) if each["metadata"].get("namespace") == "team-a"
    ]
    assert {each["metadata"]["name"] for each in of_kind(manifests, "ServiceAccount") if not is_hook(each)} == wanted


# --- copies -----------------------------------------------------------------------------------------------------------


def test_the_charts_crds_are_the_projects() -> None:
    theirs = {file.name: file.read_text() for file in (REPOSITORY / "crds").glob("*.yaml")}
    ours = {file.name: file.read_text() for file in (CHART / "files" / "crds").glob("*.yaml")}
    assert ours == theirs, "run: cp crds/*.yaml helm/lakehouse-operator/files/crds/"


def test_the_rendered_crds_differ_in_labels_and_in_what_keeps_them() -> None:
    rendered = {each["metadata"]["name"]: each for each in of_kind(render(), "CustomResourceDefinition")}
    assert len(rendered) == 3
    for file in (REPOSITORY / "crds").glob("*.yaml"):
        source = yaml.safe_load(file.read_text())
        found = rendered[source["metadata"]["name"]]
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found["metadata"].pop("labels")
        assert found == source


def test_the_sample_is_the_reference_pipeline() -> None:
    source = (REPOSITORY / "examples" / "roman-numerals.yaml").read_text()
    assert (SAMPLE / "files" / "roman-numerals.yaml").read_text() == source
    (rendered,) = render({"name": "roman-numerals"}, chart=SAMPLE)
    assert rendered["spec"] == yaml.safe_load(source)["spec"]
    assert (rendered["metadata"]["name"], rendered["metadata"]["namespace"]) == ("roman-numerals", "lakehouse")


def test_values_of_the_sample_are_laid_over_the_reference_pipeline() -> None:
    (rendered,) = render({"spec": {"source": {"topic": "mine"}, "bronze": {"image": "registry/flink:1"}}}, chart=SAMPLE)
    source = yaml.safe_load((REPOSITORY / "examples" / "roman-numerals.yaml").read_text())["spec"]
    assert rendered["spec"]["source"] == {**source["source"], "topic": "mine"}
    assert rendered["spec"]["bronze"] == {**source["bronze"], "image": "registry/flink:1"}
    assert rendered["spec"]["silver"] == source["silver"]


# --- metrics ----------------------------------------------------------------------------------------------------------


def expressions(manifests: list[Manifest]) -> list[str]:
    """Every PromQL expression of the alerts and the dashboard."""
    (rule,) = of_kind(manifests, "PrometheusRule")
    (board,) = (each for each in of_kind(manifests, "ConfigMap") if "lakehouse.json" in each["data"])
    dashboard = json.loads(board["data"]["lakehouse.json"])
    return [
        *(each["expr"] for group in rule["spec"]["groups"] for each in group["rules"]),
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *(each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"),
    ]


def served() -> dict[str, set[str]]:
    """The series that the operator serves, with their labels."""
    found: dict[str, set[str]] = {}
    for metric in REGISTRY._collector_to_names:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric._type, [""])  # type: ignore[attr-defined]
        for suffix in suffixes:
            extra = {"le"} if suffix == "_bucket" else set()
            found[metric._name + suffix] = {*metric._labelnames, *extra}  # type: ignore[attr-defined]
    return found


def test_alerts_and_dashboard_ask_for_series_and_labels_that_there_are() -> None:
    asked = expressions(render(EVERYTHING))
    assert len(asked) > 20
    series = served()
    for expression in asked:
        names = re.findall(r"lakehouse_\w+", expression)
        assert names, expression
        assert set(names) <= set(series), expression
        of_target = {"job", "instance"}
        labels = {*re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)}
        labels |= {part.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for part in group.split(",")}
        assert labels <= set().union(*(series[name] for name in names)) | of_target, expression


def test_every_series_of_a_pipeline_is_shown_or_watched() -> None:
    asked = " ".join(expressions(render(EVERYTHING)))
    assert not [name for name in served() if name not in asked and not name.endswith(("_count", "_sum"))]


def test_an_alert_says_what_is_wrong_and_what_to_do_and_names_labels_of_its_series() -> None:
    (rule,) = of_kind(render(EVERYTHING), "PrometheusRule")
    series = served()
    for alert in rule["spec"]["groups"][0]["rules"]:
        assert alert["labels"]["severity"] in ("warning", "critical")
        text = " ".join(alert["annotations"][name] for name in ("summary", "description"))
        used = set(re.findall(r"\$labels\.(\w+)", text))
        known = set().union(*(series[name] for name in re.findall(r"lakehouse_\w+", alert["expr"])))
        assert used <= known, alert["alert"]
    assert not re.search(r"[A-Z]+_[A-Z_]{3,}", json.dumps(rule)), "a placeholder was not filled in"


def test_the_thresholds_of_alerts_are_those_of_the_values() -> None:
    values = {"metrics": {"rules": {"enabled": True, "recoveryPointAgeSeconds": 7_200_000, "notReadyFor": "2h"}}}
    (rule,) = of_kind(render(values), "PrometheusRule")
    alerts = {each["alert"]: each for each in rule["spec"]["groups"][0]["rules"]}
    assert alerts["LakehouseRecoveryPointOld"]["expr"].endswith("> 7200000")
    assert alerts["LakehouseRecoveryPointMissing"]["for"] == "7200000s"
    assert alerts["LakehousePipelineNotReady"]["for"] == "2h"
