"""After a start: wait until the job runs, watch it for a while, and return to the last good revision if it is not well.

For the Flink operator "stable" means that RUNNING was seen once; a job that crashes a minute later passes as good
there.
"""

from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import points
from lakehouse_operator.planning.gates import revision_to_run
from lakehouse_operator.planning.record import Finding, Revision
from lakehouse_operator.planning.rewind import refusal
from lakehouse_operator.planning.situation import POLL, START_TIMEOUT, Situation, Step
from lakehouse_operator.planning.start import removing, start, waiting
from lakehouse_operator.planning.upgrade import replaced

_PROGRESS_GRACE = timedelta(minutes=10)
"""How long after the soak's end a first checkpoint or a caught-up lag is waited for."""
_BROKEN_GRACE = timedelta(minutes=2)
"""How long an upgrade's JobManager may be in error, such as an image that can't be had: that may pass, for a while."""


# --- until it runs ----------------------------------------------------------------------------------------------------


def starting(s: Situation) -> Step:
    """Wait for a job that was started."""
    if s.running:
        return _started(s)
    step = waiting(s)
    if step is not None:
        return step
    why = _why_not(s)
    if why is not None:
        return _not_started(s, why)
    if _is_superseded(s) and not s.launch.ran and s.cannot_be_running:
        return replaced(s)
    step = Step(situation=s, state="Deploying", child="running", recheck=POLL)
    return replace(step, state="RollingBack") if s.operation.kind == "rollback" else step


def _why_not(s: Situation) -> str | None:
    """Why the start has failed, if it has."""
    child = s.child
    shown = child.error or f"its state is {child.job_state}, its JobManager's {child.job_manager}" if child else ""
    if s.given_up:
        return f"the job failed to start: {shown}"
    if s.since(s.operation.since) > START_TIMEOUT:
        return f"the job does not run after {_minutes(START_TIMEOUT)}: {shown}"
    if _is_broken(s) and s.since(s.operation.since) > _BROKEN_GRACE:
        return f"the JobManager can't be started: {shown}"
    if _is_superseded(s) and _good_before(s):
        return "the spec was changed again before the job ran"
    return None


def _is_broken(s: Situation) -> bool:
    """Whether the JobManager of an upgrade is in error, and there is a good revision to return to."""
    upgrades = s.operation.kind == "upgrade" and _good_before(s) is not None
    return upgrades and s.child is not None and s.child.settled and s.child.job_manager == "ERROR"


def _is_superseded(s: Situation) -> bool:
    """Whether another revision is to be run by now than the one that is being started."""
    known = (s.operation.target, s.record.deployed.id if s.record.deployed else None)
    return s.operation.kind in ("deploy", "upgrade") and revision_to_run(s).id not in known


def _started(s: Situation) -> Step:
    operation, deployed = s.operation, s.record.deployed
    if operation.kind == "rollback" or (deployed and s.record.good and deployed.id == s.record.good.id):
        step = Step(situation=s.but(operation=None), state="Running")
        reason = {"rollback": "RolledBack", "rewind": "Rewound", "recover": "Recovered"}.get(operation.kind, "Started")
        return step.telling("Normal", reason, f"revision {operation.target} runs")
    return watching(s)


def watching(s: Situation) -> Step:
    """Begin to watch a revision that runs and is not known to be good."""
    failed, deployed = s.record.soak_failed, s.record.deployed
    if failed is not None and deployed is not None and failed.revision == deployed.id:
        return Step(situation=s.but(operation=None), state="Running", child="running")
    if s.record.operation is None:
        s = s.begin("upgrade", "soaking", deployed)
    return soaking(s.enter("soaking", job_state="RUNNING", restarts=0))


def _not_started(s: Situation, why: str) -> Step:
    kind = s.operation.kind
    if kind == "rollback":
        return _fall_back(s, why)
    if kind in ("upgrade", "deploy", "recover") and _good_before(s):
        return roll_back(s, why)
    return _given_over(s, why)


def _given_over(s: Situation, why: str) -> Step:
    """Nothing to return to: the operation ends, and `recovery` tries again with more and more patience."""
    s = s.but(operation=None, unwell_since=s.record.unwell_since or s.stamp)
    return Step(situation=s, state="Failed", recheck=timedelta(seconds=1)).telling("Warning", "StartFailed", why)


# --- while it is watched ----------------------------------------------------------------------------------------------


def soaking(s: Situation) -> Step:
    """Watch a new revision until its soak is over."""
    s = _counting(_counting_checkpoints(s))
    soak, operation = s.upgrade.soak, s.operation
    first = s.record.good is None
    restarts = max(operation.restarts, s.seen.observation.job.restarts if s.seen.observation.job else 0)
    why = None
    if s.given_up:
        why = f"the job failed for good: {s.child.error or s.child.job_state}" if s.child else None
    elif s.record.unwell_since and s.since(s.record.unwell_since) > START_TIMEOUT:
        why = f"the job has not been running for {_minutes(START_TIMEOUT)}"
    elif not first and restarts > soak.max_restarts:
        why = f"the job restarted {restarts} times, more than upgrade.soak.maxRestarts ({soak.max_restarts})"
    elif not first:
        why = _checkpoints_failed(s)
    if why is not None:
        return roll_back(s, why) if _good_before(s) else _given_over(s, why)
    left = timedelta(seconds=seconds(soak.duration)) - s.since(operation.since)
    if left > timedelta() or not s.running:
        return _watched(s, min(left, POLL) if left > timedelta() else POLL)
    lacking = _lacking(s)
    if lacking is None:
        return _passed(s)
    if left > -_PROGRESS_GRACE or first:
        return _watched(s, POLL)
    return roll_back(s, lacking) if _good_before(s) else _given_over(s, lacking)


def _watched(s: Situation, recheck: timedelta) -> Step:
    return Step(situation=s, state="Soaking", child="running", recheck=max(recheck, timedelta(seconds=1)))


def _counting(s: Situation) -> Situation:
    """Count a restart when the job leaves RUNNING. What happens between two looks is in Flink's own count."""
    if s.child is None or not s.child.settled:
        return s
    was, now = s.operation.job_state, s.child.job_state
    if was == now:
        return s
    restarted = was == "RUNNING" and now in ("FAILING", "RESTARTING", "FAILED", "RECONCILING")
    return s.but(operation=replace(s.operation, job_state=now, restarts=s.operation.restarts + restarted))


def _counting_checkpoints(s: Situation) -> Situation:
    """Remember what had failed when the job began to run: Flink counts each checkpoint that is due before all of its
    tasks run as failed, so a slow start alone has some.
    """
    health = s.seen.observation.job
    if health is None or s.operation.failed_before is not None or not s.running:
        return s
    return s.but(operation=replace(s.operation, failed_before=health.failed_checkpoints))


def _checkpoints_failed(s: Situation) -> str | None:
    health, most = s.seen.observation.job, s.upgrade.soak.max_failed_checkpoints
    if health is None:
        return None
    # A JobManager that was started anew counts from nothing.
    before = s.operation.failed_before or 0
    failed = health.failed_checkpoints - (before if health.failed_checkpoints >= before else 0)
    if failed <= most:
        return None
    return f"{failed} checkpoints failed, more than upgrade.soak.maxFailedCheckpoints ({most})"


def _lacking(s: Situation) -> str | None:
    """What the new revision has not shown yet at the end of its soak, of what can be observed."""
    health, most = s.seen.observation.job, s.upgrade.soak.max_lag
    if health is not None and health.completed_checkpoints == 0:
        return "no checkpoint was completed"
    if health is None and s.observes_tables and s.last_commit is None and s.lag:
        return f"nothing was committed to {s.pipeline.bronze_table}, and {s.lag} records wait in Kafka"
    if most is not None and s.lag is not None and s.lag > most:
        return f"{s.lag} records wait in Kafka, more than upgrade.soak.maxLag ({most})"
    return None


def _passed(s: Situation) -> Step:
    good = s.record.deployed
    s = s.but(operation=None, good=good, good_since=s.stamp, soak_failed=None)
    step = Step(situation=s, state="Running")
    return step.telling("Normal", "SoakPassed", f"revision {good.id if good else ''} is good")


# --- back to the last good revision -----------------------------------------------------------------------------------


def _good_before(s: Situation) -> Revision | None:
    """The last good revision, if it is another than the one that was started."""
    good, deployed = s.record.good, s.record.deployed
    return good if good and deployed and good.id != deployed.id else None


def roll_back(s: Situation, why: str) -> Step:
    """Return to the last good revision, with the newest state that it can restore."""
    good, deployed, operation = s.record.good, s.record.deployed, s.operation
    if good is None or deployed is None:
        return _given_over(s, why)
    if s.upgrade.rollback == "manual":
        s = s.but(operation=None, soak_failed=Finding(deployed.id, why))
        step = Step(situation=s, state="Running", recheck=POLL)
        return step.telling("Warning", "SoakFailed", f"revision {deployed.id}: {why}")
    s = s.but(rejected=Finding(deployed.id, why))
    s = s.begin("rollback", "starting", good, point=operation.point, origin="last-state")
    # A last state without a checkpoint would be started empty (FKO `ApplicationReconciler.deploy`). A job that never
    # ran has committed nothing, so then the savepoint is the newest state.
    step = replace(start(s, good), state="RollingBack") if s.flink_has_state else _fall_back(s, why)
    return step.telling("Warning", "RollingBack", f"revision {deployed.id}: {why}")


def _fall_back(s: Situation, why: str) -> Step:
    """The last good revision can't go on from the newest state: go back to before the upgrade, with bronze."""
    operation = s.operation
    back = s.record.point(operation.point) or points.newest_proven(s.record)
    if operation.origin == "last-state" and back is not None and refusal(s, back) is None:
        return replace(removing(s.enter("removing", origin="point", point=back.name)), state="RollingBack")
    s = s.but(operation=None, rollback_failed=Finding(operation.target or "", why))
    step = Step(situation=s, state="Failed", recheck=POLL)
    return step.telling("Warning", "RollbackFailed", why)


def _minutes(span: timedelta) -> str:
    return f"{int(span.total_seconds() // 60)} minutes"
