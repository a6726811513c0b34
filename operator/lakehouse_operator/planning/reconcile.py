"""The page: from everything that was seen to a plan. Pure and total; the same input gives the same plan.

accept      which spec is cared for: the newest, or the last one that was accepted
stream      what happens to the Flink job next
batch       which runs start, go on, are tried again
describe    the status, from what is
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from lakehouse_operator.planning import batch as batch_rules
from lakehouse_operator.planning import flink_manifest, names
from lakehouse_operator.planning import stream as stream_rules
from lakehouse_operator.planning.acceptance import Acceptance, accept
from lakehouse_operator.planning.batch import BatchDecision
from lakehouse_operator.planning.child import build_child, differs, wanted_revision
from lakehouse_operator.planning.conditions import Findings, describe, is_told, only_held
from lakehouse_operator.planning.definition import build_definition_record, definition_name, read_definition
from lakehouse_operator.planning.deletion import is_forced
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.plan import (
    FINALIZER,
    Action,
    Announce,
    ApplyChild,
    CreateOnce,
    Delete,
    DropFinalizer,
    Hold,
    KeepFinalizer,
    Plan,
    SaveRecord,
    StatusOf,
)
from lakehouse_operator.planning.record import fitting
from lakehouse_operator.planning.situation import AWAITED, FORCE_DELETE_ANNOTATION, REST, Situation, Step
from lakehouse_operator.planning.validate import Judge, validate

_SOON = timedelta(seconds=1)


def reconcile(seen: Observed, judge: Judge = validate) -> Plan:
    """Decide everything about one pipeline. `judge` says whether a spec is valid."""
    if _is_let_go(seen):
        return Plan(wake_after=REST)
    if seen.namespace_ending:
        # The namespace takes everything with it, and no record can be written in it any more.
        return Plan(actions=(DropFinalizer(),), wake_after=REST)
    if seen.unreadable is not None:
        return _without_record(seen, seen.unreadable)
    accepted = accept(seen, judge)
    if accepted.pipeline is None:
        return _refused(seen, accepted)
    pipeline = accepted.pipeline
    situation = Situation(pipeline=pipeline, seen=seen, record=accepted.record, wanted=wanted_revision(pipeline))
    step = stream_rules.decide(situation)
    batch = _decide_batch(pipeline, seen, step, judge)
    found = Findings(
        problems=accepted.problems,
        warnings=pipeline.warnings,
        changes=accepted.changes,
        step=step,
        layers=batch.layers,
        troubles=batch.troubles,
    )
    return Plan(
        statuses=(_status(seen, found), *batch.statuses),
        actions=(*_stream_actions(seen, step), *batch.actions, *_news(seen, accepted, step), *batch.news),
        wake_after=max(
            min(step.recheck, batch.recheck or REST, AWAITED if seen.observation.interrupted else REST), _SOON
        ),
    )


def _is_let_go(seen: Observed) -> bool:
    """Whether the pipeline is being deleted and we have let it go already."""
    return seen.pipeline.deleting_since is not None and FINALIZER not in seen.pipeline.finalizers


def _status(seen: Observed, found: Findings) -> StatusOf:
    return StatusOf("LakehousePipeline", seen.pipeline.name, describe(seen, found))


# --- the stream -------------------------------------------------------------------------------------------------------


def _stream_actions(seen: Observed, step: Step) -> Iterator[Action]:
    """The step's actions in their order: what the record may claim, the record, what rests on it, the child."""
    if seen.pipeline.deleting_since is None and FINALIZER not in seen.pipeline.finalizers:
        yield KeepFinalizer()
    yield from step.before
    if step.record != seen.record:
        yield SaveRecord(fitting(step.record), needed=not (step.situation.deleting and is_forced(step.situation)))
    yield from step.after
    yield from _child(seen, step)


def _child(seen: Observed, step: Step) -> Iterator[Action]:
    record = step.record
    if step.child == "leave" or record.deployed is None or record.launch is None:
        return
    operation = record.operation
    manifest = build_child(
        step.situation.pipeline,
        record.deployed,
        record.launch,
        state=step.child,
        operation=operation.id if operation else None,
        capabilities=seen.capabilities,
        stop=step.stop,
    )
    if seen.stream is None and seen.leftover is not None:
        # A JobManager that finds it there goes on with the old job, or dies of what is no longer in the store.
        name = names.high_availability(seen.pipeline.name)
        yield Delete("v1", "ConfigMap", name, seen.leftover, "what an earlier stream of this name has left there")
    if seen.stream is None or (not seen.stream.deleting and differs(manifest, seen.stream)):
        why = f"{operation.kind}, {operation.stage}" if operation else "as it should be"
        yield ApplyChild(manifest, why, seen.stream.uid if seen.stream else None)


def _news(seen: Observed, accepted: Acceptance, step: Step) -> Iterator[Announce]:
    """Events come last: one that can't be posted must hold back nothing."""
    yield from step.news
    shown = seen.pipeline.status.get("problems", [])
    if accepted.problems and [each.message[:4096] for each in accepted.problems][:100] != [p["message"] for p in shown]:
        yield Announce("Warning", "SpecRefused", "; ".join(map(str, accepted.problems)))


# --- the batch side ---------------------------------------------------------------------------------------------------


def _decide_batch(pipeline: ValidPipeline, seen: Observed, step: Step, judge: Judge) -> BatchDecision:
    """The batch half. The definition that new runs are pinned to is kept before any of them is created."""
    newest = definition_name(pipeline)
    decision = batch_rules.decide(
        pipeline,
        seen,
        definition=newest,
        paused=_paused(step),
        definitions=_definitions(pipeline, seen, newest, judge),
    )
    if not pipeline.stages or newest in seen.config_maps or seen.pipeline.deleting_since is not None:
        return decision
    kept = CreateOnce(build_definition_record(pipeline), "what new runs are pinned to")
    return replace(decision, actions=(kept, *decision.actions))


def _paused(step: Step) -> Hold | None:
    """Why no run may start now."""
    s, operation = step.situation, step.record.operation
    if s.deleting:
        return Hold(reason="Deleting", message="the pipeline is being deleted")
    if s.pipeline.spec.suspend:
        return Hold(reason=batch_rules.SUSPENDED, message="spec.suspend is true")
    if operation is not None and (operation.kind == "rewind" or operation.stage in ("removing", "rewinding")):
        return Hold(reason=batch_rules.REWINDING, message="bronze goes back to a recovery point")
    return None


def _definitions(pipeline: ValidPipeline, seen: Observed, newest: str, judge: Judge) -> Mapping[str, ValidPipeline]:
    """The earlier accepted specs that runs are pinned to; `newest` is the name of the current one."""
    pinned = {str(run.spec.get("definition", "")) for run in seen.runs} & set(seen.config_maps)
    read = {
        name: read_definition(
            seen.config_maps[name], name=pipeline.name, namespace=pipeline.namespace, uid=pipeline.uid, judge=judge
        )
        for name in sorted(pinned - {newest})
    }
    return {name: each for name, each in read.items() if isinstance(each, ValidPipeline)}


# --- nothing can be decided -------------------------------------------------------------------------------------------


def _refused(seen: Observed, accepted: Acceptance) -> Plan:
    """No spec of this pipeline can be read. What runs is left alone; a deletion waits only if something runs."""
    if seen.pipeline.deleting_since is not None and (seen.stream is None or _is_forced(seen)):
        return _dropped(seen)
    news = () if seen.pipeline.status.get("problems") else (_first_refusal(accepted),)
    return Plan(statuses=(_status(seen, Findings(problems=accepted.problems)),), actions=news, wake_after=REST)


def _first_refusal(accepted: Acceptance) -> Announce:
    return Announce("Warning", "SpecRefused", "; ".join(map(str, accepted.problems)))


def _without_record(seen: Observed, why: str) -> Plan:
    """The record can't be read. What runs is left alone; a deletion waits until a person lets it go on."""
    if seen.pipeline.deleting_since is not None and _is_forced(seen):
        return _dropped(seen)
    name = seen.pipeline.name
    hold = Hold(
        reason="RecordUnreadable",
        message=f"nothing is done for the pipeline, and what runs is left alone, because the ConfigMap "
        f"{names.record(name)} can't be read. If a newer operator wrote it, install that one again; else put back what "
        f"stood in it. To delete the pipeline all the same, losing what is not in bronze yet: kubectl annotate "
        f"--overwrite lhp {name} {FORCE_DELETE_ANNOTATION}=true. What is wrong with it: {why}",
        stalled=True,
    )
    news = () if is_told(seen, hold) else (Announce("Warning", hold.reason, hold.message),)
    status = StatusOf("LakehousePipeline", name, only_held(seen, hold))
    return Plan(statuses=(status,), actions=news, wake_after=AWAITED)


def _is_forced(seen: Observed) -> bool:
    """As `deletion.is_forced`, where there is no valid pipeline."""
    policy = ((seen.pipeline.spec.get("bronze") or {}).get("deletion") or {}).get("policy")
    return policy == "Force" or seen.pipeline.annotations.get(FORCE_DELETE_ANNOTATION) == "true"


def _dropped(seen: Observed) -> Plan:
    """Delete the stream, where it is ours, and let the pipeline go. Its record stays as it is."""
    child = seen.stream
    ours = child is not None and not child.deleting and names.REVISION_ANNOTATION in child.annotations
    stream = (
        (Delete(flink_manifest.API_VERSION, "FlinkDeployment", child.name, child.uid, "the pipeline is deleted"),)
        if child is not None and ours
        else ()
    )
    return Plan(actions=(*stream, DropFinalizer()), wake_after=REST)
