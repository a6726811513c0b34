"""How long an event takes from Kafka until a reader of the table can see it: `python -m benchmarks.bronze.latency`.

Bronze, Spark Structured Streaming and Iceberg's Kafka Connect sink read the same topic at the same time. See README.md
beside this file for how to read it.
"""

import argparse
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow.compute
import pyarrow.parquet
from benchmarks.bronze import spark_program
from benchmarks.bronze.contenders import World, bronze_settings, connect_table, create, world
from benchmarks.bronze.tables import Tables, added_files, read_metadata
from benchmarks.bronze.work import quantile
from confluent_kafka import Producer

from lakehouse_contract import layout
from lakehouse_jobs import bronze
from lakehouse_operator.local.topics import Topics

_PARTITIONS = 4
_LOOK_SECONDS = 0.02
_TICK_SECONDS = 0.05
_DEADLINE_INTERVALS = 6


@dataclass(frozen=True, slots=True)
class Visible:
    """When a snapshot of a table was first seen, in milliseconds since 1970."""

    location: str
    at_ms: float


class Observer:
    """Looks at the catalog fifty times a second, as an eager reader would."""

    def __init__(self, tables: Tables, names: Sequence[str]) -> None:
        self._tables = tables
        self.seen: dict[str, list[Visible]] = {name: [] for name in names}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            for name, seen in self.seen.items():
                location = self._tables.metadata_location(name)
                if location is not None and (not seen or seen[-1].location != location):
                    seen.append(Visible(location, _now_ms()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of one table: each event's latency in seconds, sorted, and how many commits brought them."""

    name: str
    seconds: Sequence[float]
    commits: int
    files: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.bronze.latency")
    parser.add_argument("--rate", type=int, default=500, help="events per second (%(default)s)")
    parser.add_argument(
        "--intervals", nargs="+", default=["10:100", "60:240"], metavar="COMMIT:RUN",
        help="seconds between two commits, and for how long to send events (%(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    pairs = [tuple(map(int, pair.split(":"))) for pair in options.intervals]
    with world(pairs[0][0]) as engines_of_all:
        for commit_seconds, seconds in pairs:
            _measure(engines_of_all, commit_seconds, seconds, options.rate)
    return 0


def _measure(engines_of_all: World, commit_seconds: int, seconds: int, rate: int) -> None:
    world_now = engines_of_all.committing_every(commit_seconds)
    suffix = f"live_{commit_seconds}"
    topic = f"live-{commit_seconds}"
    Topics(world_now.broker.bootstrap_servers).create(topic, partitions=_PARTITIONS, timestamps="CreateTime")
    names = {each: f"bronze.{each}_{suffix}" for each in ("bronze", "spark", "connect")}
    stop = _start(world_now, topic, names, suffix)
    with Observer(world_now.tables, list(names.values())) as observer:
        first_ms, last_ms = _send(world_now.broker.bootstrap_servers, topic, seconds, rate)
        _wait_until_all_are_there(world_now, names, suffix, seconds * rate)
    stop()
    # Whoever starts has something to catch up with: what came before the second interval does not count.
    since_ms = first_ms + 1000 * commit_seconds
    print(
        f"\nCommits every {commit_seconds} s, {rate} events/s for {seconds} s, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f}; seconds from the Kafka timestamp to being visible"
    )
    print(f"{'':10} {'events':>9} {'median':>7} {'p95':>7} {'p99':>7} {'max':>7} {'commits':>8} {'files':>6}")
    for each, name in names.items():
        found = _latencies(each, observer.seen[name], since_ms, last_ms)
        ordered = found.seconds
        print(
            f"{each:10} {len(ordered):9,} {quantile(ordered, 0.5):7.1f} {quantile(ordered, 0.95):7.1f}"
            f" {quantile(ordered, 0.99):7.1f} {ordered[-1]:7.1f} {found.commits:8} {found.files:6}",
            flush=True,
        )


def _start(world_now: World, topic: str, names: dict[str, str], suffix: str) -> Callable[[], None]:
    """Start all three, and answer what stops bronze and the connector; Spark ends with its program."""
    create(world_now, layout.bronze(names["spark"]))
    create(world_now, connect_table("parsed", names["connect"]))
    settings = bronze_settings(world_now, topic, names["bronze"], suffix)
    Topics(world_now.broker.bootstrap_servers).create(settings.dead_letter_topic, partitions=1, timestamps="CreateTime")
    job = bronze.submit(settings, {}, target=world_now.cluster.address)
    world_now.program.run(
        spark_program.Query(
            f"spark-{suffix}",
            world_now.broker.bootstrap_servers,
            topic,
            names["spark"],
            str(world_now.directory / "spark-checkpoints" / suffix),
            deduplicated=True,
            every_seconds=world_now.commit_seconds,
        )
    )
    connector = f"connect-{suffix}"
    world_now.worker.start_connector(
        connector,
        topic,
        "parsed",
        names["connect"],
        world_now.catalog,
        commit_seconds=world_now.commit_seconds,
        tasks=2,
    )
    deadline = time.monotonic() + 120
    while not world_now.cluster.rest.all_tasks_running(job):
        if time.monotonic() > deadline:
            raise RuntimeError(f"job {job} does not run")
        time.sleep(0.2)

    def stop() -> None:
        world_now.worker.remove(connector)
        world_now.program.stop_queries()
        world_now.cluster.rest.cancel(job)
        while world_now.cluster.rest.state(job) not in ("CANCELED", "FAILED", "FINISHED"):
            time.sleep(0.2)

    return stop


def _now_ms() -> float:
    return time.time() * 1000  # noqa: TID251 - the same clock as the one that stamps the records


def _send(bootstrap_servers: str, topic: str, seconds: int, rate: int) -> tuple[float, float]:
    """Send events at an even rate. Answer when the first and the last one were sent."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "enable.idempotence": True})
    first_ms, started, sent = _now_ms(), time.monotonic(), 0
    while sent < seconds * rate:
        due = min(seconds * rate, int((time.monotonic() - started) * rate))
        for number in range(sent, due):
            producer.produce(topic, _event(), partition=number % _PARTITIONS)
        sent = max(sent, due)
        producer.poll(0)
        time.sleep(_TICK_SECONDS)
    if left := producer.flush(60):
        raise RuntimeError(f"Kafka did not take {left} records")
    return first_ms, _now_ms()


def _event() -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (
        f'{{"event_id":"{uuid.uuid4()}","event_type":"CONVERSION","event_time":"{now}","user_id":"user-1",'
        '"user_plan":"free","user_country":"DE","user_email_domain":"example.org","input_number":42,'
        '"output_numeral":"XLII","status":"OK","duration_ms":1.5,"channel":"api","client_version":"1.0.0",'
        '"schema_version":1}'
    )


def _wait_until_all_are_there(world_now: World, names: dict[str, str], suffix: str, events: int) -> None:
    deadline = time.monotonic() + _DEADLINE_INTERVALS * world_now.commit_seconds + 60
    while (found := {each: world_now.tables.rows(name) for each, name in names.items()}) != dict.fromkeys(
        names, events
    ):
        if why := world_now.program.failure(f"spark-{suffix}") or world_now.worker.failure(f"connect-{suffix}"):
            raise RuntimeError(why)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found}, but {events:,} events were sent")
        time.sleep(0.2)


def _latencies(name: str, seen: Sequence[Visible], since_ms: float, until_ms: float) -> Latencies:
    """The latency of each event that was sent in a period. Every snapshot's own files say which events it brought."""
    found, commits, files, known = [], 0, 0, set()
    for visible in seen:
        for snapshot in read_metadata(visible.location).get("snapshots", ()):
            if snapshot["snapshot-id"] in known:
                continue
            known.add(snapshot["snapshot-id"])
            added = added_files(snapshot)
            commits, files = commits + 1, files + len(added)
            for path in added:
                column = pyarrow.parquet.ParquetFile(path).read(columns=["kafka_timestamp"])["kafka_timestamp"]
                stamps = pyarrow.compute.cast(column, "timestamp[ms, tz=UTC]", safe=False).cast("int64").to_pylist()
                found += [(visible.at_ms - stamp) / 1000 for stamp in stamps if since_ms <= stamp <= until_ms]
    return Latencies(name, sorted(found), commits, files)


if __name__ == "__main__":
    sys.exit(main())
