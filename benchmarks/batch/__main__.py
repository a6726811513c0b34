"""What a run of silver and gold costs as the history grows: `python -m benchmarks.batch`. See README.md beside this."""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.batch import history
from benchmarks.batch.history import BRONZE, NAIVE, NOW, SILVER, Lake
from benchmarks.spark import session

from lakehouse_contract import layout
from lakehouse_jobs import (
    freshness,
    gold,
    gold_models,
    keyed_tables,
    payload,
    quality,
    releases,
    silver,
    silver_dimensions,
    silver_tables,
)
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.keyed_tables import TABLE

Times = dict[str, float]
_UNTOUCHED_DAYS = 4
"""The last days of a history get late events."""
_SILVER_TABLES = "silver: the keyed table"
_SILVER_DIMENSION = "silver: the dimension"
_MERGE = "the table by a full MERGE"
_GOLD = "gold: models by day"
_GOLD_FULL = "gold: models in full"
_GOLD_REST = "gold: the rest"
_SCRATCH = "gold, everything again"
_BACKFILL = "silver, 6 days again"
_BACKFILL_LARGE = "silver, 100 days again"
_BACKFILLS = {_BACKFILL: 6, _BACKFILL_LARGE: 100}
_QUANTITIES = (_SILVER_TABLES, _MERGE, _SILVER_DIMENSION, _GOLD, _GOLD_FULL, _GOLD_REST, _SCRATCH, *_BACKFILLS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch")
    parser.add_argument("--days", type=int, default=10, help="of history, times 1, 10 and 100 (%(default)s)")
    parser.add_argument("--rows", type=int, default=2_500, help="per day of history (%(default)s)")
    parser.add_argument("--change", type=int, default=25_000, help="events that each run brings (%(default)s)")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100], help="how often the days (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds over all histories (%(default)s)")
    parser.add_argument("--in", dest="directory", type=Path, help="keep the histories here, for another run")
    parser.add_argument("--only-build", action="store_true", help="write the histories and end")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        directory = (options.directory or Path(scratch)).resolve()
        spark = session(history.catalog_in(directory / "unused"), scratch, "3g")
        try:
            lakes = {}
            for times in options.times:
                began = time.perf_counter()
                catalog = history.catalog_in(directory / f"lake{times}")
                lakes[times] = history.open_lake(catalog, times * options.days, options.rows)
                print(f"{times}x: {lakes[times].rows(SILVER):,} rows, {time.perf_counter() - began:.0f} s", flush=True)
            if not options.only_build:
                _measure(lakes, options)
        finally:
            spark.stop()
    return 0


def _measure(lakes: Mapping[int, Lake], options: argparse.Namespace) -> None:
    """All rounds over all lakes, every other round backwards; the first round warms up."""
    found: dict[int, dict[str, list[float]]] = {times: defaultdict(list) for times in lakes}
    for number in range(options.rounds + 1):
        for times in sorted(lakes, reverse=number % 2 == 1):
            taken = _round(lakes[times], number, options.change, last=number == options.rounds)
            said = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in taken.items())
            print(f"{'warm-up' if number == 0 else f'round {number}'} {times}x: {said}, load {os.getloadavg()[0]:.1f}")
            sys.stdout.flush()
            if number:
                for what, seconds in taken.items():
                    found[times][what].append(seconds)
    for times, lake in lakes.items():
        # A gold run after this would have these days to do as well, so it comes last.
        for what, days in _BACKFILLS.items():
            if days <= lake.days - _UNTOUCHED_DAYS:
                rows, taken_by = lake.rows(SILVER), [_backfill(lake, what, number, days) for number in range(2)]
                found[times][what] += taken_by
                _expect(lake, rows, SILVER)
    _summary(found, options)


def _round(lake: Lake, number: int, change: int, *, last: bool) -> Times:
    """One change, brought through silver and gold; the same by a MERGE; and in the last round gold from scratch."""
    run = f"round-{number}-{lake.lakehouse.history(BRONZE).head}"
    before, after = lake.lakehouse.history(BRONZE).head, lake.rows(SILVER) + history.change(lake, number, change)
    job = BatchRun(lake.lakehouse, lake.silver_settings(run), NOW, "silver")
    times = {
        _SILVER_TABLES: _seconds(lambda: silver_tables.update(job)),
        _SILVER_DIMENSION: _seconds(lambda: silver_dimensions.update(job)),
        _MERGE: _seconds(lambda: _merge(lake, before)),
        **_gold(lake, run),
    }
    if last:
        times[_SCRATCH] = _seconds(
            lambda: gold.run(lake.spark, lake.gold_settings(f"{run}-scratch", everything_again=True), NOW)
        )
    _expect(lake, after, SILVER, NAIVE, "gold.fact_conversions")
    return times


def _expect(lake: Lake, rows: int, *tables: str) -> None:
    counted = {name: lake.rows(name) for name in tables}
    if set(counted.values()) != {rows}:
        raise RuntimeError(f"{counted}, but all should have {rows:,} rows")


def _backfill(lake: Lake, what: str, number: int, days: int) -> float:
    """Days of the history again, before those to which late events came."""
    end, run = lake.days - _UNTOUCHED_DAYS, f"backfill-{days}-{number}-{lake.lakehouse.history(SILVER).head}"
    settings = lake.silver_settings(run, days={"first": history.day(end - days), "last": history.day(end - 1)})
    seconds = _seconds(lambda: silver.run(lake.spark, settings, NOW))
    print(f"{lake.days:,} days: {what} {seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds


def _gold(lake: Lake, run: str) -> Times:
    """What `gold.run` does. When each model's snapshot was committed says how long it took after the one before it."""
    settings = lake.gold_settings(f"{run}-gold")
    job = BatchRun(lake.lakehouse, settings, NOW, "gold")
    heads = {model.name: lake.lakehouse.history(model.name).head for model in settings.models}
    began = time.perf_counter()
    sources = {name: lake.lakehouse.history(name) for name in settings.sources}
    queries = gold_models.check(job, sources)
    since = time.time() * 1000  # noqa: TID251
    gold_models.update(job, queries, sources)
    reads = {model.name: query.reads for model, query in zip(settings.models, queries, strict=True)}
    freshness.record(job, reads, sources)
    releases.release(lake.lakehouse, tuple(reads), settings.run.id)
    whole = time.perf_counter() - began
    times = {_GOLD: 0.0, _GOLD_FULL: 0.0}
    for model in settings.models:
        snapshot = lake.lakehouse.loaded(model.name).currentSnapshot()
        if snapshot.snapshotId() != heads[model.name]:
            what = _GOLD if model.kind == "incrementalByDay" else _GOLD_FULL
            times[what] += (snapshot.timestampMillis() - since) / 1000
            since = snapshot.timestampMillis()
    return {**times, _GOLD_REST: whole - sum(times.values())}


def _merge(lake: Lake, before: int | None) -> None:
    """What is new in bronze, judged as silver judges it, and merged by the event's id alone."""
    assert before is not None
    settings = lake.silver_settings("merge")
    table, head = settings.tables[0], lake.lakehouse.history(BRONZE).head
    assert head is not None
    columns = [column.name for column in layout.bronze(BRONZE).columns]
    rows = lake.lakehouse.read_appended(BRONZE, before, head).select(*columns)
    judged = quality.judged(payload.parsed(rows, settings.columns), table, settings.columns)
    first = keyed_tables.placed(keyed_tables.first_copies(keyed_tables.slim(judged, table)))
    audit = BatchRun(lake.lakehouse, settings, NOW, "silver").audit(head)
    # Computed first: of a view over a range of snapshots, Spark 4.1 makes no plan within a MERGE.
    candidates = keyed_tables.additions(first, TABLE, table, audit).localCheckpoint()
    candidates.createOrReplaceTempView("candidates")
    rank = "struct({0}.kafka_timestamp, {0}.kafka_partition, {0}.kafka_offset)"
    lake.spark.sql(
        f"MERGE INTO {lake.lakehouse.identifier(NAIVE)} t USING candidates s ON t.event_id = s.event_id"
        f" WHEN MATCHED AND {rank.format('s')} < {rank.format('t')} THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _summary(found: Mapping[int, Mapping[str, Sequence[float]]], options: argparse.Namespace) -> None:
    """Medians in seconds, with the spread, and how much each grew over the smallest history."""
    print(f"\nMedians in seconds of runs that bring {options.change:,} events each")
    print(f"{'':28}" + "".join(f"{f'{times}x':>22}" for times in found) + f"{'growth':>9}")
    for what in _QUANTITIES:
        cells, medians = [], []
        for measured in found.values():
            taken = measured.get(what, ())
            if taken:
                medians.append(statistics.median(taken))
                cells.append(f"{medians[-1]:.1f} ({min(taken):.1f}-{max(taken):.1f})")
        if medians:
            growth = medians[-1] / medians[0]
            print(f"{what:28}" + "".join(f"{cell:>22}" for cell in cells) + f"{growth:8.2f}x")
    for times, measured in found.items():
        for what, days in _BACKFILLS.items():
            if measured.get(what):
                speed = days * options.rows / statistics.median(measured[what])
                print(f"{times}x, {what}: {days * options.rows:,} events, {speed:,.0f} events/s")


if __name__ == "__main__":
    sys.exit(main())
