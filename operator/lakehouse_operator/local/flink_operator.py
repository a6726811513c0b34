"""What the Flink Kubernetes operator does in a cluster, done on one machine: FlinkDeployments become real Flink jobs.

It follows the upstream operator (1.12, `AbstractFlinkResourceReconciler` and its observers) in what the planner relies
on: how a job is stopped and from where it is started again, which states it goes through, and which failures it leaves
to others. Each deployment has a session cluster of its own; what upstream finds in Flink's high-availability metadata
is the newest checkpoint of the job on disk.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.gather import DUMMY_SAVEPOINT
from lakehouse_operator.cluster.kinds import CONFIG_MAP, FLINK_DEPLOYMENT, FLINK_STATE_SNAPSHOT
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.local import flink
from lakehouse_operator.local.cluster import system_clock
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import TERMINAL, FlinkRefused
from lakehouse_operator.local.processes import Processes, ProcessFailed

FINALIZER = "flinkdeployments.flink.apache.org/finalizer"
REST_URL = "rest-url"
"""In `status.clusterInfo`: where REST and the web UI are."""
_SLOTS = 2
_STOP_SECONDS = 120.0
_LONGEST_ERROR = 600
_IGNORED_OF_JOB = frozenset(
    {
        "savepointTriggerNonce", "initialSavepointPath", "upgradeMode",
        "allowNonRestoredState", "savepointRedeployNonce",
    }
)  # fmt: skip
"""What the upstream operator does not compare (its DiffType IGNORE), and the nonce that it looks at first."""
_POLICIES = "kubernetes.operator."
_RECOVERY = f"{_POLICIES}jm-deployment-recovery.enabled"
_OF_KUBERNETES = (_POLICIES, "kubernetes.", "high-availability.", "env.java.", "taskmanager.numberOfTaskSlots", "s3.")
"""Options of a deployment that have no meaning here; all others reach Flink."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Deployed:
    """A session cluster, and which options it was started with."""

    session: flink.FlinkCluster
    options: Mapping[str, str]


@dataclass(slots=True)
class _Case:
    """One FlinkDeployment in one step: its spec, and its status as it will be written."""

    resource: Resource
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.resource["metadata"]["namespace"])

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.resource["spec"])

    @property
    def configuration(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.spec.get("flinkConfiguration", {})
        return found

    @property
    def job(self) -> dict[str, Any]:
        return dict(self.status.get("jobStatus", {}))

    def set_job(self, **fields: Any) -> None:
        self.status["jobStatus"] = {**self.job, **fields}

    @property
    def job_id(self) -> str | None:
        return self.job.get("jobId")

    @property
    def reconciled(self) -> dict[str, Any] | None:
        text = self.status.get("reconciliationStatus", {}).get("lastReconciledSpec")
        return json.loads(text)["spec"] if text else None

    def set_reconciled(self, spec: Mapping[str, Any], mode: str) -> None:
        reconciled = {**deepcopy(dict(spec)), "job": {**spec["job"], "upgradeMode": mode}}
        self.status["reconciliationStatus"] = {
            "lastReconciledSpec": json.dumps({"spec": reconciled}),
            "state": "DEPLOYED",
        }
        self.status["observedGeneration"] = self.resource["metadata"]["generation"]

    @property
    def directory(self) -> Path:
        """Where the job's checkpoints go; the local world keeps them in files."""
        return Path(urlsplit(self.configuration["execution.checkpointing.dir"]).path)


class LocalFlinkOperator:
    """Reconciles the FlinkDeployments and FlinkStateSnapshots of a local cluster.

    Args:
        cluster: where they are.
        processes: who ends Flink's processes with this program.
        engines: where Flink is.
        directory: configuration, logs and temporary files.
    """

    def __init__(self, cluster: Cluster, processes: Processes, engines: Engines, directory: Path) -> None:
        self._cluster = cluster
        self._processes = processes
        self._engines = engines
        self._directory = directory
        self._deployed: dict[tuple[str, str], _Deployed] = {}

    def rest_url(self, namespace: str, name: str) -> str:
        """Where the JobManager of a deployment answers; empty while it has none."""
        deployed = self._deployed.get((namespace, name))
        return deployed.session.url if deployed else ""

    async def step(self) -> None:
        """One reconciliation of everything."""
        for resource in await self._cluster.list_labelled(FLINK_DEPLOYMENT, None, {}):
            case = _Case(resource, deepcopy(resource.get("status", {})))
            if "deletionTimestamp" in resource["metadata"]:
                await self._clean_up(case)
                continue
            await self._keep_finalizer(case)
            try:
                await self._reconcile(case)
            except (ProcessFailed, FlinkRefused, OSError) as error:
                case.status["error"] = _shortened(error)
            await self._report(case)
            await self._take_savepoints(case)

    # --- the object ---------------------------------------------------------------------------------------------------

    async def _keep_finalizer(self, case: _Case) -> None:
        metadata = case.resource["metadata"]
        if FINALIZER not in metadata.get("finalizers", ()):
            await self._cluster.add_finalizer(
                FLINK_DEPLOYMENT, case.namespace, case.name, uid=metadata["uid"], finalizer=FINALIZER
            )

    async def _report(self, case: _Case) -> None:
        case.status["lifecycleState"] = _lifecycle(case)
        if url := self.rest_url(case.namespace, case.name):
            case.status["clusterInfo"] = {REST_URL: url}
        status = {key: value for key, value in case.status.items() if value is not None}
        if status != case.resource.get("status", {}):
            await self._cluster.write_status(
                FLINK_DEPLOYMENT, case.namespace, case.name, uid=case.resource["metadata"]["uid"], status=status
            )

    async def _clean_up(self, case: _Case) -> None:
        """The deployment is being deleted: its processes and its high-availability metadata go."""
        if deployed := self._deployed.pop((case.namespace, case.name), None):
            await asyncio.to_thread(_end, deployed.session)
        await self._forget_metadata(case)
        uid = case.resource["metadata"]["uid"]
        await self._cluster.remove_finalizer(FLINK_DEPLOYMENT, case.namespace, case.name, uid=uid, finalizer=FINALIZER)

    # --- what to do ---------------------------------------------------------------------------------------------------

    async def _reconcile(self, case: _Case) -> None:
        last = case.reconciled
        if last is None:
            case.status.setdefault("jobManagerDeploymentStatus", "MISSING")
            if case.spec["job"]["state"] == "running":
                await self._deploy_first(case)
            return
        await self._observe(case, last)
        nonce = case.spec["job"].get("savepointRedeployNonce")
        if nonce is not None and nonce != last["job"].get("savepointRedeployNonce"):
            await self._redeploy(case)
        elif _essence(last) != _essence(case.spec):
            await self._change(case, last)
        else:
            case.set_reconciled(case.spec, last["job"]["upgradeMode"])
            if last["job"]["state"] == "running" and case.status["jobManagerDeploymentStatus"] == "MISSING":
                await self._recover(case)

    async def _deploy_first(self, case: _Case) -> None:
        initial = case.spec["job"].get("initialSavepointPath")
        case.set_job(upgradeSavepointPath=initial)
        await self._deploy(case, initial, "savepoint" if initial else "stateless")

    async def _redeploy(self, case: _Case) -> None:
        """Start from a savepoint that the spec names, whatever runs now."""
        path = case.spec["job"].get("initialSavepointPath")
        await self._cancel(case)
        await self._forget_metadata(case)
        case.set_job(upgradeSavepointPath=path)
        if case.spec["job"]["state"] == "running":
            await self._deploy(case, path, "savepoint")
        else:
            self._rest(case, "savepoint")

    async def _change(self, case: _Case, last: Mapping[str, Any]) -> None:
        """The spec is another one: stop what runs, and start what should."""
        mode, runs, should_run = last["job"]["upgradeMode"], last["job"]["state"] == "running", case.spec["job"]
        if runs:
            chosen = self._upgrade_mode(case)
            if chosen is None:
                return
            await self._stop(case, chosen)
            mode = "savepoint" if chosen == "nothing to stop" else chosen
        if should_run["state"] == "suspended":
            self._rest(case, mode)
            return
        if should_run["upgradeMode"] == "stateless":
            mode = "stateless"
        if mode == "last-state":
            path = self._newest_checkpoint(case)
            case.set_job(upgradeSavepointPath=DUMMY_SAVEPOINT)
        else:
            path = case.job.get("upgradeSavepointPath") if mode == "savepoint" else None
            await self._forget_metadata(case)
        await self._deploy(case, path, mode)

    def _upgrade_mode(self, case: _Case) -> str | None:
        """How the job may be stopped (upstream `getJobUpgrade`); None while it may not, and the error says why."""
        wanted = case.spec["job"]["upgradeMode"]
        state = case.job.get("state")
        if wanted == "stateless":
            return "stateless"
        if state in TERMINAL:
            if case.job.get("upgradeSavepointPath") in (None, DUMMY_SAVEPOINT):
                case.status["error"] = "the job has ended and its last checkpoint is not known: restore it by hand"
                return None
            return "nothing to stop"
        if wanted == "savepoint":
            return "savepoint" if state == "RUNNING" else None
        if self._newest_checkpoint(case):
            return "last-state"
        case.status["error"] = "there is no checkpoint to go on from: restore it by hand"
        return None

    def _rest(self, case: _Case, mode: str) -> None:
        case.set_reconciled(case.spec, mode)
        case.set_job(state="FINISHED")
        case.status |= {"jobManagerDeploymentStatus": "MISSING", "error": None}

    async def _recover(self, case: _Case) -> None:
        """The JobManager is lost: go on from the newest checkpoint, as high-availability metadata would have it."""
        if case.configuration.get(_RECOVERY, "true") != "true":
            return
        path = self._newest_checkpoint(case)
        if path is None:
            case.status["error"] = "HA metadata is not available to recover. Manual restore required."
            return
        await self._deploy(case, path, "last-state")

    # --- the job ------------------------------------------------------------------------------------------------------

    async def _observe(self, case: _Case, last: Mapping[str, Any]) -> None:
        if last["job"]["state"] == "suspended":
            return
        deployed = self._deployed.get((case.namespace, case.name))
        if deployed is None or deployed.session.jobmanager.exit_code() is not None:
            case.status |= {"jobManagerDeploymentStatus": "MISSING", "error": "Missing JobManager deployment"}
            if case.job.get("state") not in TERMINAL:
                case.set_job(state="RECONCILING")
            return
        await asyncio.to_thread(self._replace_taskmanager, deployed)
        case.status["jobManagerDeploymentStatus"] = "READY"
        job = case.job_id
        if job is None or case.job.get("state") in TERMINAL:
            return
        try:
            state = await asyncio.to_thread(deployed.session.rest.state, job)
        except OSError:
            return  # it is busy; the next step asks again
        case.set_job(state=state)
        if state == "RUNNING":
            case.status |= {"error": None, "stable": True}
        if state in TERMINAL:
            case.status["error"] = _shortened(deployed.session.rest.root_exception(job) or f"the job is {state}")
            case.set_job(upgradeSavepointPath=self._newest_checkpoint(case))
            await self._forget_metadata(case)
        else:
            await self._keep_metadata(case)

    def _replace_taskmanager(self, deployed: _Deployed) -> None:
        if deployed.session.taskmanager.exit_code() is not None:
            _log.warning("the TaskManager has ended; starting another one")
            deployed.session = flink.replace_taskmanager(self._processes, deployed.session)

    async def _deploy(self, case: _Case, path: str | None, mode: str) -> None:
        """Start the job from a path; what is written before makes a crash in between recognizable."""
        case.set_reconciled(case.spec, mode)
        case.set_job(state="RECONCILING", jobId=None, startTime=str(_now_ms()), startedFrom=path)
        case.status |= {"jobManagerDeploymentStatus": "DEPLOYING", "error": None, "stable": None}
        await self._report(case)
        case.resource["status"] = {key: value for key, value in case.status.items() if value is not None}
        try:
            job = await asyncio.to_thread(self._submit, case, path)
        except (ProcessFailed, FlinkRefused, OSError) as error:
            # As in application mode: a program that fails leaves a failed job behind.
            case.status |= {"jobManagerDeploymentStatus": "READY", "error": _shortened(error)}
            case.set_job(state="FAILED")
            return
        case.set_job(jobId=job, state="INITIALIZING")
        case.status["jobManagerDeploymentStatus"] = "READY"
        _log.info("%s: job %s started%s", case.name, job, f" from {path}" if path else "")

    def _submit(self, case: _Case, path: str | None) -> str:
        session = self._session(case)
        arguments = case.spec["job"]["args"]
        settings = arguments[arguments.index("--settings") + 1]
        return flink.submit(self._processes, session, f"{case.name}-submit", settings, from_savepoint=path).wait()

    def _session(self, case: _Case) -> flink.FlinkCluster:
        """The deployment's session cluster, with room for the job; a new one if the options are others."""
        key, options = (case.namespace, case.name), _options(case.configuration)
        slots = max(_SLOTS, int(case.spec["job"].get("parallelism", 1)))
        there = self._deployed.get(key)
        if there is not None:
            fits = there.session.slots >= slots and there.options == options
            if fits and there.session.jobmanager.exit_code() is None:
                self._replace_taskmanager(there)
                there.session.wait_until_ready()
                return there.session
            _end(there.session)
        session = flink.start(self._processes, self._engines, self._directory / case.name, slots=slots, options=options)
        self._deployed[key] = _Deployed(session, options)
        session.wait_until_ready()
        return session

    async def _stop(self, case: _Case, mode: str) -> None:
        """Stop the job.

        Raises:
            FlinkRefused: The savepoint failed; the job goes on.
        """
        deployed, job = self._deployed.get((case.namespace, case.name)), case.job_id
        if mode == "savepoint" and deployed is not None and job is not None:
            directory = case.configuration["execution.checkpointing.savepoint-dir"]
            path = await asyncio.to_thread(deployed.session.rest.stop_with_savepoint, job, directory)
            case.set_job(upgradeSavepointPath=path, state="FINISHED")
            await self._forget_metadata(case)
        elif mode != "nothing to stop":
            await self._cancel(case)
            if mode == "stateless":
                await self._forget_metadata(case)

    async def _cancel(self, case: _Case) -> None:
        """Cancel the job; its newest checkpoint is retained."""
        deployed, job = self._deployed.get((case.namespace, case.name)), case.job_id
        if deployed is None or job is None or deployed.session.jobmanager.exit_code() is not None:
            return
        rest = deployed.session.rest

        def until_ended() -> None:
            if rest.state(job) not in TERMINAL:
                rest.cancel(job)
            deadline = time.monotonic() + _STOP_SECONDS
            while rest.state(job) not in TERMINAL and time.monotonic() < deadline:
                time.sleep(0.2)

        await asyncio.to_thread(until_ended)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _newest_checkpoint(self, case: _Case) -> str | None:
        """The newest completed checkpoint of the job, or else what it was started from."""
        # Without an id, this program ended while the job was submitted: the job is any that began since.
        since_ns = 0 if case.job_id else int(case.job.get("startTime", 0)) * 1_000_000
        complete = case.directory.glob(f"{case.job_id or '*'}/chk-*/_metadata")
        found = [(path.stat().st_mtime_ns, path.parent) for path in complete]
        newest = max((each for each in found if each[0] >= since_ns), default=None)
        if newest is not None:
            return f"file://{newest[1]}"
        path = case.job.get("startedFrom")
        return str(path) if path else None

    async def _keep_metadata(self, case: _Case) -> None:
        """The ConfigMap in which Flink's high-availability services name the newest checkpoint."""
        path = self._newest_checkpoint(case)
        if path is not None and case.job.get("state") == "RUNNING":
            await self._cluster.apply({**_metadata(case), "data": {"checkpointID-0": path}})

    async def _forget_metadata(self, case: _Case) -> None:
        with suppress(NotFound):
            name = _metadata(case)["metadata"]["name"]
            there = await self._cluster.read(CONFIG_MAP, case.namespace, name)
            await self._cluster.delete(CONFIG_MAP, case.namespace, name, there["metadata"]["uid"])

    async def _take_savepoints(self, case: _Case) -> None:
        """Savepoints that were asked for while the job goes on: FlinkStateSnapshots."""
        deployed, job = self._deployed.get((case.namespace, case.name)), case.job_id
        if deployed is None or job is None or case.job.get("state") != "RUNNING":
            return
        for snapshot in await self._cluster.list_labelled(FLINK_STATE_SNAPSHOT, case.namespace, {}):
            asked = snapshot["spec"].get("jobReference", {}).get("name") == case.name
            if not asked or snapshot.get("status", {}).get("state") in ("COMPLETED", "FAILED", "ABANDONED"):
                continue
            directory = case.configuration["execution.checkpointing.savepoint-dir"]
            try:
                path = await asyncio.to_thread(deployed.session.rest.savepoint, job, directory)
                status = {"state": "COMPLETED", "path": path}
            except (FlinkRefused, OSError) as error:
                status = {"state": "FAILED", "error": _shortened(error)}
            metadata = snapshot["metadata"]
            with suppress(NotFound):
                await self._cluster.write_status(
                    FLINK_STATE_SNAPSHOT, metadata["namespace"], metadata["name"], uid=metadata["uid"], status=status
                )


def _lifecycle(case: _Case) -> str:
    last = case.reconciled
    if last is None:
        return "CREATED"
    if last["job"]["state"] == "suspended":
        return "SUSPENDED"
    error = case.status.get("error") or ""
    lost = case.status.get("jobManagerDeploymentStatus") == "MISSING" and "Manual restore" in error
    if case.job.get("state") == "FAILED" or lost:
        return "FAILED"
    return "STABLE" if case.status.get("stable") else "DEPLOYED"


def _metadata(case: _Case) -> dict[str, Any]:
    labels = {"app": case.name, "configmap-type": "high-availability"}
    metadata = {"name": f"{case.name}-cluster-config-map", "namespace": case.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _essence(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the upstream operator compares."""
    job = {key: value for key, value in spec["job"].items() if key not in _IGNORED_OF_JOB}
    configuration = {
        key: value for key, value in spec.get("flinkConfiguration", {}).items() if not key.startswith(_POLICIES)
    }
    return {**spec, "job": job, "flinkConfiguration": configuration}


def _options(configuration: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in configuration.items() if not key.startswith(_OF_KUBERNETES)}


def _end(session: flink.FlinkCluster) -> None:
    session.taskmanager.stop()
    session.jobmanager.stop()


def _now_ms() -> int:
    return int(system_clock().timestamp() * 1000)


def _shortened(error: object) -> str:
    return str(error)[:_LONGEST_ERROR]
