"""Changing what runs, or stopping it: when it may begin, and from which state it goes on."""

from datetime import timedelta

from lakehouse_operator.planning.gates import (
    MAY_BE_TRIED,
    SAFE_TO_STOP,
    first_hold,
    no_savepoint_is_pending,
    not_too_soon,
    state_is_fresh,
)
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import OperationKind
from lakehouse_operator.planning.situation import POLL, Situation, Step
from lakehouse_operator.planning.start import back_to_newest, fresh, start
from lakehouse_operator.planning.stop import stop


def upgrade(s: Situation) -> Step:
    """The wanted revision is not the one that is deployed: change it, or say what that waits for."""
    hold = first_hold(MAY_BE_TRIED, s)
    if hold is not None:
        return _held(s, hold)
    if not s.running:
        return _unhealthy(s)
    hold = first_hold(SAFE_TO_STOP, s)
    if hold is not None:
        return _held(s, hold)
    if s.upgrade.mode == "lastState":
        return _from_last_state(s)
    step = stop(s, "upgrade", s.wanted)
    return step.telling("Normal", "UpgradeStarted", f"from revision {_deployed(s)} to {s.wanted.id}")


def suspend(s: Situation, kind: OperationKind = "suspend") -> Step:
    """The stream runs and should rest: stop it with a savepoint, or say what that waits for."""
    hold = first_hold((no_savepoint_is_pending, not_too_soon(kind)), s)
    if hold is None and kind == "suspend" and s.upgrade.mode == "savepoint":
        hold = state_is_fresh(s)
    if hold is not None:
        return _held(s, hold)
    step = stop(s, kind, s.record.deployed)
    return step.telling("Normal", "Stopping", "the stream is stopped with its state")


def _held(s: Situation, hold: Hold) -> Step:
    recheck = hold.recheck or POLL
    return Step(situation=s, state="Held", child="running", holds=(hold,), recheck=recheck)


def _deployed(s: Situation) -> str:
    return s.record.deployed.id if s.record.deployed else "none"


# --- the stream is not healthy ----------------------------------------------------------------------------------------


def _unhealthy(s: Situation) -> Step:
    """The stream does not run, so no savepoint can be taken."""
    if s.cannot_be_running and (not s.launch.ran or s.nothing_to_lose):
        return replaced(s)
    last_state = "lastState" in (s.upgrade.mode, s.upgrade.when_unhealthy) or s.record.good is None
    if s.flink_has_state and last_state:
        hold = state_is_fresh(s)
        return _held(s, hold) if hold else _from_last_state(s)
    state = s.child.job_state if s.child else None
    hold = Hold(
        reason="StreamUnhealthy",
        message=f"the change to revision {s.wanted.id} waits until the job runs (it is {state}), because only then a "
        "savepoint can be taken; to go on from the newest checkpoint instead, set bronze.upgrade.whenUnhealthy to "
        "lastState",
        recheck=timedelta(seconds=30),
    )
    return _held(s, hold)


def replaced(s: Situation) -> Step:
    """What is deployed has never run: nothing is committed since, so the new revision starts from the same state."""
    point = next((point for point in s.record.points if point.path == s.launch.point), None)
    if point is not None:
        return start(s.begin("upgrade", "starting", s.wanted, point=point.name), s.wanted, point=point)
    return fresh(s, s.wanted) if s.launch.point is None else back_to_newest(s, s.wanted)


def _from_last_state(s: Situation) -> Step:
    s = s.begin("upgrade", "starting", s.wanted, origin="last-state")
    step = start(s, s.wanted)
    return step.telling("Normal", "UpgradeStarted", f"to revision {s.wanted.id}, from the newest checkpoint")
