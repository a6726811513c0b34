"""What the tests of the batch rules are made of: small objects with defaults that do not matter to the test."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse_operator.planning.due import StagePolicy
from lakehouse_operator.planning.observed import (
    Application,
    Capabilities,
    Commit,
    Observation,
    Observed,
    PartitionProgress,
    PipelineObject,
    RunObject,
    TableView,
)
from lakehouse_operator.planning.record import Record
from lakehouse_operator.planning.schedule import instant

REVISION, OLDER = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def at(text: str) -> datetime:
    """`03-29 05:00` in 2026."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def policy(**changes: Any) -> StagePolicy:
    """Hourly silver by the clock."""
    base = StagePolicy(
        stage="silver",
        schedule="0 * * * *",
        time_zone="UTC",
        revision=REVISION,
        trigger="clock",
        deadline=timedelta(hours=2),
        interval=timedelta(hours=1),
        catch_up="all",
        catch_up_limit=168,
        concurrency="Forbid",
        keep_succeeded=48,
        keep_failed=24,
        watermark_delay=timedelta(minutes=5),
        checkpoint_interval=timedelta(seconds=60),
        bronze_table="bronze.events",
    )
    return replace(base, **changes)


def seen(
    now: datetime,
    *,
    runs: tuple[RunObject, ...] = (),
    applications: tuple[Application, ...] = (),
    observation: Observation | None = None,
    status: Mapping[str, Any] | None = None,
) -> Observed:
    return Observed(
        now=now,
        pipeline=PipelineObject(
            namespace="data",
            name="numerals",
            uid="p",
            generation=1,
            resource_version="1",
            spec={},
            status=status if status is not None else {"layers": {"silver": {"since": "2026-03-01T00:00:00Z"}}},
            annotations={},
            finalizers=(),
            deleting_since=None,
        ),
        capabilities=Capabilities(flink_versions=frozenset({"v2_1"}), spark_applications=True),
        record=Record(),
        stream=None,
        runs=runs,
        applications=applications,
        observation=observation or Observation(),
    )


def run(
    start: datetime,
    phase: str,
    *,
    stage: str = "silver",
    revision: str = REVISION,
    hours: int = 1,
    upto: int | None = None,
    name: str | None = None,
    reason: str = "schedule",
    **status: Any,
) -> RunObject:
    spec: dict[str, Any] = {
        "pipelineRef": {"name": "numerals"},
        "stage": stage,
        "reason": reason,
        "revision": revision,
        "dataInterval": {"start": instant(start), "end": instant(start + timedelta(hours=hours))},
    }
    if upto is not None:
        spec["sourceRange"] = {"upto": str(upto)}
    return RunObject(
        name=name or f"numerals-{stage}-{start:%Y%m%dt%H%M}",
        uid=f"uid-{stage}-{start}-{revision}",
        owner_uid="p",
        created_at=start + timedelta(hours=hours),
        spec=spec,
        status={"phase": phase, **status},
        annotations={},
        deleting=False,
    )


def fresh(created_at: datetime) -> RunObject:
    """A run that nothing has been done for."""
    return replace(run(created_at, "Pending"), status={})


def application(name: str, state: str, **changes: Any) -> Application:
    base = Application(
        name=name,
        uid=f"uid-{name}",
        run=name.rsplit("-a", 1)[0],
        attempt=int(name.rsplit("-a", 1)[1]),
        state=state,
        message=None,
        exit_code=None,
        started_at=None,
        finished_at=None,
    )
    return replace(base, **changes)


def commit(number: int, committed_at: datetime, arrived: datetime | None = None, **properties: str) -> Commit:
    return Commit(
        id=number,
        parent=number - 1 or None,
        committed_at=committed_at,
        operation="append",
        properties={key.replace("_", "."): value for key, value in properties.items()},
        kafka_timestamp_max=arrived,
    )


def bronze(*commits: Commit, kafka: tuple[PartitionProgress, ...] | None = None) -> Observation:
    return Observation(tables={"bronze.events": TableView(name="bronze.events", commits=commits)}, kafka=kafka)


def partition(number: int, committed: int, end_at: Mapping[datetime, int]) -> PartitionProgress:
    return PartitionProgress(partition=number, committed=committed, start=0, end=100, end_at=end_at)
