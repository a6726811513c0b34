"""The LakehouseBackfill: event days that are computed anew, after a person has seen what that means."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lakehouse_operator.api.objects import Conditions, Message, Metadata, Name, PipelineRef
from lakehouse_operator.api.parts import Cel, Part, StatusPart
from lakehouse_operator.api.run import AuditLimits
from lakehouse_operator.api.values import Day, Instant, Revision, SnapshotId

MAX_DAYS = 1000


class BackfillRange(Part):
    """Event days, both ends included, in UTC."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel("self.first <= self.last", "first must not lie after last", lambda self: self.first <= self.last),
    )

    first: Day
    """The first day."""
    last: Day
    """The last day."""


class BackfillSpec(Part):
    """What is computed anew, and how."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!oldSelf.approved || self.approved",
            "approved can't be taken back; set cancel to stop the backfill",
            path="approved",
        ),
        Cel("!oldSelf.cancel || self.cancel", "cancel can't be taken back; create a new backfill", path="cancel"),
        Cel(
            "self.stages.all(stage, self.stages.exists_one(other, other == stage))",
            "stages must not name a stage twice",
            lambda self: len(set(self.stages)) == len(self.stages),
            "stages",
        ),
    )

    pipeline_ref: Annotated[PipelineRef, Cel("self == oldSelf", "pipelineRef can't be changed; create a new backfill")]
    """Whose days they are."""
    range: Annotated[
        BackfillRange, Cel("self == oldSelf", "range can't be changed: it is what was approved; create a new backfill")
    ]
    """Which days."""
    stages: Annotated[
        tuple[Literal["silver", "gold"], ...],
        Field(min_length=1, max_length=2),
        Cel("self == oldSelf", "stages can't be changed: they are what was approved; create a new backfill"),
    ] = ("silver", "gold")
    """Which layers; gold follows silver day by day."""
    reprocess: Annotated[
        Literal["none", "failed", "all"],
        Cel("self == oldSelf", "reprocess can't be changed: it is what was approved; create a new backfill"),
    ] = "all"
    """Which days: those that no run ever computed, those and the ones whose last run failed, or all."""
    audit: Annotated[
        AuditLimits,
        Cel("self == oldSelf", "audit can't be changed: it is what was approved; create a new backfill"),
    ] = AuditLimits()
    """What days are held against before they are published. They are staged first; where they fail, none of them is
    published, and the run fails with class Data."""
    max_concurrent: Annotated[int, Field(ge=1, le=100)] = 1
    """How many runs may be under way at once."""
    days_per_run: Annotated[
        int,
        Field(ge=1, le=366),
        Cel("self == oldSelf", "daysPerRun can't be changed: it is what was approved; create a new backfill"),
    ] = 1
    """How many days one run computes."""
    order: Literal["oldestFirst", "newestFirst"] = "oldestFirst"
    """Which days come first."""
    approved: bool = False
    """Nothing runs before this is true. Look at `status.intervals` first."""
    cancel: bool = False
    """Stops the runs that are under way and starts no more. Days that are done stay as they are."""


class BackfillInterval(StatusPart):
    """One run of the backfill."""

    stage: Literal["silver", "gold"]
    """The layer."""
    first: Day
    """Its first day."""
    last: Day
    """Its last day."""
    state: Literal["Planned", "Waiting", "Running", "Succeeded", "Failed", "Skipped", "Cancelled"] = "Planned"
    """How far it is. `Skipped`: the reprocess policy leaves it alone."""
    run: Name | None = None
    """Its LakehouseRun."""
    was: Literal["Missing", "Succeeded", "Failed", "Outdated"] | None = None
    """What was known of these days before."""


class BackfillCounts(StatusPart):
    """How many runs there are, by state."""

    total: Annotated[int, Field(ge=0)] = 0
    """All that are not skipped."""
    running: Annotated[int, Field(ge=0)] = 0
    """Under way."""
    succeeded: Annotated[int, Field(ge=0)] = 0
    """Succeeded."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Failed for good."""
    skipped: Annotated[int, Field(ge=0)] = 0
    """Left alone by the reprocess policy."""


class BackfillStatus(StatusPart):
    """How far a backfill is."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec that this status speaks of."""
    conditions: Conditions = ()
    """`Succeeded`: Unknown until it is over; and, while true, `Reconciling` from its approval until then or `Stalled`
    where only a person can help (kstatus)."""
    phase: Literal["Proposed", "Approved", "Running", "Succeeded", "Failed", "Cancelled"] = "Proposed"
    """The same in one word."""
    message: Message | None = None
    """What it waits for, or why it failed."""
    intervals: Annotated[tuple[BackfillInterval, ...], Field(max_length=2 * MAX_DAYS)] = ()
    """What it runs, in order; complete before anything runs."""
    counts: BackfillCounts | None = None
    """How many runs there are, by state."""
    source_snapshot: SnapshotId | None = None
    """The bronze snapshot that silver is computed from, pinned when the backfill was approved."""
    silver_revision: Revision | None = None
    """The revision of silver that it computes with, pinned when the backfill was approved."""
    gold_revision: Revision | None = None
    """The revision of gold that it computes with, pinned when the backfill was approved."""
    definition: Name | None = None
    """The ConfigMap with the spec that it computes with, pinned when the backfill was approved."""
    started_at: Instant | None = None
    """When the first run started."""
    finished_at: Instant | None = None
    """When it was over."""


class LakehouseBackfill(Part):
    """Event days that are computed anew: planned, approved, run by whole days from one pinned snapshot."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "size(self.metadata.name) <= 63",
            "metadata.name must have at most 63 characters, because it becomes a label of the runs",
            lambda self: len(self.metadata.name) <= 63,
            "metadata.name",
        ),
    )

    api_version: Literal["lakehouse.dev/v1alpha1"]
    """The version of this API."""
    kind: Literal["LakehouseBackfill"]
    """The kind of this object."""
    metadata: Metadata
    """Standard object metadata."""
    spec: BackfillSpec
    """What it should do."""
    status: BackfillStatus | None = None
    """How far it is."""
