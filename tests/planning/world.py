"""A small world in memory that plays what the stream's decisions act on: the API server's objects, the Flink Kubernetes
operator, Flink itself, Kafka's log, and bronze's snapshots.

It follows the upstream sources (flink-kubernetes-operator main, 2026-07: AbstractFlinkResourceReconciler,
AbstractJobReconciler, ApplicationReconciler, CommonStatus; iceberg flink/v2.1 SinkUtil), not our wishes. Every commit
carries the range of Kafka offsets that it holds, so that loss and doubling can be counted.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from lakehouse_contract import commits
from lakehouse_operator.planning import plan as p
from lakehouse_operator.planning.names import deployment
from lakehouse_operator.planning.observed import (
    Capabilities,
    Commit,
    JobHealth,
    Observation,
    Observed,
    PartitionProgress,
    PipelineObject,
    Savepoint,
    Stream,
    TableView,
)
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.record import Record, from_data, to_data

START = datetime(2026, 1, 31, 5, 0, tzinfo=UTC)
TABLE = "bronze.clicks"
DUMMY = "KUBERNETES_OPERATOR_LAST_STATE"


def spec(**bronze: Any) -> dict[str, Any]:
    """The smallest pipeline's spec, with fields of bronze changed."""
    checkpoint = {"directory": "s3://lake/checkpoints", "savepointDirectory": "s3://lake/savepoints"}
    return {
        "source": {"bootstrapServers": "kafka:9092", "topic": "clicks"},
        "catalog": {"type": "rest", "uri": "http://catalog:8181", "warehouse": "s3://lake/warehouse"},
        "bronze": {"image": "flink:1", "checkpoint": checkpoint, **bronze},
    }


class Crash(Exception):
    """The operator's process dies here."""


@dataclass
class State:
    """What a savepoint or checkpoint holds: where Kafka was read up to, and what was not committed to bronze yet."""

    lineage: int
    job_id: str
    checkpoint: int
    offset: int
    pending: tuple[int, int] | None = None


@dataclass
class Job:
    """A Flink job in a cluster."""

    id: str
    revision: str
    image: str
    lineage: int
    read: int
    committed: int
    checkpoint: int = 0
    state: str = "INITIALIZING"
    restarts: int = 0
    failed_checkpoints: int = 0
    completed: int = 0
    started_at: datetime = START


@dataclass
class Cluster:
    """What the Flink operator deployed: a JobManager that may come up, with its job."""

    job: Job | None
    starts_from: State | None
    ready: bool = False
    broken_image: bool = False


@dataclass
class Child:
    """The FlinkDeployment, and the status that the Flink operator keeps in it."""

    uid: str
    spec: dict[str, Any]
    annotations: dict[str, str]
    labels: dict[str, str]
    generation: int = 1
    foreign: dict[str, Any] = field(default_factory=dict)
    deleting: bool = False
    reconciled: dict[str, Any] | None = None
    reconciliation: str = "UPGRADING"
    stable: bool = False
    observed_generation: int | None = None
    jm: str = "MISSING"
    job_state: str | None = None
    job_id: str | None = None
    savepoint_path: str | None = None
    error: str | None = None

    @property
    def before_first_deployment(self) -> bool:
        return self.reconciled is None

    @property
    def lifecycle(self) -> str | None:
        if self.before_first_deployment:
            return "FAILED" if self.error else "CREATED"
        if self.reconciliation == "UPGRADING":
            return "UPGRADING"
        if self.reconciled["job"]["state"] == "suspended":
            return "SUSPENDED"
        lost = (
            self.jm in ("MISSING", "ERROR")
            and self.error
            and ("Manual restore" in self.error or "HA meta" in self.error)
        )
        if self.job_state == "FAILED" or lost:
            return "FAILED"
        return "STABLE" if self.stable else "DEPLOYED"


@dataclass
class World:
    """The whole world, at one moment. `observing` says whether tables, Kafka and savepoints may be read."""

    spec: dict[str, Any] = field(default_factory=spec)
    observing: bool = True
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            flink_versions=frozenset({"v1_20", "v2_0", "v2_1"}), savepoint_redeploy=True, state_snapshots=True
        )
    )
    keeps_job_id: bool = False
    """Whether the Flink operator gives a job's id to the next one of a FlinkDeployment that is stopped with a savepoint
    and started again (1.7.0), or makes a new one (1.10.0)."""
    kind_is_served: bool = False
    """Whether FlinkDeployments can be read though `capabilities` don't tell of them (yet)."""
    now: datetime = START
    generation: int = 1
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting_since: datetime | None = None
    gone: bool = False
    uid: str = "pipeline-1"
    status: dict[str, Any] = field(default_factory=dict)
    record_data: dict[str, str] = field(default_factory=dict)
    child: Child | None = None
    cluster: Cluster | None = None
    ha: State | None = None
    ha_exists: bool = False
    snapshots: dict[str, Savepoint] = field(default_factory=dict)
    nonce_savepoints: dict[int, Savepoint] = field(default_factory=dict)
    store: dict[str, State] = field(default_factory=dict)
    table: list[Commit] = field(default_factory=list)
    most_commits: int = 5_000
    every_commit: dict[int, Commit] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    kafka_start: int = 0
    kafka_end: int = 0
    group: int = 0
    topic_id: str = "topic-1"
    lost_transactions: int = 0
    faults: set[str] = field(default_factory=set)
    ran_with_state: bool = False
    stateless_starts: list[str] = field(default_factory=list)
    events: list[p.Announce] = field(default_factory=list)
    writes: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # --- what the operator sees and does ------------------------------------------------------------------------------

    def see(self) -> Observed:
        """What `gather` and `observe` would bring."""
        return Observed(
            now=self.now,
            pipeline=PipelineObject(
                namespace="default",
                name="clicks",
                uid=self.uid,
                generation=self.generation,
                resource_version="1",
                spec=deepcopy(self.spec),
                status=deepcopy(self.status),
                annotations=dict(self.annotations),
                finalizers=self.finalizers,
                deleting_since=self.deleting_since,
            ),
            capabilities=self.capabilities,
            record=self.record,
            stream=self._stream() if self.capabilities.flink or self.kind_is_served else None,
            savepoints=(*self.snapshots.values(), *self.nonce_savepoints.values()),
            observation=self._observation(),
        )

    @property
    def record(self) -> Record:
        return from_data(self.record_data) if self.record_data else Record()

    def _stream(self) -> Stream | None:
        child = self.child
        if child is None:
            return None
        state = child.spec["job"]["state"]
        settled = child.observed_generation == child.generation or (
            child.before_first_deployment and state == "suspended"
        )
        path = child.savepoint_path if child.savepoint_path != DUMMY else None
        job = self.cluster.job if self.cluster else None
        return Stream(
            name=deployment("clicks"),
            uid=child.uid,
            generation=child.generation,
            labels=dict(child.labels),
            annotations=dict(child.annotations),
            spec=deepcopy(child.spec),
            desired_state=state,
            settled=settled,
            lifecycle_state=child.lifecycle,
            job_manager=child.jm,
            job_state=child.job_state,
            job_id=child.job_id,
            savepoint_path=path,
            restore_mode=child.reconciled["job"]["upgradeMode"] if child.reconciled else None,
            checkpoint_in_metadata=self.ha_exists and self.ha is not None,
            started_at=job.started_at if job else None,
            error=child.error,
            deleting=child.deleting,
        )

    def _observation(self) -> Observation:
        if not self.observing:
            return Observation()
        job = self.cluster.job if self.cluster and self.cluster.ready else None
        readable = {} if "store down" in self.faults else {path: each.checkpoint for path, each in self.store.items()}
        return Observation(
            tables={TABLE: self._bronze()} if self.table else {},
            kafka=(
                PartitionProgress(
                    partition=0,
                    committed=max(self.group, self.kafka_start),
                    start=self.kafka_start,
                    end=self.kafka_end,
                    gone=max(self.kafka_start - self.group, 0),
                ),
            ),
            topic_id=self.topic_id,
            savepoints=None if "store down" in self.faults else readable,
            interrupted="store down" in self.faults,
            job=JobHealth(
                restarts=job.restarts,
                completed_checkpoints=job.completed,
                failed_checkpoints=job.failed_checkpoints,
                lost_transactions=self.lost_transactions,
                counter=f"{job.id}, attempt {job.restarts}" if self.lost_transactions else "",
            )
            if job
            else None,
        )

    def _bronze(self) -> TableView:
        """The newest commits, and of those before them the ones that `sight` asks for."""
        commits_, asked = self.table[-self.most_commits :], {point.bronze_snapshot for point in self.record.points}
        older = tuple(each for each in self.table[: -self.most_commits] if each.id in asked)
        return TableView(name=TABLE, commits=tuple(commits_), older=older, tags=dict(self.tags))

    def reconcile(self, *, crash_after: int | None = None) -> p.Plan:
        """One round of the daemon. It may die after so many of its writes."""
        planned = reconcile(self.see())
        left = count() if crash_after is None else iter([None] * crash_after)
        for status in planned.statuses:
            self._write(left, lambda status=status: self._report(status))
        for action in planned.actions:
            self._write(left, lambda action=action: self._do(action))
        return planned

    def _write(self, left: Iterator[Any], write: Callable[[], None]) -> None:
        if next(left, Crash) is Crash:
            raise Crash
        write()

    def _report(self, status: p.StatusOf) -> None:
        if status.kind == "LakehousePipeline" and self.status != status.status:
            self.status = deepcopy(dict(status.status))
            self.writes += 1

    def _do(self, action: p.Action) -> None:  # noqa: C901 - one case per kind of action
        self.writes += not isinstance(action, p.Announce)
        match action:
            case p.KeepFinalizer():
                self.finalizers = (p.FINALIZER,)
            case p.DropFinalizer():
                self.finalizers = ()
                self.gone = self.deleting_since is not None
            case p.SaveRecord(record):
                self.record_data = to_data(record)
            case p.ApplyChild(manifest, uid=uid):
                self._apply(manifest, uid)
            case p.CreateOnce(manifest):
                self._create(manifest)
            case p.Delete(kind="FlinkDeployment", uid=uid):
                if self.child and self.child.uid == uid:
                    self.child.deleting = True
            case p.Delete(name=name):
                self.snapshots.pop(name, None)
            case p.TagSnapshot(tag=tag, snapshot=snapshot):
                assert snapshot in self.every_commit, "tags a snapshot that exists"
                self.tags[tag] = snapshot
            case p.DropTag(tag=tag):
                self.tags.pop(tag, None)
            case p.RollBackTable(to_snapshot=target, expected_head=head, discarded_tag=tag):
                self._roll_back(target, head, tag)
            case p.Announce():
                self.events.append(action)

    def _apply(self, manifest: Mapping[str, Any], uid: str | None) -> None:
        assert manifest["kind"] == "FlinkDeployment"
        if uid is not None and (self.child is None or self.child.uid != uid):
            raise Crash("refused: it is not the one that was meant")
        wanted = deepcopy(dict(manifest["spec"]))
        annotations, labels = (dict(manifest["metadata"][each]) for each in ("annotations", "labels"))
        if self.child is None:
            uid = f"child-{next(self._numbers)}"
            self.child = Child(uid=uid, spec=wanted, annotations=annotations, labels=labels)
            return
        assert not self.child.deleting
        merged = {**self.child.foreign, **wanted}
        if merged != self.child.spec:
            self.child.generation += 1
        self.child.spec, self.child.annotations, self.child.labels = merged, annotations, labels

    def _create(self, manifest: Mapping[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "FlinkStateSnapshot" and name not in self.snapshots:
            self.snapshots[name] = Savepoint(
                name=name, uid=f"uid-{name}", state="Pending", path=None, error=None, created_at=self.now
            )

    def _roll_back(self, target: int, head: int, tag: str) -> None:
        if self.table[-1].id == target:
            return
        if self.table[-1].id != head:
            raise Crash("refused: somebody committed in between")
        assert self.cluster is None or self.cluster.job is None or self.cluster.job.state in ("FAILED", "FINISHED")
        self.tags[tag] = head
        ids = [commit.id for commit in self.table]
        self.table = self.table[: ids.index(target) + 1]

    # --- people -------------------------------------------------------------------------------------------------------

    def edit(self, **bronze: Any) -> None:
        """Change fields of `spec.bronze`."""
        self.replace_spec({**self.spec, "bronze": {**self.spec["bronze"], **bronze}})

    def suspend(self, value: bool = True) -> None:
        self.replace_spec({**self.spec, "suspend": value})

    def replace_spec(self, new: dict[str, Any]) -> None:
        if new != self.spec:
            self.spec = new
            self.generation += 1

    def delete(self) -> None:
        if self.deleting_since is None:
            self.deleting_since = self.now
            self.gone = not self.finalizers

    def create_again(self) -> None:
        """The pipeline is gone; somebody creates one of the same name."""
        assert self.gone
        self.gone, self.deleting_since, self.finalizers = False, None, ()
        self.uid, self.generation, self.status, self.annotations = f"pipeline-{next(self._numbers)}", 1, {}, {}

    def change_child(self, **job: str) -> None:
        """Somebody changes fields of `spec.job` in the FlinkDeployment itself."""
        assert self.child is not None
        self.child.spec = {**self.child.spec, "job": {**self.child.spec["job"], **job}}
        self.child.generation += 1

    def remove_flink_crds(self) -> None:
        """Somebody deletes the Flink operator's CRDs, and with them every FlinkDeployment."""
        self.capabilities = Capabilities()
        self.child, self.cluster, self.ha, self.ha_exists, self.snapshots = None, None, None, False, {}

    # --- Flink --------------------------------------------------------------------------------------------------------

    def produce(self, records: int = 10) -> None:
        self.kafka_end += records

    def flink(self) -> None:
        """Let Flink go on: processes come up, jobs start, a checkpoint is completed and committed."""
        cluster = self.cluster
        if cluster is None or cluster.broken_image:
            return
        if not cluster.ready:
            cluster.ready = self.ha_exists = True
            return
        job = cluster.job
        if job is None or job.state in ("FAILED", "FINISHED", "CANCELED"):
            return
        if job.state in ("INITIALIZING", "RESTARTING"):
            self._restore(cluster, job)
            return
        if job.state == "RUNNING" and "crashes" in job.image:
            self.fail_job(for_good=job.restarts >= 3)
            return
        if job.state == "RUNNING":
            self._checkpoint(job)

    def _restore(self, cluster: Cluster, job: Job) -> None:
        if "never-runs" in job.image:
            job.state = "FAILED"
            self._after_terminal(job)
            return
        state = self.ha or cluster.starts_from
        if state is None:
            job.read = job.committed = self.group
        else:
            job.read, job.committed = state.offset, state.offset
            job.checkpoint = max(job.checkpoint, state.checkpoint)
            self._commit_pending(state)
            self.ha = self.ha or replace(state)  # the restored savepoint counts as the first completed checkpoint
        job.state = "RUNNING"
        self.ran_with_state = self.ran_with_state or state is not None

    def _commit_pending(self, state: State) -> None:
        """The sink commits what its state holds, unless an ancestor of the head says that it did (SinkUtil)."""
        done = max(
            (_checkpoint_of(c) for c in self.table if c.properties[commits.FLINK_JOB_ID] == state.job_id), default=-1
        )
        if state.pending and state.pending[0] < state.pending[1] and done < state.checkpoint:
            self._commit(state.job_id, state.checkpoint, state.pending)

    def _commit(self, job_id: str, checkpoint: int, span: tuple[int, int]) -> None:
        number = next(self._numbers)
        commit = Commit(
            id=number,
            parent=self.table[-1].id if self.table else None,
            committed_at=self.now,
            operation="append",
            properties={
                commits.FLINK_JOB_ID: job_id,
                commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: str(checkpoint),
                "span": f"{span[0]}-{span[1]}",
            },
            kafka_timestamp_max=self.now,
        )
        self.table.append(commit)
        self.every_commit[number] = commit

    def _checkpoint(self, job: Job) -> None:
        job.checkpoint += 1
        span = (job.committed, self.kafka_end)
        pending: tuple[int, int] | None = None
        if "catalog down" in self.faults:
            pending = span
        else:
            self._commit(job.id, job.checkpoint, span)
            job.committed = self.kafka_end
        job.read = self.kafka_end
        job.completed += 1
        self.ran_with_state = True
        self.ha = State(job.lineage, job.id, job.checkpoint, job.read, pending)
        self.store[f"s3://lake/checkpoints/{job.id}/chk-{job.checkpoint}"] = replace(self.ha)
        self.group = max(self.group, job.read)

    def _savepoint(self, job: Job, *, final: bool) -> str:
        job.checkpoint += 1
        span = (job.committed, self.kafka_end)
        state = State(job.lineage, job.id, job.checkpoint, self.kafka_end, span)
        path = f"s3://lake/savepoints/savepoint-{job.id}-{job.checkpoint}"
        self.store[path] = state
        job.read = self.kafka_end
        if final and "catalog down" not in self.faults:
            self._commit(job.id, job.checkpoint, span)
            job.committed = job.read
        if final:
            self.group = max(self.group, job.read)
        return path

    def fail_job(self, *, for_good: bool = False) -> None:
        """The job fails; Flink starts it again, or has given up."""
        job = self.cluster.job if self.cluster else None
        if job is None or job.state != "RUNNING":
            return
        job.restarts += 1
        self.lost_transactions = 0
        job.state = "FAILED" if for_good else "RESTARTING"
        if for_good:
            self._after_terminal(job)

    def _after_terminal(self, job: Job) -> None:
        """A job that ended cleans its high-availability metadata up; its last checkpoint is retained."""
        self.ha_exists = False
        last = f"s3://lake/checkpoints/{job.id}/chk-{self.ha.checkpoint}" if self.ha is not None else None
        if self.child and last in self.store:
            self.child.savepoint_path = last
        elif self.child and self.ha is not None and self.cluster and self.cluster.starts_from:
            path = f"s3://lake/checkpoints/{job.id}/restored"
            self.store[path] = replace(self.ha)
            self.child.savepoint_path = path
        self.ha = None

    def kill_job_manager(self) -> None:
        self.cluster = None

    # --- the Flink Kubernetes operator --------------------------------------------------------------------------------

    def flink_operator(self) -> None:
        """One reconciliation: observe, then reconcile."""
        child = self.child
        if child is None or not self.capabilities.flink or "flink operator down" in self.faults:
            return
        if child.deleting:
            self._clean_up()
            return
        self._snapshots()
        if child.before_first_deployment:
            if child.spec["job"]["state"] == "running":
                self._first_deployment(child)
            return
        self._observe(child)
        if child.error and "validation" in child.error:
            return
        self._reconcile_spec(child)

    def _clean_up(self) -> None:
        self.child, self.cluster, self.ha, self.ha_exists = None, None, None, False

    def _observe(self, child: Child) -> None:
        if child.reconciled["job"]["state"] == "suspended":
            return
        cluster = self.cluster
        if cluster is None:
            child.jm = "MISSING"
            if child.job_state not in ("FAILED", "FINISHED", "CANCELED"):
                child.job_state = "RECONCILING"
            child.error = child.error or "Missing JobManager deployment"
        elif cluster.broken_image:
            child.jm, child.job_state, child.error = "ERROR", "RECONCILING", "ImagePullBackOff"
        elif not cluster.ready:
            child.jm = "DEPLOYING"
        else:
            child.jm = "READY"
            child.job_state = cluster.job.state if cluster.job else "RECONCILING"
            child.stable = child.stable or child.job_state == "RUNNING"
            if child.stable and child.job_state != "FAILED":
                child.error = None

    def _first_deployment(self, child: Child) -> None:
        initial = child.spec["job"].get("initialSavepointPath")
        mode = "savepoint" if initial else "stateless"
        if initial:
            child.savepoint_path = initial
        self._set_reconciled(child, mode)
        self._deploy(child, initial, require_ha=False)

    def _set_reconciled(self, child: Child, mode: str) -> None:
        child.reconciled = deepcopy(child.spec)
        child.reconciled["job"]["upgradeMode"] = mode
        child.reconciliation = "DEPLOYED"
        child.observed_generation = child.generation
        child.error = None
        child.stable = child.spec["job"]["state"] == "suspended"

    def _reconcile_spec(self, child: Child) -> None:
        last, wanted = child.reconciled, child.spec
        nonce = wanted["job"].get("savepointRedeployNonce")
        if nonce is not None and nonce != last["job"].get("savepointRedeployNonce"):
            self._redeploy(child)
        elif _essence(last) != _essence(wanted):
            self._change(child)
        else:
            child.observed_generation = child.generation
            child.reconciled = {
                **deepcopy(wanted),
                "job": {**deepcopy(wanted["job"]), "upgradeMode": last["job"]["upgradeMode"]},
            }
            if last["job"]["state"] == "running" and child.jm == "MISSING" and self.cluster is None:
                self._recover(child)
            self._nonce(child)

    def _redeploy(self, child: Child) -> None:
        path = child.spec["job"].get("initialSavepointPath")
        self._cancel()
        child.savepoint_path = path
        self._set_reconciled(child, "savepoint")
        if child.spec["job"]["state"] == "running":
            self._deploy(child, path, require_ha=False)
        child.stable = True

    def _change(self, child: Child) -> None:
        wanted = child.spec["job"]["state"]
        mode = child.reconciled["job"]["upgradeMode"]
        if child.reconciled["job"]["state"] == "running":
            chosen = self._upgrade_mode(child)
            if chosen is None:
                return
            if not self._stop(child, chosen):
                return
            mode = chosen.removesuffix("!")
            if wanted == "suspended":
                self._set_reconciled(child, mode)
                child.job_state = "FINISHED"
                child.jm = "MISSING"
                return
        elif wanted == "suspended":
            self._set_reconciled(child, mode)
            return
        requested = child.spec["job"]["upgradeMode"]
        mode = mode if requested != "stateless" else "stateless"
        path = child.savepoint_path if mode == "savepoint" else None
        self._set_reconciled(child, mode)
        self._deploy(child, path, require_ha=mode == "last-state")

    def _upgrade_mode(self, child: Child) -> str | None:  # noqa: PLR0911 - as upstream
        """`getJobUpgrade`: how the job may be stopped; None while it may not. With `!` nothing is left to stop."""
        mode = child.spec["job"]["upgradeMode"]
        running = child.job_state == "RUNNING"
        terminal = child.job_state in ("FAILED", "FINISHED", "CANCELED")
        if mode == "stateless":
            return "stateless"
        if terminal and (not self.ha_exists or child.jm == "READY"):
            if child.savepoint_path in (None, DUMMY):
                child.error = "Job is in terminal state but last checkpoint is unknown. Manual restore required."
                return None
            return "savepoint!"
        if mode == "savepoint" and running:
            return "savepoint"
        fallback = child.spec["flinkConfiguration"].get(
            "kubernetes.operator.job.upgrade.last-state-fallback.enabled", "true"
        )
        if mode == "savepoint" and fallback != "true":
            return self._never_started(child)
        if self.ha_exists:
            return "last-state"
        return self._never_started(child) or self._no_metadata(child)

    def _never_started(self, child: Child) -> str | None:
        if (
            self.cluster is not None
            and self.cluster.broken_image
            and child.reconciled["job"]["upgradeMode"] != "last-state"
        ):
            child.job_state = "FAILED"
            if child.savepoint_path in (None, DUMMY):
                child.error = "Job is in terminal state but last checkpoint is unknown. Manual restore required."
                return None
            return "savepoint!"
        return None

    def _no_metadata(self, child: Child) -> None:
        if child.jm in ("MISSING", "ERROR"):
            child.error = "JobManager deployment is missing and HA metadata is not available. Manual restore required."

    def _stop(self, child: Child, mode: str) -> bool:
        job = self.cluster.job if self.cluster else None
        if mode == "savepoint":
            if "savepoints fail" in self.faults or job is None:
                child.error = "SavepointError: Savepoint Error"
                return False
            child.savepoint_path = self._savepoint(job, final=True)
            self._cancel()
        elif mode == "last-state":
            self.cluster = None
        else:
            self._cancel()
        return True

    def _cancel(self) -> None:
        self.cluster, self.ha, self.ha_exists = None, None, False

    def _deploy(self, child: Child, path: str | None, *, require_ha: bool) -> None:
        if path is not None:
            assert path in self.store, f"{path} exists"
            state: State | None = replace(self.store[path])
            self.ha = None
        elif require_ha and self.ha is not None:
            state = self.ha
            child.savepoint_path = DUMMY
        else:
            state = None
            self.ha = None
        if child.job_id is None or not (require_ha or self.keeps_job_id):
            child.job_id = f"job{next(self._numbers)}"
        image = child.spec["image"]
        lineage = state.lineage if state else next(self._numbers)
        if state is None and self.ran_with_state:
            self.stateless_starts.append(child.annotations.get("lakehouse.dev/operation", "?"))
        read = state.offset if state else self.group
        job = Job(
            child.job_id, child.annotations["lakehouse.dev/revision"], image, lineage, read, read, started_at=self.now
        )
        job.checkpoint = state.checkpoint if state else 0
        self.cluster = Cluster(job, state, broken_image="no-image" in image)
        self.ha_exists = self.ha is not None  # a JobManager that comes up makes it, with or without a checkpoint
        child.jm, child.job_state = "DEPLOYING", "RECONCILING"

    def _recover(self, child: Child) -> None:
        """Recover a lost JobManager from the high-availability metadata."""
        if child.spec["flinkConfiguration"].get("kubernetes.operator.jm-deployment-recovery.enabled", "true") != "true":
            return
        if self.ha_exists:
            self._deploy(child, None, require_ha=True)
        else:
            child.error = "HA metadata is not available to recover. Manual restore required."

    # --- savepoints in passing ----------------------------------------------------------------------------------------

    def _snapshots(self) -> None:
        job = self.cluster.job if self.cluster and self.cluster.ready else None
        for name, each in list(self.snapshots.items()):
            if each.state == "Pending" and job is not None and job.state == "RUNNING":
                failed = "savepoints fail" in self.faults
                path = None if failed else self._savepoint(job, final=False)
                error = "Savepoint Error" if failed else None
                self.snapshots[name] = replace(each, state="Failed" if failed else "Completed", path=path, error=error)

    def _nonce(self, child: Child) -> None:
        nonce = child.spec["job"].get("savepointTriggerNonce")
        job = self.cluster.job if self.cluster and self.cluster.ready else None
        if nonce and nonce not in self.nonce_savepoints and job is not None and job.state == "RUNNING":
            path = self._savepoint(job, final=False)
            name = f"nonce-{nonce}"
            self.nonce_savepoints = {
                nonce: Savepoint(name=name, uid=None, state="Completed", path=path, error=None, created_at=self.now)
            }

    # --- time ---------------------------------------------------------------------------------------------------------

    def go(self, seconds: float = 20, *, rounds: int = 1) -> None:
        """Let everybody take a step, so many times."""
        for _ in range(rounds):
            if self.gone:
                return
            self.reconcile()
            self.flink_operator()
            self.flink()
            self.now += timedelta(seconds=seconds)

    def settle(self, *, seconds: float = 30, most: int = 600) -> None:
        """Go on until nothing is done any more, however long one waits; it is a failure if that does not come."""
        quiet = 0
        for _ in range(most):
            before = self._changes()
            self.go(seconds)
            ended = self.record.operation is None or self.condition("Stalled")
            quiet = quiet + 1 if before == self._changes() and ended else 0
            if quiet in (4, 6):
                self.now += timedelta(minutes=40)  # beyond every backoff
            if quiet >= 8 or self.gone:
                return
        raise AssertionError(f"it does not settle: {self.record.operation}, {self.status.get('conditions')}")

    def _changes(self) -> tuple[int, int, str | None]:
        child = self.child
        return self.writes, child.generation if child else 0, child.uid if child else None

    # --- what was lost or doubled -------------------------------------------------------------------------------------

    def missing_or_doubled(self) -> str | None:
        """Whether bronze holds each offset up to its newest exactly once."""
        reached = 0
        for commit in self.table:
            first, last = map(int, commit.properties["span"].split("-"))
            if first != reached and first < last:
                return f"commit {commit.id} begins at {first}, and bronze holds everything up to {reached}"
            reached = max(reached, last)
        return None

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition of the pipeline; empty if it has none of that type."""
        found = (each for each in self.status.get("conditions", []) if each["type"] == kind)
        return next(found, {})


def _checkpoint_of(commit: Commit) -> int:
    return int(commit.properties[commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID])


def _essence(spec_: Mapping[str, Any]) -> dict[str, Any]:
    """What the Flink operator compares: without the fields of DiffType IGNORE, and the nonce it looks at before."""
    ignored = (
        "savepointTriggerNonce",
        "initialSavepointPath",
        "upgradeMode",
        "allowNonRestoredState",
        "savepointRedeployNonce",
    )
    job = {key: value for key, value in spec_["job"].items() if key not in ignored}
    configuration = {
        key: value for key, value in spec_["flinkConfiguration"].items() if not key.startswith("kubernetes.operator.")
    }
    return {**spec_, "job": job, "flinkConfiguration": configuration}
