"""What a pipeline needs around it, in the cluster: Kafka, PostgreSQL, S3, a catalog, and the three real operators."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from e2e import pages
from e2e.cluster import Cluster, Manifest, rolled_out
from helm.chart import HelmRefused, helm

HERE = Path(__file__).resolve().parent
SERVICES, SYSTEM, TENANT = "lakehouse-e2e-services", "lakehouse-e2e-system", "lakehouse-e2e-data"
"""The namespaces: what surrounds us, our operator, and the pipelines."""
STORES = ("kafka", "postgres", "s3", "rest-catalog")
RELEASE, OPERATOR = "lakehouse", "lakehouse-operator"
"""The release of our chart, and the name of what is in it."""
PODS = {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": "operator"}
"""The labels of our operator's pods."""
KEYS = {"AWS_ACCESS_KEY_ID": "e2e-access-key", "AWS_SECRET_ACCESS_KEY": "e2e-secret-key-0123456789"}
LOGIN = {"username": "lakehouse", "password": "e2e-p@ss:word/%"}
"""A password with what URLs, shells and properties files trip over."""
CREDENTIAL = {"credential": "e2e-client:e2e-rest-s3cret"}
"""What clients of the REST catalog log in with."""
BROKERS = f"kafka.{SERVICES}.svc:9092"
CATALOG = f"jdbc:postgresql://postgres.{SERVICES}.svc:5432/catalog"
REST_CATALOG = f"http://rest-catalog.{SERVICES}.svc:8181"
STORE = f"http://s3.{SERVICES}.svc:9000"
ENDPOINTS = (
    BROKERS,
    f"postgres.{SERVICES}.svc:5432",
    f"rest-catalog.{SERVICES}.svc:8181",
    f"s3.{SERVICES}.svc:9000",
)
REST_SECRET = "lakehouse-rest-catalog"


@dataclass(frozen=True, slots=True)
class Images:
    """References of the images, as the cluster's nodes know them."""

    operator: str
    flink: str
    spark: str
    testbed: str


@dataclass(frozen=True, slots=True)
class Platform:
    """The cluster with everything installed."""

    cluster: Cluster
    images: Images
    folder: Path

    def install(self, crds: Path) -> None:
        """Install what is not there, and wait until it answers.

        Args:
            crds: The folder with the CRDs of the Flink and Spark operators.
        """
        cluster = self.cluster
        cluster.apply(*(_namespace(name) for name in (SERVICES, SYSTEM, TENANT)))
        for name in ("flink-1.7.0.yaml", "spark-2.4.0.yaml"):
            cluster.apply(*yaml.safe_load_all((crds / name).read_text()))
        secrets = {"postgres": LOGIN, "s3": KEYS, "rest-catalog": CREDENTIAL}
        cluster.apply(*(_secret(SERVICES, name, data) for name, data in secrets.items()))
        cluster.apply(_secret(TENANT, REST_SECRET, CREDENTIAL))
        for name in (*STORES, "flink-operator", "spark-operator"):
            cluster.apply(*self.manifests(name), namespace=SERVICES)
        if not self.is_released:
            self.release()
        for name in STORES:
            cluster.kubectl(
                "rollout", "status", f"statefulset/{name}", "-n", SERVICES, "--timeout=600s", seconds=630
            )  # fmt: skip
        rolled_out(cluster, SERVICES, ("flink-operator", "spark-operator"))

    def manifests(self, name: str) -> list[Manifest]:
        """The objects of one service, in this world's names."""
        text = Template((HERE / "services" / f"{name}.yaml").read_text())
        names = {"services": SERVICES, "tenant": TENANT, "testbed": self.images.testbed, "spark": self.images.spark}
        return list(yaml.safe_load_all(text.substitute(names)))

    @property
    def is_released(self) -> bool:
        """Whether our chart is installed."""
        try:
            self.helm("status", RELEASE)
        except HelmRefused:
            return False
        return True

    def release(self) -> str:
        """Install our chart and ask it whether it is well, as docs/install.md says. Return what it answers."""
        repository, _, tag = self.images.operator.rpartition(":")
        values = {
            "fullnameOverride": OPERATOR,
            "image": {"tag": tag},
            # On a cluster of somebody's own there may be other pipelines: they are none of our business.
            "watchNamespaces": [TENANT],
            "observation": {
                "allowedEndpoints": list(ENDPOINTS),
                "secrets": {TENANT: ["lakehouse-catalog", "lakehouse-s3", REST_SECRET]},
            },
        }
        file = self.folder / "operator-values.json"
        file.write_text(json.dumps(values))
        return self.documented(
            "install.md",
            "The operator",
            {
                "registry.example.com/lakehouse-operator": repository,
                "jobs.namespaces={data}": f"jobs.namespaces={{{TENANT}}}",
                "--create-namespace": f"--create-namespace -f '{file}'",
            },
        )

    def documented(self, page: str, section: str, names: Mapping[str, str] | None = None, *, block: int = 0) -> str:
        """Run a block of commands of a page, in this world's names: the first under a heading, or another."""
        script = pages.sections(page)[section][block]
        ours = {"-n data": f"-n {TENANT}", "-n lakehouse": f"-n {SYSTEM}", "NAME": "roman-numerals"}
        ours = {told: meant for told, meant in ours.items() if told in script}
        return pages.run(self.cluster, script, {**ours, **(names or {})})

    def helm(self, *arguments: str, namespace: str = SYSTEM, values: Mapping[str, Any] | None = None) -> str:
        """Run Helm on this cluster."""
        place = (f"--namespace={namespace}", f"--kubeconfig={self.cluster.kubeconfig}")
        return helm(*arguments, *place, values=values)

    def metrics(self) -> str:
        """What our operator's Service serves."""
        address = f"/api/v1/namespaces/{SYSTEM}/services/{OPERATOR}-metrics:8080/proxy/metrics"
        return self.cluster.kubectl("get", "--raw", address)


def _namespace(name: str) -> Manifest:
    # The strictest standard of Kubernetes: pods that want more are refused.
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _secret(namespace: str, name: str, data: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(data),
    }
