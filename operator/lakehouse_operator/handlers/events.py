"""What happened rings a bell. kopf's low-level handlers add no finalizer and no annotation to anything."""

from collections.abc import Mapping
from typing import Any

import kopf

from lakehouse_operator.cluster.kinds import (
    FLINK_DEPLOYMENT,
    FLINK_STATE_SNAPSHOT,
    LAKEHOUSE_BACKFILL,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    SPARK_APPLICATION,
    Kind,
)
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.handlers.bells import Bells
from lakehouse_operator.handlers.labels import Labels
from lakehouse_operator.planning import names

_OWN = (LAKEHOUSE_RUN, LAKEHOUSE_BACKFILL)
_CHILDREN = (FLINK_DEPLOYMENT, FLINK_STATE_SNAPSHOT, SPARK_APPLICATION)


class Meanings:
    """Tells events that mean something from those that only echo a status that we wrote ourselves."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, ...]] = {}

    def is_news(self, body: Mapping[str, Any], *, gone: bool) -> bool:
        """Whether an object of ours has changed in anything but its status."""
        metadata = body["metadata"]
        if gone:
            self._seen.pop(metadata["uid"], None)
            return True
        meaning = (
            metadata.get("generation"),
            metadata.get("deletionTimestamp"),
            dict(metadata.get("annotations", {})),
            tuple(metadata.get("finalizers", ())),
        )
        if self._seen.get(metadata["uid"]) == meaning:
            return False
        self._seen[metadata["uid"]] = meaning
        return True


def register(registry: kopf.OperatorRegistry, bells: Bells, cluster: Cluster, labels: Labels) -> None:
    """Put the handlers into a registry."""
    meanings = Meanings()

    @kopf.on.event(*_resource(LAKEHOUSE_PIPELINE), registry=registry)
    async def pipeline_event(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's own name
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        if meanings.is_news(body, gone=type == "DELETED"):
            bells.begin(key, body["metadata"].get("generation", 0))

    async def own_event(body: kopf.Body, type: str | None, resource: kopf.Resource, **_: Any) -> None:  # noqa: A002
        _hear(cluster, resource, body)
        key = (body["metadata"]["namespace"], body["spec"]["pipelineRef"]["name"])
        await labels.see(body, key[1], gone=type == "DELETED")
        if meanings.is_news(body, gone=type == "DELETED"):
            bells.ring(key)

    async def child_event(body: kopf.Body, resource: kopf.Resource, **_: Any) -> None:
        _hear(cluster, resource, body)
        pipeline = body["metadata"].get("labels", {}).get(names.PIPELINE_LABEL)
        if pipeline:
            bells.ring((body["metadata"]["namespace"], pipeline))

    for kind in _OWN:
        kopf.on.event(*_resource(kind), registry=registry, id=kind.name)(own_event)
    for kind in _CHILDREN:
        label = {names.PIPELINE_LABEL: kopf.PRESENT}
        kopf.on.event(*_resource(kind), registry=registry, id=kind.name, labels=label)(child_event)


_BY_PLURAL = {kind.plural: kind for kind in (*_OWN, *_CHILDREN)}


def _hear(cluster: Cluster, resource: kopf.Resource, body: kopf.Body) -> None:
    """What is listed from now on must not be older than what rings the bell."""
    cluster.heard(_BY_PLURAL[resource.plural], body["metadata"]["resourceVersion"])


def _resource(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
