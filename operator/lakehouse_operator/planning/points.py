"""Recovery points: found, proven, kept as long as they are needed, and taken while the stream runs."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from lakehouse_contract import commits
from lakehouse_operator.api.pipeline_status import PointTrigger
from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import names
from lakehouse_operator.planning.flink_manifest import API_VERSION, build_state_snapshot
from lakehouse_operator.planning.observed import Commit, Savepoint, TableView
from lakehouse_operator.planning.plan import Action, Announce, CreateOnce, Delete, DropTag, Hold, TagSnapshot
from lakehouse_operator.planning.record import (
    KafkaOffset,
    PendingSavepoint,
    Record,
    RecoveryPoint,
    point_name,
)
from lakehouse_operator.planning.schedule import parse_instant
from lakehouse_operator.planning.situation import FORGET_ANNOTATION, POLL, SAVEPOINT_ANNOTATION, Situation, Step

TAG_PREFIX = commits.RECOVERY_TAG
"""Tags on the bronze table that keep the snapshots of recovery points."""
DISCARDED_PREFIX = "discarded-"
"""Tags on the bronze table that keep the heads that a rewind discarded."""


# --- finding ----------------------------------------------------------------------------------------------------------


def found(
    s: Situation, trigger: PointTrigger, path: str, *, job_id: str | None, kafka: tuple[KafkaOffset, ...] = ()
) -> RecoveryPoint:
    """The point at a path: the known one, or a new one that the job `job_id` has taken."""
    known = next((point for point in s.record.points if point.path == path), None)
    return known or RecoveryPoint(
        name=point_name(trigger, path),
        path=path,
        taken_at=s.stamp,
        trigger=trigger,
        revision=s.record.deployed.id if s.record.deployed else "",
        job_id=job_id,
        kafka=kafka,
    )


def adding(s: Situation, point: RecoveryPoint) -> Situation:
    """The situation with a point in the record, the newest last."""
    return s.but(points=(*(each for each in s.record.points if each.name != point.name), point))


def is_trusted(s: Situation, point: RecoveryPoint) -> bool:
    """Proven, where that can be seen, now or once what does not answer is back; else the Flink operator's own completed
    savepoint counts.
    """
    observed = s.observes_tables and s.seen.observation.savepoints is not None
    return point.proven or not (observed or s.proof_is_awaited or point.discarded)


def newest_proven(record: Record) -> RecoveryPoint | None:
    """The newest point that is proven."""
    return next((point for point in reversed(record.points) if point.proven), None)


# --- proving ----------------------------------------------------------------------------------------------------------


def prove(s: Situation) -> tuple[Situation, tuple[Action, ...]]:
    """Prove what can be proven with what was observed, and take back what no longer holds.

    Returns:
        The situation afterwards, and the tags that must stand before it is written down.
    """
    readable = s.seen.observation.savepoints
    if readable is None or not s.observes_tables:
        return s, ()
    actions: list[Action] = []
    kept: list[RecoveryPoint] = []
    for point in s.record.points:
        checkpoint = readable.get(point.path)
        if checkpoint is None or point.discarded:
            judged = replace(point, proven=False)
        else:
            judged = _resolved(s, point, checkpoint)
        if judged.proven and (tag := _missing_tag(s, judged)):
            actions.append(tag)
        kept.append(judged)
    return s.but(points=tuple(kept)), tuple(actions)


def _resolved(s: Situation, point: RecoveryPoint, checkpoint: int) -> RecoveryPoint:
    if point.resolved:
        return replace(point, proven=has_snapshot(s, point))
    at_rest = s.record.resting_on == point.name and (s.child is None or s.stopped)
    known, snapshot = resolve(point.job_id, checkpoint, s.bronze, at_rest=at_rest)
    return replace(point, bronze_snapshot=snapshot, resolved=known, proven=known)


def look_again(s: Situation) -> timedelta | None:
    """When to look whether the commit has come that proves a point; None where none is waited for.

    A table's commits ring no bell. After as long as the point is old: soon at first, and seldom where no events come.
    """
    if not (s.observes_tables and s.running):
        return None
    ages = [s.since(point.taken_at) for point in s.record.points if not (point.resolved or point.discarded)]
    return max(min(ages), POLL) if ages else None


def has_snapshot(s: Situation, point: RecoveryPoint) -> bool:
    """Whether the bronze snapshot of a resolved point is still there: its tag stands, or the history shows it."""
    if point.bronze_snapshot is None:
        return True
    bronze = s.bronze
    if bronze is None:
        return False
    tagged = bronze.tags.get(tag(point)) == point.bronze_snapshot
    return tagged or bronze.commit(point.bronze_snapshot) is not None


def resolve(job_id: str | None, checkpoint: int, bronze: TableView | None, *, at_rest: bool) -> tuple[bool, int | None]:
    """Find the bronze snapshot that belongs to a savepoint.

    It is the newest one whose committed checkpoint is not above the savepoint's. A savepoint in passing commits nothing
    by itself, and commits of earlier checkpoints may still be on their way: it is known only once a later commit is
    there, or the job has stopped.

    Args:
        job_id: The Flink job that took the savepoint.
        checkpoint: The savepoint's checkpoint id.
        bronze: The bronze table; None if there is none yet.
        at_rest: Whether that job has stopped for good.

    Returns:
        Whether it is known, and the snapshot; None if bronze had no commit yet. That is not known where there were
        commits before the oldest one that is seen.
    """
    history = bronze.commits if bronze else ()
    begins = not history or not history[0].parent
    earlier: int | None = None
    own: int | None = None
    for commit in history:
        if commit.properties.get(commits.FLINK_JOB_ID) == job_id:
            if _checkpoint(commit) > checkpoint:
                before = own if own is not None else earlier
                return begins or before is not None, before
            own = commit.id
        elif own is not None and commits.FLINK_JOB_ID in commit.properties:
            return True, own
        elif own is None:
            earlier = commit.id
    return (True, own if own is not None else earlier) if at_rest else (False, None)


def _checkpoint(commit: Commit) -> int:
    return int(commit.properties.get(commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID, "-1"))


def _missing_tag(s: Situation, point: RecoveryPoint) -> TagSnapshot | None:
    bronze = s.bronze
    if point.bronze_snapshot is None or bronze is None or bronze.tags.get(tag(point)) == point.bronze_snapshot:
        return None
    return TagSnapshot(s.pipeline.bronze_table, tag(point), point.bronze_snapshot)


def committed_since(s: Situation, point: RecoveryPoint) -> tuple[Commit, ...]:
    """What the stream committed after a resolved point, as far as it is seen.

    Rewrites by maintenance alone don't count: they change no row.
    """
    history = (*s.bronze.older, *s.bronze.commits) if s.bronze else ()
    after = next((index + 1 for index, each in enumerate(history) if each.id == point.bronze_snapshot), 0)
    later = history[after:]
    return later if any(commits.FLINK_JOB_ID in each.properties for each in later) else ()


def is_outrun(s: Situation, point: RecoveryPoint) -> bool:
    """Whether bronze shows that the stream has gone on since a point, started by another hand and not seen."""
    return point.resolved and bool(committed_since(s, point))


def tag(point: RecoveryPoint) -> str:
    """The tag on the bronze table that keeps a point's snapshot."""
    return TAG_PREFIX + point.name


# --- keeping ----------------------------------------------------------------------------------------------------------


def retire(s: Situation) -> tuple[Situation, tuple[Action, ...]]:
    """Forget the oldest points beyond the limit, and drop the tags that belong to no point.

    Those that a person asked for stay, and so does what may still be needed: the newest proven one, the one that the
    stream rests on or was started from, and the one that an operation goes back to. The savepoints' files are left to
    the store's own life cycle rules.
    """
    record = s.record
    counted = [point for point in record.points if point.trigger != "manual"]
    surplus = counted[: max(len(counted) - s.pipeline.spec.bronze.recovery_points.keep, 0)]
    gone = {point.name for point in surplus} - _needed(record)
    kept = tuple(point for point in record.points if point.name not in gone)
    return s.but(points=kept), tuple(_stray_tags(s, kept))


def _needed(record: Record) -> set[str]:
    """The points that may still be needed, whoever asked for them."""
    newest, launched_from = newest_proven(record), record.launch.point if record.launch else None
    names_ = {
        record.resting_on,
        newest.name if newest else None,
        record.operation.point if record.operation else None,
        *(point.name for point in record.points if point.path == launched_from),
    }
    return {name for name in names_ if name is not None}


def forget(s: Situation) -> tuple[Situation, Hold | None]:
    """Give up the point that a person names, unless it may still be needed; the hold says so."""
    request = s.request(FORGET_ANNOTATION)
    if request is None:
        return s, None
    name = request.partition("/")[0]
    if s.record.point(name) is not None and name in _needed(s.record):
        why = (
            f"{name} is kept for as long as it is the newest proven recovery point, or the stream rests on it or was "
            "started from it"
        )
        return s, Hold(reason="RecoveryPointNeeded", message=why, about="request")
    record = s.record.handling(FORGET_ANNOTATION, request)
    return replace(s, record=replace(record, points=tuple(each for each in record.points if each.name != name))), None


def _stray_tags(s: Situation, kept: Iterable[RecoveryPoint]) -> Iterable[DropTag]:
    """Tags of points that are in neither the old nor the new record: dropped only after the record says so."""
    standing = {tag(point) for point in (*kept, *s.seen.record.points)}
    for name in sorted(s.bronze.tags) if s.bronze else ():
        if name.startswith(TAG_PREFIX) and name not in standing:
            yield DropTag(s.pipeline.bronze_table, name)


# --- taking while the stream runs -------------------------------------------------------------------------------------


def take(step: Step) -> Step:
    """Take the savepoints that are due or asked for while the stream runs, and pick up those that are done."""
    s = step.situation
    if s.record.pending is not None:
        return _collect(step, s.record.pending)
    if not s.running or s.pipeline.spec.bronze.checkpoint.savepoint_directory is None:
        return step
    token = s.request(SAVEPOINT_ANNOTATION)
    if token is not None:
        return _ask(step, PendingSavepoint(name="", trigger="manual", requested_at=s.stamp, token=token))
    due = _next_due(s)
    if due is None or s.record.operation is not None:
        return step
    if due <= timedelta():
        return _ask(step, PendingSavepoint(name="", trigger="schedule", requested_at=s.stamp))
    return replace(step, recheck=min(step.recheck, due))


def unanswered(s: Situation) -> Hold | None:
    """Why a savepoint that a person asked for is not being taken; None where nobody waits for one."""
    if s.record.pending is not None or s.request(SAVEPOINT_ANNOTATION) is None:
        return None
    if s.pipeline.spec.bronze.checkpoint.savepoint_directory is None:
        why = "no savepoint can be taken: set spec.bronze.checkpoint.savepointDirectory"
        return Hold(reason="NoSavepointDirectory", message=why, about="request")
    why = "a savepoint can be taken only of a job that runs and is not being changed; it is taken once that is so"
    return Hold(reason="SavepointWaits", message=why, about="request")


def _next_due(s: Situation) -> timedelta | None:
    """How long until the next savepoint by schedule; None for never. The first one is due at once."""
    interval = timedelta(seconds=seconds(s.pipeline.spec.bronze.recovery_points.interval))
    if not interval:
        return None
    moments = [point.taken_at for point in s.record.points[-1:]]
    moments += [s.record.last_scheduled] if s.record.last_scheduled else []
    return max(map(parse_instant, moments)) + interval - s.now if moments else timedelta()


def _ask(step: Step, pending: PendingSavepoint) -> Step:
    s = step.situation
    if s.seen.capabilities.state_snapshots:
        asked = replace(pending, name=names.savepoint(s.pipeline.name, pending.token or pending.requested_at))
        launch = s.launch
    else:
        launch = replace(s.launch, savepoint_nonce=s.launch.savepoint_nonce + 1)
        asked = replace(pending, name=f"nonce-{launch.savepoint_nonce}")
    asked = replace(asked, kafka=s.kafka_offsets, job_id=s.child.job_id if s.child else None)
    scheduled = s.stamp if pending.trigger == "schedule" else s.record.last_scheduled
    s = s.but(pending=asked, launch=launch, last_scheduled=scheduled)
    return replace(step, situation=s, child="running", after=(*step.after, *_request(s, asked)))


def _request(s: Situation, pending: PendingSavepoint) -> tuple[Action, ...]:
    """Create the FlinkStateSnapshot; nothing to do where a nonce asks for it."""
    if pending.name.startswith("nonce-"):
        return ()
    asked = build_state_snapshot(s.pipeline, pending.name)
    return (CreateOnce(asked, f"a savepoint that was asked for ({pending.trigger})"),)


def _collect(step: Step, pending: PendingSavepoint) -> Step:
    s = step.situation
    result = next((each for each in s.seen.savepoints if each.name == pending.name), None)
    late = s.since(pending.requested_at) > 2 * s.savepoint_timeout
    same_job = s.child is not None and s.child.job_id == pending.job_id
    if result is not None and result.state == "Completed" and result.path and same_job:
        point = found(s, pending.trigger, result.path, job_id=pending.job_id, kafka=pending.kafka)
        s = _handled(adding(s, point), pending)
        return replace(step, situation=s, after=(*step.after, *_tidy(result))).telling(
            "Normal", "RecoveryPointTaken", f"{point.name} lies at {point.path}"
        )
    if late or not same_job or (result is not None and result.state == "Failed"):
        other = "it took too long" if same_job else "the job that it was asked of has ended"
        why = result.error if result and result.error else other
        tidied = (*step.after, *(_tidy(result) if result else ()))
        return replace(step, situation=_handled(s, pending), after=tidied).telling(
            "Warning", "SavepointFailed", f"the savepoint {pending.name} failed: {why}"
        )
    if result is None and s.child is not None and not s.child.deleting:
        # Written down but not created yet: the crash came in between.
        step = replace(step, after=(*step.after, *_request(s, pending)))
    return replace(step, recheck=min(step.recheck, timedelta(seconds=30)))


def _handled(s: Situation, pending: PendingSavepoint) -> Situation:
    record = s.record
    if pending.token is not None:
        record = record.handling(SAVEPOINT_ANNOTATION, pending.token)
    return replace(s, record=replace(record, pending=None))


def _tidy(result: Savepoint) -> tuple[Action, ...]:
    if result.uid is None:
        return ()
    return (Delete(API_VERSION, "FlinkStateSnapshot", result.name, result.uid, "its savepoint is in the record"),)


def events(points_before: Iterable[RecoveryPoint], points_after: Iterable[RecoveryPoint]) -> tuple[Announce, ...]:
    """Say of each point that became proven, or no longer is."""
    before = {point.name: point.proven for point in points_before}
    news = []
    for point in points_after:
        was = before.get(point.name, False)
        if point.proven and not was:
            news.append(Announce("Normal", "RecoveryPointProven", f"{point.name} is proven"))
        elif was and point.discarded:
            news.append(Announce("Warning", "RecoveryPointDiscarded", f"a rewind went back to before {point.name}"))
        elif was and not point.proven:
            lost = f"its files at {point.path} can no longer be read, or its bronze snapshot is gone"
            news.append(Announce("Warning", "RecoveryPointLost", f"{point.name} is no longer proven: {lost}"))
    return tuple(news)
