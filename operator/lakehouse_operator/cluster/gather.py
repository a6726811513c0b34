"""Reading everything in the cluster that a decision about one pipeline looks at. Nothing here writes.

A list that can't be read is an error of the whole round, never an empty list: "no runs" and "the runs could not be
listed" lead to different plans. A kind that is not installed has no objects.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lakehouse_contract.decoding import SettingsRefused
from lakehouse_operator.cluster.errors import NotFound, NotInstalled, Refused
from lakehouse_operator.cluster.kinds import (
    CONFIG_MAP,
    FLINK_DEPLOYMENT,
    FLINK_STATE_SNAPSHOT,
    LAKEHOUSE_BACKFILL,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    POD,
    SPARK_APPLICATION,
    Kind,
)
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.planning import names
from lakehouse_operator.planning.observed import (
    Application,
    BackfillObject,
    Observed,
    PipelineObject,
    RunObject,
    Savepoint,
    Stream,
)
from lakehouse_operator.planning.record import Record, from_data
from lakehouse_operator.planning.runs import asks_why

DUMMY_SAVEPOINT = "KUBERNETES_OPERATOR_LAST_STATE"
"""What the Flink operator writes where a path should stand after a last-state upgrade (AbstractJobReconciler)."""
_CHILDREN = (LAKEHOUSE_RUN, SPARK_APPLICATION, FLINK_STATE_SNAPSHOT, LAKEHOUSE_BACKFILL, CONFIG_MAP)
"""What is found by the pipeline's label. A run or backfill of a person's own gets it when it is first seen."""
_HA_LABELS = {"configmap-type": "high-availability"}
_APPLICATION_LABEL, _ROLE_LABEL = "sparkoperator.k8s.io/app-name", "spark-role"
"""What the Spark operator and Spark write on their pods."""
_SPARK_CONTAINERS = ("spark-kubernetes-driver", "spark-kubernetes-executor")
_OUT_OF_MEMORY = "OOMKilled"
_EXIT_CODE = re.compile(r"ExitCode: (\d+)")


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was read, and the version of the record that was, so that no other writer's record is written over."""

    seen: Observed
    record_version: str | None


async def gather(cluster: Cluster, namespace: str, name: str, now: datetime) -> Gathered:
    """Read one pipeline and all that belongs to it.

    Raises:
        NotFound: The pipeline is gone.
        ClusterError: Something could not be read.
    """
    raw = await cluster.read(LAKEHOUSE_PIPELINE, namespace, name)
    labels = {names.PIPELINE_LABEL: name}
    record, (deployment, ha), referenced, (lhrs, applications, snapshots, backfills, owned) = await asyncio.gather(
        _optional(cluster, CONFIG_MAP, namespace, names.record(name)),
        _deployment(cluster, namespace, names.deployment(name)),
        _referenced(cluster, namespace, raw.get("spec", {})),
        asyncio.gather(*(_followed(cluster, kind, namespace, labels) for kind in _CHILDREN)),
    )
    runs = tuple(map(read_run, lhrs))
    pipeline = read_pipeline(raw)
    known, unreadable = _read_record(record)
    seen = Observed(
        now=now,
        pipeline=pipeline,
        capabilities=await cluster.capabilities(),
        record=known,
        unreadable=unreadable,
        stream=read_stream(deployment, ha) if deployment else None,
        leftover=None if deployment else await _leftover(cluster, namespace, name),
        namespace_ending=pipeline.deleting_since is not None and await cluster.is_ending(namespace),
        savepoints=(*_nonce_savepoints(deployment), *map(read_savepoint, snapshots)),
        runs=runs,
        applications=await _explained(cluster, namespace, runs, applications),
        backfills=tuple(map(read_backfill, backfills)),
        config_maps={each["metadata"]["name"]: each.get("data", {}) for each in owned} | referenced,
    )
    return Gathered(seen, record["metadata"]["resourceVersion"] if record else None)


def _read_record(config_map: Resource | None) -> tuple[Record, str | None]:
    """The record, and why it can't be read."""
    if config_map is None:
        return Record(), None
    try:
        return from_data(config_map.get("data", {})), None
    except SettingsRefused as refused:
        return Record(), str(refused)


async def _optional(cluster: Cluster, kind: Kind, namespace: str, name: str) -> Resource | None:
    try:
        return await cluster.read(kind, namespace, name)
    except (NotFound, NotInstalled):
        return None


async def _followed(cluster: Cluster, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Resource]:
    """Children, as new as what we wrote and what rang the bell. Whatever is newer will ring it; ConfigMaps with the
    label are written by nobody else.
    """
    try:
        return await cluster.list_followed(kind, namespace, labels)
    except NotInstalled:
        return []


async def _deployment(cluster: Cluster, namespace: str, name: str) -> tuple[Resource | None, list[Resource]]:
    """The FlinkDeployment, and then Flink's metadata as it is by now: nothing rings when Flink removes that."""
    found = await _optional(cluster, FLINK_DEPLOYMENT, namespace, name)
    if found is None:
        return None, []
    return found, await cluster.list_labelled(CONFIG_MAP, namespace, {**_HA_LABELS, "app": name})


async def _leftover(cluster: Cluster, namespace: str, name: str) -> str | None:
    """The UID of what Flink has noted of a job whose FlinkDeployment is gone.

    Its operator finds such ConfigMaps by a label that the leader election of Flink 2.1 does not write.
    """
    found = await _optional(cluster, CONFIG_MAP, namespace, names.high_availability(name))
    return str(found["metadata"]["uid"]) if found else None


def referenced_config_maps(spec: Mapping[str, Any]) -> set[str]:
    """The names of the ConfigMaps that the models of a pipeline's spec take their SQL from."""
    models = (spec.get("gold") or {}).get("models") or []
    return {model["sqlFrom"]["configMap"] for model in models if model.get("sqlFrom")}


async def _referenced(cluster: Cluster, namespace: str, spec: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """The ConfigMaps that models take their SQL from."""
    wanted = sorted(referenced_config_maps(spec))
    found = await asyncio.gather(*(_optional(cluster, CONFIG_MAP, namespace, name) for name in wanted))
    return {each["metadata"]["name"]: each.get("data", {}) for each in found if each}


async def _explained(
    cluster: Cluster, namespace: str, runs: Iterable[RunObject], applications: Iterable[Resource]
) -> tuple[Application, ...]:
    """The applications of runs. Where one has failed and why is still to be judged, its pods are asked."""
    of = {run.name: run for run in runs}
    read = [read_application(each) for each in applications if _run_of(each)]
    return tuple(
        [
            with_pods(each, await _pods(cluster, namespace, each.name))
            if each.run in of and asks_why(of[each.run], each)
            else each
            for each in read
        ]
    )


async def _pods(cluster: Cluster, namespace: str, application: str) -> list[Resource]:
    """The pods of an application that are still there; none where the operator may not list them."""
    try:
        return await cluster.list_labelled(POD, namespace, {_APPLICATION_LABEL: application})
    except Refused as error:
        _log.warning("%s/%s failed and its pods can't be listed: %s", namespace, application, error)
        return []


def _run_of(resource: Resource) -> str | None:
    run: str | None = resource["metadata"].get("labels", {}).get(names.RUN_LABEL)
    return run


# --- one object at a time -------------------------------------------------------------------------------------------


def moment(text: str | int | None) -> datetime | None:
    """A time as some API writes it: RFC 3339, or milliseconds since 1970, also as text."""
    if text is None or text == "":
        return None
    if isinstance(text, int) or text.isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    return datetime.fromisoformat(text).astimezone(UTC)


def _created(metadata: Mapping[str, Any]) -> datetime:
    return moment(metadata["creationTimestamp"]) or datetime.min.replace(tzinfo=UTC)


def _owner(metadata: Mapping[str, Any]) -> str | None:
    return next((each["uid"] for each in metadata.get("ownerReferences", ()) if each.get("controller")), None)


def read_pipeline(raw: Resource) -> PipelineObject:
    """A LakehousePipeline as the API server holds it."""
    metadata = raw["metadata"]
    return PipelineObject(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        spec=raw.get("spec", {}),
        status=raw.get("status", {}),
        annotations=metadata.get("annotations", {}),
        finalizers=tuple(metadata.get("finalizers", ())),
        deleting_since=moment(metadata.get("deletionTimestamp")),
    )


def read_run(raw: Resource) -> RunObject:
    """A LakehouseRun as the API server holds it."""
    metadata = raw["metadata"]
    return RunObject(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=_owner(metadata),
        created_at=_created(metadata),
        spec=raw["spec"],
        status=raw.get("status", {}),
        annotations=metadata.get("annotations", {}),
        deleting="deletionTimestamp" in metadata,
    )


def read_backfill(raw: Resource) -> BackfillObject:
    """A LakehouseBackfill as the API server holds it."""
    metadata = raw["metadata"]
    return BackfillObject(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created_at=_created(metadata),
        spec=raw["spec"],
        status=raw.get("status", {}),
        deleting="deletionTimestamp" in metadata,
    )


def read_application(raw: Resource) -> Application:
    """A SparkApplication: the few fields that are read here, in the Spark operator's own words."""
    metadata, status = raw["metadata"], raw.get("status", {})
    state = status.get("applicationState", {})
    message = state.get("errorMessage") or None
    exit_code = _EXIT_CODE.search(message or "")
    return Application(
        name=metadata["name"],
        uid=metadata["uid"],
        run=_run_of(raw) or "",
        attempt=int(metadata.get("labels", {}).get(names.ATTEMPT_LABEL, "0")),
        state=state.get("state", ""),
        message=message,
        exit_code=int(exit_code.group(1)) if exit_code else None,
        started_at=moment(status.get("lastSubmissionAttemptTime")),
        finished_at=moment(status.get("terminationTime")),
    )


def with_pods(application: Application, pods: Iterable[Resource]) -> Application:
    """A failed application with what its pods say: the driver's, and those of executors that are still there."""
    pods = list(pods)
    of = {role: [each for each in pods if _role(each) == role] for role in ("driver", "executor")}
    killed = any(_ended(each).get("reason") == _OUT_OF_MEMORY for each in of["executor"])
    application = replace(application, executor_out_of_memory=killed)
    if not of["driver"]:
        return application
    driver = of["driver"][0]
    code = _ended(driver).get("exitCode")
    return replace(
        application,
        pod_reason=_pod_reason(driver),
        pod_message=driver.get("status", {}).get("message") or None,
        last_words=_ended(driver).get("message") or None,
        exit_code=application.exit_code if application.exit_code is not None else code,
    )


def _role(pod: Resource) -> str | None:
    role: str | None = pod["metadata"].get("labels", {}).get(_ROLE_LABEL)
    return role


def _pod_reason(pod: Resource) -> str | None:
    """Why a pod ended: its container's memory first, then what Kubernetes did to the pod, then the container's own."""
    status, ended = pod.get("status", {}), _ended(pod).get("reason")
    disrupted = (
        each.get("reason")
        for each in status.get("conditions") or ()
        if each.get("type") == "DisruptionTarget" and each.get("status") == "True"
    )
    deleted = "Deleted" if "deletionTimestamp" in pod["metadata"] else None
    memory = ended if ended == _OUT_OF_MEMORY else None
    return memory or status.get("reason") or next(disrupted, None) or deleted or ended


def _ended(pod: Resource) -> Mapping[str, Any]:
    """How Spark's container of a pod has ended; nothing if it has not."""
    containers = pod.get("status", {}).get("containerStatuses") or ()
    states = (each.get("state", {}).get("terminated") for each in containers if each["name"] in _SPARK_CONTAINERS)
    return next((each for each in states if each), {})


_SNAPSHOT_STATES: Mapping[str, Literal["Pending", "Completed", "Failed"]] = {
    "COMPLETED": "Completed",
    "FAILED": "Failed",
    "ABANDONED": "Failed",
}


def read_savepoint(raw: Resource) -> Savepoint:
    """A FlinkStateSnapshot."""
    metadata, status = raw["metadata"], raw.get("status", {})
    return Savepoint(
        name=metadata["name"],
        uid=metadata["uid"],
        state=_SNAPSHOT_STATES.get(status.get("state", ""), "Pending"),
        path=status.get("path"),
        error=status.get("error"),
        created_at=_created(metadata),
    )


def _nonce_savepoints(deployment: Resource | None) -> tuple[Savepoint, ...]:
    """The result of the newest savepoint that was asked for by nonce, where there are no FlinkStateSnapshots."""
    job = (deployment or {}).get("status", {}).get("jobStatus", {})
    last = job.get("savepointInfo", {}).get("lastSavepoint") or {}
    nonce = last.get("triggerNonce")
    if nonce is None or not last.get("location"):
        return ()
    return (
        Savepoint(
            name=f"nonce-{nonce}",
            uid=None,
            state="Completed",
            path=last["location"],
            error=None,
            created_at=moment(last.get("timeStamp")),
        ),
    )


def read_stream(raw: Resource, ha: Iterable[Resource]) -> Stream:
    """A FlinkDeployment, in the Flink operator's own words; see `operators` in the documentation for the traps."""
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status", {})
    job = status.get("jobStatus", {})
    desired = spec.get("job", {}).get("state", "running")
    return Stream(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        labels=metadata.get("labels", {}),
        annotations=metadata.get("annotations", {}),
        spec=spec,
        desired_state="suspended" if desired == "suspended" else "running",
        settled=_is_settled(metadata, desired, status),
        lifecycle_state=status.get("lifecycleState"),
        job_manager=status.get("jobManagerDeploymentStatus"),
        job_state=job.get("state"),
        job_id=job.get("jobId"),
        savepoint_path=_savepoint_path(job),
        restore_mode=_restore_mode(status),
        checkpoint_in_metadata=any(_holds_checkpoint(each) for each in ha),
        started_at=moment(job.get("startTime")),
        error=status.get("error"),
        deleting="deletionTimestamp" in metadata,
    )


def _holds_checkpoint(ha: Resource) -> bool:
    """Whether a ConfigMap of Flink's high-availability metadata names a completed checkpoint."""
    names_one = any(key.startswith("checkpointID-") for key in ha.get("data") or {})
    return names_one and "deletionTimestamp" not in ha["metadata"]


def _is_settled(metadata: Mapping[str, Any], desired: str, status: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the current spec. One that was created suspended is settled and never says so."""
    observed = status.get("observedGeneration") or _deployed_generation(status.get("reconciliationStatus", {}))
    if observed is None:
        return desired == "suspended"
    return bool(observed >= metadata.get("generation", 0))


def _deployed_generation(reconciliation: Mapping[str, Any]) -> int | None:
    """The generation that a Flink operator has deployed which sets no `observedGeneration` (seen with 1.7.0)."""
    if reconciliation.get("state") != "DEPLOYED":
        return None
    try:
        about = json.loads(reconciliation.get("lastReconciledSpec") or "{}")["resource_metadata"]
        return int(about["metadata"]["generation"])
    except (KeyError, TypeError, ValueError):
        return None


def _savepoint_path(job: Mapping[str, Any]) -> str | None:
    path = job.get("upgradeSavepointPath")
    if path is None:  # before 1.10
        path = (job.get("savepointInfo", {}).get("lastSavepoint") or {}).get("location")
    return None if path == DUMMY_SAVEPOINT else path


def _restore_mode(status: Mapping[str, Any]) -> Literal["savepoint", "last-state", "stateless"] | None:
    reconciled = status.get("reconciliationStatus", {}).get("lastReconciledSpec")
    found = re.search(r'"upgradeMode"\s*:\s*"(savepoint|last-state|stateless)"', reconciled or "")
    match found.group(1) if found else None:
        case "savepoint":
            return "savepoint"
        case "last-state":
            return "last-state"
        case "stateless":
            return "stateless"
        case _:
            return None
