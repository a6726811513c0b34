"""What changes all the time is a metric, not status."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from prometheus_client import Gauge

from lakehouse_operator import metrics
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.planning.observed import Observed, RunObject
from lakehouse_operator.planning.plan import Plan
from lakehouse_operator.planning.schedule import parse_instant

Series: TypeAlias = tuple[Gauge, tuple[str, ...]]
"""A gauge and the values of its labels."""

_OUTCOMES = ("Succeeded", "Failed", "Cancelled")
_STAGES = ("silver", "gold", "maintenance")
_told: dict[Key, frozenset[Series]] = {}
"""The series of each pipeline, to take back those that are not told again."""
_arrived_before: dict[Key, float] = {}
_unfinished: dict[Key, frozenset[str]] = {}
"""The UIDs of the runs that were seen unfinished. Only the end of such a one is counted: those that had ended when
this process first saw them were counted by the one before it."""


def measure(key: Key, seen: Observed, plan: Plan) -> None:
    """Tell what was seen and decided, after the plan's statuses were written. Series of what is no more are removed.

    A scrape may come at any moment: series that stay are set, never removed and set again.
    """
    _tell(key, dict(_gauges(key, seen, plan)), instead_of=_told.get(key, frozenset()))
    _count_outcomes(key, seen, plan)


def measure_conditions(key: Key, status: Mapping[str, Any]) -> None:
    """Tell the conditions of a status that was written besides a plan's. Everything else stays as it was told."""
    before = frozenset(each for each in _told.get(key, frozenset()) if each[0] is metrics.CONDITION)
    _tell(key, dict(_of_conditions(key, status)), instead_of=before)


def _tell(key: Key, series: Mapping[Series, float], *, instead_of: frozenset[Series]) -> None:
    for (gauge, labels), value in series.items():
        gauge.labels(*labels).set(value)
    for gauge, labels in instead_of - series.keys():
        gauge.remove(*labels)
    _told[key] = _told.get(key, frozenset()) - instead_of | series.keys()


def _gauges(key: Key, seen: Observed, plan: Plan) -> Iterator[tuple[Series, float]]:
    status = next((each.status for each in plan.statuses if each.kind == "LakehousePipeline"), {})
    yield from _of_conditions(key, status)
    if "stream" in status:
        yield (metrics.STREAM_STATE, (*key, status["stream"]["state"])), 1
    yield from _of_stream(key, seen, status.get("layers", {}).get("bronze", {}).get("table"))
    phases = Counter((run.spec["stage"], run.status.get("phase", "Pending")) for run in seen.runs)
    for (stage, phase), count in phases.items():
        yield (metrics.RUNS, (*key, stage, phase)), count
    for backfill in seen.backfills:
        states = Counter(interval["state"] for interval in backfill.status.get("intervals", ()))
        for state, count in states.items():
            yield (metrics.BACKFILL_RUNS, (*key, backfill.name, state)), count


def _of_conditions(key: Key, status: Mapping[str, Any]) -> Iterator[tuple[Series, float]]:
    for condition in status.get("conditions", ()):
        if condition["status"] != "Unknown":
            yield (metrics.CONDITION, (*key, condition["type"])), condition["status"] == "True"


def _of_stream(key: Key, seen: Observed, table: str | None) -> Iterator[tuple[Series, float]]:
    proven = [parse_instant(point.taken_at).timestamp() for point in seen.record.points if point.proven]
    checkpoint = (seen.pipeline.spec.get("bronze") or {}).get("checkpoint") or {}
    if seen.unreadable is None and (proven or checkpoint.get("savepointDirectory")):
        yield (metrics.RECOVERY_POINT_TAKEN, key), max(proven, default=0)
    if seen.observation.job is not None:
        yield (metrics.STREAM_RESTARTS, key), seen.observation.job.restarts
        yield (metrics.FAILED_CHECKPOINTS, key), seen.observation.job.failed_checkpoints
    if seen.observation.kafka is not None:
        behind = (part.end - max(part.committed, part.start) for part in seen.observation.kafka)
        yield (metrics.LAG, key), sum(max(records, 0) for records in behind)
    arrived = _arrived(key, seen, table)
    if arrived is not None:
        yield (metrics.ARRIVED, key), arrived


def _arrived(key: Key, seen: Observed, table: str | None) -> float | None:
    """How far rows had arrived. Of commits that silver has covered nobody asks, so the last answer is remembered."""
    view = (seen.observation.tables or {}).get(table or "")
    if view is None:
        return None
    told = [each.kafka_timestamp_max.timestamp() for each in view.commits if each.kafka_timestamp_max is not None]
    if told:
        _arrived_before[key] = max(told)
    return _arrived_before.get(key)


def _count_outcomes(key: Key, seen: Observed, plan: Plan) -> None:
    """Count each run once that has ended since it was seen unfinished."""
    for stage in {run.spec["stage"] for run in seen.runs} | {each for each in _STAGES if each in seen.pipeline.spec}:
        for outcome in _OUTCOMES:
            metrics.RUN_OUTCOMES.labels(*key, stage, outcome)  # at 0 before the first one, or `increase` misses that
    written = {each.name: each.status for each in plan.statuses if each.kind == "LakehouseRun"}
    unfinished = _unfinished.get(key, frozenset()) | {run.uid for run in seen.runs if not _is_over(run.status)}
    over = {run.uid for run in seen.runs if _is_over(written.get(run.name, run.status))}
    for run in seen.runs:
        if run.uid in unfinished & over:
            _count(key, run, written.get(run.name, run.status))
    _unfinished[key] = unfinished & {run.uid for run in seen.runs} - over


def _is_over(status: Mapping[str, Any]) -> bool:
    return status.get("phase") in _OUTCOMES


def _count(key: Key, run: RunObject, status: Mapping[str, Any]) -> None:
    stage, outcome = run.spec["stage"], status["phase"]
    metrics.RUN_OUTCOMES.labels(*key, stage, outcome).inc()
    if "startedAt" in status and "finishedAt" in status:
        took = parse_instant(status["finishedAt"]) - parse_instant(status["startedAt"])
        metrics.RUN_SECONDS.labels(stage, outcome).observe(took.total_seconds())


def forget(key: Key) -> None:
    """Remove a pipeline's series, so that none speaks of what is no more."""
    for gauge, labels in _told.pop(key, frozenset()):
        gauge.remove(*labels)
    _unfinished.pop(key, None)
    _arrived_before.pop(key, None)
    metrics.RUN_OUTCOMES.remove_by_labels({"namespace": key[0], "pipeline": key[1]})
