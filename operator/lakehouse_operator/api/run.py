"""The LakehouseRun: one execution of a stage over one interval. Its status is the ledger."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lakehouse_operator.api.objects import Conditions, Message, Metadata, Name, PipelineRef
from lakehouse_operator.api.parts import Cel, Part, StatusPart
from lakehouse_operator.api.pipeline_status import RunPhase
from lakehouse_operator.api.values import Day, Instant, Memory, ObjectName, Revision, SnapshotId

Stage = Literal["silver", "gold", "maintenance"]

FailureClass = Literal["Infrastructure", "OutOfMemory", "Data", "Code", "Timeout"]
"""Why an attempt failed; it decides whether and how it is tried again."""


class DataInterval(Part):
    """The half-open interval [start, end) in UTC that a run stands for."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "timestamp(self.start) < timestamp(self.end)",
            "dataInterval.start must lie before dataInterval.end",
            lambda self: self.start < self.end,
        ),
    )

    start: Instant
    """The first instant."""
    end: Instant
    """The first instant after it."""


class SourceRange(Part):
    """The commits of the source table in (after, upto] that a run takes."""

    upto: SnapshotId
    """The newest snapshot that it takes."""
    after: SnapshotId | None = None
    """The newest snapshot that earlier runs took; absent: from the table's first commit."""


Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class AuditLimits(Part):
    """How far days that are computed anew may differ from what they replace. Otherwise nothing is published."""

    max_events_lost: Share = 0.0
    """Which share of the events that are there now may be gone from silver, and of a gold model's days. Bronze may hold
    them no longer, or `where` may leave them out by now: whoever means that says so here."""
    max_null_increase: Share = 0.5
    """By how much the share of NULLs in a column may rise: 0.5 lets it rise from 10 % to 60 %."""


class DayRange(Part):
    """Whole event days, both ends included, that a run computes anew."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel("self.first <= self.last", "first must not lie after last", lambda self: self.first <= self.last),
    )

    first: Day
    """The first day."""
    last: Day
    """The last day."""
    at_snapshot: SnapshotId | None = None
    """The snapshot of the source table that they are computed from; absent: the one that is current at the start."""
    audit: AuditLimits | None = None
    """What the days are held against before they are published; absent: the limits' own defaults."""


class RunSpec(Part):
    """What a run does. It never changes: to do something else, create another run."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel("self == oldSelf", "a run's spec can't be changed: delete the run and create another one"),
        Cel(
            "!has(self.sourceRange) || !has(self.days)",
            "give either sourceRange (what arrived) or days (what happened), not both",
            lambda self: self.source_range is None or self.days is None,
        ),
        Cel(
            "self.stage == 'silver' || !has(self.sourceRange)",
            "sourceRange belongs to stage silver: gold reads several tables, each from where it has come to",
            lambda self: self.stage == "silver" or self.source_range is None,
            "sourceRange",
        ),
        Cel(
            "self.stage != 'maintenance' || !has(self.days)",
            "days belong to stage silver or gold",
            lambda self: self.stage != "maintenance" or self.days is None,
            "days",
        ),
        Cel(
            "self.reason != 'schedule' || has(self.dataInterval)",
            "a run of the schedule needs dataInterval",
            lambda self: self.reason != "schedule" or self.data_interval is not None,
        ),
        Cel(
            "(self.reason == 'backfill') == has(self.backfill)",
            "reason backfill needs backfill, the name of its LakehouseBackfill, and no other reason has one",
            lambda self: (self.reason == "backfill") == (self.backfill is not None),
        ),
        Cel(
            "self.reason != 'backfill' || has(self.days)",
            "a run of a backfill needs days",
            lambda self: self.reason != "backfill" or self.days is not None,
        ),
    )

    pipeline_ref: PipelineRef
    """Whose run it is."""
    stage: Stage
    """Which stage it executes."""
    reason: Literal["schedule", "backfill", "manual"] = "manual"
    """What it was created for."""
    backfill: ObjectName | None = None
    """The LakehouseBackfill that it belongs to."""
    data_interval: DataInterval | None = None
    """The interval that it stands for."""
    source_range: SourceRange | None = None
    """What it takes of its source table. Without it and without `days`: what the target has not seen yet."""
    days: DayRange | None = None
    """Event days that it computes anew."""
    revision: Revision | None = None
    """The revision of the stage's definition that it works with. A run that a person creates may leave it out: then the
    operator takes the current one and says so in the status."""
    definition: ObjectName | None = None
    """The ConfigMap that holds the whole spec that it was created from, so that a retry does the same again."""


class Attempt(StatusPart):
    """One SparkApplication of the run."""

    number: Annotated[int, Field(ge=1)]
    """Counts from 1."""
    application: Name
    """The SparkApplication."""
    started_at: Instant
    """When it was decided; the SparkApplication is created right after."""
    finished_at: Instant | None = None
    """When it ended."""
    outcome: Literal["Running", "Succeeded", "Failed", "Cancelled"] = "Running"
    """How it ended."""
    failure_class: FailureClass | None = None
    """Why it failed."""
    message: Message | None = None
    """The same in a sentence."""
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = None
    """The driver's exit code."""
    driver_memory: Memory | None = None
    """The driver heap that it had."""
    executor_memory: Memory | None = None
    """The executor heap that it had."""


class WrittenTable(StatusPart):
    """What the run did to one table."""

    table: Annotated[str, Field(max_length=127)]
    """The table."""
    snapshot: SnapshotId | None = None
    """The snapshot that the run committed; absent where it had nothing to write."""
    rows: Annotated[int, Field(ge=0)] | None = None
    """Rows added, as the commit says."""


class BrokenRule(StatusPart):
    """A rule that was broken in the run."""

    table: Annotated[str, Field(max_length=127)]
    """The silver table that the rule belongs to."""
    rule: Annotated[str, Field(max_length=127)]
    """The rule's name."""
    severity: Annotated[str, Field(max_length=16)]
    """What it does: `warn`, `quarantine` or `fail`."""
    rows: Annotated[int, Field(ge=0)]
    """How many rows broke it; for `freshness` and `rowCount`, how many runs or days are out of bounds."""
    of: Annotated[int, Field(ge=0)]
    """How many rows it looked at."""
    detail: Message | None = None
    """What a rule over the whole table found."""


class Quality(StatusPart):
    """What the rules found. All of it stands in the table `quality_results` of silver's namespace."""

    rules: Annotated[int, Field(ge=0)] = 0
    """How many rules were looked at."""
    broken: Annotated[tuple[BrokenRule, ...], Field(max_length=50)] = ()
    """Those that were broken: the gravest first, at most 50."""


class RunStatus(StatusPart):
    """The ledger's entry."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the spec that this status speaks of."""
    conditions: Conditions = ()
    """`Succeeded`: Unknown until the run is over; and, while true, `Reconciling` until then or `Stalled` where only a
    person can help (kstatus)."""
    phase: RunPhase = "Pending"
    """The same in one word."""
    started_because: Literal["DataComplete", "SilverDone", "Deadline", "Clock", "Asked"] | None = None
    """What let it start."""
    revision: Revision | None = None
    """The revision that it worked with."""
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=100)] = ()
    """What was tried, the first one first."""
    next_attempt_at: Instant | None = None
    """When it is tried again."""
    tables: Annotated[tuple[WrittenTable, ...], Field(max_length=300)] = ()
    """What it wrote."""
    quality: Quality | None = None
    """What silver's rules found, also where they stopped the run. Absent where tables are not observed."""
    touched_days: Annotated[tuple[Day, ...], Field(max_length=400)] = ()
    """The event days that it changed, the newest 400."""
    started_at: Instant | None = None
    """When the first attempt started."""
    finished_at: Instant | None = None
    """When it was over."""


class LakehouseRun(Part):
    """One execution of a stage over one interval: created by the schedule, a backfill or a person."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "size(self.metadata.name) <= 50",
            "metadata.name must have at most 50 characters, so that the names of its pods fit",
            lambda self: len(self.metadata.name) <= 50,
            "metadata.name",
        ),
    )

    api_version: Literal["lakehouse.dev/v1alpha1"]
    """The version of this API."""
    kind: Literal["LakehouseRun"]
    """The kind of this object."""
    metadata: Metadata
    """Standard object metadata."""
    spec: RunSpec
    """What it does."""
    status: RunStatus | None = None
    """What came of it."""
