"""What maintenance does to a bronze table: `python -m benchmarks.maintenance`. See README.md beside this file."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.spark import session
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract import layout
from lakehouse_contract.settings import (
    CatalogSettings,
    CompactionSettings,
    ExpirySettings,
    MaintenanceSettings,
    RunSettings,
)
from lakehouse_jobs import maintenance, spark_session
from lakehouse_jobs.iceberg_commits import Lakehouse

BRONZE, LOADING = "bronze.events", "bronze.loading"
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a table as a stream does, measure, maintain it, measure again."""
    parser = argparse.ArgumentParser(prog="benchmarks.maintenance")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument(
        "--commits", type=int, default=288, help="per day, one file each (%(default)s: every 5 minutes)"
    )
    parser.add_argument("--rows", type=int, default=500, help="per commit (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each query; the median counts (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        catalog = CatalogSettings(
            type="jdbc", uri=f"jdbc:sqlite:{scratch}/catalog.db", warehouse=f"file:{scratch}/warehouse"
        )
        session(catalog, scratch, "2g")
        spark = spark_session.open_session(catalog, {}, "benchmark")
        try:
            print(json.dumps(_measured(Lakehouse(spark, catalog.name), catalog, options), indent=1))
        finally:
            spark.stop()
    return 0


def _measured(lakehouse: Lakehouse, catalog: CatalogSettings, options: argparse.Namespace) -> Any:
    _fill(lakehouse, options)
    before = _state(lakehouse, options.rounds)
    settings = MaintenanceSettings(
        pipeline="events",
        catalog=catalog,
        run=RunSettings(id="measured"),
        bronze_table=BRONZE,
        tables=(BRONZE,),
        compaction=CompactionSettings(min_age_seconds=0),
        expiry=ExpirySettings(retention_seconds=0, keep_snapshots=1),
    )
    began = time.perf_counter()
    report = maintenance.run(lakehouse.spark, settings, datetime.now(tz=UTC))["tables"][0]  # noqa: TID251
    seconds = round(time.perf_counter() - began, 1)
    after = _state(lakehouse, options.rounds)
    return {"load": os.getloadavg()[0], "before": before, "after": after, "seconds": seconds, "report": report}


def _fill(lakehouse: Lakehouse, options: argparse.Namespace) -> None:
    """Write all files at once, and then make a commit of each, as a stream would have."""
    lakehouse.ensure(layout.bronze(BRONZE))
    lakehouse.ensure(layout.bronze(LOADING))
    for day in range(options.days):
        rows = _rows(lakehouse.spark, FIRST_DAY + timedelta(days=day), options.commits, options.rows)
        rows.writeTo(lakehouse.identifier(LOADING)).option("distribution-mode", "none").append()
    table, tasks = lakehouse.loaded(BRONZE), lakehouse.loaded(LOADING).newScan().planFiles()
    each = tasks.iterator()
    while each.hasNext():
        table.newAppend().appendFile(each.next().file()).commit()
    tasks.close()


def _rows(spark: SparkSession, day: datetime, files: int, per_file: int) -> DataFrame:
    number, seconds = fn.col("id"), int(day.timestamp())
    at = fn.timestamp_seconds(fn.lit(seconds) + (number * 86_400 / (files * per_file)).cast("long"))
    payload = fn.format_string(
        '{"event_id":"%s","input_number":%d,"user_id":"user-%d","user_plan":"free","duration_ms":%d}',
        fn.sha2(number.cast("string"), 256), number % 3999, number % 1000, number % 97,
    )  # fmt: skip
    return spark.range(0, files * per_file, 1, files).select(
        fn.sha2(fn.concat(number.cast("string"), fn.lit(str(seconds))), 256).alias("event_id"),
        at.alias("event_time"),
        payload.alias("payload"),
        fn.lit(None).cast("binary").alias("kafka_key"),
        (number % 4).cast("int").alias("kafka_partition"),
        number.alias("kafka_offset"),
        at.alias("kafka_timestamp"),
        fn.expr("false").alias("is_late_arrival"),
        at.alias("ingested_at"),
    )


def _state(lakehouse: Lakehouse, rounds: int) -> dict[str, Any]:
    """The table's files, and how long two queries take in seconds."""
    rows = lakehouse.spark.table(lakehouse.identifier(BRONZE))
    one_day = rows.where(f"event_time >= TIMESTAMP '{FIRST_DAY:%Y-%m-%d}' AND event_time < TIMESTAMP '2026-01-02'")
    history = lakehouse.history(BRONZE)
    assert history.head is not None
    summary = history.snapshots[history.head].summary
    location = lakehouse.loaded(BRONZE).operations().current().metadataFileLocation()
    read = fn.sum(fn.length("payload"))  # a count or a maximum would be answered from metadata alone
    return {
        "files": int(summary["total-data-files"]),
        "bytes": int(summary["total-files-size"]),
        "snapshots": len(history.snapshots),
        "manifests": lakehouse.spark.table(f"{lakehouse.identifier(BRONZE)}.manifests").count(),
        "metadataBytes": Path(str(location).removeprefix("file:")).stat().st_size,
        "oneDaySeconds": _seconds(one_day.agg(read), rounds),
        "everythingSeconds": _seconds(rows.agg(read), rounds),
    }


def _seconds(query: DataFrame, rounds: int) -> float:
    taken = []
    for _ in range(rounds + 1):  # the first one warms up
        began = time.perf_counter()
        query.collect()
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken[1:]), 2)


if __name__ == "__main__":
    sys.exit(main())
