"""What Kubernetes' garbage collector does: objects whose owner is gone are deleted."""

from lakehouse_operator.cluster.kinds import (
    CONFIG_MAP,
    FLINK_STATE_SNAPSHOT,
    LAKEHOUSE_BACKFILL,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    SPARK_APPLICATION,
)
from lakehouse_operator.cluster.port import Cluster

_OWNERS = (LAKEHOUSE_PIPELINE, LAKEHOUSE_BACKFILL, LAKEHOUSE_RUN)
_OWNED = (LAKEHOUSE_BACKFILL, LAKEHOUSE_RUN, SPARK_APPLICATION, FLINK_STATE_SNAPSHOT, CONFIG_MAP)


async def collect(cluster: Cluster) -> None:
    """Delete what has owners of which none is there any more."""
    living = {each["metadata"]["uid"] for kind in _OWNERS for each in await cluster.list_labelled(kind, None, {})}
    for kind in _OWNED:
        for each in await cluster.list_labelled(kind, None, {}):
            metadata = each["metadata"]
            owners = {owner["uid"] for owner in metadata.get("ownerReferences", ())}
            if owners and not owners & living:
                await cluster.delete(kind, metadata["namespace"], metadata["name"], metadata["uid"])
