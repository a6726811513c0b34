"""Beyond Flink's own restarts: start the job again from its newest state, ever more patiently, and not for ever."""

from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import Failures
from lakehouse_operator.planning.schedule import instant, parse_instant
from lakehouse_operator.planning.situation import (
    POLL,
    RESTORE_ANNOTATION,
    RETRY_ANNOTATION,
    START_FRESH_ANNOTATION,
    START_TIMEOUT,
    Situation,
    Step,
)
from lakehouse_operator.planning.start import back_to_newest, fresh, no_state, start


def recover(s: Situation) -> Step:
    """The stream should run and does not: wait for Flink, start it again, or say that a person is needed."""
    deployed, failures = s.record.deployed, s.record.recoveries
    if deployed is None:
        return no_state(s)
    if s.record.rollback_failed is not None:
        return _rollback_failed(s, s.record.rollback_failed.reason)
    if not s.given_up and not s.needs_manual_restore and _flink_still_tries(s):
        return _waiting(s)
    gone = s.launch.ran and (s.needs_manual_restore or not s.flink_has_state)
    if gone and (step := back_to_newest(s, deployed)).holds:
        return step
    why = (s.child.error if s.child else None) or f"the job is {s.child.job_state if s.child else 'gone'}"
    if failures is None or failures.revision != deployed.id:
        s = s.but(recoveries=_counted(s, 0, why))
    hold = _patience(s)
    if hold is not None:
        return Step(situation=s, state="Failed", child="running", holds=(hold,), recheck=hold.recheck or POLL)
    tried = s.record.recoveries.count if s.record.recoveries else 0
    s = s.but(recoveries=_counted(s, tried + 1, why))
    step = back_to_newest(s, deployed) if gone else _again(s)
    return replace(step, state="Recovering").telling("Warning", "Recovering", why)


def _counted(s: Situation, count: int, why: str) -> Failures:
    """So many attempts, and when the next one may be: after a time that doubles."""
    policy, deployed = s.pipeline.spec.bronze.restart.recovery, s.record.deployed
    wait = min(seconds(policy.backoff) * 2 ** min(count, 20), seconds(policy.max_backoff))
    later = instant(s.now + timedelta(seconds=wait))
    return Failures(
        kind="recover",
        revision=deployed.id if deployed else None,
        count=count,
        not_before=later,
        reason=why,
    )


def _flink_still_tries(s: Situation) -> bool:
    """Whether Flink or its operator is still at it: a restart strategy may take its time, a deployment may not."""
    if s.child is not None and s.child.job_state == "RESTARTING":
        return True
    unwell = s.record.unwell_since
    return unwell is None or s.since(unwell) <= START_TIMEOUT


def _waiting(s: Situation) -> Step:
    state = s.child.job_state if s.child else None
    hold = Hold(reason="NotRunning", message=f"the job should run and is {state}", recheck=POLL)
    return Step(situation=s, state="Recovering", child="running", holds=(hold,), recheck=POLL)


def _again(s: Situation) -> Step:
    """Start what is deployed again, from the newest state there is."""
    deployed = s.record.deployed
    if deployed is None:
        return no_state(s)
    if s.flink_has_state:
        return start(s.begin("recover", "starting", deployed, origin="last-state"), deployed)
    point = next((each for each in s.record.points if each.path == s.launch.point), None)
    if point is not None:
        return start(s.begin("recover", "starting", deployed, point=point.name), deployed, point=point)
    if s.launch.point is not None:
        return back_to_newest(s, deployed)
    return fresh(s, deployed)


def _patience(s: Situation) -> Hold | None:
    """Wait before the next attempt; give up after so many."""
    failures, policy = s.record.recoveries, s.pipeline.spec.bronze.restart.recovery
    if failures is None:
        return None
    if failures.count >= policy.retries:
        return Hold(
            reason="RecoveryExhausted",
            message=f"the job was started again {failures.count} times (bronze.restart.recovery.retries) and failed: "
            f"{failures.reason}. Mend the cause, then: {s.annotate(RETRY_ANNOTATION)}",
            stalled=True,
        )
    wait = parse_instant(failures.not_before) - s.now
    if wait <= timedelta():
        return None
    return Hold(
        reason="Recovering",
        message=f"the job failed ({failures.reason}); it is started again at {failures.not_before}",
        recheck=wait,
    )


def _rollback_failed(s: Situation, why: str) -> Step:
    point = points.newest_proven(s.record)
    shown = (
        f"go back to {point.name}, together with bronze: {s.annotate(RESTORE_ANNOTATION, point.name)}"
        if point
        else (f"start without state: {s.annotate(START_FRESH_ANNOTATION)}")
    )
    hold = Hold(
        reason="RollbackFailed",
        message=f"the last good revision could not be started either: {why}. Mend the cause, then: "
        f"{s.annotate(RETRY_ANNOTATION)}; or {shown}",
        stalled=True,
    )
    return Step(situation=s, state="Failed", child="running", holds=(hold,))
