"""A backfill: the list of runs first, then approval, then runs over whole event days from one pinned snapshot.

It never collides with a scheduled run: while one of its stage is in flight, no day starts, and the schedule waits for
the days that are in flight. A scheduled run that is due comes before further days, so none waits for more than those.
Gold's days follow silver's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

from lakehouse_operator.api.backfill import (
    BackfillCounts,
    BackfillInterval,
    BackfillSpec,
    BackfillStatus,
)
from lakehouse_operator.api.objects import Condition
from lakehouse_operator.api.run import AuditLimits
from lakehouse_operator.planning import names
from lakehouse_operator.planning.due import NewRun
from lakehouse_operator.planning.ledger import FINAL, Entry
from lakehouse_operator.planning.observed import BackfillObject, Observed
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.schedule import days, instant

BackfillStage = Literal["silver", "gold"]
Truth = Literal["True", "False", "Unknown"]
State = Literal["Planned", "Waiting", "Running", "Succeeded", "Failed", "Skipped", "Cancelled"]
_DONE = ("Succeeded", "Skipped")
_OVER = ("Succeeded", "Failed", "Cancelled")
_STAGES = ("silver", "gold", "maintenance")
"""Whose runs in flight a backfill waits for: those of its own stages, and maintenance, which rewrites the same days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a backfill needs to know of its pipeline: each stage's revision, the bronze table, and why all is paused.

    `name` is the ConfigMap that holds it. `due` are the stages of which a scheduled run waits for runs in flight alone.
    """

    name: str
    revisions: Mapping[BackfillStage, str]
    bronze_table: str
    paused: Hold | None = None
    due: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillDecision:
    """What one backfill's status should say, the runs to start for it, and the names of the runs to cancel."""

    status: BackfillStatus
    start: tuple[NewRun, ...] = ()
    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One backfill with everything that its decision looks at. `was` is its status as it was seen."""

    name: str
    uid: str
    spec: BackfillSpec
    was: BackfillStatus
    generation: int
    seen: Observed
    ledger: tuple[Entry, ...]
    definition: Definition

    @cached_property
    def own(self) -> Mapping[str, Entry]:
        """The backfill's own runs, by name. The runs of one that had its name before are another's."""
        mine = (entry for entry in self.ledger if entry.backfill == self.name and entry.days)
        return {each.name: each for each in mine if each.days and each.name == self.run(each.stage, *each.days)}

    def run(self, stage: str, first: str, last: str) -> str:
        """The name of its run of a stage over these days."""
        return names.days_run(self.seen.pipeline.name, stage, first, last, self.uid)


def is_going_on(backfill: BackfillObject) -> bool:
    """Whether a backfill was approved and has no outcome yet."""
    return bool(backfill.spec.get("approved")) and backfill.status.get("phase") not in _OVER and not backfill.deleting


def decide_backfill(
    backfill: BackfillObject, seen: Observed, ledger: tuple[Entry, ...], definition: Definition
) -> BackfillDecision:
    """Decide a backfill's next step. One that has its outcome stays as it is."""
    was = BackfillStatus.from_raw(dict(backfill.status)) if backfill.status else BackfillStatus()
    if was.phase in _OVER:
        return BackfillDecision(status=was)
    case = _Case(
        name=backfill.name,
        uid=backfill.uid,
        spec=BackfillSpec.from_raw(dict(backfill.spec)),
        was=was,
        generation=backfill.generation,
        seen=seen,
        ledger=ledger,
        definition=definition,
    )
    for stage in case.spec.stages:
        if stage not in definition.revisions:
            return BackfillDecision(status=_ended(case, "Failed", (), f"spec.stages: the pipeline has no {stage}"))
    plan = _plan(case)
    if case.spec.cancel:
        return _cancel(case, plan)
    if not case.spec.approved:
        return BackfillDecision(status=_status(case, plan, "Proposed", "set spec.approved to true to run this"))
    return _run(case, plan)


def _plan(case: _Case) -> tuple[BackfillInterval, ...]:
    """Every run of the backfill, silver's before gold's, with how far it is."""
    chosen = days(case.spec.range.first, case.spec.range.last)
    size = case.spec.days_per_run
    chunks = [(chosen[at], chosen[min(at + size, len(chosen)) - 1]) for at in range(0, len(chosen), size)]
    if case.spec.order == "newestFirst":
        chunks.reverse()
    stages: tuple[BackfillStage, ...] = ("silver", "gold")
    asked = [stage for stage in stages if stage in case.spec.stages]
    return tuple(_interval(case, stage, first, last) for stage in asked for first, last in chunks)


def _interval(case: _Case, stage: BackfillStage, first: str, last: str) -> BackfillInterval:
    known = next((i for i in case.was.intervals if (i.stage, i.first) == (stage, first)), None)
    run = case.own.get(case.run(stage, first, last))
    was = known.was if known else _before(case, stage, first, last)
    if run is not None:
        state: State = "Running" if run.phase == "Pending" else run.phase
        return BackfillInterval(stage=stage, first=first, last=last, state=state, run=run.name, was=was)
    if known and known.run and known.state in FINAL:
        return known  # the run is forgotten or deleted, its outcome is not
    wanted = {"all": True, "failed": was != "Succeeded", "none": was == "Missing"}[case.spec.reprocess]
    waiting: State = "Waiting" if case.spec.approved else "Planned"
    return BackfillInterval(stage=stage, first=first, last=last, state=waiting if wanted else "Skipped", was=was)


def _before(
    case: _Case, stage: BackfillStage, first: str, last: str
) -> Literal["Missing", "Succeeded", "Failed", "Outdated"]:
    """What was known of these days when the list was first made; it is kept, so that the list stays as approved."""
    others = (entry for entry in case.ledger if entry.stage == stage and entry.name not in case.own)
    outcomes = [each for each in others if each.phase in ("Succeeded", "Failed") and _covers(each, first, last)]
    if not outcomes:
        return "Missing"
    if outcomes[-1].phase == "Failed":
        return "Failed"
    return "Succeeded" if outcomes[-1].revision == case.definition.revisions[stage] else "Outdated"


def _covers(entry: Entry, first: str, last: str) -> bool:
    if entry.days:
        return entry.days[0] <= last and first <= entry.days[1]
    if entry.interval is None:
        return False
    final = entry.interval.end - timedelta(microseconds=1)  # an interval's end belongs to the next one
    return instant(entry.interval.start)[:10] <= last and first <= instant(final)[:10]


def _cancel(case: _Case, plan: tuple[BackfillInterval, ...]) -> BackfillDecision:
    running = tuple(interval.run for interval in plan if interval.state == "Running" and interval.run)
    shown = tuple(
        interval.model_copy(update={"state": "Cancelled"}) if interval.state in ("Planned", "Waiting") else interval
        for interval in plan
    )
    if running:
        return BackfillDecision(status=_status(case, shown, "Running", "is being cancelled"), cancel=running)
    return BackfillDecision(status=_ended(case, "Cancelled", shown, None))


def _run(case: _Case, plan: tuple[BackfillInterval, ...]) -> BackfillDecision:
    failed = [interval for interval in plan if interval.state in ("Failed", "Cancelled")]
    running = [interval for interval in plan if interval.state == "Running"]
    waiting = [interval for interval in plan if interval.state == "Waiting"]
    if failed and not running:
        runs = ", ".join(interval.run or interval.first for interval in failed[:10])
        left = [day for each in plan if each.state not in _DONE for day in (each.first, each.last)]
        message = (
            f"did not succeed: {runs}; mend the cause and create a new backfill of what is left, "
            f"{min(left)} to {max(left)}"
        )
        return BackfillDecision(status=_ended(case, "Failed", plan, message))
    if not waiting and not running:
        return BackfillDecision(status=_ended(case, "Succeeded", plan, None))
    hold = case.definition.paused or next((h for s in _STAGES if (h := _in_flight(case, s))), None) or _due(case)
    ready = [interval for interval in waiting if _silver_done(interval, plan)]
    room = 0 if hold or failed else max(case.spec.max_concurrent - len(running), 0)
    pinned = _pinned(case)
    start = tuple(_new_run(case, interval, pinned) for interval in ready[:room])
    begun = running or start or any(interval.state == "Succeeded" for interval in plan)
    status = _status(case, plan, "Running" if begun else "Approved", hold.message if hold else None)
    status = status.model_copy(update={"source_snapshot": pinned, "definition": _definition(case)})
    return BackfillDecision(status=status, start=start)


def _in_flight(case: _Case, stage: str) -> Hold | None:
    if stage != "maintenance" and stage not in case.spec.stages:
        return None
    others = [e.name for e in case.ledger if e.stage == stage and not e.final and e.name not in case.own]
    return Hold(reason="RunInFlight", message=f"waits for {others[0]}, which has not ended yet") if others else None


def _due(case: _Case) -> Hold | None:
    """A scheduled run that waits for days in flight is not made to wait for others."""
    due = [stage for stage in case.spec.stages if stage in case.definition.due]
    return Hold(reason="RunDue", message=f"lets the scheduled run of {due[0]} go first") if due else None


def _silver_done(interval: BackfillInterval, plan: tuple[BackfillInterval, ...]) -> bool:
    below = (other for other in plan if other.stage == "silver" and other.first == interval.first)
    return interval.stage == "silver" or all(other.state in _DONE for other in below)


def _pinned(case: _Case) -> str | None:
    bronze = (case.seen.observation.tables or {}).get(case.definition.bronze_table)
    return case.was.source_snapshot or (str(bronze.head.id) if bronze and bronze.head else None)


def _revision(case: _Case, stage: BackfillStage) -> str | None:
    """The revision that it computes with: the current one, and from the approval on the one that was current then."""
    known = case.was.silver_revision if stage == "silver" else case.was.gold_revision
    return (known if case.was.definition else None) or case.definition.revisions.get(stage)


def _definition(case: _Case) -> str:
    return case.was.definition or case.definition.name


def _new_run(case: _Case, interval: BackfillInterval, pinned: str | None) -> NewRun:
    return NewRun(
        name=case.run(interval.stage, interval.first, interval.last),
        stage=interval.stage,
        interval=None,
        days=(interval.first, interval.last),
        revision=_revision(case, interval.stage) or "",
        reason="backfill",
        because="Asked",
        upto=int(pinned) if pinned and interval.stage == "silver" else None,
        backfill=case.name,
        audit=case.spec.audit if case.spec.audit != AuditLimits() else None,
    )


def _status(
    case: _Case,
    plan: tuple[BackfillInterval, ...],
    phase: Literal["Proposed", "Approved", "Running", "Succeeded", "Failed", "Cancelled"],
    message: str | None,
) -> BackfillStatus:
    states = [interval.state for interval in plan]
    counts = BackfillCounts(
        total=len(states) - states.count("Skipped"),
        running=states.count("Running"),
        succeeded=states.count("Succeeded"),
        failed=states.count("Failed"),
        skipped=states.count("Skipped"),
    )
    changes = {
        "observed_generation": case.generation,
        "phase": phase,
        "message": message,
        "intervals": plan,
        "counts": counts,
        "silver_revision": _revision(case, "silver"),
        "gold_revision": _revision(case, "gold"),
        "conditions": _conditions(case, phase, message),
    }
    if phase == "Running" and case.was.started_at is None:
        changes["started_at"] = instant(case.seen.now)
    return case.was.model_copy(update=changes)


def _conditions(case: _Case, phase: str, message: str | None) -> tuple[Condition, ...]:
    """`Succeeded`, and `Reconciling` or `Stalled`, which say the same to kstatus while they are true.

    A proposal is all that was asked for: it stands until somebody approves it. The time of a condition moves only when
    its status flips.
    """
    outcomes: dict[str, Truth] = {"Succeeded": "True", "Failed": "False", "Cancelled": "False"}
    truths: dict[str, Truth] = {"Succeeded": outcomes.get(phase, "Unknown")}
    besides = {"Approved": "Reconciling", "Running": "Reconciling", "Failed": "Stalled"}
    if phase in besides:
        truths[besides[phase]] = "True"
    before = {(each.type, each.status): each.last_transition_time for each in case.was.conditions}
    return tuple(
        Condition(
            type=kind,
            status=truth,
            reason=phase,
            message=message or "",
            last_transition_time=before.get((kind, truth), instant(case.seen.now)),
            observed_generation=case.generation,
        )
        for kind, truth in truths.items()
    )


def _ended(
    case: _Case,
    phase: Literal["Succeeded", "Failed", "Cancelled"],
    plan: tuple[BackfillInterval, ...],
    message: str | None,
) -> BackfillStatus:
    return _status(case, plan, phase, message).model_copy(update={"finished_at": instant(case.seen.now)})
