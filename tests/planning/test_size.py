"""What is accepted always fits: into the record, and into the argument that a job is started with."""

from dataclasses import replace
from typing import Any

import pytest

from lakehouse_operator.planning.child import wanted_revision
from lakehouse_operator.planning.pipeline import ValidPipeline, pinned_spec
from lakehouse_operator.planning.record import (
    KafkaOffset,
    Record,
    RecoveryPoint,
    StaleDay,
    canonical,
    fitting,
    to_data,
)
from lakehouse_operator.planning.validate import validate
from planning.examples import changed, problems, valid

OBJECT = 1024 * 1024
"""Bytes that the API server takes as the data of a ConfigMap."""
POINT = RecoveryPoint(
    name="x" * 60,
    path="s3://" + "x" * 200,
    taken_at="2026-01-31T05:00:00Z",
    trigger="schedule",
    revision="a" * 12,
    kafka=tuple(KafkaOffset(partition, 10**12) for partition in range(50)),
)


def heavy(quarters: int, text: str) -> dict[str, Any]:
    """A pipeline with so many quarters of a kilobyte of configuration for Flink, written in one kind of character."""
    kept = {f"my.{number}": text * (quarters * 250 // 100 // len(text)) for number in range(100)}
    return changed("minimal", spec__bronze__flinkConfiguration=kept)


@pytest.mark.parametrize("text", ["x", '"', "\\", "ä\n"])
def test_the_record_of_the_largest_pipeline_fits_into_its_object_whatever_it_is_written_in(text: str) -> None:
    fits, refused = 1, 1_000
    while refused - fits > 1:
        middle = (fits + refused) // 2
        accepted = isinstance(validate(heavy(middle, text)), ValidPipeline)
        fits, refused = (middle, refused) if accepted else (fits, middle)
    largest = valid(heavy(fits, text))
    spec, revision = canonical(pinned_spec(largest)), wanted_revision(largest)
    record = Record(
        accepted=spec,
        previous=spec,
        deployed=revision,
        good=revision,
        points=(POINT,) * 50,
        stale_days=("2026-01-31",) * 1000,
        stale_gold=(StaleDay("2026-01-31", "2026-01-31T05:00:00Z"),) * 1000,
    )
    size = len(to_data(record)["record.json"].encode())
    assert OBJECT / 2 < size < OBJECT


def test_offsets_of_a_thousand_partitions_are_kept_for_as_many_of_the_newest_points_as_fit() -> None:
    offsets = tuple(KafkaOffset(partition, 10**12) for partition in range(1000))
    points = tuple(replace(POINT, name=f"point-{number}", kafka=offsets) for number in range(50))
    record = Record(accepted="x" * 300_000, points=points)
    assert len(to_data(record)["record.json"]) > OBJECT
    kept = fitting(record)
    assert OBJECT / 2 < len(to_data(kept)["record.json"]) < OBJECT
    held = [bool(point.kafka) for point in kept.points]
    assert held == sorted(held)
    assert True in held[:-1]
    assert replace(kept, points=points) == record
    assert fitting(kept) == kept
    few = replace(record, points=(POINT,) * 50)
    assert fitting(few) is few


def test_a_pipeline_that_the_record_could_not_hold_is_refused_with_its_size_and_the_limit() -> None:
    (problem,) = problems(heavy(1_000, '"'))
    assert problem.startswith("spec: takes ")
    assert "at most 400000 can be kept" in problem


def test_settings_that_no_process_could_be_given_are_refused_with_their_size_and_the_limit() -> None:
    models = [
        {"name": f"gold.large_{number}", "kind": "full", "sql": f"SELECT '{'x' * 60_000}' AS x FROM silver.dim_users"}
        for number in range(3)
    ]
    (problem,) = problems(changed("roman-numerals", spec__gold__models=models))
    assert problem.startswith("spec.gold: its job's settings are 1")
    assert "at most 120000 can be handed to a process" in problem
