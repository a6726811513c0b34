"""The status of a LakehousePipeline: what is, never what is wished.

It is written on transitions and when a coarse value changes. What changes all the time is a metric.
"""

from typing import Annotated, Literal

from pydantic import Field

from lakehouse_operator.api.objects import Conditions, Message, Name
from lakehouse_operator.api.parts import Effect, KeyedBy, StatusPart
from lakehouse_operator.api.values import Day, Instant, Revision, SnapshotId

StreamState = Literal[
    "Pending",
    "Deploying",
    "Running",
    "Stopping",
    "Soaking",
    "Recovering",
    "RollingBack",
    "Rewinding",
    "Suspended",
    "Held",
    "Failed",
    "Deleting",
]
"""Where the stream is in its life. `Held`: it should change and waits for something that a condition names."""

PointTrigger = Literal["upgrade", "suspend", "manual", "schedule", "deletion", "rewind", "recovery"]
"""What a point was taken for. `recovery`: the last checkpoint of a job that failed, or a savepoint by another hand."""

RunPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Cancelled"]


class UpgradeProgress(StatusPart):
    """A change of the stream that is under way. It is written here before anything is stopped."""

    stage: Literal["Stopping", "Starting", "Soaking", "RollingBack"]
    """How far it is."""
    from_revision: Revision | None = None
    """The revision that ran before."""
    to_revision: Revision
    """The revision that is being started."""
    recovery_point: Name | None = None
    """The recovery point that it starts from."""
    started_at: Instant
    """When it began."""
    soak_until: Instant | None = None
    """When the soak ends."""


class GoodRevision(StatusPart):
    """The last revision that ran through its soak."""

    revision: Revision
    """The revision."""
    definition: Name
    """The ConfigMap that holds its whole spec."""
    since: Instant
    """When it passed."""


class StreamStatus(StatusPart):
    """The stream."""

    state: StreamState
    """Where it is in its life."""
    revision: Revision | None = None
    """The revision that runs."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """The image that runs."""
    job_id: Annotated[str, Field(max_length=64)] | None = None
    """Flink's id of the running job; it changes with every restart from a recovery point."""
    started_at: Instant | None = None
    """When that job started."""
    consumer_group: Annotated[str, Field(max_length=249)] | None = None
    """The Kafka consumer group whose committed offsets show how far bronze has come."""
    recoveries: Annotated[int, Field(ge=0)] = 0
    """How often the operator started it again since it last ran well for long enough."""
    upgrade: UpgradeProgress | None = None
    """The change that is under way."""
    last_good: GoodRevision | None = None
    """What an automatic rollback returns to."""
    held_because: Message | None = None
    """What it waits for."""


class RecoveryPointStatus(StatusPart):
    """A state of the whole stream that it can go back to."""

    name: Name
    """Its name, for `lakehouse restore`."""
    path: Annotated[str, Field(max_length=1024)]
    """Where the savepoint lies."""
    taken_at: Instant
    """When it was taken."""
    trigger: PointTrigger
    """What it was taken for."""
    bronze_snapshot: SnapshotId | None = None
    """The snapshot of the bronze table that belongs to it; absent until it is resolved."""
    proven: bool = False
    """Whether its files were read and its bronze snapshot is tagged."""
    revision: Revision | None = None
    """The stream's revision that it was taken from."""


class LastRun(StatusPart):
    """The newest run of a layer."""

    name: Name
    """The LakehouseRun."""
    phase: RunPhase
    """Its phase."""
    finished_at: Instant | None = None
    """When it ended."""


class BronzeLayer(StatusPart):
    """Bronze. How far it is, is a metric (`lakehouse_stream_lag_records`)."""

    table: Annotated[str, Field(max_length=127)] | None = None
    """The bronze table."""


class OffsetsCommitted(StatusPart):
    """When bronze was seen to have committed every offset up to a moment of arrival."""

    boundary: Instant
    """The moment of arrival."""
    seen_at: Instant
    """When it was seen first; the Iceberg commit of it may follow a little later."""


class BatchLayer(StatusPart):
    """How far a batch layer is."""

    since: Instant | None = None
    """When the operator first saw the stage; its first interval is the one that holds this instant."""
    completed_through: Instant | None = None
    """All intervals that end at or before this instant have succeeded or were replaced."""
    revision: Revision | None = None
    """The revision of the definition that new runs work with."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """The image that new runs work with."""
    last_run: LastRun | None = None
    """The newest run."""
    next_run: Instant | None = None
    """When the next run is due."""
    held_because: Message | None = None
    """Why a run that is due does not start."""
    outdated: Annotated[int, Field(ge=0)] = 0
    """How many kept intervals were computed with an older revision. A backfill would renew them."""
    offsets_committed: OffsetsCommitted | None = None
    """What the next run's completeness rests on, while its Iceberg commit is awaited."""


class Layers(StatusPart):
    """How far each layer is."""

    bronze: BronzeLayer | None = None
    """Kafka to bronze."""
    silver: BatchLayer | None = None
    """Bronze to silver."""
    gold: BatchLayer | None = None
    """Silver to gold."""
    maintenance: BatchLayer | None = None
    """Compaction and expiry."""


class StaleDays(StatusPart):
    """Event days whose silver or gold rows no longer follow from what lies below, and why."""

    first: Day
    """The first day."""
    last: Day
    """The last day."""
    stage: Literal["silver", "gold"]
    """The layer."""
    reason: Literal["Rewind", "Revision"]
    """Bronze was rewound; the layer's definition changed. A backfill of the days ends either."""


class FieldChange(StatusPart):
    """A field that differs between the newest accepted spec and the one before it."""

    path: Annotated[str, Field(max_length=512)]
    """The field, as the user spells it."""
    effect: Effect
    """What the change does."""


class ProblemStatus(StatusPart):
    """One reason why the spec is refused."""

    path: Annotated[str, Field(max_length=512)]
    """The field, as the user spells it."""
    message: Message
    """What is wrong with it and what to do."""


class PipelineStatus(StatusPart):
    """What a pipeline is."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec that this status speaks of."""
    conditions: Conditions = ()
    """`Ready`, `RunsHealthy`, `Reconciling` or `Stalled` while true (kstatus), and what else there is to say."""
    accepted_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec that is cared for: an older one while the newest is refused."""
    definition: Name | None = None
    """The ConfigMap that holds the accepted spec, to which new runs are pinned; absent without batch stages."""
    problems: Annotated[tuple[ProblemStatus, ...], Field(max_length=100)] = ()
    """Everything that is wrong with the newest spec, while it is refused."""
    changes: Annotated[tuple[FieldChange, ...], Field(max_length=100)] = ()
    """What the newest accepted change touched, while it is being carried out."""
    stream: StreamStatus | None = None
    """The stream."""
    layers: Layers | None = None
    """How far each layer is."""
    recovery_points: Annotated[tuple[RecoveryPointStatus, ...], KeyedBy("name"), Field(max_length=100)] = ()
    """What the stream can go back to, the newest first."""
    stale: Annotated[tuple[StaleDays, ...], Field(max_length=100)] = ()
    """Days that a backfill should renew, silver before gold. `Revision` is known where the tables are observed."""
