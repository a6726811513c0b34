"""What must outlive the pipeline object: what its stream runs, what is being done to it, and where it can go back to.

The record is one ConfigMap without an owner (`<pipeline>-record`), so a deleted pipeline can be created again from it.
It is written before anything is done, so a crash at any point is recognized: status only projects what stands here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lakehouse_contract.decoding import Problem, SettingsRefused, from_json, to_json
from lakehouse_operator.api.pipeline_status import PointTrigger
from lakehouse_operator.planning.names import digest

DATA_KEY = "record.json"
"""The key of the record in its ConfigMap."""


LARGEST = 900_000
"""Bytes of a record that holds offsets of more partitions than a few; the API server takes a mebibyte."""
FEW_OFFSETS = 2_500
"""Offsets in all points together that always fit, whatever else there is."""


@dataclass(frozen=True, slots=True)
class KafkaOffset:
    """The offset of the next record of a partition."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """A savepoint and the bronze snapshot that belongs to it.

    `bronze_snapshot` is the newest snapshot whose committed checkpoint is not above the savepoint's. Once `resolved`,
    None means that bronze had no commit yet. A point is `proven` when its files could be read and its snapshot is
    resolved and tagged. `kafka` holds the offsets that were committed before it was taken, where they were seen: the
    savepoint's own are not below them. A point is `discarded` when a rewind went back to before it: the commits that
    its state rests on are no longer in bronze.
    """

    name: str
    path: str
    taken_at: str
    trigger: PointTrigger
    revision: str
    job_id: str | None = None
    bronze_snapshot: int | None = None
    resolved: bool = False
    proven: bool = False
    discarded: bool = False
    kafka: tuple[KafkaOffset, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A definition of the stream: the FlinkDeployment's spec as JSON, without how it is launched, and its hash."""

    id: str
    spec: str

    @property
    def content(self) -> dict[str, Any]:
        """The spec, parsed."""
        content: dict[str, Any] = json.loads(self.spec)
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the stream was started last. The nonces only ever grow: a change of one makes the Flink operator act.

    `ran` says whether the job `job_id` has been seen running since it was started from `point` (or without state). From
    then on the high-availability metadata holds its newest state. `point` is a path.
    """

    at: str
    point: str | None = None
    job_id: str | None = None
    mode: Literal["savepoint", "last-state", "stateless"] = "savepoint"
    restart_nonce: int = 0
    redeploy_nonce: int = 0
    savepoint_nonce: int = 0
    ran: bool = False


OperationKind = Literal["deploy", "upgrade", "suspend", "rewind", "rollback", "recover", "delete"]
Stage = Literal["stopping", "removing", "proving", "rewinding", "starting", "soaking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that takes several steps, written down before its first one. Its `id` is stamped on the child.

    `since` is when its stage began. `known_path` is the savepoint that was known before the stop: only another one is
    news. `origin` says what the stream is to start from, `point` names that recovery point; in a rollback it is also
    the one to fall back on. `kafka` are the offsets that were committed when it began. `job_state`, `restarts` and
    `failed_before`, the checkpoints that Flink counted as failed when the job was first seen to run, belong to the
    soak; they change on transitions only.
    """

    id: str
    kind: OperationKind
    stage: Stage
    began: str
    since: str
    from_revision: str | None = None
    target: str | None = None
    known_path: str | None = None
    origin: Literal["point", "last-state", "nothing"] = "point"
    point: str | None = None
    kafka: tuple[KafkaOffset, ...] = ()
    job_state: str | None = None
    restarts: int = 0
    failed_before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often something was tried in vain with a revision, and when it may be tried again."""

    kind: OperationKind
    revision: str | None
    count: int
    not_before: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a revision turned out to be, and why."""

    revision: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSavepoint:
    """A savepoint that was asked for while the stream goes on, of the job `job_id`.

    `token` is what a person asked with. If another job runs by the time, nobody knows which of them took it.
    """

    name: str
    trigger: Literal["manual", "schedule"]
    requested_at: str
    job_id: str | None = None
    token: str | None = None
    kafka: tuple[KafkaOffset, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that Kafka no longer held when bronze came to them: at most so many, from offset `first` on."""

    partition: int
    first: int
    records: int
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLetters:
    """Transactions with dead letters that the stream could not commit, and that nobody has accepted before.

    `counted` is what the counter `counter` of the job `job_id` said last: only what it says beyond that is new, and all
    that another one says. `accepted`: a person knows of them.
    """

    job_id: str
    transactions: int
    since: str
    counter: str = ""
    counted: int = 0
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class DiscardedHead:
    """The tag on the bronze table that keeps a head that a rewind discarded, and when it was first seen."""

    tag: str
    since: str


@dataclass(frozen=True, slots=True)
class StaleDay:
    """An event day, and the moment from which on a run counts that rewrites it."""

    day: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedDays:
    """Event days of a layer, from `first` to `last`, and the definition by which their oldest rows were computed."""

    stage: Literal["silver", "gold"]
    first: str
    last: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The durable record of one pipeline.

    `accepted` is the last spec that passed validation, as JSON with all defaults: a refused change never stops its
    care. `previous` is the one before it. `deployed` is what the stream runs or rests with, `good` the last revision
    that ran through its soak. `started` says that the stream has been told to run at least once, so that it may have
    state. `resting_on` names the point that the stopped stream rests on; None while it runs, and once another hand was
    seen to have started it. `stops` counts stops that failed, `recoveries` attempts beyond Flink's own restarts. A
    `rejected` revision was rolled back; it is not tried again until the spec changes, or somebody asks for it. One
    whose `soak_failed` may only be rolled back by a person. `rollback_failed` is about a last good revision that did
    not start. `last_scheduled` is when a savepoint was last asked for by schedule. `handled` holds the requests by
    annotation that were carried out. `stale_days` are event days of silver that a rewind left behind, until a run
    computes them anew that was created after the last rewind, at `stale_since`; `stale_gold` are gold's. `discarded`
    are the heads of bronze that rewinds discarded. `computed` says by which definition days were computed, by the runs
    that had ended at `computed_until`. `topic_id` is Kafka's id of the topic that the stream's offsets belong to;
    `gaps` are what bronze lacks of it, and `lost_letters` what the dead letters may lack.
    """

    accepted: str | None = None
    accepted_generation: int = 0
    previous: str | None = None
    deployed: Revision | None = None
    launch: Launch | None = None
    started: bool = False
    resting_on: str | None = None
    good: Revision | None = None
    good_since: str | None = None
    operation: Operation | None = None
    stops: Failures | None = None
    recoveries: Failures | None = None
    rejected: Finding | None = None
    soak_failed: Finding | None = None
    rollback_failed: Finding | None = None
    unwell_since: str | None = None
    points: tuple[RecoveryPoint, ...] = ()
    pending: PendingSavepoint | None = None
    last_scheduled: str | None = None
    handled: tuple[tuple[str, ...], ...] = ()
    stale_days: tuple[str, ...] = ()
    stale_since: str | None = None
    stale_gold: tuple[StaleDay, ...] = ()
    discarded: tuple[DiscardedHead, ...] = ()
    computed: tuple[ComputedDays, ...] = ()
    computed_until: str | None = None
    topic_id: str | None = None
    gaps: tuple[Gap, ...] = ()
    lost_letters: LostLetters | None = None

    @property
    def resting_point(self) -> RecoveryPoint | None:
        """The point that the stream rests on. None where a rewind that did not come to its end has discarded it."""
        point = self.point(self.resting_on)
        return point if point is not None and not point.discarded else None

    def point(self, name: str | None) -> RecoveryPoint | None:
        """The recovery point of a name."""
        return next((point for point in self.points if point.name == name), None)

    def has_handled(self, annotation: str, token: str) -> bool:
        """Whether a request by annotation was carried out."""
        return (annotation, token) in self.handled

    def handling(self, annotation: str, token: str) -> "Record":
        """This record with a request marked as carried out; an older one under that annotation is forgotten."""
        others = tuple(entry for entry in self.handled if entry[0] != annotation)
        return replace(self, handled=(*others, (annotation, token)))


def to_data(record: Record) -> dict[str, str]:
    """The data of the record's ConfigMap. Equal records give equal text."""
    return {DATA_KEY: to_json(record)}


def fitting(record: Record) -> Record:
    """The record as its ConfigMap can hold it: of the oldest points, the offsets are given up where all take too much.

    Fifty points of a topic with a thousand partitions would take two mebibytes; a ConfigMap takes one. A restore to a
    point without offsets asks whether Kafka still holds what came after it.
    """
    if sum(len(point.kafka) for point in record.points) <= FEW_OFFSETS:
        return record
    surplus = len(to_data(record)[DATA_KEY].encode()) - LARGEST
    points = list(record.points)
    for index, point in enumerate(points[:-1]):
        if surplus > 0 and point.kafka:
            points[index] = replace(point, kafka=())
            surplus -= len(to_json(point)) - len(to_json(points[index]))
    return replace(record, points=tuple(points))


def from_data(data: Mapping[str, str]) -> Record:
    """Read the data of the record's ConfigMap.

    Raises:
        SettingsRefused: It is not a record. It must then not be taken for an empty one: that would lose state.
    """
    if DATA_KEY not in data:
        raise SettingsRefused((Problem(DATA_KEY, "is missing"),))
    return from_json(Record, data[DATA_KEY])


def canonical(value: object) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def point_name(trigger: PointTrigger, path: str) -> str:
    """The name of the point at a path: the same however often a crash makes us find it again."""
    return f"{trigger}-{digest(path, 8)}"
