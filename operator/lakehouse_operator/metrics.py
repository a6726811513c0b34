"""The Prometheus series, named in one place. docs/reference/metrics.md is generated from them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
_PIPELINE = ("namespace", "pipeline")

RECONCILES = Counter("lakehouse_reconciles", "Rounds, by how they ended.", ("outcome",), registry=REGISTRY)
RECONCILE_SECONDS = Histogram(
    "lakehouse_reconcile_duration_seconds",
    "How long one round took.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
STATUS_WRITES = Counter("lakehouse_status_writes", "Statuses that were written.", registry=REGISTRY)
ACTIONS = Counter("lakehouse_actions", "Actions that were taken, by kind.", ("action",), registry=REGISTRY)
PIPELINES = Gauge("lakehouse_pipelines", "Pipelines that are tended.", registry=REGISTRY)
CONDITION = Gauge(
    "lakehouse_pipeline_condition",
    "1 where a condition of a pipeline is true, 0 where it is false; unknown ones are left out.",
    (*_PIPELINE, "condition"),
    registry=REGISTRY,
)
STREAM_STATE = Gauge(
    "lakehouse_stream_state",
    "1 for the stream's state.",
    (*_PIPELINE, "state"),
    registry=REGISTRY,
)
STREAM_RESTARTS = Gauge(
    "lakehouse_stream_restarts",
    "Restarts of the running Flink job, where observed.",
    _PIPELINE,
    registry=REGISTRY,
)
FAILED_CHECKPOINTS = Gauge(
    "lakehouse_stream_failed_checkpoints",
    "Checkpoints of the running Flink job that failed, where observed.",
    _PIPELINE,
    registry=REGISTRY,
)
RECOVERY_POINT_TAKEN = Gauge(
    "lakehouse_recovery_point_timestamp_seconds",
    "When the newest proven recovery point was taken, as Unix time; 0 where there is none yet; "
    "absent without checkpoint.savepointDirectory.",
    _PIPELINE,
    registry=REGISTRY,
)
LAG = Gauge(
    "lakehouse_stream_lag_records",
    "Records not yet in bronze, where observed.",
    _PIPELINE,
    registry=REGISTRY,
)
ARRIVED = Gauge(
    "lakehouse_bronze_arrived_timestamp_seconds",
    "How far bronze's rows had arrived in Kafka, as Unix time, where observed. What `time()` is ahead of it is how far "
    "the stream is behind, or how long nothing has arrived.",
    _PIPELINE,
    registry=REGISTRY,
)
RUNS = Gauge(
    "lakehouse_runs",
    "LakehouseRuns that are kept.",
    (*_PIPELINE, "stage", "phase"),
    registry=REGISTRY,
)
RUN_OUTCOMES = Counter(
    "lakehouse_run_outcomes",
    "Runs that ended, by how they ended.",
    (*_PIPELINE, "stage", "outcome"),
    registry=REGISTRY,
)
RUN_SECONDS = Histogram(
    "lakehouse_run_duration_seconds",
    "How long runs took, from the start of the first attempt to the end of the last one.",
    ("stage", "outcome"),
    buckets=(30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200),
    registry=REGISTRY,
)
BACKFILL_RUNS = Gauge(
    "lakehouse_backfill_runs", "Runs of a backfill, by state.", (*_PIPELINE, "backfill", "state"), registry=REGISTRY
)
WATCH_SILENT_SECONDS = Gauge(
    "lakehouse_watch_silent_seconds",
    "How long a pipeline, or a change of one, has been there that no watch told of.",
    registry=REGISTRY,
)
LEADING = Gauge("lakehouse_leading", "1 while this replica leads.", registry=REGISTRY)


def table() -> str:
    """The series as a Markdown table."""
    rows = ["| series | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in (value for value in globals().values() if isinstance(value, (Counter, Gauge, Histogram))):
        suffix = "_total" if isinstance(metric, Counter) else ""
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        kind = type(metric).__name__.lower()
        rows.append(f"| `{metric._name}{suffix}` | {kind} | {labels} | {metric._documentation} |")
    return "\n".join(rows) + "\n"
