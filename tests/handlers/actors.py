"""Who else acts on the cluster in these tests: a user, the Flink and the Spark operator. Their lines are scripted."""

from collections.abc import Mapping
from typing import Any

from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.kinds import (
    FLINK_DEPLOYMENT,
    FLINK_STATE_SNAPSHOT,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    POD,
    SPARK_APPLICATION,
    Kind,
)
from lakehouse_operator.cluster.port import Cluster, Resource

NAME = "clicks"


def manifest(namespace: str, *, silver: bool = False, gold: bool = False, **bronze: Any) -> Resource:
    """A small pipeline."""
    spec: dict[str, Any] = {
        "source": {"bootstrapServers": "kafka:9092", "topic": "clicks"},
        "catalog": {"type": "rest", "uri": "http://catalog:8181", "warehouse": "s3://lake/warehouse"},
        "bronze": {
            "image": "flink:1",
            "flinkVersion": "v1_20",
            "checkpoint": {"directory": "s3://lake/checkpoints", "savepointDirectory": "s3://lake/savepoints"},
            "upgrade": {"soak": {"duration": "0s"}},
            "recoveryPoints": {"interval": "0s"},
            **bronze,
        },
    }
    if gold:
        select = "SELECT page, count(*) AS clicks FROM silver.clicks GROUP BY page"
        spec["gold"] = {
            "schedule": "30 * * * *",
            "interval": "1h",
            "models": [{"name": "gold.pages", "kind": "full", "sql": select}],
        }
    if silver or gold:
        spec["silver"] = {
            "image": "spark:1",
            "trigger": {"mode": "clock"},
            "columns": [{"name": "page", "type": "string", "path": "$.page"}],
            "tables": [
                {"name": "silver.clicks", "columns": [{"name": "page", "type": "string", "expression": "page"}]}
            ],
        }
    return {
        "apiVersion": LAKEHOUSE_PIPELINE.api_version,
        "kind": LAKEHOUSE_PIPELINE.name,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": spec,
    }


class Actors:
    """Everybody but the operator under test."""

    def __init__(self, outsider: Cluster, namespace: str) -> None:
        self.cluster = outsider
        self.namespace = namespace

    async def create_pipeline(self, **changes: Any) -> None:
        await self.cluster.apply(manifest(self.namespace, **changes))

    async def read(self, kind: Kind, name: str) -> Resource:
        return await self.cluster.read(kind, self.namespace, name)

    async def pipeline(self) -> Resource:
        return await self.read(LAKEHOUSE_PIPELINE, NAME)

    async def deployment(self) -> Resource:
        return await self.read(FLINK_DEPLOYMENT, f"{NAME}-bronze")

    async def runs(self) -> list[Resource]:
        return await self.cluster.list_labelled(LAKEHOUSE_RUN, self.namespace, {})

    async def applications(self) -> list[Resource]:
        return await self.cluster.list_labelled(SPARK_APPLICATION, self.namespace, {})

    async def condition(self, kind: str) -> str | None:
        conditions = (await self.pipeline()).get("status", {}).get("conditions", [])
        return next((each["status"] for each in conditions if each["type"] == kind), None)

    async def delete(self, kind: Kind, resource: Resource) -> None:
        """Somebody deletes an object with kubectl."""
        metadata = resource["metadata"]
        await self.cluster.delete(kind, self.namespace, metadata["name"], metadata["uid"])

    async def _tell(self, kind: Kind, resource: Resource, status: dict[str, Any]) -> None:
        metadata = resource["metadata"]
        await self.cluster.write_status(kind, self.namespace, metadata["name"], uid=metadata["uid"], status=status)

    async def flink_runs(self, job: str = "a" * 32) -> None:
        """The Flink operator has deployed the current spec, and its job runs and has completed a checkpoint."""
        deployment = await self.deployment()
        await self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": f"{NAME}-bronze-{job}-config-map",
                    "namespace": self.namespace,
                    "labels": {"app": f"{NAME}-bronze", "configmap-type": "high-availability"},
                },
                "data": {"checkpointID-0000000000000000001": "..."},
            }
        )
        await self._tell(
            FLINK_DEPLOYMENT,
            deployment,
            {
                "observedGeneration": deployment["metadata"]["generation"],
                "lifecycleState": "STABLE",
                "jobManagerDeploymentStatus": "READY",
                "jobStatus": {
                    "state": "RUNNING",
                    "jobId": job,
                    "jobName": "bronze",
                    "startTime": "1767225600000",
                    "checkpointInfo": {},
                    "savepointInfo": {},
                },
                "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": '{"upgradeMode":"savepoint"}'},
            },
        )

    async def flink_gives_up(self) -> None:
        """The job has failed for good; the Flink operator names what it was started from, and HA metadata stays."""
        deployment = await self.deployment()
        status = deployment["status"]
        job = {**status["jobStatus"], "state": "FAILED"}
        told = {**status, "observedGeneration": deployment["metadata"]["generation"], "lifecycleState": "FAILED"}
        await self._tell(FLINK_DEPLOYMENT, deployment, {**told, "jobStatus": job, "error": "the state can't be read"})

    async def savepoint_taken(self, path: str) -> None:
        """The Flink operator has taken the savepoint that was asked for."""
        (asked,) = await self.cluster.list_labelled(FLINK_STATE_SNAPSHOT, self.namespace, {})
        await self._tell(FLINK_STATE_SNAPSHOT, asked, {"state": "COMPLETED", "path": path, "failures": 0})

    async def annotate(self, name: str, value: str, **changes: Any) -> None:
        """A person annotates the pipeline."""
        pipeline = manifest(self.namespace, **changes)
        pipeline["metadata"]["annotations"] = {name: value}
        await self.cluster.apply(pipeline)

    async def follow(self) -> None:
        """The Flink operator notes each change of a running deployment, as it always does."""
        try:
            deployment = await self.deployment()
        except NotFound:
            return
        status = deployment.get("status", {})
        running = (
            status.get("jobStatus", {}).get("state") == "RUNNING" and deployment["spec"]["job"]["state"] == "running"
        )
        if running and status["observedGeneration"] != deployment["metadata"]["generation"]:
            await self.flink_runs(status["jobStatus"]["jobId"])

    async def flink_stopped(self, path: str) -> None:
        """The Flink operator has stopped the job with a savepoint."""
        deployment = await self.deployment()
        await self._tell(
            FLINK_DEPLOYMENT,
            deployment,
            {
                "observedGeneration": deployment["metadata"]["generation"],
                "lifecycleState": "SUSPENDED",
                "jobManagerDeploymentStatus": "MISSING",
                "jobStatus": {
                    "state": "FINISHED",
                    "jobId": "a" * 32,
                    "upgradeSavepointPath": path,
                    "checkpointInfo": {},
                    "savepointInfo": {"lastSavepoint": {"location": path, "timeStamp": 1767225600000}},
                },
                "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": '{"upgradeMode":"savepoint"}'},
            },
        )

    async def spark_says(self, name: str, state: str, message: str = "") -> None:
        """The Spark operator writes an application's state."""
        application = await self.read(SPARK_APPLICATION, name)
        status = {
            "applicationState": {"state": state, "errorMessage": message},
            "driverInfo": {},
            "lastSubmissionAttemptTime": "2026-01-01T01:00:00Z",
            "terminationTime": "2026-01-01T01:05:00Z" if state in ("COMPLETED", "FAILED") else None,
        }
        await self._tell(SPARK_APPLICATION, application, status)

    async def pod_ended(
        self, application: str, *, reason: str, role: str = "driver", says: Mapping[str, Any] | None = None
    ) -> None:
        """The kubelet writes how a pod that Spark made for an application has ended."""
        container, name = f"spark-kubernetes-{role}", f"{application}-{role}"
        pod = await self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"sparkoperator.k8s.io/app-name": application, "spark-role": role},
                },
                "spec": {"containers": [{"name": container, "image": "spark:1"}]},
            }
        )
        ended = {"terminated": {"exitCode": 137, "reason": reason}}
        containers = [
            {"name": container, "image": "spark:1", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
        ]
        await self._tell(POD, pod, {"phase": "Failed", "containerStatuses": containers, **(says or {})})
