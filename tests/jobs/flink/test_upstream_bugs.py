"""Bugs of Iceberg's Flink sink that its users meet, by their numbers: how bronze avoids or detects each.

Each test does to the real sink what its issue describes. Those of a whole pipeline are in `tests/chaos`.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from jobs.flink.bronze_world import Record, World
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_contract import commits
from lakehouse_jobs import bronze, iceberg_catalog
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import TERMINAL


def batch(first: int, count: int = 100) -> Iterator[Record]:
    """Events that are all different, over two partitions; each twentieth can't be placed."""
    for number in range(first, first + count):
        value = b"bad %d" % number if number % 20 == 0 else event(f"id-{number}", copy=number)
        yield Record(value, partition=number % 2, arrival=ARRIVAL)


@contextmanager
def table(world: World) -> Iterator[Any]:
    """The bronze table, as Iceberg's own library knows it."""
    with iceberg_catalog.opened(world.jvm, world.settings.catalog, {}) as catalog:
        yield catalog.loadTable(world.jvm.org.apache.iceberg.catalog.TableIdentifier.parse(world.settings.table))


def committed(world: World) -> Sequence[dict[str, Any]]:
    """The snapshots of main, oldest first: id, Flink's job, and how many rows it added."""
    with table(world) as found:
        line: list[dict[str, Any]] = []
        snapshot = found.currentSnapshot()
        while snapshot is not None:
            summary = dict(snapshot.summary())
            line.insert(
                0,
                {
                    "id": snapshot.snapshotId(),
                    "job": summary.get(commits.FLINK_JOB_ID),
                    "rows": int(summary.get("added-records", 0)),
                },
            )
            parent = snapshot.parentId()
            snapshot = found.snapshot(parent) if parent is not None else None
        return line


def end(world: World, job: str) -> None:
    """Cancel a job, without a savepoint."""
    world.cluster.rest.cancel(job)
    world.until(lambda: world.cluster.rest.state(job) in TERMINAL, "the job has ended")


def twice(world: World) -> set[tuple[int, int]]:
    return {place for place, times in world.places().items() if times > 1}


def test_iceberg_18098_a_start_without_state_has_a_job_id_of_its_own_and_its_commits_come(world: World) -> None:
    world.create_topics(2)
    world.produce(batch(0))
    first = world.submit()
    world.until(lambda: world.caught_up() and len(world.rows()) == 95, "all is committed", job=first)
    world.until(lambda: world.checkpoints(first) >= 5, "a few checkpoints more", job=first)
    end(world, first)
    world.produce(batch(100))
    # With the first one's id, this one's first checkpoints would look as if they had been committed already.
    second = world.submit()
    assert second != first
    world.until(lambda: world.caught_up() and len(world.rows()) == 190, "all is committed", job=second)
    world.stop(second)
    assert {each["job"] for each in committed(world)} == {first, second}
    assert Counter(world.places().values()) == {1: 200}


def test_iceberg_15846_checkpoints_that_fail_lose_no_file_because_they_are_never_unaligned(world: World) -> None:
    world = world.change(restart=replace(world.settings.restart, attempts=100, delay_seconds=1))
    world.create_topics(2)
    job = world.submit()
    assert world.cluster.rest.get(f"/jobs/{job}/checkpoints/config")["unaligned_checkpoints"] is False
    world.produce(batch(0))
    world.until(lambda: world.checkpoints(job) >= 2, "checkpoints come", job=job)
    directory = Path(urlsplit(world.settings.checkpoint.directory).path) / job
    with away(directory):
        # Writers hand over their files for a checkpoint that then can't be completed.
        world.produce(batch(100))
        world.until(lambda: failed(world, job) >= 2, "checkpoints fail", job=job)
        world.produce(batch(200))
    world.until(world.caught_up, "everything is read", job=job)
    world.until(lambda: world.cluster.rest.all_tasks_running(job), "all tasks run", job=job)
    world.stop(job)
    assert Counter(world.places().values()) == {1: 300}


@contextmanager
def away(directory: Path) -> Iterator[None]:
    """Nothing can be written below a directory: a file stands in its place."""
    kept = directory.with_suffix(".away")
    directory.rename(kept)
    directory.touch()
    try:
        yield
    finally:
        directory.unlink()
        kept.rename(directory)


def failed(world: World, job: str) -> int:
    return int(world.cluster.rest.get(f"/jobs/{job}/checkpoints")["counts"]["failed"])


def test_iceberg_10892_an_older_savepoint_doubles_rows_unless_bronze_goes_back_with_it(world: World) -> None:
    world.create_topics(2)
    world.produce(batch(0))
    job = world.submit()
    world.until(lambda: world.caught_up() and len(world.rows()) == 95, "all is committed", job=job)
    savepoint = world.cluster.rest.savepoint(job, world.settings.checkpoint.savepoint_directory)
    rows_then = committed(world)[-1]["id"]
    world.produce(batch(100))
    world.until(lambda: world.caught_up() and len(world.rows()) == 190, "all is committed", job=job)
    end(world, job)
    assert not twice(world)

    alone = world.submit(from_savepoint=savepoint)
    world.until(lambda: len(world.rows()) > 190, "rows come again", job=alone)
    world.until(lambda: world.checkpoints(alone) >= 3, "all has been read again", job=alone)
    end(world, alone)
    assert len(twice(world)) == 100, "each place after the savepoint, in bronze or as a dead letter"

    with table(world) as found:  # as the operator does it: `planning.rewind`, `tables.move`
        found.manageSnapshots().rollbackTo(rows_then).commit()
    together = world.submit(from_savepoint=savepoint)
    world.until(lambda: len(world.rows()) == 190, "all is committed", job=together)
    world.stop(together)
    rows = Counter((row["kafka_partition"], row["kafka_offset"]) for row in world.rows())
    assert Counter(rows.values()) == {1: 190}
    assert set(world.places()) == {(number % 2, number // 2) for number in range(200)}


def test_iceberg_5846_where_somebody_else_expired_the_last_commit_of_flink_it_fails_and_a_fresh_start_loses_nothing(
    world: World,
) -> None:
    seldom = world.change(checkpoint=replace(world.settings.checkpoint, interval_seconds=600))
    world.create_topics(2)
    world.produce(batch(0))
    job = seldom.submit()
    world.until(lambda: records_read(world, job) >= 95, "all is read", job=job)
    savepoint = world.stop(job)  # the only checkpoint, so that its state names every file
    assert [each["rows"] for each in committed(world)] == [95]
    last = committed(world)[-1]["id"]
    with table(world) as found:
        for _ in range(3):  # commits that are not Flink's, as compaction makes them
            found.newAppend().set(commits.STAGE, "maintenance").commit()
        found.expireSnapshots().expireOlderThan(2**62).retainLast(1).commit()
        found.refresh()
        assert found.snapshot(last) is None
    world.produce(batch(100))

    restored = bronze.submit(world.settings, {}, target=world.cluster.address, from_savepoint=savepoint)
    world.until(lambda: "NotFoundException" in (world.cluster.rest.root_exception(restored) or ""), "it says why not")
    end(world, restored)
    assert len(world.rows()) == 95
    # As the annotation start-fresh has it: from the offsets that the group has committed. A stop with a savepoint does
    # not commit its own, so what was read for it alone, here everything, is read again.
    fresh = world.submit()
    world.until(lambda: world.caught_up() and len(world.rows()) == 3 * 95, "all is committed", job=fresh)
    world.stop(fresh)
    assert set(world.places()) == {(number % 2, number // 2) for number in range(200)}
    assert twice(world) == {(number % 2, number // 2) for number in range(100)}


def records_read(world: World, job: str) -> int:
    """How many records the task that writes has got."""
    return max(int(each["metrics"]["read-records"]) for each in world.cluster.rest.get(f"/jobs/{job}")["vertices"])


def test_iceberg_14425_a_commit_that_lands_late_is_found_and_named(world: World, installed: Engines) -> None:
    world.create_topics(2)
    world.produce(batch(0))
    job = world.submit()
    world.until(lambda: world.caught_up() and len(world.rows()) == 95, "all is committed", job=job)
    world.produce(batch(100, 10))
    world.until(lambda: world.caught_up() and len(world.rows()) == 104, "all is committed", job=job)
    world.stop(job)
    assert verify(world, installed)["outcome"] == "proven"

    newest = [each for each in committed(world) if each["rows"]][-1]
    late = land_again(world, newest["id"])
    answer = verify(world, installed)
    assert (answer["outcome"], answer["doubled"], answer["lost"]) == ("wrong", len(late), 0)
    assert {(each["partition"], each["offset"], each["problem"]) for each in answer["findings"]} == {
        (*place, "doubled") for place in late
    }
    with table(world) as found:
        found.manageSnapshots().rollbackTo(newest["id"]).commit()
    assert verify(world, installed)["outcome"] == "proven"


def land_again(world: World, snapshot: int) -> set[tuple[int, int]]:
    """Commit the files of a snapshot once more, as its own commit does when it lands late; answers their places."""
    before = {(row["kafka_partition"], row["kafka_offset"]): 1 for row in world.rows()}
    with table(world) as found:
        append = found.newAppend()
        for file in found.snapshot(snapshot).addedDataFiles(found.io()):
            append = append.appendFile(file)
        for key, value in dict(found.snapshot(snapshot).summary()).items():
            if key.startswith("flink."):
                append = append.set(key, value)
        append.commit()
    now = Counter((row["kafka_partition"], row["kafka_offset"]) for row in world.rows())
    return {place for place, times in now.items() if times > before[place]}


def verify(world: World, installed: Engines) -> dict[str, Any]:
    """What `lakehouse verify` says of the pipeline."""
    settings = world.settings
    manifest = world.directory / "pipeline.yaml"
    bronze = {
        "image": "lakehouse-flink:0.1.0",
        "table": settings.table,
        "deadLetterTopic": settings.dead_letter_topic,
        "checkpoint": {
            "directory": settings.checkpoint.directory,
            "savepointDirectory": settings.checkpoint.savepoint_directory,
        },
    }
    kafka = settings.kafka
    source = {"bootstrapServers": kafka.bootstrap_servers, "topic": kafka.topic, "consumerGroup": kafka.consumer_group}
    catalog = {"type": "jdbc", "uri": settings.catalog.uri, "warehouse": settings.catalog.warehouse}
    spec = {"source": source, "catalog": catalog, "bronze": bronze}
    document = {"apiVersion": "lakehouse.dev/v1alpha1", "kind": "LakehousePipeline", "metadata": {"name": world.name}}
    manifest.write_text(yaml.safe_dump({**document, "spec": spec}))
    command = [installed.command, "verify", "-f", manifest, "--grace", "5", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
