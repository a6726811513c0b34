"""What a person would want to see after a failed test: objects, events and logs of the whole world, in files."""

from pathlib import Path

from e2e.cluster import Cluster, Refused
from e2e.platform import SERVICES, SYSTEM, TENANT

KINDS = "lhp,lhr,lhb,flinkdeployments,sparkapplications,deployments,statefulsets,pods,configmaps,events"


def keep(cluster: Cluster, folder: Path) -> None:
    """Write everything to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for namespace in (TENANT, SYSTEM, SERVICES):
        _keep(folder / f"{namespace}.yaml", cluster, "get", KINDS, "-n", namespace, "-o", "yaml")
        _keep(folder / f"{namespace}.txt", cluster, "get", KINDS, "-n", namespace, "-o", "wide")
        for pod in _pods(cluster, namespace):
            log = folder / f"{namespace}.{pod}.log"
            _keep(log, cluster, "logs", pod, "-n", namespace, "--all-containers", "--prefix")
            _keep(
                log.with_suffix(".previous.log"),
                cluster,
                "logs",
                pod,
                "-n",
                namespace,
                "--all-containers",
                "--previous",
            )


def _pods(cluster: Cluster, namespace: str) -> list[str]:
    try:
        return cluster.pods(namespace)
    except Refused:
        return []


def _keep(path: Path, cluster: Cluster, *arguments: str) -> None:
    try:
        text = cluster.kubectl(*arguments)
    except Refused:
        return  # a container that has not been there before has no log of before
    path.write_text(text)
