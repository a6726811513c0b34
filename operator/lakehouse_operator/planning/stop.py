"""How a stream is stopped: with a savepoint that is on record, and proven where that can be seen, before anything else.

The child keeps its old definition and only becomes suspended, so a stop that fails leaves it running as it was.
"""

from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.api.pipeline_status import PointTrigger
from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points
from lakehouse_operator.planning.gates import revision_to_run
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import Failures, OperationKind, Revision
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.planning.situation import POLL, Situation, Step
from lakehouse_operator.planning.start import back_to_newest, lost, no_state, removing, resume, start

PROVE_TIMEOUT = timedelta(minutes=5)
"""How long a stopped stream waits for its recovery point to be proven."""
_MARGIN = timedelta(minutes=1)
"""What the Flink operator is given beyond the savepoint's own timeout."""

_TRIGGERS: dict[OperationKind, PointTrigger] = {
    "upgrade": "upgrade",
    "suspend": "suspend",
    "delete": "deletion",
    "rewind": "rewind",
}


def stop(s: Situation, kind: OperationKind, target: Revision | None, *, point: str | None = None) -> Step:
    """Write an operation down that begins by stopping the stream with a savepoint, and stop it.

    Args:
        s: The situation.
        kind: What the stop is for.
        target: The revision that is to run afterwards.
        point: The recovery point that a rewind goes back to.
    """
    known = s.child.savepoint_path if s.child and not s.left_a_checkpoint else None
    origin = "last-state" if s.upgrade.mode == "lastState" and kind == "suspend" else "point"
    s = s.begin(kind, "stopping", target, known_path=known, kafka=s.kafka_offsets, origin=origin, point=point)
    return _stopping(s)


def _stopping(s: Situation) -> Step:
    step = Step(situation=s, state="Stopping", child="suspended", stop="savepoint", recheck=POLL)
    return replace(step, stop="last-state") if s.operation.origin == "last-state" else step


def stopping(s: Situation) -> Step:
    """Wait until the stream is stopped; put its savepoint on record."""
    if s.child is None:
        return lost(s)
    if not s.stopped:
        late = s.since(s.operation.since) > s.savepoint_timeout + _MARGIN
        return _not_stopped(s) if late and not s.child.deleting else _stopping(s)
    if s.never_deployed:
        return _at_rest(s)
    path = s.child.savepoint_path
    if s.child.restore_mode == "last-state":
        return _at_rest(s)
    if s.child.restore_mode == "savepoint" and path and path != s.operation.known_path:
        trigger = _TRIGGERS.get(s.operation.kind, "suspend")
        kafka = s.kafka_offsets or s.operation.kafka
        point = points.found(s, trigger, path, job_id=s.child.job_id, kafka=kafka)
        s = points.adding(s, point).but(resting_on=point.name).enter("proving")
        step = Step(situation=s, state="Stopping", recheck=timedelta(seconds=1))
        return step.telling("Normal", "RecoveryPointTaken", f"{point.name} lies at {point.path}")
    return _without_savepoint(s)


def _without_savepoint(s: Situation) -> Step:
    """The Flink operator says that it stopped the job, and names no new savepoint: what it would start from is old."""
    if s.operation.kind in ("delete", "suspend"):
        hold = Hold(
            reason="StoppedWithoutSavepoint",
            message="the stream was stopped and the Flink operator names no new savepoint; the newest proven recovery "
            "point counts: set spec.suspend to false to go back to it, together with bronze",
            stalled=True,
        )
        return Step(situation=s.but(operation=None), state="Suspended", holds=(hold,))
    if s.operation.kind == "rewind":
        return _rewinding(s)
    deployed = s.record.deployed
    return back_to_newest(s, deployed) if deployed else no_state(s)


def _not_stopped(s: Situation) -> Step:
    """The savepoint failed or took too long: the stream goes on as it was, and it is tried again later."""
    operation = s.operation
    if operation.kind == "rewind":
        # What runs is to be discarded anyway.
        return removing(s.enter("removing"))
    why = (s.child.error if s.child else None) or f"no savepoint after {s.upgrade.savepoint_timeout}"
    s = s.but(operation=None, stops=failed(s, operation.kind, operation.target, why))
    step = Step(situation=s, state="Held", child="running", recheck=POLL)
    return step.telling("Warning", "StopFailed", f"the stream goes on as it was: {why}")


def failed(s: Situation, kind: OperationKind, revision: str | None, why: str) -> Failures:
    """One failure more, and when to try again: after a time that doubles."""
    known = s.record.stops
    count = known.count + 1 if known and (known.kind, known.revision) == (kind, revision) else 1
    recovery = s.pipeline.spec.bronze.restart.recovery
    wait = min(seconds(recovery.backoff) * 2 ** min(count - 1, 20), seconds(recovery.max_backoff))
    later = instant(s.now + timedelta(seconds=wait))
    return Failures(kind=kind, revision=revision, count=count, not_before=later, reason=why)


def _at_rest(s: Situation) -> Step:
    """Stopped, with nothing to prove: its state is in the high-availability metadata, or it never had any."""
    return stopped(s) if s.operation.kind != "rewind" else _rewinding(s)


def proving(s: Situation) -> Step:
    """Wait a while until the point can be trusted, then go on with what the stop was for."""
    point = s.record.resting_point
    if s.operation.kind == "rewind" and s.child is not None:
        return _rewinding(s)  # it goes back to another point; this one is for changing one's mind
    if point is None or s.child is None:
        return lost(s)  # what a rewind has discarded is never proven
    if points.is_trusted(s, point):
        return stopped(s)
    if s.since(s.operation.since) <= PROVE_TIMEOUT:
        return Step(situation=s, state="Stopping", recheck=POLL)
    if s.operation.kind == "upgrade":
        why = f"the recovery point {point.name} could not be proven: {point.path} can't be read, or a commit is missing"
        s = s.but(operation=None, stops=failed(s, "upgrade", s.operation.target, why))
        return Step(situation=s, state="Held", recheck=timedelta(seconds=1)).telling("Warning", "UpgradeHeld", why)
    return stopped(s)


def _rewinding(s: Situation) -> Step:
    return Step(situation=s.enter("rewinding"), state="Rewinding", recheck=timedelta(seconds=1))


def stopped(s: Situation) -> Step:
    """The stream is stopped and its point is on record: start the new revision, or rest."""
    if s.operation.kind == "upgrade" and not s.should_rest:
        point, revision = s.record.resting_point, revision_to_run(s)
        if point is not None:
            return start(s, revision, point=point)
        if s.flink_has_state and s.child and s.child.restore_mode == "last-state":
            return start(s.enter("starting", origin="last-state"), revision)
        return resume(s, revision)
    s = s.but(operation=None, stops=None)
    return Step(situation=s, state="Suspended").telling("Normal", "Suspended", "the stream is stopped, with its state")
