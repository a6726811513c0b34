"""Bronze, Spark Structured Streaming and Iceberg's Kafka Connect sink over the same topic: who needs how much.

`python -m benchmarks.bronze.contenders`. See README.md beside this file for how to read it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow.compute
import pyarrow.parquet
from benchmarks.bronze import connect, load, spark_program, variants, work
from benchmarks.bronze.tables import Tables, added_files

from lakehouse_contract import layout
from lakehouse_contract.settings import BronzeSettings, CatalogSettings, CheckpointSettings, KafkaSettings
from lakehouse_contract.tables import Table
from lakehouse_jobs import iceberg_catalog
from lakehouse_jobs.flink_options import job_options
from lakehouse_jobs.flink_session import FlinkSession
from lakehouse_operator.local import engines, flink, kafka
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics

_DEADLINE_SECONDS = 600.0
_LOOK_SECONDS = 0.2
_PARALLELISM = 2
_COMMITS_TO_WAIT_FOR = 6


@dataclass(frozen=True, slots=True)
class World:
    """All engines, and the topics that they read."""

    directory: Path
    broker: kafka.Broker
    cluster: flink.FlinkCluster
    worker: connect.Worker
    program: spark_program.Program
    commit_seconds: int

    @property
    def catalog(self) -> CatalogSettings:
        """The one catalog that all of them write to."""
        return catalog_in(self.directory)

    @property
    def tables(self) -> Tables:
        """Its tables."""
        return Tables(self.directory)

    def committing_every(self, seconds: int) -> "World":
        """The same engines, asked for another interval."""
        return replace(self, commit_seconds=seconds)


def catalog_in(directory: Path) -> CatalogSettings:
    """A catalog in SQLite."""
    return CatalogSettings(
        type="jdbc", uri=f"jdbc:sqlite:{directory / 'catalog.db'}", warehouse=(directory / "warehouse").as_uri()
    )


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get a topic into a table.

    Attributes:
        drops_repeats: Whether it promises one row for each id.
        table: Its table, given a name.
        processes: The processes that do it.
        run: Reads a whole topic, given also a name for the run and a function that waits until so many rows are
            there.
    """

    name: str
    drops_repeats: bool
    table: Callable[[str], Table]
    processes: Callable[[World], Sequence[int]]
    run: Callable[[World, load.Load, str, Callable[[], None]], None]


def _flink(
    build: Callable[[BronzeSettings], variants.Statements],
    world: World,
    topic: load.Load,
    name: str,
    until_there: Callable[[], None],
) -> None:
    settings = bronze_settings(world, topic.topic, _table_name(name), name)
    Topics(world.broker.bootstrap_servers).create(settings.dead_letter_topic, partitions=1, timestamps="CreateTime")
    session = FlinkSession(job_options(settings), target=world.cluster.address)
    statements = build(settings)
    session.define(statements.definitions)
    job = session.submit(statements.inserts, lambda plan: plan)
    until_there()
    while (state := world.cluster.rest.state(job)) != "FINISHED":
        if state in ("FAILED", "CANCELED"):
            raise RuntimeError(f"job {job} is {state}: {world.cluster.rest.root_exception(job)}")
        time.sleep(_LOOK_SECONDS)


def bronze_settings(world: World, topic: str, table: str, name: str) -> BronzeSettings:
    """The settings of a run of that name."""
    directory = world.directory
    return BronzeSettings(
        pipeline="benchmark",
        kafka=KafkaSettings(
            bootstrap_servers=world.broker.bootstrap_servers, topic=topic, consumer_group=f"group-{name}"
        ),
        catalog=world.catalog,
        checkpoint=CheckpointSettings(
            directory=(directory / "checkpoints").as_uri(),
            savepoint_directory=(directory / "savepoints").as_uri(),
            interval_seconds=world.commit_seconds,
        ),
        table=table,
        dead_letter_topic=f"dlq-{name}",
        parallelism=_PARALLELISM,
        write_parallelism=_PARALLELISM,
    )


def _spark(deduplicated: bool, world: World, topic: load.Load, name: str, until_there: Callable[[], None]) -> None:
    world.program.run(
        spark_program.Query(
            name,
            world.broker.bootstrap_servers,
            topic.topic,
            _table_name(name),
            str(world.directory / "spark-checkpoints" / name),
            deduplicated,
        )
    )
    until_there()


def _connect(shape: connect.Shape, world: World, topic: load.Load, name: str, until_there: Callable[[], None]) -> None:
    world.worker.start_connector(
        name, topic.topic, shape, _table_name(name), world.catalog,
        commit_seconds=world.commit_seconds, tasks=_PARALLELISM,
    )  # fmt: skip
    try:
        until_there()
    finally:
        world.worker.remove(name)


def _of_flink(world: World) -> tuple[int, ...]:
    return (world.cluster.jobmanager.pid, world.cluster.taskmanager.pid)


def _of_spark(world: World) -> tuple[int, ...]:
    return (world.program.process.pid,)


def _of_connect(world: World) -> tuple[int, ...]:
    return (world.worker.process.pid,)


def connect_table(shape: connect.Shape, name: str) -> Table:
    """The table of a connector, with the properties of bronze's."""
    return connect.table(name, shape, layout.properties("zstd"))


CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Contender("bronze", True, layout.bronze, _of_flink, partial(_flink, variants.full)),
        Contender(
            "bronze without deduplication", False, layout.bronze, _of_flink,
            partial(_flink, variants.without_deduplication),
        ),
        Contender("spark deduplicating", True, layout.bronze, _of_spark, partial(_spark, True)),
        Contender("spark", False, layout.bronze, _of_spark, partial(_spark, False)),
        Contender("connect parsed", False, partial(connect_table, "parsed"), _of_connect, partial(_connect, "parsed")),
        Contender("connect raw", False, partial(connect_table, "raw"), _of_connect, partial(_connect, "raw")),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took."""

    records: int
    work: work.Work

    @property
    def microseconds_per_event(self) -> float:
        """CPU time for each record."""
        return 1e6 * self.work.cpu_seconds / self.records

    @property
    def events_per_second(self) -> float:
        """Records for each second at work."""
        return self.records / self.work.active_seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.bronze.contenders")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events to ingest (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds over all contenders (%(default)s)")
    parser.add_argument("--commit-seconds", type=int, default=10, help="between two commits (%(default)s)")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--malformed", action="store_true", help="show instead what malformed records do to each")
    options = parser.parse_args(arguments)
    chosen = [CONTENDERS[name] for name in options.contenders]
    with world(options.commit_seconds) as all_engines:
        topic = load.fill(
            all_engines.broker.bootstrap_servers, "events", events=options.events, partitions=4,
            progress=lambda _: None, clean=not options.malformed,
        )  # fmt: skip
        print(
            f"{topic.records:,} records of {topic.bytes / topic.records:.0f} bytes, {topic.ids:,} ids,"
            f" {topic.dead_letters:,} that can't be placed, parallelism {_PARALLELISM}, commits every"
            f" {options.commit_seconds} s, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        if options.malformed:
            for contender in chosen:
                print(f"{contender.name:30} {_outcome(all_engines, contender, topic)}", flush=True)
        else:
            _compare(all_engines, chosen, topic, options.rounds)
    return 0


@contextmanager
def world(commit_seconds: int) -> Iterator[World]:
    """Start all engines; they end with the block."""
    found = engines.find()
    with tempfile.TemporaryDirectory(prefix="bronze-contenders-") as folder:
        directory = Path(folder)
        with Processes(directory / "records", directory / "log") as processes:
            broker = kafka.start(processes, found, directory / "kafka", optimized=True)
            memory = flink.TaskManagerMemory(task_heap=1200, managed=1024, network=192)
            cluster = flink.start(processes, found, directory / "flink", port=None, slots=_PARALLELISM, memory=memory)
            broker.wait_until_ready()
            worker = connect.start(processes, found, broker.bootstrap_servers, directory / "connect")
            program = spark_program.start(processes, found, catalog_in(directory), directory / "spark")
            cluster.wait_until_ready()
            worker.wait_until_ready()
            program.wait_until_ready()
            os.environ |= cluster.client_environment()
            yield World(directory, broker, cluster, worker, program, commit_seconds)


def _compare(world: World, chosen: Sequence[Contender], topic: load.Load, rounds: int) -> None:
    runs: dict[str, list[Run]] = {contender.name: [] for contender in chosen}
    for number in range(rounds + 1):
        # Every other round goes backwards; the first one warms the JVMs and is thrown away.
        for contender in chosen if number % 2 == 0 else reversed(chosen):
            run = _run(world, contender, topic, f"{number}-{contender.name.replace(' ', '-')}")
            print(
                f"{'warm-up' if number == 0 else f'round {number}':8} {contender.name:30}"
                f" {run.microseconds_per_event:6.1f} us/event {run.events_per_second:9,.0f} events/s"
                f" {run.work.active_seconds:6.1f} s at work, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            if number:
                runs[contender.name].append(run)
    _summary(runs)


def _run(world: World, contender: Contender, topic: load.Load, name: str) -> Run:
    """Run a contender once and check that everything came out."""
    expected = topic.ids if contender.drops_repeats else topic.records
    create(world, contender.table(_table_name(name)))

    def until_there() -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while (rows := world.tables.rows(_table_name(name))) < expected:
            if why := world.worker.failure(name) if contender.processes is _of_connect else None:
                raise RuntimeError(f"{name} failed: {why}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} has {rows:,} rows of {expected:,} after {_DEADLINE_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)

    with work.Watch(contender.processes(world)) as watch:
        contender.run(world, topic, name, until_there)
    _check(world, contender, topic, name, expected)
    return Run(topic.records, watch.work)


def _check(world: World, contender: Contender, topic: load.Load, name: str, expected: int) -> None:
    """Compare what came out with what was sent: how many rows, and how many different ones.

    Raises:
        RuntimeError: Something is missing, or there twice.
    """
    found = world.tables.rows(_table_name(name))
    # By the table's snapshots: a task of Connect that begins anew leaves files behind that no snapshot holds.
    files = [path for snapshot in world.tables.snapshots(_table_name(name)) for path in added_files(snapshot)]
    columns = ["kafka_partition", "kafka_offset"]
    origins = pyarrow.concat_tables(pyarrow.parquet.ParquetFile(path).read(columns=columns) for path in files)
    different = origins.group_by(columns).aggregate([]).num_rows
    if not found == different == origins.num_rows == expected:
        raise RuntimeError(
            f"{contender.name} has {found:,} rows in the table, {origins.num_rows:,} in files, {different:,} different"
            f" ones; {expected:,} were to come out of {topic.records:,}"
        )


def create(world: World, table: Table) -> None:
    """Create a table in the catalog that all of them write to."""
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415 - starts a JVM

    iceberg_catalog.ensure_table(get_gateway().jvm, world.catalog, {}, table)


def _table_name(name: str) -> str:
    return f"bronze.run_{name.replace('-', '_')}"


def _outcome(world: World, contender: Contender, topic: load.Load) -> str:
    """What a contender makes of a topic with malformed records: how many rows, or why it stopped."""
    name = f"malformed-{contender.name.replace(' ', '-')}"
    create(world, contender.table(_table_name(name)))

    def for_some_commits() -> None:
        deadline = time.monotonic() + _COMMITS_TO_WAIT_FOR * world.commit_seconds
        while time.monotonic() < deadline:
            if contender.processes is _of_connect and (why := world.worker.failure(name)):
                raise RuntimeError(why)
            time.sleep(_LOOK_SECONDS)

    try:
        contender.run(world, topic, name, for_some_commits)
    except RuntimeError as error:
        return f"stopped: {error}"
    return f"{world.tables.rows(_table_name(name)):,} rows"


def _summary(runs: Mapping[str, Sequence[Run]]) -> None:
    """Medians over the measured rounds, and the cost of each as a multiple of bronze's in the same round."""
    print(f"\n{'contender':30} {'us/event':>9} {'spread':>13} {'events/s':>10} {'CPU of bronze':>14}")
    for name, measured in runs.items():
        if not measured:
            continue
        costs = [run.microseconds_per_event for run in measured]
        bronze = runs.get("bronze") or measured
        ratios = [
            run.microseconds_per_event / ours.microseconds_per_event for run, ours in zip(measured, bronze, strict=True)
        ]
        print(
            f"{name:30} {statistics.median(costs):9.1f} {f'{min(costs):.1f}-{max(costs):.1f}':>13}"
            f" {statistics.median(run.events_per_second for run in measured):10,.0f}"
            f" {statistics.median(ratios):13.2f}x"
        )


if __name__ == "__main__":
    sys.exit(main())
