"""What happens to the stream next. This page is the table of contents; each decision has a room of its own.

A stream is either at rest or within one operation. An operation is written into the record before its first step; each
round then looks at where its stage stands and goes on from there, whatever happened in between.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from lakehouse_operator.planning import points, recovery, rewind, soak, source, staleness, stop, upkeep
from lakehouse_operator.planning.deletion import delete_pipeline, is_forced, let_go
from lakehouse_operator.planning.gates import GROUND, first_hold, revision_to_run, state_fits
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import Revision, Stage
from lakehouse_operator.planning.situation import (
    POLL,
    RESTORE_ANNOTATION,
    RETRY_ANNOTATION,
    SAVEPOINT_ANNOTATION,
    START_FRESH_ANNOTATION,
    START_TIMEOUT,
    Situation,
    Step,
)
from lakehouse_operator.planning.start import as_if_never_started, delete, fresh, lost, removing, resume, start
from lakehouse_operator.planning.upgrade import suspend, upgrade


def decide(s: Situation) -> Step:
    """Decide the next step of a stream."""
    s = source.noted(staleness.noted(staleness.renewed(upkeep.keep(s))))
    if s.deleting and is_forced(s):
        # At once: no tag is set or dropped, because what is wrong with the tables must not hold this up.
        return let_go(s)
    s, tags = points.prove(s)
    step = _next(s)
    waiting = points.unanswered(step.situation)
    situation, needed = points.forget(step.situation)
    situation, strays = points.retire(situation)
    situation, discarded = rewind.retire(situation)
    news = (
        *points.events(s.seen.record.points, situation.record.points),
        *source.events(s.seen.record, situation.record),
    )
    another = source.made_again(situation)
    return replace(
        step,
        situation=situation,
        recheck=min(step.recheck, points.look_again(situation) or step.recheck),
        before=(*tags, *step.before),
        after=(*step.after, *strays, *discarded),
        news=(*step.news, *news),
        holds=(*step.holds, *(hold for hold in (waiting, needed, another) if hold is not None)),
    )


def _next(s: Situation) -> Step:
    hold = first_hold(GROUND, s)
    if hold is not None and not s.deleting:
        return Step(situation=s, state="Held", holds=(hold,), recheck=hold.recheck or POLL)
    if hold is not None and not _is_there(s):
        return let_go(s)
    if s.record.operation is not None and s.record.operation.stage in ("stopping", "proving"):
        # A stop is always seen through: its savepoint is what everything else rests on.
        return _STAGES[s.record.operation.stage](s)
    if s.deleting:
        return delete_pipeline(s)
    answer = _asked(s)
    if isinstance(answer, Step):
        return answer
    step = _going_on(_without_stale_request(s))
    return replace(step, holds=(*step.holds, answer)) if answer else step


def _is_there(s: Situation) -> bool:
    """Whether there is a stream of ours to stop. The child tells: what is known of the Flink operator lags."""
    return s.child is not None and s.child_is_ours and not s.child.deleting


def _going_on(s: Situation) -> Step:
    """Nobody asks for anything special: go on with the operation under way, else with what the spec asks for."""
    operation = s.record.operation
    if operation is None or (operation.stage == "soaking" and _is_superseded(s)):
        return _by_spec(s.but(operation=None))
    return _STAGES[operation.stage](s)


def _is_superseded(s: Situation) -> bool:
    """Whether a soak ends early: the stream should rest, or run something else that may be tried."""
    target = s.record.operation.target if s.record.operation else None
    return s.running and (s.should_rest or revision_to_run(s).id != target)


# --- requests by annotation -------------------------------------------------------------------------------------------


def _asked(s: Situation) -> Step | Hold | None:
    """Carry out what a person asks for by annotation; a hold says why a restore is refused."""
    request = s.request(RESTORE_ANNOTATION)
    if request is not None:
        return rewind.restore(s, request, revision_to_run(s))
    token = s.request(START_FRESH_ANNOTATION)
    if token is not None and (_has_nothing_to_go_on_with(s) or _has_state_of_no_use(s)):
        s = replace(s, record=s.record.handling(START_FRESH_ANNOTATION, token)).but(topic_id=None, started=False)
        return fresh(s, revision_to_run(s))
    return None


def _has_state_of_no_use(s: Situation) -> bool:
    """Whether what is wanted can't go on from the stream's state, though that may run.

    Either its offsets mean other records by now, or the wanted job keeps other state.
    """
    return not s.should_rest and (source.is_another_topic(s) or state_fits(s) is not None)


def _has_nothing_to_go_on_with(s: Situation) -> bool:
    operation = s.record.operation
    if s.running or s.should_rest or (operation is not None and operation.stage != "rewinding"):
        return False
    return s.child is None or s.stopped or s.given_up or s.needs_manual_restore


def _without_stale_request(s: Situation) -> Situation:
    """A request to start without state counts at once or never: later it could destroy what is there by then."""
    token = s.request(START_FRESH_ANNOTATION)
    return replace(s, record=s.record.handling(START_FRESH_ANNOTATION, token)) if token is not None else s


# --- what the spec asks for -------------------------------------------------------------------------------------------


def _by_spec(s: Situation) -> Step:
    if s.child is None or s.stopped:
        return _resting(s) if s.should_rest else resume(s, revision_to_run(s))
    if s.child.desired_state == "suspended" and not _is_overdue(s):
        # Stopped by another hand. Until the Flink operator is done with it nobody knows what it would be started from.
        return Step(situation=s, state="Recovering", recheck=POLL)
    if s.should_rest:
        return _suspending(s)
    if s.record.deployed is not None and s.wanted.id != s.record.deployed.id:
        return _changing(s)
    return points.take(_at_rest(s)) if s.running else recovery.recover(s)


def _is_overdue(s: Situation) -> bool:
    return s.record.unwell_since is not None and s.since(s.record.unwell_since) > START_TIMEOUT


def _resting(s: Situation) -> Step:
    return Step(situation=s, state="Suspended")


def _suspending(s: Situation) -> Step:
    if s.running:
        return suspend(s)
    if s.never_ran:
        return Step(situation=as_if_never_started(s), state="Suspended", after=delete(s, "it never ran"))
    if s.left_a_checkpoint or (s.upgrade.mode == "lastState" and s.flink_has_state):
        return stop.stop(s, "suspend", s.record.deployed)
    state = s.child.job_state if s.child else None
    hold = Hold(
        reason="StreamUnhealthy",
        message=f"spec.suspend waits until the job runs (it is {state}), because only then a savepoint can be taken",
        recheck=POLL,
    )
    step = recovery.recover(s)
    return replace(step, holds=(hold, *step.holds))


def _changing(s: Situation) -> Step:
    """Another revision is wanted. While that has to wait, what is deployed is cared for."""
    step = upgrade(s)
    if step.record.operation is not None:
        return step
    if s.running:
        return points.take(step)
    cared = recovery.recover(s)
    worse = any(hold.stalled for hold in cared.holds)
    return replace(cared, holds=(*cared.holds, *step.holds) if worse else (*step.holds, *cared.holds))


def _at_rest(s: Situation) -> Step:
    """The wanted revision runs. One that is not known to be good is watched first."""
    good, deployed, failed = s.record.good, s.record.deployed, s.record.soak_failed
    if deployed is None or (good is not None and good.id == deployed.id):
        return Step(situation=s, state="Running", child="running")
    if failed is not None and failed.revision == deployed.id:
        hold = Hold(
            reason="SoakFailed",
            message=f"revision {deployed.id} failed its soak: {failed.reason}. bronze.upgrade.rollback is manual: "
            f"change the spec, or watch it once more: {s.annotate(RETRY_ANNOTATION)}",
            stalled=True,
        )
        return Step(situation=s, state="Running", child="running", holds=(hold,))
    return soak.watching(s)


# --- stages of an operation -------------------------------------------------------------------------------------------


def _removing(s: Situation) -> Step:
    if s.child is not None:
        return removing(s)
    if s.operation.origin == "point" and s.operation.point is not None:
        return _rewinding(s.enter("rewinding"))
    return start(s, _target(s))


def _rewinding(s: Situation) -> Step:
    return rewind.rewinding(s, _target(s))


def _soaking(s: Situation) -> Step:
    if s.child is None or s.stopped:
        return lost(s)
    step = soak.soaking(s)
    return points.take(step) if s.record.operation and s.request(SAVEPOINT_ANNOTATION) else step


def _target(s: Situation) -> Revision:
    """The revision that the operation under way starts."""
    target = s.operation.target
    known = (s.record.good, s.record.deployed) if s.operation.kind == "rollback" else (s.record.deployed, s.record.good)
    return next((each for each in known if each is not None and each.id == target), revision_to_run(s))


_STAGES: Mapping[Stage, Callable[[Situation], Step]] = MappingProxyType(
    {
        "stopping": stop.stopping,
        "removing": _removing,
        "proving": stop.proving,
        "rewinding": _rewinding,
        "starting": soak.starting,
        "soaking": _soaking,
    }
)
