"""A plan is typed data: statuses to report, actions to take, and when to look again.

Several interpreters read it: `cluster.apply` does it, `explain` prints it, the local world runs it, the tests check it.
Statuses are written before the actions are taken, because acting may destroy the evidence. Actions are taken in their
order, and one that fails ends the round: what follows may rest on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from lakehouse_operator.planning.record import Record

Manifest = Mapping[str, Any]

FINALIZER = "lakehouse.dev/recovery-point"
"""This project's finalizer on a pipeline: its deletion waits until its state is on record."""


@dataclass(frozen=True, slots=True)
class KeepFinalizer:
    """Put this project's finalizer on the pipeline, so that its deletion waits for the recovery point."""


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    """Let the pipeline's deletion go on."""


@dataclass(frozen=True, slots=True)
class SaveRecord:
    """Write the durable record (server-side apply; refused if somebody else wrote it since it was read).

    What follows rests on it, unless it is not `needed`: then the plan goes on where it can't be written.
    """

    record: Record
    needed: bool = True


@dataclass(frozen=True, slots=True)
class ApplyChild:
    """Server-side apply a child with all the fields that we own. Fields of others stay as they are.

    One that was seen has a `uid`, and is changed only while it has that one: what somebody deletes in between must not
    come back, told to run from where it was once started. None creates it.
    """

    manifest: Manifest
    why: str
    uid: str | None


@dataclass(frozen=True, slots=True)
class CreateOnce:
    """Create a LakehouseRun or SparkApplication. One that exists is adopted if owner UID and spec hash match."""

    manifest: Manifest
    why: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one object, only if it still has this UID."""

    api_version: str
    kind: str
    name: str
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class TagSnapshot:
    """Tag a snapshot, so that no expiry removes it. A tag that points there already is no write."""

    table: str
    tag: str
    snapshot: int


@dataclass(frozen=True, slots=True)
class DropTag:
    """Remove a tag. A tag that is gone is no write."""

    table: str
    tag: str


@dataclass(frozen=True, slots=True)
class RollBackTable:
    """Make `to_snapshot`, an ancestor of the head, the head again, after tagging the discarded head.

    Refused where the head is no longer `expected_head`: somebody committed in between.
    """

    table: str
    to_snapshot: int
    expected_head: int
    discarded_tag: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Post an event about the pipeline or one of its objects."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    regarding: tuple[str, str] | None = None
    """(kind, name) of the object it is about; the pipeline where None."""


Action = (
    KeepFinalizer
    | DropFinalizer
    | SaveRecord
    | ApplyChild
    | CreateOnce
    | Delete
    | TagSnapshot
    | DropTag
    | RollBackTable
    | Announce
)


@dataclass(frozen=True, slots=True)
class StatusOf:
    """The whole status that one object should have. Written only if it differs from what was seen."""

    kind: Literal["LakehousePipeline", "LakehouseRun", "LakehouseBackfill"]
    name: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why something waits: a reason in PascalCase, a sentence, and when to look again.

    `stalled` says that waiting alone won't help: a person has to do what the message says. A hold about a request by
    annotation says why that one is refused, and nothing about the stream.
    """

    reason: str
    message: str
    recheck: timedelta | None = None
    stalled: bool = False
    about: Literal["stream", "request"] = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to report, what to do, in this order, and when to look again if nobody rings before."""

    statuses: tuple[StatusOf, ...] = ()
    actions: tuple[Action, ...] = ()
    wake_after: timedelta
