"""What changes all the time is told as metrics, and no longer once the pipeline is gone."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lakehouse_operator import metrics
from lakehouse_operator.handlers.gauges import forget, measure
from lakehouse_operator.planning.observed import (
    Commit,
    JobHealth,
    Observation,
    Observed,
    PartitionProgress,
    TableView,
)
from lakehouse_operator.planning.plan import Plan, StatusOf
from lakehouse_operator.planning.record import Record, RecoveryPoint
from planning.batch_builders import at, run, seen

KEY = ("data", "numerals")
PLAN = Plan(wake_after=timedelta(minutes=5))


@pytest.fixture(autouse=True)
def nothing_told_before() -> Iterator[None]:
    forget(KEY)
    yield
    forget(KEY)


def told(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"namespace": "data", "pipeline": "numerals", **labels})


def outcomes(outcome: str) -> float | None:
    return told("lakehouse_run_outcomes_total", stage="silver", outcome=outcome)


def durations() -> float:
    labels = {"stage": "silver", "outcome": "Failed"}
    return metrics.REGISTRY.get_sample_value("lakehouse_run_duration_seconds_sum", labels) or 0


def test_the_health_of_the_job_and_the_lag_are_told_while_they_are_seen() -> None:
    job = JobHealth(restarts=3, completed_checkpoints=40, failed_checkpoints=2)
    kafka = tuple(PartitionProgress(partition=number, committed=90, start=0, end=100) for number in range(2))
    observed = replace(seen(at("03-10 00:00")), observation=Observation(job=job, kafka=kafka))
    measure(KEY, observed, PLAN)
    assert told("lakehouse_stream_restarts") == 3
    assert told("lakehouse_stream_failed_checkpoints") == 2
    assert told("lakehouse_stream_lag_records") == 20

    measure(KEY, seen(at("03-10 00:01")), PLAN)
    assert told("lakehouse_stream_failed_checkpoints") is None, "what is not seen is not told"

    measure(KEY, observed, PLAN)
    forget(KEY)
    assert told("lakehouse_stream_restarts") is None


def test_how_far_rows_had_arrived_is_told_and_stays_when_nobody_asks_any_more() -> None:
    def commit(arrived: datetime | None) -> Commit:
        return Commit(
            id=1,
            parent=None,
            committed_at=at("03-10 00:00"),
            operation="append",
            properties={},
            kafka_timestamp_max=arrived,
        )

    def observed(*commits: Commit) -> Observed:
        tables = {"bronze.numerals": TableView(name="bronze.numerals", commits=commits)}
        return replace(seen(at("03-10 00:00")), observation=Observation(tables=tables))

    status = {"layers": {"bronze": {"table": "bronze.numerals"}}}
    plan = replace(PLAN, statuses=(StatusOf("LakehousePipeline", "numerals", status),))
    measure(KEY, observed(commit(at("03-09 23:00")), commit(at("03-09 23:58"))), plan)
    assert told("lakehouse_bronze_arrived_timestamp_seconds") == at("03-09 23:58").timestamp()
    measure(KEY, observed(commit(None)), plan)
    assert told("lakehouse_bronze_arrived_timestamp_seconds") == at("03-09 23:58").timestamp()
    measure(KEY, seen(at("03-10 00:00")), plan)
    assert told("lakehouse_bronze_arrived_timestamp_seconds") is None


def test_a_run_that_ends_is_counted_once_whatever_becomes_of_its_round() -> None:
    began, before = at("03-10 00:00"), durations()
    runs = [run(began + timedelta(hours=hour), "Running") for hour in (0, 1)]
    times = {"startedAt": "2026-03-10T01:00:00Z", "finishedAt": "2026-03-10T01:05:00Z"}
    ended = [run(began + timedelta(hours=hour), "Failed", **times) for hour in (0, 1)]
    measure(KEY, seen(began, runs=tuple(runs)), PLAN)
    assert (outcomes("Failed"), outcomes("Succeeded")) == (0, 0), "increase() needs a 0 before the first one"

    decided = replace(PLAN, statuses=(StatusOf("LakehouseRun", runs[0].name, ended[0].status),))
    measure(KEY, seen(began, runs=tuple(runs)), decided)
    assert (outcomes("Failed"), durations() - before) == (1, 300)

    # The second one's end was written by a round that failed afterwards, so it is seen first with its end.
    for _ in range(3):
        measure(KEY, seen(began, runs=tuple(ended)), PLAN)
    assert (outcomes("Failed"), durations() - before) == (2, 600)


def test_a_run_that_had_ended_before_this_process_began_is_not_counted_again() -> None:
    measure(KEY, seen(at("03-10 00:00"), runs=(run(at("03-10 00:00"), "Failed"),)), PLAN)
    assert outcomes("Failed") == 0


def test_the_time_of_the_newest_proven_recovery_point_is_told_and_0_where_there_is_none() -> None:
    name = "lakehouse_recovery_point_timestamp_seconds"
    observed = seen(at("03-10 00:00"))
    measure(KEY, observed, PLAN)
    assert told(name) is None, "a pipeline without savepoints misses none"

    spec = {"bronze": {"checkpoint": {"savepointDirectory": "s3://lake/savepoints"}}}
    observed = replace(observed, pipeline=replace(observed.pipeline, spec=spec))
    measure(KEY, observed, PLAN)
    assert told(name) == 0

    point = RecoveryPoint(name="1", path="s3://1", taken_at="2026-03-01T00:00:00Z", trigger="manual", revision="a" * 12)
    points = (
        replace(point, proven=True),
        replace(point, name="2", taken_at="2026-03-02T00:00:00Z", proven=True),
        replace(point, name="3", taken_at="2026-03-03T00:00:00Z"),
    )
    measure(KEY, replace(observed, record=Record(points=points)), PLAN)
    assert told(name) == at("03-02 00:00").timestamp()


def test_a_series_that_stays_is_there_at_every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = (run(at("03-10 00:00"), "Failed"),)
    measure(KEY, seen(at("03-10 00:00"), runs=runs), PLAN)
    scraped = []
    really = metrics.RUNS.labels

    def scrape(*labels: str) -> object:
        scraped.append(told("lakehouse_runs", stage="silver", phase="Failed"))
        return really(*labels)

    monkeypatch.setattr(metrics.RUNS, "labels", scrape)
    measure(KEY, seen(at("03-10 00:01"), runs=runs), PLAN)
    assert scraped == [1]
