"""Going back to a recovery point: the stream's state and the bronze table together.

Starting an older savepoint on a newer table loses rows or doubles them (apache/iceberg #10892). So bronze is rolled
back to the snapshot that belongs to the savepoint, after its head was tagged, and only if Kafka still holds what has to
be read again.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points, staleness
from lakehouse_operator.planning.names import digest
from lakehouse_operator.planning.observed import Commit
from lakehouse_operator.planning.plan import DropTag, Hold, RollBackTable
from lakehouse_operator.planning.record import DiscardedHead, RecoveryPoint, Revision
from lakehouse_operator.planning.situation import (
    POLL,
    RESTORE_ANNOTATION,
    RESTORE_ANYWAY_ANNOTATION,
    Situation,
    Step,
)
from lakehouse_operator.planning.source import coarse
from lakehouse_operator.planning.start import delete, lost, removing, start
from lakehouse_operator.planning.stop import stop

DISCARDED_KEPT = timedelta(days=7)
"""How long the head that a rewind discarded is kept under a tag, for a person who wants to look at it."""


def restore(s: Situation, request: str, revision: Revision) -> Step | Hold:
    """Begin to go back to the point that a person named, or say why that is refused; the stream then goes on."""
    name = request.partition("/")[0]
    point = s.record.point(name)
    if point is None:
        known = ", ".join(each.name for each in s.record.points) or "none"
        unknown = f"there is no recovery point {name}; known are: {known}"
        return Hold(reason="UnknownRecoveryPoint", message=unknown, about="request")
    refused = _blocked(s, point)
    if refused is not None:
        return replace(refused, about="request")
    s = replace(s, record=s.record.handling(RESTORE_ANNOTATION, request))
    if s.running:
        return replace(stop(s, "rewind", revision, point=name), state="Rewinding")
    s = s.begin("rewind", "rewinding", revision, point=name)
    if s.child is None or s.stopped:
        return Step(situation=s, state="Rewinding", recheck=timedelta(seconds=1))
    return removing(s.enter("removing"))


def rewinding(s: Situation, revision: Revision) -> Step:
    """Make bronze match the point that the operation goes back to, then start from it."""
    point = s.record.point(s.operation.point)
    if point is None:
        return _held(s, Hold(reason="RecoveryPointGone", message=f"{s.operation.point} is not in the record any more"))
    if s.running and s.operation.kind == "deploy":
        # It was to be started from an older point because its newest state seemed lost; it is not.
        return lost(s)
    blocked = refusal(s, point)
    if blocked is not None:
        return _held(s, blocked)
    if s.child is not None and not s.stopped:
        # Nobody may commit while the table is moved.
        return Step(situation=s, state="Rewinding", after=delete(s, "bronze is rolled back"), recheck=POLL)
    head = s.bronze.head if s.bronze else None
    if is_exact(s, point) or head is None or point.bronze_snapshot is None:
        return _start(s, revision, point)
    return _roll_back(s, point, point.bronze_snapshot, head.id)


def _roll_back(s: Situation, point: RecoveryPoint, snapshot: int, head: int) -> Step:
    """Note what is discarded, then move the table. The next round sees that it has moved, and starts."""
    discarded = points.committed_since(s, point)
    gone = {each.id for each in discarded}
    s = staleness.left_behind(s, _stale_days(s, point, discarded))
    s = s.but(
        points=tuple(_after_rewind(each, point, gone) for each in s.record.points),
    )
    roll_back = RollBackTable(
        table=s.pipeline.bronze_table,
        to_snapshot=snapshot,
        expected_head=head,
        discarded_tag=f"{points.DISCARDED_PREFIX}{digest(f'{point.name} {head}', 8)}",
    )
    step = Step(situation=s, state="Rewinding", after=(roll_back,), recheck=timedelta(seconds=1))
    return step.telling("Warning", "BronzeRolledBack", f"to {snapshot}, the snapshot of {point.name}")


def _after_rewind(point: RecoveryPoint, target: RecoveryPoint, gone: set[int]) -> RecoveryPoint:
    """A point whose snapshot is discarded, or was never found out, can't be gone back to any more."""
    kept = point.name == target.name or (point.resolved and point.bronze_snapshot not in gone)
    return point if kept else replace(point, proven=False, discarded=True)


def _start(s: Situation, revision: Revision, point: RecoveryPoint) -> Step:
    if s.should_rest:
        s = s.but(operation=None, resting_on=point.name)
        return Step(situation=s, state="Suspended")
    return start(s.but(resting_on=point.name), revision, point=point)


def _held(s: Situation, hold: Hold) -> Step:
    return Step(situation=s, state="Held", holds=(replace(hold, stalled=True),))


def broken_off(s: Situation) -> Situation:
    """What was under way is not gone on with. Where bronze is at the point of a rewind already, the stream rests on it.

    A rewind that has not come that far stays on record: nothing else says that the stream's newest state was given up.
    """
    if not is_going_back(s):
        return s.but(operation=None)
    point = s.record.point(s.operation.point)
    moved = s.operation.stage == "rewinding" and (s.child is None or s.stopped)
    if point is None or not (moved and points.is_trusted(s, point) and is_exact(s, point)):
        return s
    return s.but(operation=None, resting_on=point.name)


def is_going_back(s: Situation) -> bool:
    """Whether the operation under way gives the stream's state up for that of a recovery point."""
    operation = s.record.operation
    return operation is not None and operation.stage in ("removing", "rewinding") and operation.origin == "point"


def is_refused(s: Situation) -> bool:
    """Whether the operation under way can't go on to its point, or nobody could go back to that later."""
    point = s.record.point(s.operation.point)
    return point is None or not point.proven or refusal(s, point) is not None


def refusal(s: Situation, point: RecoveryPoint) -> Hold | None:
    """Why the stream can't go back to a point now; None if it can."""
    return None if is_exact(s, point) else _blocked(s, point)


def is_exact(s: Situation, point: RecoveryPoint) -> bool:
    """Whether nothing was committed since the point: bronze shows it; or it rests on it, or never ran from it."""
    if s.observes_tables and point.resolved:
        return not points.committed_since(s, point)
    launch = s.launch
    return s.record.resting_on == point.name or (launch.point == point.path and not launch.ran and not s.last_commit)


# --- what a rewind discarded ------------------------------------------------------------------------------------------


def retire(s: Situation) -> tuple[Situation, tuple[DropTag, ...]]:
    """Note the heads that rewinds discarded, and let go those that were kept for long enough: expiry may take them.

    The time counts from when the tag was first seen, so that one that another record knew is not dropped at once.
    """
    if s.bronze is None:
        return s, ()
    known = {each.tag: each for each in s.record.discarded}
    standing = sorted(name for name in s.bronze.tags if name.startswith(points.DISCARDED_PREFIX))
    heads = tuple(known.get(name, DiscardedHead(name, s.stamp)) for name in standing)
    over = tuple(each for each in heads if s.since(each.since) > DISCARDED_KEPT)
    return s.but(discarded=heads), tuple(DropTag(s.pipeline.bronze_table, each.tag) for each in over)


# --- what must hold before --------------------------------------------------------------------------------------------


def _blocked(s: Situation, point: RecoveryPoint) -> Hold | None:
    """Why going back to a point is refused."""
    return next(
        (hold for check in (_not_observed, _not_proven, _snapshot_gone, _kafka_gone) if (hold := check(s, point))), None
    )


def _not_observed(s: Situation, point: RecoveryPoint) -> Hold | None:
    if s.observes_tables:
        return None
    return Hold(
        reason="RewindNotObserved",
        message=f"to go back to {point.name} bronze must be rolled back with it, and the operator can't read the "
        f"table: {s.seen.observation.problem or 'observation is not switched on for this namespace'}",
    )


def _not_proven(s: Situation, point: RecoveryPoint) -> Hold | None:
    if point.proven:
        return None
    if point.discarded:
        why = "a rewind went back to before it, so bronze no longer holds what its state rests on"
    elif not point.resolved:
        why = "its bronze snapshot is not known yet"
    elif points.has_snapshot(s, point):
        why = f"its files at {point.path} can't be read"
    else:
        why = f"its bronze snapshot {point.bronze_snapshot} has lost its tag and has expired"
    return Hold(
        reason="RecoveryPointNotProven", message=f"{point.name} is not proven: {why}", recheck=timedelta(minutes=1)
    )


def _snapshot_gone(s: Situation, point: RecoveryPoint) -> Hold | None:
    if not points.committed_since(s, point):
        return None
    if point.bronze_snapshot is None:
        return Hold(
            reason="BronzeWasEmpty",
            message=f"bronze had no commit at {point.name}, and a table can't be rolled back to before its first one",
        )
    if s.bronze and s.bronze.commit(point.bronze_snapshot) is not None:
        return None
    return Hold(
        reason="SnapshotGone",
        message=f"snapshot {point.bronze_snapshot} of {point.name} is not an ancestor of bronze's head any more",
    )


def _kafka_gone(s: Situation, point: RecoveryPoint) -> Hold | None:
    if s.seen.pipeline.annotations.get(RESTORE_ANYWAY_ANNOTATION) == point.name:
        return None
    accept = f"to accept that: {s.annotate(RESTORE_ANYWAY_ANNOTATION, point.name)}"
    if s.seen.observation.kafka is None or not point.kafka:
        return Hold(
            reason="KafkaNotObserved",
            message=f"it is not known whether Kafka still holds every event since {point.name}; what it does not hold "
            f"would be missing from bronze; {accept}",
        )
    starts = {part.partition: part.start for part in s.seen.observation.kafka}
    gaps = [(each.partition, starts.get(each.partition, 0) - each.offset) for each in point.kafka]
    lost = [f"up to {coarse(count)} of partition {partition}" for partition, count in gaps if count > 0]
    if not lost:
        return None
    return Hold(
        reason="KafkaGone",
        message=f"Kafka does not hold all events since {point.name} any more; bronze would lose {', '.join(lost)}; "
        f"{accept}",
    )


# --- what is discarded ------------------------------------------------------------------------------------------------


def _stale_days(s: Situation, point: RecoveryPoint, discarded: tuple[Commit, ...]) -> list[str]:
    """The event days that the discarded commits have touched, as their files say it.

    Where not all of them tell, or are seen, those that they can have touched, by when rows arrived and how late they
    may be.
    """
    discarded = tuple(each for each in discarded if each.operation != "replace")
    told = [each.event_days for each in discarded]
    if None not in told and s.bronze is not None and s.bronze.sees_all_since(point.bronze_snapshot):
        return sorted({day for days in told for day in days or ()})
    bronze = s.pipeline.spec.bronze
    late = timedelta(seconds=seconds(bronze.watermark_delay) + seconds(bronze.allowed_lateness))
    base = (s.bronze.commit(point.bronze_snapshot) if s.bronze else None) or discarded[0]
    arrived = [_arrived(each) for each in discarded]
    first = min(_arrived(base), *arrived) - late
    last = max(arrived) + timedelta(seconds=seconds(bronze.future_tolerance))
    days = (last.date() - first.date()).days + 1
    return [(first + timedelta(days=number)).date().isoformat() for number in range(days)]


def _arrived(commit: Commit) -> datetime:
    return commit.kafka_timestamp_max or commit.committed_at
