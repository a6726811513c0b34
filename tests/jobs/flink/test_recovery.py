"""Stops, crashes and restarts: every record still comes out exactly once."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jobs.flink.bronze_world import Record, World
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_operator.local.processes import Processes


def batch(start: int, count: int = 300) -> Iterator[Record]:
    """Events over two partitions; each tenth is a repeat of an earlier one, each thirteenth can't be placed."""
    for number in range(start, start + count):
        value = b"bad %d" % number if number % 13 == 0 else event(f"id-{number - number % 10 // 9}", copy=number)
        yield Record(value, partition=number % 2, arrival=ARRIVAL)


def repeats(start: int, count: int) -> set[str]:
    """The ids of a batch that occur twice."""
    ids = [json_id for record in batch(start, count) if (json_id := _id(record))]
    return {one for one in ids if ids.count(one) > 1}


def _id(record: Record) -> str | None:
    value = record.value or b""
    return None if value.startswith(b"bad") else value.split(b'"')[3].decode()


def check(world: World, total: int) -> None:
    """Each place at most once, and what is missing is exactly the repeats."""
    places = world.places()
    assert set(places.values()) == {1}
    ids = [row["event_id"] for row in world.rows()]
    expected = {found for record in batch(0, total) if (found := _id(record))}
    assert sorted(ids) == sorted(expected)
    assert len(world.dead_letters()) == sum(1 for record in batch(0, total) if not _id(record))
    dropped = total - len(ids) - len(world.dead_letters())
    assert dropped == len(repeats(0, total)) > 0


def test_a_job_that_was_stopped_with_a_savepoint_goes_on_where_it_stopped(world: World) -> None:
    world.create_topics(2)
    world.produce(batch(0, 309))  # cut between an event and its repeat, so the state of the deduplication matters
    savepoint = world.run()
    world.produce(batch(309, 300))

    # Much of the new job is different, and it starts where the savepoint says, not the group.
    changed = world.change(
        parallelism=2,
        write_parallelism=2,
        too_late="keep",
        watermark_delay_seconds=60,
        dedup_ttl_seconds=7200,
        idle_timeout_seconds=5,
        compression="snappy",
        checkpoint=replace(world.settings.checkpoint, interval_seconds=2),
        kafka=replace(world.settings.kafka, consumer_group=f"{world.name}-other"),
    )
    job = changed.submit(from_savepoint=savepoint)
    changed.until(changed.caught_up, "everything is read", job=job)
    changed.stop(job)
    check(world, 609)


def test_a_taskmanager_that_is_killed_loses_and_doubles_nothing(world: World, processes: Processes) -> None:
    # Attempts that find no TaskManager yet count as well.
    world = world.change(restart=replace(world.settings.restart, attempts=60, delay_seconds=1))
    world.create_topics(2)
    world.produce(batch(0, 300))
    job = world.submit()
    world.until(lambda: world.checkpoints(job) >= 1, "a checkpoint is there", job=job)
    world.produce(batch(300, 300))
    victim = running_taskmanager(processes)
    command = Path(f"/proc/{victim}/cmdline").read_bytes().decode().split("\0")[:-1]
    os.kill(victim, signal.SIGKILL)
    world.produce(batch(600, 300))
    processes.start("flink-taskmanager", command, environment=dict(os.environ))
    world.until(world.caught_up, "everything is read", job=job)
    world.until(lambda: world.cluster.rest.all_tasks_running(job), "all tasks run again", job=job)
    assert world.cluster.rest.root_exception(job) is not None, "nothing was killed"
    world.stop(job)
    check(world, 900)


def running_taskmanager(processes: Processes) -> int:
    [pid] = [process.pid for process in processes.running() if "taskmanager" in process.name]
    return pid
