"""Keeping the record true before anything is decided: what ran, what is forgiven, what no longer counts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points
from lakehouse_operator.planning.child import seen_revision
from lakehouse_operator.planning.observed import Stream
from lakehouse_operator.planning.record import Launch, RecoveryPoint
from lakehouse_operator.planning.situation import (
    FORGET_ANNOTATION,
    RESTORE_ANNOTATION,
    RETRY_ANNOTATION,
    SAVEPOINT_ANNOTATION,
    START_FRESH_ANNOTATION,
    Situation,
)


def keep(s: Situation) -> Situation:
    """The situation with a record that says what is."""
    return healthy(noting_what_ran(forgetting(retried(adopted(s)))))


def adopted(s: Situation) -> Situation:
    """Take up a stream that runs while its record is lost: what it runs from its child, its points from the status.

    Requests by annotation that stand there count as carried out, so that none is carried out twice.
    """
    child = s.child
    deployed = seen_revision(child) if child is not None else None
    if child is None or deployed is None or s.record.deployed is not None or s.record.started:
        return s
    job = child.spec.get("job", {})
    launch = Launch(
        at=s.stamp,
        point=job.get("initialSavepointPath"),
        restart_nonce=child.spec.get("restartNonce") or 0,
        redeploy_nonce=job.get("savepointRedeployNonce") or 0,
        savepoint_nonce=job.get("savepointTriggerNonce") or 0,
        job_id=child.job_id,
        ran=not s.never_deployed,
    )
    known = tuple(_from_status(each) for each in reversed(s.seen.pipeline.status.get("recoveryPoints", ())))
    record = replace(s.record, deployed=deployed, launch=launch, started=not s.never_deployed, points=known)
    for annotation in (
        SAVEPOINT_ANNOTATION,
        RESTORE_ANNOTATION,
        FORGET_ANNOTATION,
        START_FRESH_ANNOTATION,
        RETRY_ANNOTATION,
    ):
        if annotation in s.seen.pipeline.annotations:
            record = record.handling(annotation, s.seen.pipeline.annotations[annotation])
    return replace(s, record=record)


def _from_status(shown: Mapping[str, object]) -> RecoveryPoint:
    snapshot = shown.get("bronzeSnapshot")
    return RecoveryPoint(
        name=str(shown["name"]),
        path=str(shown["path"]),
        taken_at=str(shown["takenAt"]),
        trigger=shown["trigger"],  # type: ignore[arg-type]
        revision=str(shown.get("revision", "")),
        bronze_snapshot=int(str(snapshot)) if snapshot is not None else None,
        resolved=snapshot is not None,
        proven=bool(shown.get("proven")),
    )


def noting_what_ran(s: Situation) -> Situation:
    """Note that the job has run since it was started: from then on its newest state is with Flink, not in the point.

    A new job id means that the Flink operator has started it anew by itself, from the savepoint that it names. (It does
    so when somebody else changed the child.) Until that job runs, there is nothing to go on from but that savepoint.
    """
    child, launch = s.child, s.record.launch
    if child is None or launch is None or not child.settled:
        return s
    if _has_left_its_point(s, child):
        s = s.but(resting_on=None)
    if s.has_unknown_savepoint and child.desired_state == "suspended":
        return s.but(launch=replace(launch, ran=True))
    if not _is_deployed(child):
        return s
    if launch.job_id not in (None, child.job_id):
        s = _started_by_another(s, launch, child)
    lives = child.job_state in ("RUNNING", "FAILING", "RESTARTING") or s.last_commit is not None
    ran = lives or child.checkpoint_in_metadata is True or (child.job_state == "FAILED" and s.has_unknown_savepoint)
    # The Flink operator has taken up what it was told to start. Left in mode last-state, it would carry out another
    # hand's change in that mode too, even before this job has restored anything.
    mode = "savepoint" if s.launch.mode == "last-state" else s.launch.mode
    return s.but(launch=replace(s.launch, job_id=child.job_id, ran=s.launch.ran or ran, mode=mode))


def _is_deployed(child: Stream) -> bool:
    return child.desired_state == "running" and child.lifecycle_state in ("DEPLOYED", "STABLE", "FAILED")


def _has_left_its_point(s: Situation, child: Stream) -> bool:
    """Whether another hand has started what rested, though it may be stopped again: its newest state is another."""
    known = {s.launch.job_id, *(point.job_id for point in s.record.points)}
    ran_again = child.job_id is not None and child.job_id not in known
    return not child.deleting and (_is_deployed(child) or ran_again)


def _started_by_another(s: Situation, launch: Launch, child: Stream) -> Situation:
    path = child.savepoint_path
    if path is not None:
        s = points.adding(s, points.found(s, "recovery", path, job_id=launch.job_id)) if s.has_unknown_savepoint else s
    return s.but(launch=replace(launch, at=s.stamp, point=path, job_id=child.job_id, ran=False))


def forgetting(s: Situation) -> Situation:
    """Forget what was held against a revision that nobody wants or runs any more."""
    record = s.record
    deployed = record.deployed.id if record.deployed else None
    stops = record.stops if record.stops and record.stops.revision in (s.wanted.id, deployed) else None
    recoveries = record.recoveries if record.recoveries and record.recoveries.revision == deployed else None
    rejected = record.rejected if record.rejected and record.rejected.revision == s.wanted.id else None
    failed = record.soak_failed if record.soak_failed and record.soak_failed.revision == deployed else None
    return s.but(stops=stops, recoveries=recoveries, rejected=rejected, soak_failed=failed)


def retried(s: Situation) -> Situation:
    """Forget every failure when a person asks for another try."""
    token = s.request(RETRY_ANNOTATION)
    if token is None:
        return s
    s = s.but(stops=None, recoveries=None, rejected=None, soak_failed=None, rollback_failed=None)
    return replace(s, record=s.record.handling(RETRY_ANNOTATION, token))


def healthy(s: Situation) -> Situation:
    """Forget failures after the stream has run well for long enough; note when it began to be unwell."""
    record = s.record
    if s.running:
        calm = timedelta(seconds=seconds(s.pipeline.spec.bronze.restart.recovery.reset_after))
        since = s.child.started_at if s.child else None
        forgiven = since is not None and s.now - since >= calm
        recoveries = None if forgiven else record.recoveries
        return s.but(recoveries=recoveries, unwell_since=None, rollback_failed=None)
    if s.child is None or s.stopped or (record.operation is not None and record.operation.stage != "soaking"):
        return s.but(unwell_since=None)
    return s.but(unwell_since=record.unwell_since or s.stamp)
