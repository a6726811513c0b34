"""Small named checks before something is done to a stream: each lets pass, or answers why it must wait."""

from collections.abc import Callable
from datetime import timedelta

from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning.job_settings import state_version
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import OperationKind, Revision
from lakehouse_operator.planning.schedule import parse_instant
from lakehouse_operator.planning.situation import POLL, RETRY_ANNOTATION, START_FRESH_ANNOTATION, Situation
from lakehouse_operator.planning.source import made_again

Gate = Callable[[Situation], Hold | None]

ATTEMPTS = 3
"""How often an upgrade is tried that can't stop the stream."""


def first_hold(gates: tuple[Gate, ...], s: Situation) -> Hold | None:
    """What the first gate that holds says; None if all let pass."""
    return next((hold for gate in gates if (hold := gate(s)) is not None), None)


def revision_to_run(s: Situation) -> Revision:
    """The revision that a stopped stream is started with: the wanted one, unless it may not be tried now."""
    deployed = s.record.deployed
    return s.wanted if deployed is None or first_hold(MAY_BE_TRIED, s) is None else deployed


def not_rolled_back(s: Situation) -> Hold | None:
    """A revision that was rolled back is not tried again by itself."""
    rejected = s.record.rejected
    if rejected is None or rejected.revision != s.wanted.id:
        return None
    return Hold(
        reason="RolledBack",
        message=f"revision {rejected.revision} was rolled back: {rejected.reason}. The last good revision runs. Change "
        f"the spec, or try it once more: {s.annotate(RETRY_ANNOTATION)}",
        stalled=True,
    )


def flink_version_is_supported(s: Situation) -> Hold | None:
    """The installed Flink operator must know the wanted Flink version."""
    version, known = s.pipeline.spec.bronze.flink_version, s.seen.capabilities.flink_versions
    if version in known:
        return None
    return Hold(
        reason="FlinkVersionNotSupported",
        message=f"bronze.flinkVersion {version} is not known to the installed Flink operator; it knows "
        f"{', '.join(sorted(known))}. Upgrade the Flink operator, or choose one of these with a matching image",
        recheck=2 * POLL,
        stalled=True,
    )


def state_fits(s: Situation) -> Hold | None:
    """The wanted job must be able to go on from the state that there is."""
    deployed = s.record.deployed
    if deployed is None or not s.record.started:
        return None
    kept, wanted = state_version(deployed.content), state_version(s.wanted.content)
    if kept != wanted:
        told = f"its job keeps state of version {wanted}, and the stream's is of version {kept}"
    elif _flink(s.wanted) < _flink(deployed):
        told = f"Flink {s.wanted.content['flinkVersion']} can't read the state of {deployed.content['flinkVersion']}"
    else:
        return None
    return Hold(
        reason="NeedsNewState",
        message=f"the change to revision {s.wanted.id} is not made, and nothing is stopped: {told}. Keep what runs, by "
        "setting the image, the Flink version or the operator back; or start without state, from the consumer group's "
        f"offsets, which loses no record: {s.annotate(START_FRESH_ANNOTATION)}. Repeats of events from before are then "
        "not recognized by bronze; silver still keeps one of them",
        stalled=True,
    )


def _flink(revision: Revision) -> tuple[int, ...]:
    return tuple(int(number) for number in revision.content["flinkVersion"].removeprefix("v").split("_"))


def not_too_soon(kind: OperationKind) -> Gate:
    """After a failure, an attempt waits for its time; an upgrade is not tried for ever."""

    def gate(s: Situation) -> Hold | None:
        failures = s.record.stops
        revision = s.wanted.id if kind == "upgrade" else (s.record.deployed.id if s.record.deployed else None)
        if failures is None or (failures.kind, failures.revision) != (kind, revision):
            return None
        spent = kind == "upgrade" and failures.count >= ATTEMPTS
        wait = parse_instant(failures.not_before) - s.now
        if not spent and wait <= timedelta():
            return None
        again = f"then: {s.annotate(RETRY_ANNOTATION)}" if spent else f"tried again at {failures.not_before}"
        return Hold(
            reason="StopFailed",
            message=f"the stream could not be stopped ({failures.count} times): {failures.reason}; {again}",
            recheck=None if spent else max(wait, timedelta(seconds=1)),
            stalled=failures.count >= ATTEMPTS,
        )

    return gate


def no_savepoint_is_pending(s: Situation) -> Hold | None:
    """The Flink operator changes nothing while a savepoint is in progress."""
    if s.record.pending is None:
        return None
    return Hold(reason="SavepointPending", message=f"the savepoint {s.record.pending.name} is awaited", recheck=POLL)


def state_is_fresh(s: Situation) -> Hold | None:
    """The newest committed checkpoint must not be too old, where it can be seen: else stopping would cost more than it.

    An idle stream commits every tenth checkpoint (Iceberg's `flink.max-continuous-empty-commits`).
    """
    if not s.observes_tables or s.child is None:
        return None
    commit, started = s.last_commit, s.child.started_at
    newest = max((moment for moment in (commit.committed_at if commit else None, started) if moment), default=None)
    bound = max(timedelta(seconds=seconds(s.upgrade.max_recovery_point_age)), 11 * s.checkpoint_interval)
    if newest is None or s.now - newest <= bound:
        return None
    return Hold(
        reason="CheckpointsStale",
        message=f"the newest commit to {s.pipeline.bronze_table} is older than bronze.upgrade.maxRecoveryPointAge "
        f"allows ({int(bound.total_seconds())} s): find out why checkpoints or commits fail before the stream stops",
        recheck=timedelta(minutes=1),
    )


def its_savepoint_could_be_proven(s: Situation) -> Hold | None:
    """A stream is not stopped while nobody could say whether its savepoint is good."""
    if s.upgrade.mode != "savepoint" or not s.proof_is_awaited:
        return None
    return Hold(
        reason="ProofNotPossible",
        message="the stream is not stopped while its savepoint could not be proven "
        f"({s.seen.observation.problem}); to go on from the newest checkpoint instead, set bronze.upgrade.mode to "
        "lastState",
        recheck=timedelta(seconds=30),
    )


# --- the ground on which everything stands --------------------------------------------------------------------------


def flink_operator_is_there(s: Situation) -> Hold | None:
    """The Flink operator must be installed."""
    if s.seen.capabilities.flink:
        return None
    return Hold(
        reason="FlinkOperatorMissing",
        message="the Flink Kubernetes operator's FlinkDeployment CRD is not installed in this cluster; install it",
        recheck=2 * POLL,
        stalled=True,
    )


def flink_version_is_there_at_first(s: Situation) -> Hold | None:
    """Before anything is deployed there is nothing to go on with meanwhile."""
    return flink_version_is_supported(s) if s.record.deployed is None else None


def the_child_is_ours(s: Situation) -> Hold | None:
    """A FlinkDeployment of that name that we did not make is left alone."""
    child = s.child
    if child is None or s.child_is_ours:
        return None
    return Hold(
        reason="NameTaken",
        message=f"the FlinkDeployment {child.name} was not made by this operator; it is left alone. Delete it, or give "
        "the pipeline another name",
        recheck=2 * POLL,
        stalled=True,
    )


def the_child_is_not_vanishing(s: Situation) -> Hold | None:
    """A child that is being deleted is waited for: there is never a second one."""
    if s.child is None or not s.child.deleting:
        return None
    return Hold(reason="ChildVanishing", message=f"the FlinkDeployment {s.child.name} is being deleted", recheck=POLL)


GROUND: tuple[Gate, ...] = (
    flink_operator_is_there,
    flink_version_is_there_at_first,
    the_child_is_ours,
    the_child_is_not_vanishing,
)
"""Whether anything can be done at all."""
MAY_BE_TRIED: tuple[Gate, ...] = (
    made_again,
    state_fits,
    not_rolled_back,
    flink_version_is_supported,
    not_too_soon("upgrade"),
)
"""Whether the wanted revision may be tried now."""
SAFE_TO_STOP: tuple[Gate, ...] = (no_savepoint_is_pending, its_savepoint_could_be_proven, state_is_fresh)
"""Whether the running stream may be stopped now."""
