"""Bronze's memory of ids: how large it gets, and what a checkpoint takes then: `python -m benchmarks.state`.

See README.md beside this file for how to read it.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bronze.tables import Tables
from confluent_kafka import Producer

from lakehouse_contract.commits import FLINK_MAX_COMMITTED_CHECKPOINT_ID
from lakehouse_contract.settings import BronzeSettings, CatalogSettings, CheckpointSettings, KafkaSettings
from lakehouse_jobs import bronze
from lakehouse_operator.local import engines, flink, kafka
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics

TOPIC, TABLE, DEAD_LETTERS = "events", "bronze.events", "dead-letters"
_PARTITIONS = 4
_PARALLELISM = 2
_AT_MS = 1_769_900_000_000
_AT = "2026-01-31T22:53:20Z"
_SEED = 1
_DEADLINE_SECONDS = 1800.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A completed checkpoint, and how many rows its commit brought the table to."""

    number: int
    rows: int
    at_ms: int
    seconds: float
    full_bytes: int
    new_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.state")
    parser.add_argument("--keys", type=int, default=10_000_000, help="different ids (%(default)s)")
    parser.add_argument("--repeats", type=int, default=100_000, help="of them, sent again at the end (%(default)s)")
    parser.add_argument("--checkpoint-seconds", type=int, default=20, help="between checkpoints (%(default)s)")
    parser.add_argument("--managed-memory", type=int, default=1024, help="for RocksDB, in MiB (%(default)s)")
    options = parser.parse_args(arguments)
    with _world(options) as (broker, cluster, directory):
        _send(broker.bootstrap_servers, _ids(options.keys))
        print(f"{options.keys:,} records sent, load {os.getloadavg()[0]:.1f}", flush=True)
        job = bronze.submit(_settings(broker, directory, options), {}, target=cluster.address)
        tables = Tables(directory)
        _wait_for(cluster, job, tables, options.keys)
        _wait_for_checkpoints(cluster, job, 1)
        _send(broker.bootstrap_servers, _ids(options.repeats))
        _wait_until_read(cluster, job, options.keys + options.repeats)
        _wait_for_checkpoints(cluster, job, 2)
        checkpoints = list(_checkpoints(cluster, job, tables))
        if tables.rows(TABLE) != options.keys:
            raise RuntimeError(f"{tables.rows(TABLE):,} rows, but there are {options.keys:,} ids")
        cluster.rest.cancel(job)
    _print(checkpoints, options)
    return 0


@contextmanager
def _world(options: argparse.Namespace) -> Iterator[tuple[kafka.Broker, flink.FlinkCluster, Path]]:
    found = engines.find()
    with tempfile.TemporaryDirectory(prefix="state-benchmark-") as folder:
        directory = Path(folder)
        with Processes(directory / "records", directory / "log") as processes:
            broker = kafka.start(processes, found, directory / "kafka", optimized=True)
            memory = flink.TaskManagerMemory(task_heap=1200, managed=options.managed_memory, network=192)
            cluster = flink.start(
                processes, found, directory / "flink", port=None, slots=_PARALLELISM, memory=memory,
                options={"web.checkpoints.history": "1000"},
            )  # fmt: skip
            broker.wait_until_ready()
            cluster.wait_until_ready()
            os.environ |= cluster.client_environment()
            topics = Topics(broker.bootstrap_servers)
            topics.create(TOPIC, partitions=_PARTITIONS, timestamps="CreateTime")
            topics.create(DEAD_LETTERS, partitions=1, timestamps="CreateTime")
            yield broker, cluster, directory


def _settings(broker: kafka.Broker, directory: Path, options: argparse.Namespace) -> BronzeSettings:
    return BronzeSettings(
        pipeline="benchmark",
        kafka=KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topic=TOPIC, consumer_group="state"),
        catalog=CatalogSettings(
            type="jdbc", uri=f"jdbc:sqlite:{directory / 'catalog.db'}", warehouse=(directory / "warehouse").as_uri()
        ),
        checkpoint=CheckpointSettings(
            directory=(directory / "checkpoints").as_uri(),
            savepoint_directory=(directory / "savepoints").as_uri(),
            interval_seconds=options.checkpoint_seconds,
        ),
        table=TABLE,
        dead_letter_topic=DEAD_LETTERS,
        parallelism=_PARALLELISM,
        write_parallelism=_PARALLELISM,
    )


def _ids(count: int) -> Iterator[str]:
    """Ids as random as UUIDs, the same ones in every call."""
    source = random.Random(_SEED)
    return (f"{source.getrandbits(128):032x}" for _ in range(count))


def _send(bootstrap_servers: str, ids: Iterator[str]) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 100, "batch.size": 200_000, "compression.type": "lz4",
         "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True}
    )  # fmt: skip
    for number, name in enumerate(ids):
        value = f'{{"event_id":"{name}","event_time":"{_AT}"}}'
        while True:
            try:
                producer.produce(TOPIC, value, partition=number % _PARTITIONS, timestamp=_AT_MS)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    if left := producer.flush(300):
        raise RuntimeError(f"Kafka did not take {left} records")


def _wait_for(cluster: flink.FlinkCluster, job: str, tables: Tables, rows: int) -> None:
    _until(cluster, job, lambda: tables.rows(TABLE) >= rows, f"{rows:,} rows")


def _wait_until_read(cluster: flink.FlinkCluster, job: str, records: int) -> None:
    def read() -> bool:
        vertices = cluster.rest.get(f"/jobs/{job}")["vertices"]
        [source] = [vertex for vertex in vertices if vertex["name"].startswith("Source:")]
        return int(source["metrics"]["read-records"]) >= records

    _until(cluster, job, read, f"{records:,} records read")


def _wait_for_checkpoints(cluster: flink.FlinkCluster, job: str, more: int) -> None:
    wanted = cluster.rest.last_checkpoint(job) + more
    _until(cluster, job, lambda: cluster.rest.last_checkpoint(job) >= wanted, f"checkpoint {wanted}")


def _until(cluster: flink.FlinkCluster, job: str, condition: Any, what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        if (state := cluster.rest.state(job)) != "RUNNING" and state not in ("CREATED", "INITIALIZING"):
            raise RuntimeError(f"job {job} is {state}: {cluster.rest.root_exception(job)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_DEADLINE_SECONDS:g} s: {what}")
        time.sleep(0.5)


def _checkpoints(cluster: flink.FlinkCluster, job: str, tables: Tables) -> Iterator[Checkpoint]:
    """The checkpoints in the order in which they were taken, as Flink tells of them."""
    rows = _rows_by_checkpoint(tables)
    history: list[Mapping[str, Any]] = cluster.rest.get(f"/jobs/{job}/checkpoints")["history"]
    so_far = 0
    for each in sorted(history, key=lambda each: int(each["id"])):
        if each["status"] == "COMPLETED":
            so_far = rows.get(each["id"], so_far)
            yield Checkpoint(
                each["id"], so_far, each["trigger_timestamp"], each["end_to_end_duration"] / 1000,
                each["state_size"], each["checkpointed_size"],
            )  # fmt: skip


def _rows_by_checkpoint(tables: Tables) -> dict[int, int]:
    found = {}
    for snapshot in tables.snapshots(TABLE):
        if (number := snapshot["summary"].get(FLINK_MAX_COMMITTED_CHECKPOINT_ID)) is not None:
            found[int(number)] = int(snapshot["summary"]["total-records"])
    return found


def _print(checkpoints: Sequence[Checkpoint], options: argparse.Namespace) -> None:
    print(
        f"\n{options.keys:,} ids of 32 characters, checkpoints every {options.checkpoint_seconds} s, parallelism"
        f" {_PARALLELISM}, {options.managed_memory} MiB for RocksDB, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f}; the last two checkpoints came after {options.repeats:,} repeats,"
        f" all of them recognised\n"
    )
    print(
        f"{'checkpoint':>10} {'ids':>12} {'ids/s':>9} {'state MiB':>10} {'new MiB':>8} {'bytes/id':>9} {'seconds':>8}"
    )
    before: Checkpoint | None = None
    for each in checkpoints:
        since = 0.0 if before is None else (each.at_ms - before.at_ms) / 1000
        speed = f"{(each.rows - before.rows) / since:,.0f}" if before is not None and since else ""
        print(
            f"{each.number:10} {each.rows:12,} {speed:>9} {each.full_bytes / _MIB:10,.0f}"
            f" {each.new_bytes / _MIB:8,.0f} {each.full_bytes / max(each.rows, 1):9.0f} {each.seconds:8.1f}"
        )
        before = each


if __name__ == "__main__":
    sys.exit(main())
