"""How a stream is started: from a savepoint, from its newest state, or, where it never had any, from nothing.

A stream that may have state is never started without it, unless a person asked for that. So that this can be told after
any crash, a FlinkDeployment is created suspended first: until the record says `started`, nothing of it can have run.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.planning import flink_manifest, points
from lakehouse_operator.planning.plan import Action, Delete, Hold
from lakehouse_operator.planning.record import Launch, RecoveryPoint, Revision
from lakehouse_operator.planning.situation import POLL, START_FRESH_ANNOTATION, START_TIMEOUT, Situation, Step


def start(s: Situation, revision: Revision, *, point: RecoveryPoint | None = None) -> Step:
    """Start a revision: the last steps of the operation under way, whose `origin` says from what.

    Args:
        s: The situation; nothing else may be done to the child in this round.
        revision: What to start.
        point: The recovery point, if the origin is one.
    """
    origin = s.operation.origin
    s = s.enter("starting", target=revision.id, point=point.name if point else s.operation.point)
    if s.child is None:
        return lost(s) if origin == "last-state" else _created(s, revision, point)
    if s.never_deployed:
        return _first_run(s.but(deployed=revision, launch=_launch(s, point)))
    if origin == "last-state":
        return _from_last_state(s, revision)
    launch = _launch_of_stopped(s, point) if point is not None and s.stopped else None
    return removing(s.but(deployed=revision).enter("removing")) if launch is None else _told(s, revision, launch)


def _launch_of_stopped(s: Situation, point: RecoveryPoint) -> Launch | None:
    """How a stopped child can be started from a point; None if only a new child can."""
    launch = _launch(s, point)
    if s.child and s.child.restore_mode == "savepoint" and s.child.savepoint_path == point.path:
        return launch
    if s.seen.capabilities.savepoint_redeploy:
        return replace(launch, redeploy_nonce=launch.redeploy_nonce + 1)
    return None


def _created(s: Situation, revision: Revision, point: RecoveryPoint | None) -> Step:
    s = s.but(deployed=revision, launch=_launch(s, point))
    return Step(situation=s, state="Deploying", child="suspended", recheck=POLL)


def _first_run(s: Situation) -> Step:
    """Let a child run for which nothing was deployed yet."""
    return Step(situation=s.but(started=True, resting_on=None), state="Deploying", child="running", recheck=POLL)


def _from_last_state(s: Situation, revision: Revision) -> Step:
    """Go on from what the high-availability metadata holds; a nonce makes the Flink operator act on an equal spec."""
    launch = replace(s.launch, at=s.stamp, mode="last-state", restart_nonce=s.launch.restart_nonce + 1)
    return _told(s, revision, launch)


def _told(s: Situation, revision: Revision, launch: Launch) -> Step:
    s = s.but(deployed=revision, launch=launch, started=True, resting_on=None)
    return Step(situation=s, state="Deploying", child="running", recheck=POLL)


def _launch(s: Situation, point: RecoveryPoint | None) -> Launch:
    """A launch from a point, or from nothing. Nonces go on counting, so that none is ever used twice."""
    path = point.path if point else None
    launch = replace(s.launch, at=s.stamp, point=path, mode="savepoint", job_id=None, ran=False)
    return launch if point else replace(launch, mode="stateless")


def waiting(s: Situation) -> Step | None:
    """What is left to tell the child in stage starting; None if it was told to run and the answer is awaited."""
    record, child = s.record, s.child
    if child is None:
        resting = record.resting_point
        exact = not record.started or (resting is not None and not points.is_outrun(s, resting))
        return Step(situation=s, state="Deploying", child="suspended", recheck=POLL) if exact else lost(s)
    if s.never_deployed:
        return _first_run(s)
    if s.stopped:
        return (
            lost(s) if _stopped_by_another(s) else Step(situation=s, state="Deploying", child="running", recheck=POLL)
        )
    if child.desired_state == "suspended" and s.since(s.operation.since) <= START_TIMEOUT:
        # Until the Flink operator is done with it nobody knows what it would be started from.
        return Step(situation=s, state="Deploying", recheck=POLL)
    return None


def _stopped_by_another(s: Situation) -> bool:
    """Whether another hand stopped what was started, so that the Flink operator would go on from something else."""
    child = s.child
    if child is None or child.spec.get("job", {}).get("savepointRedeployNonce", 0) != s.launch.redeploy_nonce:
        return False  # still to be told where to start from
    if child.restore_mode == "savepoint":
        return s.has_unknown_savepoint
    return child.restore_mode == "stateless" or not s.flink_has_state


def lost(s: Situation) -> Step:
    """The child is gone, or another hand stopped it, in the middle of an operation: begin anew from what there is."""
    return Step(situation=s.but(operation=None), state="Recovering", recheck=timedelta(seconds=1))


def removing(s: Situation) -> Step:
    """Delete the child; what follows needs it gone."""
    child = s.child
    if child is None or child.deleting:
        return Step(situation=s, state="Recovering", recheck=POLL)
    return Step(situation=s, state="Recovering", after=delete(s, "it is created again from a recovery point"))


def delete(s: Situation, why: str) -> tuple[Action, ...]:
    """Delete the child, if there is one that is not going already."""
    child = s.child
    if child is None or child.deleting or not s.child_is_ours:
        return ()
    return (Delete(flink_manifest.API_VERSION, "FlinkDeployment", child.name, child.uid, why),)


def as_if_never_started(s: Situation) -> Situation:
    """What was to be started from a point goes on to rest on it; what had nothing may begin with nothing again."""
    point = _launched_from(s)
    if point is not None:
        return s.but(resting_on=point.name)
    had_state = s.record.points or s.launch.point or (s.launch.ran and not s.nothing_to_lose)
    return s if had_state else s.but(started=False)


# --- there is no child, or it is stopped ------------------------------------------------------------------------------


def absent(s: Situation, revision: Revision) -> Step:
    """There is no FlinkDeployment and the stream should run."""
    record = s.record
    if not record.started:
        return fresh(s, revision)
    resting = record.resting_point
    return back_to_newest(s, revision) if resting is None else _from(s, revision, resting)


def back_to_newest(s: Situation, revision: Revision) -> Step:
    """The newest state is gone: go back to the newest proven point, together with bronze."""
    point = points.newest_proven(s.record)
    if point is not None:
        s = s.begin("deploy", "rewinding", revision, point=point.name)
        return Step(situation=s, state="Rewinding", recheck=timedelta(seconds=1))
    return fresh(s, revision) if s.nothing_to_lose else no_state(s)


def fresh(s: Situation, revision: Revision) -> Step:
    """Start without state: a stream that never had any, or a person asked for it."""
    return start(
        s.but(started=False, resting_on=None, topic_id=None).begin("deploy", "starting", revision, origin="nothing"),
        revision,
    )


def no_state(s: Situation, why: str = "the stream ran before and there is no recovery point that is proven") -> Step:
    """The stream may have had state that is gone. Nobody but a person may start it without."""
    hold = Hold(
        reason="NoRecoveryPoint",
        message=f"{why}; known are: {_named(s.record.points)}. To start without state, from the consumer group's "
        f"offsets: {s.annotate(START_FRESH_ANNOTATION)}",
        stalled=True,
    )
    return Step(situation=s, state="Failed", holds=(hold,))


def _named(known: Iterable[RecoveryPoint]) -> str:
    return ", ".join(f"{each.name} ({'proven' if each.proven else 'not proven'})" for each in known) or "none"


def resume(s: Situation, revision: Revision) -> Step:
    """The stream is stopped and should run: go on from what it rests on."""
    child, record = s.child, s.record
    if child is None:
        return absent(s, revision)
    if s.never_deployed:
        return _from(s, revision, record.resting_point or _launched_from(s))
    if child.restore_mode == "last-state" and record.resting_on is None:
        return _from_metadata(s, revision)
    if record.resting_on is None and child.restore_mode == "savepoint" and child.savepoint_path:
        # Stopped by another hand, or by a stop of ours that came after its time was up.
        s = _adopted(s, child.savepoint_path)
    point = s.record.resting_point
    return back_to_newest(s, revision) if point is None else _from(s, revision, point)


def _from_metadata(s: Situation, revision: Revision) -> Step:
    """The Flink operator would go on from the high-availability metadata. Before the job ran there is nothing in it."""
    if s.flink_has_state:
        return start(s.begin("deploy", "starting", revision, origin="last-state"), revision)
    return _from(s, revision, _launched_from(s))


def _from(s: Situation, revision: Revision, point: RecoveryPoint | None) -> Step:
    """Start from the point that holds the newest state; without one, from nothing only if nothing ever ran.

    From a point that the stream has gone on since it is started only together with bronze.
    """
    if point is not None and points.is_outrun(s, point):
        return back_to_newest(s, revision)
    if point is not None:
        return start(s.begin("deploy", "starting", revision, point=point.name), revision, point=point)
    began_with_nothing = s.launch.point is None and not s.launch.ran
    return fresh(s, revision) if began_with_nothing else back_to_newest(s, revision)


def _adopted(s: Situation, path: str) -> Situation:
    """Take the savepoint that a stopped child carries for a point, unless it is older than what has been committed."""
    if not s.has_unknown_savepoint:
        return s
    job_id = s.child.job_id if s.child else None
    point = points.found(s, "recovery", path, job_id=job_id, kafka=s.kafka_offsets)
    return points.adding(s, point).but(resting_on=point.name)


def _launched_from(s: Situation) -> RecoveryPoint | None:
    """The point that the stream was launched from, while it still holds the newest state: nothing has run since."""
    if s.launch.ran:
        return None
    return next((each for each in s.record.points if each.path == s.launch.point and not each.discarded), None)
