"""What was seen, once, at one moment: the only input of a decision besides the pipeline itself.

`cluster.gather` and `tables.observe` fill it in. A part that could not be read is None, never an empty guess: "no runs"
and "the runs could not be listed" lead to different plans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lakehouse_operator.planning.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineObject:
    """The LakehousePipeline as the API server holds it."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    deleting_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the installed upstream operators can do, read from their CRDs."""

    flink_versions: frozenset[str] = frozenset()
    savepoint_redeploy: bool = False
    state_snapshots: bool = False
    spark_applications: bool = False

    @property
    def flink(self) -> bool:
        """Whether the Flink operator's CRD is there."""
        return bool(self.flink_versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The FlinkDeployment `<pipeline>-bronze`, in the Flink operator's own words.

    It has no owner reference (see `child`): it is found by its name, and it is ours if it carries our annotations.

    `savepoint_path` is `jobStatus.upgradeSavepointPath` (before 1.10: the location of the last savepoint), never the
    operator's dummy `KUBERNETES_OPERATOR_LAST_STATE`. `restore_mode` is the `upgradeMode` in its last reconciled spec:
    what a suspended job would be started from, whatever our own spec says. `checkpoint_in_metadata` says whether
    Flink's high-availability metadata holds a completed checkpoint, as the Flink operator itself asks it: a ConfigMap
    of the namespace, labelled `app: <name>` and `configmap-type: high-availability`, that is not being deleted and has
    a key that begins with `checkpointID-`. None where that could not be read. `settled` says whether its status speaks
    of the current spec; a deployment created suspended never gets an `observedGeneration` and still settles.
    """

    name: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    desired_state: Literal["running", "suspended"]
    settled: bool
    lifecycle_state: str | None
    job_manager: str | None
    job_state: str | None
    job_id: str | None
    savepoint_path: str | None
    restore_mode: Literal["savepoint", "last-state", "stateless"] | None
    checkpoint_in_metadata: bool | None
    started_at: datetime | None
    error: str | None
    deleting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoint:
    """A savepoint that was asked for without stopping.

    Either a FlinkStateSnapshot of that name and UID, or the result of a nonce in the FlinkDeployment's status: then its
    name is `nonce-<number>` and it has no UID.
    """

    name: str
    uid: str | None
    state: Literal["Pending", "Completed", "Failed"]
    path: str | None
    error: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A SparkApplication: one attempt of a run.

    `pod_reason` says why the driver's pod ended, in Kubernetes' words, and `pod_message` more of it; `last_words` are
    the job's own; `executor_out_of_memory` says whether the container of an executor that is still there was killed for
    its memory. They are looked up once, in the round that finds an attempt failed (`runs.asks_why`), and None or False
    otherwise.
    """

    name: str
    uid: str
    run: str
    attempt: int
    state: str
    message: str | None
    exit_code: int | None
    started_at: datetime | None
    finished_at: datetime | None
    pod_reason: str | None = None
    pod_message: str | None = None
    last_words: str | None = None
    executor_out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunObject:
    """A LakehouseRun with its status."""

    name: str
    uid: str
    owner_uid: str | None
    created_at: datetime
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    annotations: Mapping[str, str]
    deleting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillObject:
    """A LakehouseBackfill of this pipeline with its status."""

    name: str
    uid: str
    generation: int
    created_at: datetime
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One snapshot on a table's main branch. `properties` is its summary; the oldest known first.

    `kafka_timestamp_max` is how far the rows that it added had arrived, and `event_days` are the event days of these
    rows. Both are None where that was not read; a commit without rows has no days and no timestamp.
    """

    id: int
    parent: int | None
    committed_at: datetime
    operation: str
    properties: Mapping[str, str]
    kafka_timestamp_max: datetime | None = None
    event_days: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """A table's main branch, newest commit last, and its tags (name to snapshot id).

    `commits` are its newest ones, without a gap; of a long history they are not all. `older` are those before them that
    were asked for.
    """

    name: str
    commits: tuple[Commit, ...]
    older: tuple[Commit, ...] = ()
    tags: Mapping[str, int] = field(default_factory=dict)

    @property
    def head(self) -> Commit | None:
        """The newest commit."""
        return self.commits[-1] if self.commits else None

    def commit(self, snapshot: int | None) -> Commit | None:
        """A commit of the main branch that is among the newest ones, or was asked for."""
        return next((each for each in (*self.older, *self.commits) if each.id == snapshot), None)

    def sees_all_since(self, snapshot: int | None) -> bool:
        """Whether every commit is known that came after one."""
        return any(each.id == snapshot for each in self.commits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProgress:
    """One Kafka partition: what the broker holds and what bronze has committed, as offsets of the next record.

    `gone` counts the offsets that the broker no longer holds and bronze has not committed. A stream that runs may have
    read some of them, because it commits with each checkpoint. `end_at` is the offset of the first record at or after
    each hour boundary that was asked for (`offsetsForTimes`); the log end where there is none.
    """

    partition: int
    committed: int
    start: int
    end: int
    gone: int = 0
    end_at: Mapping[datetime, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHealth:
    """What Flink's REST API says about the job since it was started.

    `lost_transactions` counts the transactions with dead letters that it gave up committing. The count begins anew with
    each attempt, also where the job keeps its id: `counter` tells one count from another. It is empty where there is
    none.
    """

    restarts: int
    completed_checkpoints: int
    failed_checkpoints: int
    lost_transactions: int = 0
    counter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was read under opted-in rights. None: not opted in, or it could not be read (`problem` says why).

    `savepoints` maps the path of each of the record's savepoints whose files can all be read to its checkpoint id.
    `timestamps` is the source topic's `message.timestamp.type`, and `topic_id` the id that Kafka gave it when it was
    made, where the broker tells them. `interrupted` says that what is None may be read and only did not answer: it is
    waited for, where it decides something.
    """

    tables: Mapping[str, TableView] | None = None
    kafka: tuple[PartitionProgress, ...] | None = None
    savepoints: Mapping[str, int] | None = None
    job: JobHealth | None = None
    timestamps: str | None = None
    topic_id: str | None = None
    problem: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision about one pipeline may look at.

    `record` is empty where there is no record. Where there is one that can't be read, `unreadable` says why: it must
    not be taken for an empty one, which would lose state, so nothing is decided then.
    `leftover` is the UID of the ConfigMap in which Flink noted what runs, where there is no FlinkDeployment any more.
    `namespace_ending` says that the namespace is being deleted; that is asked only of a pipeline that is, too.
    """

    now: datetime
    pipeline: PipelineObject
    capabilities: Capabilities
    record: Record
    stream: Stream | None
    unreadable: str | None = None
    leftover: str | None = None
    namespace_ending: bool = False
    savepoints: tuple[Savepoint, ...] = ()
    runs: tuple[RunObject, ...] = ()
    applications: tuple[Application, ...] = ()
    backfills: tuple[BackfillObject, ...] = ()
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    observation: Observation = Observation()
