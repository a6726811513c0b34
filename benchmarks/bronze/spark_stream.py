"""Bronze as Spark Structured Streaming would do it: a program of one Spark session that starts queries on request.

`python -m benchmarks.bronze.spark_stream DIRECTORY` takes each file `NAME.json` of the directory as the description of
a query (`Query`) and answers with `NAME.done` or `NAME.failed`. A query with `every_seconds` goes on until the program
is ended; its answer says that it has been started.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

from benchmarks.bronze.spark_program import Query
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.streaming import StreamingQuery

from lakehouse_contract.settings import CatalogSettings
from lakehouse_jobs import spark_session
from lakehouse_operator.local import engines

_LATE_SECONDS = 300


def main(directory: Path) -> None:
    """Serve until the process is ended."""
    spark = _session(Path(os.environ["SCRATCH"]))
    (directory / "ready").touch()
    going_on: dict[Path, StreamingQuery] = {}
    while True:
        for request in sorted(directory.glob("*.json")):
            wanted = Query(**json.loads(request.read_text()))
            request.rename(request.with_suffix(".taken"))
            try:
                started = _start(spark, wanted)
                if wanted.every_seconds is None:
                    started.awaitTermination()
                else:
                    going_on[request] = started
                request.with_suffix(".done").touch()
            except Exception:  # noqa: BLE001 - the one who asked is told
                draft = request.with_suffix(".failure")
                draft.write_text(traceback.format_exc())
                draft.rename(request.with_suffix(".failed"))
        for request, query in going_on.items():
            if why := query.exception():
                request.with_suffix(".failed").write_text(str(why))
        if (directory / "stop").exists():
            for query in going_on.values():
                query.stop()
            going_on.clear()
            (directory / "stop").unlink()
        time.sleep(0.02)


def _session(scratch: Path) -> SparkSession:
    installed = engines.find()
    catalog = CatalogSettings(type="jdbc", uri=os.environ["CATALOG_URI"], warehouse=os.environ["CATALOG_WAREHOUSE"])
    jars = [*installed.spark_jars.glob("*.jar"), *(installed.home / "engines" / "spark-kafka").glob("*.jar")]
    own = {
        "spark.jars": ",".join(map(str, sorted(jars))),
        "spark.driver.memory": "2g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.streaming.stateStore.providerClass": (
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
        ),
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        "spark.sql.streaming.metricsEnabled": "false",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in {**own, **spark_session.session_options(catalog, {})}.items():
        builder = builder.config(key, value)
    builder.getOrCreate()
    return spark_session.open_session(catalog, {}, "stream")


def _rows(spark: SparkSession, query: Query) -> DataFrame:
    source = spark.readStream.format("kafka").options(
        **{
            "kafka.bootstrap.servers": query.bootstrap_servers,
            "subscribe": query.topic,
            "startingOffsets": "earliest",
            "kafka.isolation.level": "read_committed",
        }
    )
    payload = fn.col("value").cast("string")
    read = fn.from_json(payload, "event_id string, event_time string")
    parsed = source.load().select(
        payload.alias("payload"), read.alias("read"), "key", "partition", "offset", "timestamp"
    )
    at = fn.try_to_timestamp(fn.col("read.event_time"))
    rows = parsed.select(
        fn.col("read.event_id").alias("event_id"),
        at.alias("event_time"),
        "payload",
        fn.col("key").alias("kafka_key"),
        fn.col("partition").alias("kafka_partition"),
        fn.col("offset").alias("kafka_offset"),
        fn.col("timestamp").alias("kafka_timestamp"),
        (fn.unix_micros("timestamp") > fn.unix_micros(at) + _LATE_SECONDS * 1_000_000).alias("is_late_arrival"),
        fn.current_timestamp().alias("ingested_at"),
    ).where("event_id IS NOT NULL AND event_time IS NOT NULL")
    if not query.deduplicated:
        return rows
    return rows.withWatermark("event_time", query.remembered).dropDuplicatesWithinWatermark(["event_id"])


def _start(spark: SparkSession, query: Query) -> StreamingQuery:
    every = query.every_seconds
    return (
        _rows(spark, query)
        .writeStream.format("iceberg")
        .outputMode("append")
        .option("checkpointLocation", query.checkpoints)
        # The cheapest way to write: no exchange before it, as many open files as there are days.
        .option("distribution-mode", "none")
        .option("fanout-enabled", "true")
        .option("check-nullability", "false")  # the filter made sure of it, but Spark does not see that
        .trigger(**({"availableNow": True} if every is None else {"processingTime": f"{every} seconds"}))
        .toTable(query.table)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
