"""Everybody but the operator: a user who applies pipelines, and the Flink operator, whose lines are scripted."""

import asyncio
import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.operator.lake import Lake
from benchmarks.operator.world import NAMESPACE, Server

from lakehouse_operator.cluster.errors import ClusterError
from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT, Kind
from lakehouse_operator.cluster.port import Cluster, Resource

JOB = "a" * 32
_NOT_YET = 429
"""What the API server answers while it prepares a kind whose CRD is new."""
_NEVER = "0 0 1 1 *"
"""A schedule that does not tick while it is measured."""


def manifest(example: Resource, name: str, lake: Lake | None = None) -> Resource:
    """One of the pipelines: the example under another name, with nothing that a clock would set off.

    Its runs are due at New Year, nothing soaks, and no recovery points are taken: else it would not be at rest. With a
    lake, its data are there.
    """
    made = copy.deepcopy(example)
    made["metadata"] = {"name": name, "namespace": NAMESPACE}
    spec = made["spec"]
    spec["source"].pop("consumerGroup", None)
    spec["bronze"] |= {"flinkVersion": "v1_20"}
    spec["bronze"].setdefault("upgrade", {})["soak"] = {"duration": "0s"}
    spec["bronze"]["recoveryPoints"] = {"interval": "0s"}
    for stage in ("silver", "gold", "maintenance"):
        if stage in spec:
            spec[stage]["schedule"] = _NEVER
    if lake is not None:
        lake.localize(made)
    return made


@dataclass(slots=True)
class Watched:
    """All objects of one kind, as a watch tells of them. Whoever waits is woken by each event."""

    kind: Kind
    objects: dict[str, Resource] = field(default_factory=dict)
    events: int = 0
    last_event: float = field(default_factory=time.monotonic)
    _version: str = ""
    _listeners: list[Callable[[Resource, float], None]] = field(default_factory=list)

    @contextmanager
    def heard_by(self, listener: Callable[[Resource, float], None]) -> Iterator[None]:
        """Call somebody with each object that comes or changes, and the moment in which it did."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def follow(self, server: Server) -> None:
        """Watch until cancelled. The server ends the watch of whoever is too slow; it goes on where it was."""
        url = f"{server.plane.url}/{self.kind.root}/namespaces/{NAMESPACE}/{self.kind.plural}"
        while True:
            query = {"watch": "1", "timeoutSeconds": "86400", "resourceVersion": self._version}
            async with server.session.get(url, params=query) as answer:
                if answer.status == _NOT_YET:
                    await asyncio.sleep(0.2)
                    continue
                answer.raise_for_status()
                async for line in answer.content:
                    self._note(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"] == "ERROR":
            self._version = ""  # too old by now: begin with all that there is
            return
        self._version = event["object"]["metadata"]["resourceVersion"]
        self.last_event = time.monotonic()
        self.events += 1
        name = event["object"]["metadata"]["name"]
        if event["type"] == "DELETED":
            self.objects.pop(name, None)
            return
        self.objects[name] = event["object"]
        for listener in (*self._listeners,):
            listener(event["object"], self.last_event)


@dataclass(slots=True)
class FlinkOperator:
    """Carries out each change of a FlinkDeployment at once: jobs run, and stop with a savepoint."""

    cluster: Cluster
    lake: Lake | None = None
    _due: "asyncio.Queue[Resource]" = field(default_factory=asyncio.Queue)

    def hear(self, deployment: Resource, _: float) -> None:
        """Note a deployment; one whose status speaks of its current spec needs nothing."""
        if deployment.get("status", {}).get("observedGeneration") != deployment["metadata"]["generation"]:
            self._due.put_nowait(deployment)

    async def work(self) -> None:
        """Carry out what is due, until cancelled."""
        while True:
            deployment = await self._due.get()
            try:
                await self._carry_out(deployment)
            except ClusterError:
                continue  # it has changed since; its next event says so

    async def _carry_out(self, deployment: Resource) -> None:
        metadata = deployment["metadata"]
        running = deployment["spec"]["job"].get("state", "running") == "running"
        if running and "status" not in deployment:
            await self.cluster.apply(_metadata_of_flink(metadata["name"]))
        status = {
            "observedGeneration": metadata["generation"],
            "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": '{"upgradeMode":"savepoint"}'},
            **(_running() if running else _stopped(self._savepoint(f"{metadata['name']}-{metadata['generation']}"))),
        }
        await self.cluster.write_status(
            FLINK_DEPLOYMENT,
            NAMESPACE,
            metadata["name"],
            uid=metadata["uid"],
            status=status,
            resource_version=metadata["resourceVersion"],
        )

    def _savepoint(self, name: str) -> str:
        return self.lake.savepoint(name) if self.lake else f"s3://lake/savepoints/{name}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _metadata_of_flink(deployment: str) -> Resource:
    """The ConfigMap in which Flink notes that a checkpoint has completed."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{deployment}-{JOB}-config-map",
            "namespace": NAMESPACE,
            "labels": {"app": deployment, "configmap-type": "high-availability"},
        },
        "data": {"checkpointID-0000000000000000001": "..."},
    }


def _running() -> Resource:
    return {
        "lifecycleState": "STABLE",
        "jobManagerDeploymentStatus": "READY",
        "jobStatus": {
            "state": "RUNNING",
            "jobId": JOB,
            "jobName": "bronze",
            "startTime": str(_now_ms()),
            "checkpointInfo": {},
            "savepointInfo": {},
        },
    }


def _stopped(path: str) -> Resource:
    return {
        "lifecycleState": "SUSPENDED",
        "jobManagerDeploymentStatus": "MISSING",
        "jobStatus": {
            "state": "FINISHED",
            "jobId": JOB,
            "upgradeSavepointPath": path,
            "checkpointInfo": {},
            "savepointInfo": {"lastSavepoint": {"location": path, "timeStamp": 1767225600000}},
        },
    }


def is_ready(pipeline: Resource) -> bool:
    """Whether a pipeline is ready, and its status speaks of its current spec."""
    status = pipeline.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    return ready and status.get("observedGeneration") == pipeline["metadata"]["generation"]
