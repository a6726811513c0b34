"""The batch half of a plan: runs move on, due runs start, backfills go their way, old runs are forgotten.

This is the table of contents. What is due says `due`, how one run goes on says `runs`, what happened says `ledger`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from lakehouse_contract import commits
from lakehouse_operator.api import API_VERSION
from lakehouse_operator.api.objects import Condition
from lakehouse_operator.api.pipeline import Gold, Silver
from lakehouse_operator.api.pipeline_status import BatchLayer
from lakehouse_operator.api.run import BrokenRule, Quality, RunSpec, RunStatus, Stage, WrittenTable
from lakehouse_operator.api.values import mebibytes, seconds
from lakehouse_operator.planning import job_settings, ledger, names
from lakehouse_operator.planning.backfill import BackfillStage, Definition, decide_backfill, is_going_on
from lakehouse_operator.planning.due import NewRun, StagePolicy, boundaries, decide_stage, forgettable
from lakehouse_operator.planning.failure import RetryPolicy
from lakehouse_operator.planning.observed import Application, Commit, Observed, RunObject
from lakehouse_operator.planning.pipeline import BatchStageName, ValidPipeline
from lakehouse_operator.planning.plan import Action, Announce, CreateOnce, Delete, Hold, StatusOf
from lakehouse_operator.planning.runs import RunPolicy, Step, advance, cancel, left_running, read
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.planning.spark_manifest import build_spark_application

BECAUSE_ANNOTATION = "lakehouse.dev/started-because"
SUSPENDED = "Suspended"
"""The reason for which nothing starts by itself."""
REWINDING = "Rewinding"
"""The reason for which all is paused while bronze goes back to a recovery point."""
_SPARK = "sparkoperator.k8s.io/v1beta2"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDecision:
    """The batch half of a plan. `holds` say, by stage, why a run that is due does not start.

    `troubles` say, by stage, what is wrong with its runs, whether or not one is due; `news` tell of outcomes.
    `started` are the runs that it creates, as the ledger will have them: what is decided after them must know of them.
    """

    statuses: tuple[StatusOf, ...] = ()
    actions: tuple[Action, ...] = ()
    layers: Mapping[Stage, BatchLayer] = field(default_factory=dict)
    holds: Mapping[Stage, Hold] = field(default_factory=dict)
    troubles: Mapping[Stage, Hold] = field(default_factory=dict)
    news: tuple[Announce, ...] = ()
    recheck: timedelta | None = None
    started: tuple[ledger.Entry, ...] = ()


def decide(
    pipeline: ValidPipeline,
    seen: Observed,
    *,
    definition: str,
    paused: Hold | None,
    definitions: Mapping[str, ValidPipeline],
) -> BatchDecision:
    """Decide everything about the runs of a pipeline.

    Args:
        pipeline: The accepted pipeline.
        seen: What was seen.
        definition: The name of the ConfigMap that holds the accepted spec; new runs are pinned to it.
        paused: Why no run may start at all, if so. Runs that are under way go on.
        definitions: Earlier accepted specs, by ConfigMap; a retry works with the one that its run is pinned to.
    """
    parts = [_advance(pipeline, seen, run, definitions, paused) for run in seen.runs if not run.deleting]
    seen = _with_statuses(seen, parts)
    known = ledger.entries(seen)
    parts += [_stage(pipeline, seen, known, stage, definition=definition, paused=paused) for stage in pipeline.stages]
    started = tuple(entry for part in parts for entry in part.started)
    holds = ((stage, hold) for part in parts for stage, hold in part.holds.items())
    due = frozenset(stage for stage, hold in holds if hold.reason == "RunInFlight")
    stages: tuple[BackfillStage, ...] = ("silver", "gold")
    asked = Definition(
        name=definition,
        revisions={stage: job_settings.revision(pipeline, stage) for stage in stages if stage in pipeline.stages},
        bronze_table=pipeline.bronze_table,
        paused=paused,
        due=due,
    )
    parts.append(_backfills(pipeline, seen, (*known, *started), asked))
    return _without_cancelled(_joined(parts))


def _with_statuses(seen: Observed, parts: Iterable[BatchDecision]) -> Observed:
    """What was seen, with the runs as they are about to be reported: an outcome counts in the round that finds it."""
    told = {status.name: status.status for part in parts for status in part.statuses}
    return replace(seen, runs=tuple(replace(run, status=told.get(run.name, run.status)) for run in seen.runs))


def _without_cancelled(decision: BatchDecision) -> BatchDecision:
    """The decision without attempts of runs that it cancels: one that is due may be replaced in the same round."""
    cancelled = {each.name for each in decision.statuses if each.status.get("phase") == "Cancelled"}
    return replace(decision, actions=tuple(each for each in decision.actions if _attempt_of(each) not in cancelled))


def _attempt_of(action: Action) -> str | None:
    """The run whose attempt is created."""
    if not isinstance(action, CreateOnce):
        return None
    run: str | None = action.manifest["metadata"].get("labels", {}).get(names.RUN_LABEL)
    return run if action.manifest["kind"] == "SparkApplication" else None


def _joined(parts: Iterable[BatchDecision]) -> BatchDecision:
    """The parts in one. Of several statuses of one object the last counts: a cancellation ends what was going on."""
    parts = tuple(parts)
    statuses = {(status.kind, status.name): status for part in parts for status in part.statuses}
    return BatchDecision(
        statuses=tuple(statuses.values()),
        actions=tuple(action for part in parts for action in part.actions),
        layers={stage: layer for part in parts for stage, layer in part.layers.items()},
        holds={stage: hold for part in parts for stage, hold in part.holds.items()},
        troubles={stage: hold for part in parts for stage, hold in part.troubles.items()},
        news=tuple(told for part in parts for told in part.news),
        recheck=min((part.recheck for part in parts if part.recheck is not None), default=None),
        started=tuple(entry for part in parts for entry in part.started),
    )


# --- runs that exist ----------------------------------------------------------------------------------------------


def _advance(
    pipeline: ValidPipeline,
    seen: Observed,
    run: RunObject,
    definitions: Mapping[str, ValidPipeline],
    paused: Hold | None,
) -> BatchDecision:
    attempts = tuple(each for each in seen.applications if each.run == run.name)
    lost = tuple(stop for each in left_running(run, attempts) for stop in _stop(each, "its attempt is over"))
    if run.status.get("phase") in ledger.FINAL:  # what its tables' commits say may be seen later
        told = _with_results(read(run.status), run.name, seen)
        return BatchDecision(statuses=(StatusOf("LakehouseRun", run.name, told.to_raw()),), actions=lost)
    if run.spec["stage"] not in pipeline.stages:
        return _cancel(seen, run, pipeline, f"the pipeline has no {run.spec['stage']}")
    pinned = definitions.get(run.spec.get("definition", ""), pipeline)
    pinned = pinned if run.spec["stage"] in pinned.stages else pipeline
    hold = _cannot_go_on(seen) or _cannot_begin(seen, run, paused)
    if hold is not None:
        troubles = {run.spec["stage"]: hold} if hold.stalled else {}
        status = _run_status(run, Step(status=read(run.status)), pinned, seen, hold)
        return BatchDecision(statuses=(status,), troubles=troubles, recheck=hold.recheck)
    step = advance(run, attempts, run_policy(pinned, run.spec["stage"]), seen.now)
    return BatchDecision(
        statuses=(_run_status(run, step, pinned, seen),),
        actions=(*lost, *_stop(step.stop, "the attempt took too long"), *_begin(pinned, run, step)),
        news=_outcome(run, step.status),
        recheck=step.recheck,
    )


def _cannot_go_on(seen: Observed) -> Hold | None:
    """Without the Spark operator's CRD nothing is known of any attempt, so each run stays as it is."""
    if seen.capabilities.spark_applications:
        return None
    return Hold(
        reason="SparkOperatorMissing",
        message="the Spark operator's SparkApplication CRD is not installed in this cluster; install it",
        recheck=timedelta(seconds=30),
        stalled=True,
    )


def _cannot_begin(seen: Observed, run: RunObject, paused: Hold | None) -> Hold | None:
    """Why the first attempt of a run by hand waits: for a rewind, a deletion, or a run that it would collide with.

    A suspended pipeline starts no runs by itself; one that a person asks for is started. Who came first goes first, so
    two never wait for each other.
    """
    if run.spec.get("reason", "manual") != "manual" or run.status.get("attempts"):
        return None
    if paused is not None and paused.reason != SUSPENDED:
        return paused
    for other in seen.runs:
        if other.name != run.name and _is_ahead(other, run) and _collide(other, run):
            message = f"waits for {other.name}, which has not ended yet"
            return Hold(reason="RunInFlight", message=message, recheck=timedelta(seconds=30))
    return None


def _is_ahead(other: RunObject, run: RunObject) -> bool:
    if other.status.get("phase") in ledger.FINAL:
        return False
    has_begun = other.spec.get("reason", "manual") != "manual" or bool(other.status.get("attempts"))
    return has_begun or (other.created_at, other.name) < (run.created_at, run.name)


def _collide(other: RunObject, run: RunObject) -> bool:
    """Whether two runs must not be under way together: those of one stage, and maintenance and whole days."""
    stages = {other.spec["stage"], run.spec["stage"]}
    days = any("days" in each.spec for each in (other, run))
    return len(stages) == 1 or ("maintenance" in stages and days)


def _outcome(run: RunObject, status: RunStatus) -> tuple[Announce, ...]:
    """The event of a run that gets its outcome in this round."""
    if status.phase not in ledger.FINAL:
        return ()
    if status.phase != "Failed":
        return (Announce("Normal", f"Run{status.phase}", f"{run.name}: {status.phase.lower()}"),)
    latest = status.attempts[-1]
    message = f"{run.name} failed after {len(status.attempts)} attempts ({latest.failure_class}): {latest.message}"
    return (Announce("Warning", "RunFailed", message),)


def _begin(pipeline: ValidPipeline, run: RunObject, step: Step) -> tuple[Action, ...]:
    if step.start is None:
        return ()
    manifest = build_spark_application(
        pipeline,
        run=run.name,
        run_uid=run.uid,
        spec=_pinned_spec(pipeline, run),
        attempt=step.start.number,
        driver_memory_mib=step.start.driver_memory_mib,
        executor_memory_mib=step.start.executor_memory_mib,
    )
    return (CreateOnce(manifest, f"attempt {step.start.number} of {run.name}"),)


def _pinned_spec(pipeline: ValidPipeline, run: RunObject) -> RunSpec:
    """The run's spec; one that a person created without a revision works with the current one."""
    spec = RunSpec.from_raw(dict(run.spec))
    if spec.revision or spec.stage not in pipeline.stages:
        return spec
    return spec.model_copy(update={"revision": job_settings.revision(pipeline, spec.stage)})


def _stop(application: Application | None, why: str) -> tuple[Action, ...]:
    if application is None:
        return ()
    return (Delete(_SPARK, "SparkApplication", application.name, application.uid, why),)


def _run_status(
    run: RunObject, step: Step, pipeline: ValidPipeline, seen: Observed, hold: Hold | None = None
) -> StatusOf:
    because = run.annotations.get(BECAUSE_ANNOTATION, "Asked")
    status = _with_results(step.status, run.name, seen).model_copy(
        update={
            "observed_generation": 1,  # a run's spec never changes
            "started_because": because,
            "revision": _pinned_spec(pipeline, run).revision or step.status.revision,
            "conditions": _conditions(step.status, run, hold, seen.now),
        }
    )
    return StatusOf("LakehouseRun", run.name, status.to_raw())


def _with_results(status: RunStatus, run: str, seen: Observed) -> RunStatus:
    """What the run wrote, from the tables' own commits, where those are observed."""
    tables = seen.observation.tables or {}
    written = [(view.name, commit) for view in tables.values() for commit in view.commits if _is_of(commit, run)]
    if not written:
        return status
    days = {day for _, commit in written for day in commit.properties.get(commits.TOUCHED_DAYS, "").split(",")}
    days -= {"", commits.ALL_DAYS}
    rows = [
        WrittenTable(table=table, snapshot=str(commit.id), rows=int(commit.properties.get("added-records", "0")))
        for table, commit in sorted(written, key=lambda item: (item[0], item[1].committed_at))
    ]
    update = {"tables": tuple(rows[:300]), "touched_days": tuple(sorted(days)[-400:])}
    return status.model_copy(update={**update, "quality": _quality(written)})


def _quality(written: Iterable[tuple[str, Commit]]) -> Quality | None:
    """What the run's commits of quality results say: of each such table the newest, as a retry says it again."""
    ordered = sorted(written, key=lambda item: item[1].committed_at)
    told = {
        table: commit.properties[commits.QUALITY] for table, commit in ordered if commits.QUALITY in commit.properties
    }
    try:
        found = [json.loads(each) for each in told.values()]
        broken = tuple(BrokenRule.from_raw(each) for one in found for each in one["broken"])
        rules = sum(int(one["rules"]) for one in found)
    except (ValueError, TypeError, KeyError):  # the summary of a table is not the operator's own
        return None
    return Quality(rules=rules, broken=broken[: commits.QUALITY_MOST]) if found else None


def _is_of(commit: Commit, run: str) -> bool:
    return commit.properties.get(commits.RUN) == run


def _conditions(status: RunStatus, run: RunObject, hold: Hold | None, now: datetime) -> tuple[Condition, ...]:
    """`Succeeded`, and `Reconciling` or `Stalled`, which say the same to kstatus while they are true."""
    succeeded = _succeeded(status, run, hold)
    if status.phase in ("Succeeded", "Cancelled"):
        return (succeeded,)
    kind = "Stalled" if status.phase == "Failed" or (hold is not None and hold.stalled) else "Reconciling"
    since = next((each.last_transition_time for each in read(run.status).conditions if each.type == kind), instant(now))
    besides = {"type": kind, "status": "True", "last_transition_time": since}
    return (succeeded, succeeded.model_copy(update=besides))


def _succeeded(status: RunStatus, run: RunObject, hold: Hold | None) -> Condition:
    """The condition `Succeeded`. Its time is when the run ended, began or was created: none of them moves."""
    latest = status.attempts[-1] if status.attempts else None
    at = status.finished_at or status.started_at or instant(run.created_at)
    holds: dict[str, Literal["True", "False"]] = {"Succeeded": "True", "Failed": "False", "Cancelled": "False"}
    message = (latest.message or "") if latest and latest.outcome == "Failed" else ""
    reason = status.phase if status.phase != "Failed" or latest is None else latest.failure_class or "Failed"
    return Condition(
        type="Succeeded",
        status=holds.get(status.phase, "Unknown"),
        reason=hold.reason if hold else reason,
        message=hold.message if hold else message,
        last_transition_time=at,
        observed_generation=1,
    )


# --- runs that are due --------------------------------------------------------------------------------------------


def _stage(
    pipeline: ValidPipeline,
    seen: Observed,
    known: tuple[ledger.Entry, ...],
    stage: BatchStageName,
    *,
    definition: str,
    paused: Hold | None,
) -> BatchDecision:
    policy = stage_policy(pipeline, stage)
    if stage == "maintenance":
        paused = paused or _days_are_computed(seen, known)
    decision = decide_stage(policy, seen, known, paused=paused)
    replaced = [_cancel(seen, run, pipeline, "a newer run takes its place") for run in decision.replace]
    if stage == "maintenance" and paused is not None and paused.reason == REWINDING:
        replaced += [_cancel(seen, run, pipeline, paused.message) for run in _unfinished(seen, stage)]
    forgotten = [
        Delete(API_VERSION, "LakehouseRun", run.name, run.uid, "beyond the history's limit")
        for run in forgettable(policy, seen)
    ]
    started = [_create(pipeline, run, definition, known) for run in decision.start]
    own = BatchDecision(
        started=tuple(_entry(pipeline, run, known, seen.now) for run in decision.start),
        actions=(*started, *forgotten),
        layers={stage: decision.layer.model_copy(update={"image": pipeline.image(stage)})},
        holds={stage: decision.hold} if decision.hold else {},
        troubles={stage: decision.failed} if decision.failed and seen.capabilities.spark_applications else {},
        recheck=decision.recheck,
    )
    return _joined((*replaced, own))


def _days_are_computed(seen: Observed, known: tuple[ledger.Entry, ...]) -> Hold | None:
    """Maintenance waits for backfills: both write whole days, and a backfill swaps in what it prepared from them."""
    names = [each.name for each in seen.backfills if is_going_on(each)]
    names += [entry.name for entry in known if entry.days and not entry.final]
    return Hold(reason="BackfillInFlight", message=f"waits for {names[0]}, which has not ended yet") if names else None


def _unfinished(seen: Observed, stage: BatchStageName) -> list[RunObject]:
    own = (run for run in seen.runs if run.spec["stage"] == stage and not run.deleting)
    return [run for run in own if run.status.get("phase") not in ledger.FINAL]


def _cancel(seen: Observed, run: RunObject, pipeline: ValidPipeline, why: str) -> BatchDecision:
    attempts = tuple(each for each in seen.applications if each.run == run.name)
    step = cancel(run, attempts, seen.now)
    told = Announce("Normal", "RunCancelled", f"{run.name}: cancelled, because {why}")
    hold = Hold(reason="Cancelled", message=f"cancelled, because {why}")
    return BatchDecision(
        statuses=(_run_status(run, step, pipeline, seen, hold),), actions=_stop(step.stop, why), news=(told,)
    )


def _create(pipeline: ValidPipeline, run: NewRun, definition: str, known: tuple[ledger.Entry, ...]) -> CreateOnce:
    name = _name(pipeline, run, known)
    spec = {
        "pipelineRef": {"name": pipeline.name},
        "stage": run.stage,
        "reason": run.reason,
        "backfill": run.backfill,
        "dataInterval": {"start": instant(run.interval.start), "end": instant(run.interval.end)}
        if run.interval
        else None,
        "sourceRange": _source_range(run),
        "days": _days(run),
        "revision": run.revision,
        "definition": definition,
    }
    spec = {key: value for key, value in spec.items() if value is not None}
    backfill = {"backfill": run.backfill} if run.backfill else {}
    metadata = names.metadata(
        name,
        pipeline.namespace,
        labels=names.labels(pipeline.name, run.stage, **backfill),
        annotations={BECAUSE_ANNOTATION: run.because, names.HASH_ANNOTATION: job_settings.spec_hash(spec)},
        owner=names.owned_by("LakehousePipeline", pipeline.name, pipeline.uid),
    )
    manifest = {"apiVersion": API_VERSION, "kind": "LakehouseRun", "metadata": metadata, "spec": spec}
    return CreateOnce(manifest, f"{run.stage} run, started because: {run.because}")


def _entry(pipeline: ValidPipeline, run: NewRun, known: tuple[ledger.Entry, ...], now: datetime) -> ledger.Entry:
    """A run that is being created, as the ledger will have it."""
    return ledger.Entry(
        name=_name(pipeline, run, known),
        stage=run.stage,
        phase="Pending",
        at=now,
        revision=run.revision,
        reason=run.reason,
        interval=run.interval,
        days=run.days,
        upto=run.upto,
        backfill=run.backfill,
    )


def _source_range(run: NewRun) -> dict[str, str] | None:
    if run.upto is None or run.days:
        return None
    return {"upto": str(run.upto), **({"after": str(run.after)} if run.after is not None else {})}


def _days(run: NewRun) -> dict[str, Any] | None:
    if not run.days:
        return None
    pinned = {"atSnapshot": str(run.upto)} if run.upto else {}
    audit = {"audit": run.audit.to_raw()} if run.audit else {}
    return {"first": run.days[0], "last": run.days[1], **pinned, **audit}


def _name(pipeline: ValidPipeline, run: NewRun, known: tuple[ledger.Entry, ...]) -> str:
    if run.name:
        return run.name
    if run.interval is None:
        raise ValueError("a run is for an interval or for the days of a backfill")
    before = any(entry.stage == run.stage and entry.interval == run.interval for entry in known)
    return names.interval_run(pipeline.name, run.stage, instant(run.interval.start), run.revision if before else None)


# --- backfills ----------------------------------------------------------------------------------------------------


def _backfills(
    pipeline: ValidPipeline,
    seen: Observed,
    known: tuple[ledger.Entry, ...],
    asked: Definition,
) -> BatchDecision:
    parts: list[BatchDecision] = []
    for backfill in seen.backfills:
        decision = decide_backfill(backfill, seen, known, asked)
        cancelled = [run for run in seen.runs if run.name in decision.cancel]
        parts += [_cancel(seen, run, pipeline, "its backfill was cancelled") for run in cancelled]
        parts.append(
            BatchDecision(
                statuses=(StatusOf("LakehouseBackfill", backfill.name, decision.status.to_raw()),),
                actions=tuple(
                    _create(pipeline, run, decision.status.definition or asked.name, known) for run in decision.start
                ),
            )
        )
        known = (*known, *(_entry(pipeline, run, known, seen.now) for run in decision.start))
    return _joined(parts)


# --- what the pipeline says about it ------------------------------------------------------------------------------


def stage_policy(pipeline: ValidPipeline, stage: BatchStageName) -> StagePolicy:
    """When the stage's runs are due, from the spec. Maintenance follows its schedule and nothing else."""
    own = pipeline.stage(stage)
    triggered = own if isinstance(own, (Silver, Gold)) else None
    return StagePolicy(
        stage=stage,
        schedule=own.schedule,
        time_zone=own.time_zone,
        revision=job_settings.revision(pipeline, stage),
        trigger="dataComplete" if triggered and triggered.trigger.mode != "clock" else "clock",
        deadline=_seconds(triggered.trigger.deadline) if triggered else timedelta(),
        interval=_seconds(triggered.interval) if triggered else None,
        catch_up=own.catch_up.policy,
        catch_up_limit=own.catch_up.limit,
        concurrency=own.concurrency,
        keep_succeeded=own.history.succeeded,
        keep_failed=own.history.failed,
        watermark_delay=_seconds(pipeline.spec.bronze.watermark_delay),
        checkpoint_interval=_seconds(pipeline.spec.bronze.checkpoint.interval),
        bronze_table=pipeline.bronze_table,
        after="silver" if isinstance(own, Gold) else None,
    )


def run_policy(pipeline: ValidPipeline, stage: BatchStageName) -> RunPolicy:
    """How the attempts of the stage's runs are made and limited, from the spec."""
    own = pipeline.stage(stage)
    retry = own.retry
    return RunPolicy(
        retry=RetryPolicy(
            infrastructure=retry.infrastructure,
            out_of_memory=retry.out_of_memory,
            data=retry.data,
            code=retry.code,
            backoff=_seconds(retry.backoff),
            max_backoff=_seconds(retry.max_backoff),
            memory_growth=retry.memory_growth,
            max_memory_mib=mebibytes(retry.max_memory),
        ),
        timeout=_seconds(own.timeout),
        driver_memory_mib=mebibytes(own.driver.memory),
        executor_memory_mib=mebibytes(own.executor.memory),
    )


def _seconds(duration: str) -> timedelta:
    return timedelta(seconds=seconds(duration))


def wanted_boundaries(pipeline: ValidPipeline, seen: Observed) -> tuple[datetime, ...]:
    """The moments of arrival whose Kafka offsets the next decision will ask for."""
    known = ledger.entries(seen)
    return tuple(
        moment for stage in pipeline.stages for moment in boundaries(stage_policy(pipeline, stage), seen, known)
    )
