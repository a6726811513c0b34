"""The status of a pipeline, from what is: conditions after the Kubernetes API conventions and kstatus, and the stream.

Nothing in it changes by itself: a moment that moves, a count that grows are metrics. So at rest no status is written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from lakehouse_contract.decoding import Problem
from lakehouse_operator.api.objects import Condition
from lakehouse_operator.api.pipeline_status import (
    BatchLayer,
    BronzeLayer,
    FieldChange,
    GoodRevision,
    Layers,
    PipelineStatus,
    ProblemStatus,
    RecoveryPointStatus,
    StreamStatus,
    UpgradeProgress,
)
from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import names, points, source
from lakehouse_operator.planning.change import Change
from lakehouse_operator.planning.definition import definition_name
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.pipeline import BatchStageName
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.record import Operation, RecoveryPoint
from lakehouse_operator.planning.schedule import instant, parse_instant
from lakehouse_operator.planning.situation import Situation, Step
from lakehouse_operator.planning.staleness import stale

Truth = Literal["True", "False", "Unknown"]

_MAX_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: str
    status: Truth
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a round found: the step of the stream, what is wrong with the newest spec, how far the batch layers are.

    `troubles` are what is wrong with the runs of a stage.
    """

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    changes: tuple[Change, ...] = ()
    step: Step | None = None
    layers: Mapping[BatchStageName, BatchLayer] = field(default_factory=dict)
    troubles: Mapping[BatchStageName, Hold] = field(default_factory=dict)


def describe(seen: Observed, found: Findings) -> dict[str, Any]:
    """The whole status. Equal findings give an equal status, whatever the time is."""
    step = found.step
    record = step.record if step else seen.record
    pipeline = step.situation.pipeline if step else None
    status = PipelineStatus(
        observed_generation=seen.pipeline.generation,
        conditions=tuple(_dated(seen, _findings(seen, found))),
        accepted_generation=record.accepted_generation or None,
        definition=definition_name(pipeline) if pipeline and pipeline.stages else None,
        problems=tuple(
            ProblemStatus(path=each.path[:512], message=each.message[:4096]) for each in found.problems[:_MAX_SHOWN]
        ),
        changes=_changes(step, found.changes),
        stream=_stream(step) if step else None,
        layers=_layers(step, found.layers) if step else None,
        recovery_points=tuple(_point(each) for each in reversed(record.points[-_MAX_SHOWN:])),
        stale=stale(pipeline, record)[:_MAX_SHOWN] if pipeline else (),
    )
    return status.to_raw()


# --- conditions -------------------------------------------------------------------------------------------------------


def _dated(seen: Observed, findings: Sequence[Finding]) -> Iterator[Condition]:
    """The findings as conditions. The time of one moves only when its status flips."""
    before = {each.get("type"): each for each in seen.pipeline.status.get("conditions", ())}
    for each in findings:
        was = before.get(each.type, {})
        same = was.get("status") == each.status and "lastTransitionTime" in was
        yield Condition(
            type=each.type,
            status=each.status,
            reason=each.reason,
            message=each.message[:32_768],
            last_transition_time=was["lastTransitionTime"] if same else instant(seen.now),
            observed_generation=seen.pipeline.generation,
        )


def _findings(seen: Observed, found: Findings) -> list[Finding]:
    ready, abnormal = _readiness(found)
    findings = [ready, *([abnormal] if abnormal else [])]
    step = found.step
    if step is not None:
        findings.append(_running(step))
        findings += _recovery_point(step.situation)
        findings += _source(step.situation)
        findings += _runs(step, found.troubles)
        findings += [_held(hold) for hold in _blocking(step)[:1] if _is_changing(step)]
        findings += [
            Finding("RequestRefused", "True", hold.reason, hold.message)
            for hold in step.holds
            if hold.about == "request"
        ][:1]
    findings.append(_observing(seen))
    if found.warnings:
        findings.append(Finding("SpecWarnings", "True", "Provisional", "; ".join(map(str, found.warnings))))
    return findings


def _readiness(found: Findings) -> tuple[Finding, Finding | None]:
    """Ready: the newest spec is what runs, and it runs well. And, while true, Stalled or Reconciling; never both."""
    if found.problems:
        shown = "; ".join(map(str, found.problems))
        kept = "; the last accepted spec is still cared for" if found.step else ""
        return _not_ready("Stalled", "SpecRefused", f"the spec is refused: {shown}{kept}")
    if found.step is None:
        return Finding("Ready", "Unknown", "Unknown"), None
    blocking = _blocking(found.step)
    stalled = next((hold for hold in blocking if hold.stalled), None)
    if stalled is not None:
        return _not_ready("Stalled", stalled.reason, stalled.message)
    ready, besides = _of_state(found.step, blocking)
    held = next((hold for hold in found.troubles.values() if hold.stalled), None)
    if held is not None and ready.status == "True" and not found.step.situation.pipeline.spec.suspend:
        return _not_ready("Stalled", held.reason, held.message)
    return ready, besides


def _not_ready(
    type_: Literal["Stalled", "Reconciling"], reason: str, message: str, ready: Truth = "False"
) -> tuple[Finding, Finding]:
    return Finding("Ready", ready, reason, message), Finding(type_, "True", reason, message)


def _of_state(step: Step, blocking: list[Hold]) -> tuple[Finding, Finding | None]:
    """Readiness where nothing is stalled."""
    if not blocking and not step.situation.deleting and _is_as_wanted(step):
        return Finding("Ready", "True", step.state), None
    first = step.record.good is None
    if step.state == "Soaking" and first and step.situation.running:
        return Finding("Ready", "True", "Running", "the first revision runs; there is none to return to yet"), None
    reason = blocking[0].reason if blocking else step.state
    message = blocking[0].message if blocking else f"the stream is in state {step.state}"
    starts = first and step.state in ("Pending", "Deploying")
    return _not_ready("Reconciling", reason, message, "Unknown" if starts else "False")


def _blocking(step: Step) -> list[Hold]:
    return [hold for hold in step.holds if hold.about == "stream"]


def _is_as_wanted(step: Step) -> bool:
    """Whether the stream is what the spec asks for."""
    deployed, s = step.record.deployed, step.situation
    if s.pipeline.spec.suspend:
        return step.state == "Suspended"
    return step.state == "Running" and deployed is not None and s.wanted.id == deployed.id


def _is_changing(step: Step) -> bool:
    """Whether something else is wanted than what is there."""
    deployed, s = step.record.deployed, step.situation
    return s.should_rest or (deployed is not None and s.wanted.id != deployed.id)


def _held(hold: Hold) -> Finding:
    return Finding("UpgradeHeld", "True", hold.reason, hold.message)


def _running(step: Step) -> Finding:
    s = step.situation
    if s.running:
        return Finding("StreamRunning", "True", "Running")
    if s.child is None or s.child.job_state is None:
        return Finding("StreamRunning", "False", "NotDeployed")
    return Finding("StreamRunning", "False", s.child.job_state.capitalize())


def _recovery_point(s: Situation) -> list[Finding]:
    """Whether the newest point that can be trusted is as recent as its schedule wants it. In two steps, not by age."""
    interval = timedelta(seconds=seconds(s.pipeline.spec.bronze.recovery_points.interval))
    if not s.launch.ran or s.pipeline.spec.bronze.checkpoint.savepoint_directory is None:
        return []
    observed = s.observes_tables and s.seen.observation.savepoints is not None
    trusted = [point for point in s.record.points if points.is_trusted(s, point)]
    kind = "proven" if observed else "completed; unproven, because bronze is not observed"
    if not trusted:
        return [Finding("RecoveryPointCurrent", "False", "NoRecoveryPoint", "no recovery point could be proven yet")]
    newest = trusted[-1]
    if s.record.resting_on == newest.name:
        return [Finding("RecoveryPointCurrent", "True", "AtRest", f"the stream rests on {newest.name} ({kind})")]
    if interval and s.now - parse_instant(newest.taken_at) > 2 * interval + timedelta(hours=1):
        message = f"{newest.name} ({kind}) is older than twice bronze.recoveryPoints.interval"
        return [Finding("RecoveryPointCurrent", "False", "TooOld", message)]
    return [Finding("RecoveryPointCurrent", "True", "Recent", f"{newest.name} ({kind})")]


def _source(s: Situation) -> Iterator[Finding]:
    """Whether bronze and the dead letters could get everything. Said only where it was ever observed."""
    another, records, letters = source.made_again(s), source.missing_records(s), source.missing_letters(s)
    if another is not None:
        yield Finding("SourceIntact", "False", another.reason, another.message)
    elif records is not None:
        yield Finding("SourceIntact", "False", "OffsetsGone", records)
    elif s.seen.observation.kafka is not None:
        yield Finding("SourceIntact", "True", "Intact")
    if letters is not None:
        yield Finding("DeadLettersComplete", "False", "TransactionsLost", letters)
    elif s.seen.observation.job is not None:
        yield Finding("DeadLettersComplete", "True", "Complete")


def _runs(step: Step, troubles: Mapping[BatchStageName, Hold]) -> list[Finding]:
    """Whether the newest runs of all stages are well. A pipeline without stages has no such condition."""
    if not step.situation.pipeline.stages:
        return []
    if not troubles:
        return [Finding("RunsHealthy", "True", "Healthy")]
    first = next(iter(troubles.values()))
    shown = "; ".join(f"{stage}: {hold.message}" for stage, hold in troubles.items())
    return [Finding("RunsHealthy", "False", first.reason, shown)]


_TIMESTAMPS_OF_PRODUCERS = (
    "the records' timestamps are the producers' (the topic's message.timestamp.type is CreateTime), so lateness is "
    "what producers say; with LogAppendTime it is by arrival"
)


def _observing(seen: Observed) -> Finding:
    observation = seen.observation
    if observation.problem is not None:
        return Finding("Observing", "False", "CannotRead", observation.problem)
    parts = {"bronze": observation.tables, "Kafka": observation.kafka, "savepoints": observation.savepoints}
    missing = [name for name, part in parts.items() if part is None]
    if not missing and observation.timestamps == "CreateTime":
        return Finding("Observing", "True", "TimestampsOfProducers", _TIMESTAMPS_OF_PRODUCERS)
    if not missing:
        return Finding("Observing", "True", "Observing")
    return Finding(
        "Observing",
        "False",
        "NotSwitchedOn",
        f"not observed: {', '.join(missing)}; recovery points can't be proven and triggers follow the clock",
    )


# --- nothing can be decided -------------------------------------------------------------------------------------------


def only_held(seen: Observed, hold: Hold) -> dict[str, Any]:
    """The status where nothing can be decided: it goes on saying what it said, but for why the pipeline is held."""
    told = [each.to_raw() for each in _dated(seen, _not_ready("Stalled", hold.reason, hold.message))]
    renewed = ("Ready", "Stalled", "Reconciling", _FAILING)
    others = [each for each in seen.pipeline.status.get("conditions", ()) if each["type"] not in renewed]
    return {
        **seen.pipeline.status,
        "observedGeneration": seen.pipeline.generation,
        "conditions": [told[0], *others, told[1]],
    }


def is_told(seen: Observed, hold: Hold) -> bool:
    """Whether the status has said so before."""
    return any(each["reason"] == hold.reason for each in seen.pipeline.status.get("conditions", ()))


# --- while rounds fail ------------------------------------------------------------------------------------------------

_FAILING = "ReconcileFailed"


def failure_told(status: Mapping[str, Any]) -> str | None:
    """What the status says about rounds that fail one after the other; None where it says no such thing."""
    return next((each["message"] for each in status.get("conditions", ()) if each["type"] == _FAILING), None)


def while_failing(status: Mapping[str, Any], message: str, *, was: Mapping[str, Any], now: str) -> dict[str, Any]:
    """A status while rounds fail: what it says stays, but the pipeline is not ready, since nothing can be done for it.

    Args:
        status: What the status would be otherwise.
        message: Why rounds fail.
        was: The status as it was seen: a condition keeps its time until it flips.
        now: The moment, as it is written.
    """
    before = {(each["type"], each["status"]): each["lastTransitionTime"] for each in was.get("conditions", ())}
    told = [
        {
            "type": kind,
            "status": truth,
            "reason": _FAILING,
            "message": message,
            "lastTransitionTime": before.get((kind, truth), now),
            **({"observedGeneration": status["observedGeneration"]} if "observedGeneration" in status else {}),
        }
        for kind, truth in (("Ready", "False"), (_FAILING, "True"))
    ]
    kinds = ("Ready", _FAILING)
    others = [each for each in status.get("conditions", ()) if each["type"] not in kinds]
    return {**status, "conditions": [told[0], *others, told[1]]}


# --- parts ------------------------------------------------------------------------------------------------------------


def _stream(step: Step) -> StreamStatus:
    record, child = step.record, step.situation.child
    deployed = record.deployed
    blocking = _blocking(step)
    return StreamStatus(
        state=step.state,
        revision=deployed.id if deployed else None,
        image=deployed.content.get("image") if deployed else None,
        job_id=child.job_id if child else None,
        started_at=instant(child.started_at) if child and child.started_at and step.situation.running else None,
        consumer_group=step.situation.pipeline.consumer_group,
        recoveries=record.recoveries.count if record.recoveries else 0,
        upgrade=_upgrade(step.situation, record.operation) if record.operation else None,
        last_good=GoodRevision(
            revision=record.good.id, definition=names.record(step.situation.pipeline.name), since=record.good_since
        )
        if record.good and record.good_since
        else None,
        held_because=blocking[0].message[:4096] if blocking else None,
    )


def _upgrade(s: Situation, operation: Operation) -> UpgradeProgress | None:
    if operation.kind not in ("upgrade", "rollback") or operation.target is None:
        return None
    stages: dict[str, Literal["Stopping", "Starting", "Soaking", "RollingBack"]] = {
        "stopping": "Stopping",
        "proving": "Stopping",
        "soaking": "Soaking",
    }
    until = parse_instant(operation.since) + timedelta(seconds=seconds(s.upgrade.soak.duration))
    return UpgradeProgress(
        stage="RollingBack" if operation.kind == "rollback" else stages.get(operation.stage, "Starting"),
        from_revision=operation.from_revision,
        to_revision=operation.target,
        recovery_point=operation.point or s.record.resting_on,
        started_at=operation.began,
        soak_until=instant(until) if operation.stage == "soaking" else None,
    )


def _point(point: RecoveryPoint) -> RecoveryPointStatus:
    return RecoveryPointStatus(
        name=point.name,
        path=point.path,
        taken_at=point.taken_at,
        trigger=point.trigger,
        bronze_snapshot=str(point.bronze_snapshot) if point.bronze_snapshot is not None else None,
        proven=point.proven,
        revision=point.revision or None,
    )


def _changes(step: Step | None, changes: tuple[Change, ...]) -> tuple[FieldChange, ...]:
    """What the newest accepted change touched, until what it asks for is known to be good."""
    if step is None or (step.record.good is not None and step.record.good.id == step.situation.wanted.id):
        return ()
    return tuple(FieldChange(path=each.path[:512], effect=each.effect) for each in changes[:_MAX_SHOWN])


def _layers(step: Step, layers: Mapping[BatchStageName, BatchLayer]) -> Layers:
    bronze = BronzeLayer(table=step.situation.pipeline.bronze_table)
    return Layers(
        bronze=bronze, silver=layers.get("silver"), gold=layers.get("gold"), maintenance=layers.get("maintenance")
    )
