"""A cluster to test against, real or fake, seen by the operator and by somebody else."""

from dataclasses import dataclass
from typing import Any

from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT
from lakehouse_operator.cluster.port import Cluster, Resource


@dataclass(frozen=True, slots=True)
class World:
    """One cluster and two who use it.

    Attributes:
        cluster: the operator's view.
        outsider: the same cluster for another field manager.
        namespace: an empty namespace.
        other_namespace: another one.
    """

    cluster: Cluster
    outsider: Cluster
    namespace: str
    other_namespace: str

    async def deployment(self, name: str = "bronze", **spec: Any) -> Resource:
        """Apply a FlinkDeployment with some fields of its spec."""
        return await self.cluster.apply(deployment(self.namespace, name, **spec))

    async def read(self, name: str = "bronze") -> Resource:
        """The FlinkDeployment of this name."""
        return await self.cluster.read(FLINK_DEPLOYMENT, self.namespace, name)


def deployment(namespace: str, name: str = "bronze", *, labels: dict[str, str] | None = None, **spec: Any) -> Resource:
    """The manifest of a FlinkDeployment, the largest and pickiest of the foreign kinds."""
    metadata: dict[str, Any] = {"namespace": namespace, "name": name}
    if labels:
        metadata["labels"] = labels
    return {
        "apiVersion": FLINK_DEPLOYMENT.api_version,
        "kind": FLINK_DEPLOYMENT.name,
        "metadata": metadata,
        "spec": {"flinkVersion": "v1_20", **spec},
    }
