"""The kinds of resources that the operator reads or writes, as the API server addresses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse_operator.cluster.errors import Refused


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource in one version.

    Attributes:
        group: the API group; empty for the core group.
        version: the version of the group, as `v1beta1`.
        name: the `kind` of a manifest, as `FlinkDeployment`.
        plural: the resource in a URL, as `flinkdeployments`.
    """

    group: str
    version: str
    name: str
    plural: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` of a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The URL path of the group and version, without a slash in front: `apis/flink.apache.org/v1beta1`."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.api_version}"


LAKEHOUSE_PIPELINE = Kind("lakehouse.dev", "v1alpha1", "LakehousePipeline", "lakehousepipelines")
LAKEHOUSE_RUN = Kind("lakehouse.dev", "v1alpha1", "LakehouseRun", "lakehouseruns")
LAKEHOUSE_BACKFILL = Kind("lakehouse.dev", "v1alpha1", "LakehouseBackfill", "lakehousebackfills")
FLINK_DEPLOYMENT = Kind("flink.apache.org", "v1beta1", "FlinkDeployment", "flinkdeployments")
FLINK_STATE_SNAPSHOT = Kind("flink.apache.org", "v1beta1", "FlinkStateSnapshot", "flinkstatesnapshots")
SPARK_APPLICATION = Kind("sparkoperator.k8s.io", "v1beta2", "SparkApplication", "sparkapplications")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
NAMESPACE = Kind("", "v1", "Namespace", "namespaces")
SECRET = Kind("", "v1", "Secret", "secrets")
POD = Kind("", "v1", "Pod", "pods")
EVENT = Kind("events.k8s.io", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")

_KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        LAKEHOUSE_PIPELINE,
        LAKEHOUSE_RUN,
        LAKEHOUSE_BACKFILL,
        FLINK_DEPLOYMENT,
        FLINK_STATE_SNAPSHOT,
        SPARK_APPLICATION,
        CONFIG_MAP,
        SECRET,
        POD,
        EVENT,
        LEASE,
    )
}


def kind_named(api_version: str, name: str) -> Kind:
    """The kind with this `apiVersion` and `kind`.

    Raises:
        Refused: if it is none of those that the operator works with.
    """
    kind = _KINDS.get((api_version, name))
    if kind is None:
        raise Refused(f"the operator does not work with kind {name!r} of {api_version!r}")
    return kind


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest.

    Raises:
        Refused: if it is none of those that the operator works with.
    """
    return kind_named(manifest["apiVersion"], manifest["kind"])
