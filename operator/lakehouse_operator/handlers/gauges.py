"""What changes all the time is a metric, not status."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Gauge

from lakehouse_operator import metrics
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.plan import Plan
from lakehouse_operator.planning.schedule import parse_instant

_PER_PIPELINE = (
    metrics.CONDITION,
    metrics.STREAM_STATE,
    metrics.STREAM_RESTARTS,
    metrics.RECOVERY_POINT_AGE,
    metrics.LAG,
    metrics.RUNS,
    metrics.BACKFILL_RUNS,
)


def measure(key: Key, seen: Observed, plan: Plan) -> None:
    """Set the gauges of a pipeline to what was seen and decided."""
    forget(key)
    status = next((each.status for each in plan.statuses if each.kind == "LakehousePipeline"), {})
    for condition in status.get("conditions", ()):
        if condition["status"] != "Unknown":
            metrics.CONDITION.labels(*key, condition["type"]).set(condition["status"] == "True")
    if "stream" in status:
        metrics.STREAM_STATE.labels(*key, status["stream"]["state"]).set(1)
    _measure_stream(key, seen)
    phases = Counter((run.spec["stage"], run.status.get("phase", "Pending")) for run in seen.runs)
    for (stage, phase), count in phases.items():
        metrics.RUNS.labels(*key, stage, phase).set(count)
    for backfill in seen.backfills:
        states = Counter(interval["state"] for interval in backfill.status.get("intervals", ()))
        for state, count in states.items():
            metrics.BACKFILL_RUNS.labels(*key, backfill.name, state).set(count)


def _measure_stream(key: Key, seen: Observed) -> None:
    proven = [parse_instant(point.taken_at) for point in seen.record.points if point.proven]
    if proven:
        metrics.RECOVERY_POINT_AGE.labels(*key).set((seen.now - max(proven)).total_seconds())
    if seen.observation.job is not None:
        metrics.STREAM_RESTARTS.labels(*key).set(seen.observation.job.restarts)
    if seen.observation.kafka is not None:
        behind = (part.end - max(part.committed, part.start) for part in seen.observation.kafka)
        metrics.LAG.labels(*key).set(sum(max(records, 0) for records in behind))


def forget(key: Key, gauges: Iterable[Gauge] = _PER_PIPELINE) -> None:
    """Remove a pipeline's series, so that none speaks of what is no more."""
    for gauge in gauges:
        gauge.remove_by_labels({"namespace": key[0], "pipeline": key[1]})
