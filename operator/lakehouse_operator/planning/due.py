"""Which run of a stage is due now, and what it still waits for.

A run starts when its interval has ended and its data is complete, or at the deadline; gold when its silver intervals
have succeeded, or at the deadline if none of them has failed. One run of a stage is in flight at a time, intervals go
in order, and a run whose outcome is known is never repeated.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Literal

from lakehouse_operator.api.pipeline_status import BatchLayer, LastRun, OffsetsCommitted
from lakehouse_operator.api.run import AuditLimits, Stage
from lakehouse_operator.planning import ledger as ledgers
from lakehouse_operator.planning.completeness import commit_covering, offsets_reached, settled_since
from lakehouse_operator.planning.ledger import FINAL, Entry
from lakehouse_operator.planning.observed import Observed, RunObject
from lakehouse_operator.planning.plan import Hold
from lakehouse_operator.planning.schedule import (
    Interval,
    due_intervals,
    instant,
    last_tick,
    midnight,
    next_tick,
    parse_instant,
)

Because = Literal["DataComplete", "SilverDone", "Deadline", "Clock", "Asked"]
"""What lets a run start; it stands in the run's status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePolicy:
    """What a pipeline says about the runs of one stage. `deadline` counts from the end of the interval.

    Without an `interval` a run stands for all the time since the one before it, and makes up for those that were missed
    or failed.
    """

    stage: Stage
    schedule: str
    time_zone: str
    revision: str
    trigger: Literal["dataComplete", "clock"]
    deadline: timedelta
    interval: timedelta | None
    catch_up: Literal["all", "latest", "none"]
    catch_up_limit: int
    concurrency: Literal["Forbid", "Replace"]
    keep_succeeded: int
    keep_failed: int
    watermark_delay: timedelta
    checkpoint_interval: timedelta
    bronze_table: str
    after: Stage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is to be created. One of a backfill brings its name."""

    name: str | None = None
    stage: Stage
    interval: Interval | None
    days: tuple[str, str] | None
    revision: str
    reason: Literal["schedule", "backfill", "manual"]
    because: Because
    after: int | None = None
    upto: int | None = None
    backfill: str | None = None
    audit: AuditLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDecision:
    """What is to be done for one stage, and what its layer's status should say.

    `hold` says why a run that is due does not start, `failed` that the newest run failed for good, due or not.
    """

    layer: BatchLayer
    start: tuple[NewRun, ...] = ()
    replace: tuple[RunObject, ...] = ()
    hold: Hold | None = None
    failed: Hold | None = None
    recheck: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One stage with everything that its decision looks at. `was` is its layer's status as it was seen."""

    policy: StagePolicy
    seen: Observed
    ledger: tuple[Entry, ...]
    was: BatchLayer

    @property
    def scheduled(self) -> tuple[Entry, ...]:
        return ledgers.scheduled(self.ledger, self.policy.stage)


def _case(policy: StagePolicy, seen: Observed, ledger: tuple[Entry, ...]) -> _Case:
    raw = seen.pipeline.status.get("layers", {}).get(policy.stage)
    return _Case(policy, seen, ledger, BatchLayer.from_raw(raw) if raw else BatchLayer())


def decide_stage(
    policy: StagePolicy, seen: Observed, ledger: tuple[Entry, ...], *, paused: Hold | None
) -> StageDecision:
    """Decide whether a scheduled run of a stage starts now.

    Args:
        policy: The stage's policy.
        seen: What was seen.
        ledger: Every run that is known.
        paused: Why nothing at all may start (suspended, rewinding), if so.
    """
    case = _case(policy, seen, ledger)
    upcoming = next_tick(policy.schedule, policy.time_zone, now=seen.now)
    wait = upcoming - seen.now if upcoming else None
    layer = _layer(case, upcoming)
    interval, renewed = _next_interval(case)
    failed = None if renewed else _failed(case)
    if interval is None:
        return StageDecision(layer=layer, failed=failed, recheck=wait)
    hold = paused or _in_flight(case) or (failed if policy.interval else None)
    if hold is None:
        readiness, layer = _readiness(case, interval, layer)
        if not isinstance(readiness, Hold):
            run = _new_run(case, interval, readiness)
            return StageDecision(layer=layer, start=(run,), replace=_unfinished(case), failed=failed, recheck=wait)
        hold = readiness
    held = layer.model_copy(update={"held_because": hold.message})
    return StageDecision(layer=held, hold=hold, failed=failed, recheck=hold.recheck or wait)


def _begin(case: _Case) -> datetime:
    """Where the next interval begins: where the last one ended; at first, in the interval that it was first seen."""
    known = ledgers.through(case.ledger, case.policy.stage)
    if known is not None:
        return known
    first = parse_instant(case.was.since) if case.was.since else case.seen.now
    if case.policy.interval is None:
        return first
    return midnight(first) + (first - midnight(first)) // case.policy.interval * case.policy.interval


def _next_interval(case: _Case) -> tuple[Interval | None, bool]:
    """The interval to run next, and whether it failed before under another revision and is tried again under this.

    What was cancelled is tried again only if no interval follows whose run takes its rows.
    """
    policy = case.policy
    for entry in case.scheduled if policy.interval else case.scheduled[-1:]:
        tried = [other for other in case.scheduled if other.interval == entry.interval]
        if entry.interval != case.scheduled[-1].interval and all(other.phase == "Cancelled" for other in tried):
            continue
        if all(other.phase in ("Failed", "Cancelled") and other.revision != policy.revision for other in tried):
            return entry.interval, True
    tick, begin = last_tick(policy.schedule, policy.time_zone, now=case.seen.now), _begin(case)
    if tick is None or tick <= begin:
        return None, False
    if policy.interval is None:
        return Interval(begin, tick), False
    due = due_intervals(policy.interval, through=begin, tick=tick)
    return _caught_up(policy, policy.interval, due, case.seen.now), False


def _caught_up(policy: StagePolicy, length: timedelta, due: tuple[Interval, ...], now: datetime) -> Interval | None:
    """Which of the intervals that are due comes first. The rows of those left out come with the one that is run."""
    if not due:
        return None
    if policy.catch_up == "all":
        return due[max(len(due) - policy.catch_up_limit, 0)]
    missed = policy.catch_up == "none" and now - due[-1].end > length + policy.deadline
    return None if missed else due[-1]


def _in_flight(case: _Case) -> Hold | None:
    """Wait for what goes on; concurrency Replace waits only for the days of a backfill, which are never replaced."""
    own = (entry for entry in case.ledger if entry.stage == case.policy.stage and not entry.final)
    running = [entry.name for entry in own if case.policy.concurrency == "Forbid" or entry.backfill]
    return Hold(reason="RunInFlight", message=f"{running[0]} has not ended yet") if running else None


def _failed(case: _Case) -> Hold | None:
    """The newest interval's outcome, if it is a failure: it holds what follows, which repeating would not mend.

    A stage without intervals makes up for it with its next run, so there it is told and holds nothing.
    """
    final = [entry for entry in case.scheduled if entry.final]
    if not final:
        return None
    newest = [entry for entry in final if entry.interval == final[-1].interval]
    if any(entry.phase != "Failed" for entry in newest):
        return None
    last = newest[-1]
    if case.policy.interval is None:
        message = f"{last.name} failed ({last.failure}); mend its cause: the next run makes up for it"
        return Hold(reason="RunFailed", message=message)
    return Hold(
        reason="RunFailed",
        message=f"{last.name} failed ({last.failure}); mend its cause and change the definition, or run it again with "
        f"`lakehouse retry {last.name}`",
        stalled=True,
    )


def _unfinished(case: _Case) -> tuple[RunObject, ...]:
    """The runs that concurrency Replace ends before the next one starts. Backfills are never replaced."""
    own = (run for run in case.seen.runs if run.spec["stage"] == case.policy.stage and "backfill" not in run.spec)
    return tuple(run for run in own if run.status.get("phase") not in FINAL)


def _readiness(case: _Case, interval: Interval, layer: BatchLayer) -> tuple[Because | Hold, BatchLayer]:
    if case.policy.trigger == "clock":
        return "Clock", layer
    held, layer = (_upstream(case, interval), layer) if case.policy.after else _bronze(case, interval, layer)
    if held is None:
        return ("SilverDone" if case.policy.after else "DataComplete"), layer
    if held.reason == "NotObserved":
        return "Clock", layer
    if held.reason == "SilverFailed":
        return held, layer
    due = interval.end + case.policy.deadline
    if case.seen.now >= due:
        return "Deadline", layer
    left = due - case.seen.now
    return Hold(reason=held.reason, message=held.message, recheck=min(held.recheck or left, left)), layer


def _upstream(case: _Case, interval: Interval) -> Hold | None:
    if case.policy.after is None:
        return None
    reached = ledgers.completed_through(case.ledger, case.policy.after)
    if reached is not None and reached >= interval.end:
        return None
    failed = ledgers.failed_before(case.ledger, case.policy.after, interval.end)
    if failed is not None:
        return Hold(
            reason="SilverFailed",
            message=f"{failed.name} failed; no deadline lets {case.policy.stage} go past it",
        )
    shown = instant(reached) if reached else "none yet"
    return Hold(
        reason="WaitingForSilver",
        message=f"{case.policy.after} must have succeeded through {instant(interval.end)}; it has through: {shown}",
    )


def _bronze(case: _Case, interval: Interval, layer: BatchLayer) -> tuple[Hold | None, BatchLayer]:
    """Hold until bronze holds all that arrived for the interval.

    The offsets are seen to be committed first, and the moment is kept in the status, because their Iceberg commit may
    follow a little later (`completeness.settled_since`).
    """
    policy, now = case.policy, case.seen.now
    bronze = (case.seen.observation.tables or {}).get(policy.bronze_table)
    boundary = interval.end + policy.watermark_delay
    if now < boundary:
        message = f"late events may come until {instant(boundary)}"
        return Hold(reason="WaitingForWatermark", message=message, recheck=boundary - now), layer
    reached = offsets_reached(case.seen.observation.kafka or (), boundary)
    if (bronze is None or reached is None) and case.seen.observation.interrupted:
        message = f"bronze or Kafka can't be read now: {case.seen.observation.problem}"
        return Hold(reason="NoAnswer", message=message, recheck=policy.checkpoint_interval), layer
    if bronze is None or reached is None:
        return Hold(reason="NotObserved", message="bronze and Kafka are not observed, so the clock decides"), layer
    if not reached:
        message = f"bronze has not committed all that arrived before {instant(boundary)}"
        return Hold(reason="WaitingForBronze", message=message, recheck=policy.checkpoint_interval), layer
    was = case.was.offsets_committed
    seen_at = was.seen_at if was and was.boundary == instant(boundary) else instant(now)
    layer = layer.model_copy(
        update={"offsets_committed": OffsetsCommitted(boundary=instant(boundary), seen_at=seen_at)}
    )
    if settled_since(bronze, parse_instant(seen_at), now, policy.checkpoint_interval):
        return None, layer
    message = "the offsets are committed; their Iceberg commit is awaited"
    return Hold(reason="WaitingForCommit", message=message, recheck=policy.checkpoint_interval), layer


def _new_run(case: _Case, interval: Interval, because: Because) -> NewRun:
    after, upto = (None, None) if case.policy.after else _source_range(case, interval)
    return NewRun(
        stage=case.policy.stage,
        interval=interval,
        days=None,
        revision=case.policy.revision,
        reason="schedule",
        because=because,
        after=after,
        upto=upto,
    )


def _source_range(case: _Case, interval: Interval) -> tuple[int | None, int | None]:
    """The bronze commits `(after, upto]` that belong to the interval, from the commits themselves.

    A run that is created five hours late gets the range that it would have had on time.
    """
    bronze = (case.seen.observation.tables or {}).get(case.policy.bronze_table)
    if bronze is None or bronze.head is None:
        return None, None
    covering = commit_covering(bronze, interval.end + case.policy.watermark_delay) or bronze.head
    order = {commit.id: number for number, commit in enumerate(bronze.commits)}
    covered = [entry.upto for entry in case.scheduled if entry.upto is not None and entry.upto in order]
    after = max(covered, key=lambda snapshot: order[snapshot], default=None)
    if after is not None and order[after] > order[covering.id]:
        return after, after
    return after, covering.id


def boundaries(policy: StagePolicy, seen: Observed, ledger: tuple[Entry, ...]) -> tuple[datetime, ...]:
    """The moments of arrival whose Kafka offsets the next decision will ask for."""
    if policy.trigger == "clock" or policy.after is not None:
        return ()
    interval, _ = _next_interval(_case(policy, seen, ledger))
    return (interval.end + policy.watermark_delay,) if interval else ()


def _layer(case: _Case, upcoming: datetime | None) -> BatchLayer:
    completed = ledgers.completed_through(case.ledger, case.policy.stage)
    outdated = [e for e in case.scheduled if e.phase == "Succeeded" and e.revision != case.policy.revision]
    return BatchLayer(
        since=case.was.since or instant(case.seen.now),
        revision=case.policy.revision,
        completed_through=instant(completed) if completed else None,
        last_run=_last_run(case),
        next_run=instant(upcoming) if upcoming else None,
        outdated=len(outdated) if case.policy.interval else 0,
    )


def _last_run(case: _Case) -> LastRun | None:
    own = [run for run in case.seen.runs if run.spec["stage"] == case.policy.stage]
    newest = max(own, key=lambda run: (run.created_at, run.name), default=None)
    if newest is None:
        return None
    status = newest.status
    return LastRun(name=newest.name, phase=status.get("phase", "Pending"), finished_at=status.get("finishedAt"))


def forgettable(policy: StagePolicy, seen: Observed) -> tuple[RunObject, ...]:
    """The runs beyond the history's limits, oldest first.

    The run of the newest interval is kept whatever the limits are, since the next interval begins where it ended.
    """
    own = sorted((run for run in seen.runs if run.spec["stage"] == policy.stage), key=lambda run: run.created_at)
    newest = max(own, key=lambda run: str(run.spec.get("dataInterval", {}).get("end", "")), default=None)
    limits = {("Succeeded",): policy.keep_succeeded, ("Failed", "Cancelled"): policy.keep_failed}
    groups = ([run for run in own if run.status.get("phase") in phases] for phases in limits)
    beyond = (group[: max(len(group) - limit, 0)] for group, limit in zip(groups, limits.values(), strict=True))
    return tuple(run for run in chain.from_iterable(beyond) if run is not newest and not run.deleting)
