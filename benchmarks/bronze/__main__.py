"""How fast bronze catches up: `python -m benchmarks.bronze`. See README.md beside this file for how to read it."""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute
import pyarrow.parquet
from benchmarks.bronze import load, measure, variants

from lakehouse_contract import layout
from lakehouse_contract.settings import BronzeSettings, CatalogSettings, CheckpointSettings, KafkaSettings
from lakehouse_jobs import iceberg_catalog
from lakehouse_jobs.flink_options import job_options
from lakehouse_jobs.flink_session import FlinkSession
from lakehouse_operator.local import engines, flink, kafka
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics


@dataclass(frozen=True, slots=True)
class World:
    """The engines, and the topic that every run reads."""

    directory: Path
    broker: kafka.Broker
    cluster: flink.FlinkCluster
    load: load.Load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.bronze", description="Catch-up throughput of the bronze job.")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events to ingest (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds over all variants (%(default)s)")
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--write-parallelism", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--compression", choices=["zstd", "snappy"], default="zstd")
    parser.add_argument("--managed-memory", type=int, default=1024, help="for RocksDB, in MiB (%(default)s)")
    parser.add_argument("--checkpoint-seconds", type=int, default=60)
    parser.add_argument("--variants", nargs="+", choices=list(variants.VARIANTS), default=list(variants.VARIANTS))
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="a further option of Flink")
    options = parser.parse_args(arguments)
    chosen = [variants.VARIANTS[name] for name in options.variants]
    runs: dict[str, list[measure.Run]] = {variant.name: [] for variant in chosen}
    with _world(options) as world:
        print(
            f"{world.load.records:,} records of {world.load.bytes / world.load.records:.0f} bytes,"
            f" parallelism {options.parallelism}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        for round_number in range(options.rounds + 1):
            # Every other round goes backwards, so that no variant always runs on the warmest JVM.
            for variant in chosen if round_number % 2 == 0 else reversed(chosen):
                run = _run(world, variant, options, f"{round_number}-{variant.name.replace(' ', '-')}")
                _print_run("warm-up" if round_number == 0 else f"round {round_number}", variant, run)
                if round_number:
                    runs[variant.name].append(run)
    _print_summary(chosen, runs)
    return 0


@contextmanager
def _world(options: argparse.Namespace) -> Iterator[World]:
    found = engines.find()
    with tempfile.TemporaryDirectory(prefix="bronze-benchmark-") as folder:
        directory = Path(folder)
        with Processes(directory / "records", directory / "log") as processes:
            broker = kafka.start(processes, found, directory / "kafka", optimized=True)
            memory = flink.TaskManagerMemory(task_heap=1200, managed=options.managed_memory, network=192)
            cluster = flink.start(
                processes, found, directory / "flink", port=None, slots=options.parallelism, memory=memory
            )
            broker.wait_until_ready()
            cluster.wait_until_ready()
            os.environ |= cluster.client_environment()
            filled = load.fill(
                broker.bootstrap_servers, "events", events=options.events, partitions=options.partitions,
                progress=lambda sent: _progress(f"sending {sent:,} of {options.events:,} events"),
            )  # fmt: skip
            _progress("")
            yield World(directory, broker, cluster, filled)


def _run(world: World, variant: variants.Variant, options: argparse.Namespace, name: str) -> measure.Run:
    """Run a variant once and check that everything came out."""
    _progress(f"running {name}")
    settings = _settings(world, options, name)
    Topics(world.broker.bootstrap_servers).create(settings.dead_letter_topic, partitions=1, timestamps="CreateTime")
    further = dict(option.split("=", 1) for option in options.option)
    session = FlinkSession({**job_options(settings), **further}, target=world.cluster.address)
    table = layout.bronze(settings.table, settings.compression)
    iceberg_catalog.ensure_table(session.jvm, settings.catalog, {}, table)
    statements = variant.build(settings)
    session.define(statements.definitions)
    stopwatch = measure.Stopwatch(world.cluster.taskmanager.pid)
    job = session.submit(statements.inserts, lambda plan: plan)
    files: list[Path] = []

    def last_row_ms() -> float:
        files.extend((world.directory / "warehouse" / "bronze" / settings.table.split(".")[1]).glob("**/*.parquet"))
        return max(_largest_ingested_at(path) for path in files)

    run = measure.finish(world.cluster, job, stopwatch, last_row_ms=last_row_ms if variant.writes else None)
    _check(world, variant, settings, run, files)
    return run


def _settings(world: World, options: argparse.Namespace, name: str) -> BronzeSettings:
    directory = world.directory
    return BronzeSettings(
        pipeline="benchmark",
        kafka=KafkaSettings(
            bootstrap_servers=world.broker.bootstrap_servers, topic=world.load.topic, consumer_group=f"group-{name}"
        ),
        catalog=CatalogSettings(
            type="jdbc", uri=f"jdbc:sqlite:{directory / 'catalog.db'}", warehouse=(directory / "warehouse").as_uri()
        ),
        checkpoint=CheckpointSettings(
            directory=(directory / "checkpoints").as_uri(),
            savepoint_directory=(directory / "savepoints").as_uri(),
            interval_seconds=options.checkpoint_seconds,
        ),
        table=f"bronze.run_{name.replace('-', '_')}",
        dead_letter_topic=f"dlq-{name}",
        parallelism=options.parallelism,
        write_parallelism=options.write_parallelism,
        compression=options.compression,
    )


def _largest_ingested_at(path: Path) -> float:
    column = pyarrow.parquet.ParquetFile(path).read(columns=["ingested_at"])["ingested_at"]
    return pyarrow.compute.max(column).as_py().timestamp() * 1000


def _check(
    world: World, variant: variants.Variant, settings: BronzeSettings, run: measure.Run, files: Sequence[Path]
) -> None:
    """Compare what came out with what was sent.

    Raises:
        RuntimeError: Something is missing, or there twice.
    """
    sent = world.load
    if run.records != sent.records:
        raise RuntimeError(f"{variant.name} read {run.records:,} records of {sent.records:,}")
    if not variant.writes:
        return
    rows = sum(pyarrow.parquet.ParquetFile(path).metadata.num_rows for path in files)
    letters = load.count_committed(world.broker.bootstrap_servers, settings.dead_letter_topic)
    events = sent.ids if variant.drops_repeats else sent.records - sent.dead_letters
    placed = sent.dead_letters - letters  # of those that readers of JSON see differently
    if rows - placed != events or not 0 <= placed <= sent.open:
        raise RuntimeError(
            f"{variant.name} wrote {rows:,} rows and {letters:,} dead letters; there are {events:,} events and"
            f" {sent.dead_letters:,} records that can't be placed, {sent.open:,} of them arguable"
        )


def _print_run(round_name: str, variant: variants.Variant, run: measure.Run) -> None:
    _progress("")
    print(
        f"{round_name:8} {variant.name:16} {run.events_per_second:11,.0f} events/s {run.seconds:7.1f} s"
        f" {run.microseconds_per_event:7.1f} us/event  {run.cores:4.2f} cores of the TaskManager,"
        f" {run.machine:4.2f} of the machine, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _print_summary(chosen: Sequence[variants.Variant], runs: dict[str, list[measure.Run]]) -> None:
    """Medians over the measured rounds, and the difference that each variant makes."""
    print("\nMedians (us/event: CPU of the TaskManager; +us: more than the variant above)")
    print(f"{'variant':16} {'events/s':>11} {'per core':>11} {'us/event':>9} {'spread':>13} {'+us':>6}  adds")
    before: float | None = None
    for variant in chosen:
        measured = runs[variant.name]
        if not measured:
            continue
        costs = [run.microseconds_per_event for run in measured]
        cost = statistics.median(costs)
        more = "" if before is None else f"{cost - before:+.1f}"
        print(
            f"{variant.name:16} {statistics.median(run.events_per_second for run in measured):11,.0f}"
            f" {1e6 / cost:11,.0f} {cost:9.1f} {f'{min(costs):.1f}-{max(costs):.1f}':>13} {more:>6}  {variant.adds}"
        )
        before = cost
    if "raw" in runs and "full" in runs and runs["raw"] and runs["full"]:
        ratios = [
            full.microseconds_per_event / raw.microseconds_per_event
            for raw, full in zip(runs["raw"], runs["full"], strict=True)
        ]
        print(
            f"\nThe full job costs {statistics.median(ratios):.1f} times the CPU of reading alone (median of rounds)."
        )


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
