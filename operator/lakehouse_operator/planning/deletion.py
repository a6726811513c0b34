"""Deleting a pipeline: its state is put on record first, unless the policy or a person says otherwise.

The finalizer never gets stuck: every hold names the way on, and one annotation lets go at once.
"""

from dataclasses import replace

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points
from lakehouse_operator.planning.observed import Stream
from lakehouse_operator.planning.plan import DropFinalizer, Hold
from lakehouse_operator.planning.rewind import broken_off, is_going_back, is_refused
from lakehouse_operator.planning.situation import (
    FORCE_DELETE_ANNOTATION,
    POLL,
    SAVEPOINT_ANNOTATION,
    Situation,
    Step,
)
from lakehouse_operator.planning.start import as_if_never_started, delete
from lakehouse_operator.planning.stop import stop
from lakehouse_operator.planning.upgrade import suspend


def is_forced(s: Situation) -> bool:
    """Whether the deletion goes on at once, whatever is lost."""
    forced = s.seen.pipeline.annotations.get(FORCE_DELETE_ANNOTATION) == "true"
    return forced or s.pipeline.spec.bronze.deletion.policy == "Force"


def delete_pipeline(s: Situation) -> Step:
    """The pipeline is being deleted and nothing is being stopped: what comes next."""
    passed_over = _is_passed_over(s)
    s = broken_off(s)
    if s.child is None or s.child.deleting:
        return let_go(s)
    if s.never_ran:
        return let_go(as_if_never_started(s))
    if s.stopped or passed_over:
        return _at_rest(s, passed_over=passed_over)
    blocked = _blocked(s) if s.pipeline.spec.bronze.deletion.policy == "Block" else None
    if blocked is not None:
        return points.take(Step(situation=s, state="Held", child="running", holds=(blocked,), recheck=POLL))
    return _stop(s, s.child)


def _at_rest(s: Situation, *, passed_over: bool) -> Step:
    resting = s.record.resting_point
    if s.stopped and resting is not None and points.is_trusted(s, resting):
        return let_go(s)
    if passed_over:
        # Created again, the stream goes back to the newest proven point, together with bronze.
        return let_go(s.but(resting_on=None))
    return _held(s, "the stream rests, and the recovery point that it rests on is not proven")


def _is_passed_over(s: Situation) -> bool:
    """Whether the state that the child still holds counts no more, and there is a proven point to go back to instead.

    Either a rewind has discarded what it rests on, or the next step of one would be to give it up.
    """
    resting = s.record.point(s.record.resting_on)
    if s.stopped and resting is not None and resting.discarded:
        return points.newest_proven(s.record) is not None
    return is_going_back(s) and not s.running and not is_refused(s)


def _stop(s: Situation, child: Stream) -> Step:
    if s.running:
        return replace(suspend(s, "delete"), state="Deleting")
    if s.left_a_checkpoint:
        return stop(s, "delete", s.record.deployed)
    return _held(s, f"the job is {child.job_state}, and only of a running job a savepoint can be taken")


def _held(s: Situation, why: str) -> Step:
    hold = Hold(
        reason="DeletionWaits",
        message=f"{why}. To delete the pipeline all the same, losing what is not in bronze yet: "
        f"{s.annotate(FORCE_DELETE_ANNOTATION, 'true')}",
        recheck=POLL,
        stalled=True,
    )
    return Step(situation=s, state="Deleting", child="leave" if s.stopped else "running", holds=(hold,), recheck=POLL)


def _blocked(s: Situation) -> Hold | None:
    """Policy Block: a recent recovery point must be there before the stream is even stopped."""
    point = next((each for each in reversed(s.record.points) if points.is_trusted(s, each)), None)
    most = s.upgrade.max_recovery_point_age
    if point is not None and s.since(point.taken_at).total_seconds() <= seconds(most):
        return None
    return Hold(
        reason="DeletionBlocked",
        message=f"bronze.deletion.policy is Block and there is no recovery point younger than "
        f"bronze.upgrade.maxRecoveryPointAge ({most}). Take one: {s.annotate(SAVEPOINT_ANNOTATION)}; the deletion then "
        f"goes on by itself. Or delete at once: {s.annotate(FORCE_DELETE_ANNOTATION, 'true')}",
        recheck=POLL,
        stalled=True,
    )


def let_go(s: Situation) -> Step:
    """Delete the child and drop the finalizer. The record stays, so that the pipeline can be created again from it."""
    s = s.but(operation=None, stops=None, recoveries=None, pending=None, unwell_since=None)
    step = Step(situation=s, state="Deleting", after=(*delete(s, "the pipeline is deleted"), DropFinalizer()))
    point = s.record.resting_point or points.newest_proven(s.record)
    shown = f"it can be created again from {point.name}" if point else "no recovery point is kept"
    return step.telling("Normal", "Deleted", shown)
