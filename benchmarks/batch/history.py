"""Lakes with a history of so many days, written directly, and the changes that are then brought to each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract import commits, decoding, layout
from lakehouse_contract.domain import KeyedTable
from lakehouse_contract.settings import CatalogSettings, GoldSettings, SilverSettings
from lakehouse_jobs import gold, silver, spark_session
from lakehouse_jobs.iceberg_commits import Lakehouse

SPEC = yaml.safe_load((Path(__file__).parents[2] / "examples/roman-numerals.yaml").read_text())["spec"]
BRONZE: str = SPEC["bronze"]["table"]
SILVER = "silver.conversions"
NAIVE = "naive.conversions"
FIRST_DAY = datetime(2023, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 10, 1, tzinfo=UTC)
_USERS = 2_000
_DAYS_WITH_A_PLAN = 30
_LATE_DAYS = 3
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Lake:
    """One pipeline's tables.

    Attributes:
        days: How many days there were before the first change.
        rows_per_day: How many events each of them has.
    """

    spark: SparkSession
    catalog: CatalogSettings
    days: int
    rows_per_day: int

    @property
    def lakehouse(self) -> Lakehouse:
        """Its tables, for the jobs' own code."""
        return Lakehouse(self.spark, self.catalog.name)

    def rows(self, table: str) -> int:
        """How many rows a table has, as its own snapshot says."""
        return self.lakehouse.history(table).rows()

    def silver_settings(self, run: str, **more: Any) -> SilverSettings:
        """The reference pipeline's silver job."""
        definition = {key: SPEC["silver"][key] for key in ("columns", "tables", "dimensions")}
        return decoding.decode(SilverSettings, {**self._common(run, more), "bronzeTable": BRONZE, **definition})

    def gold_settings(self, run: str, *, everything_again: bool = False) -> GoldSettings:
        """The reference pipeline's gold job; or one that computes the same from scratch, in another namespace."""
        models = SPEC["gold"]["models"]
        if everything_again:
            models = [_from_scratch(model) for model in models]
        sources = [each["name"] for key in ("tables", "dimensions") for each in SPEC["silver"][key]]
        return decoding.decode(GoldSettings, {**self._common(run, {}), "sources": sources, "models": models})

    def _common(self, run: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"pipeline": "roman-numerals", "catalog": decoding.encode(self.catalog), "run": {"id": run, **more}}


def _from_scratch(model: Mapping[str, Any]) -> dict[str, Any]:
    other = {key: value for key, value in model.items() if key != "dayColumn"}
    return {**other, "name": _elsewhere(model["name"]), "kind": "full", "sql": _elsewhere(model["sql"])}


def _elsewhere(text: str) -> str:
    return text.replace("gold.", "scratch.")


def catalog_in(directory: Path) -> CatalogSettings:
    """The catalog of the lake in a directory, which has the directory's name."""
    directory.mkdir(parents=True, exist_ok=True)
    return CatalogSettings(
        type="jdbc",
        uri=f"jdbc:sqlite:{directory}/catalog.db",
        warehouse=f"file:{directory}/warehouse",
        name=directory.name,
    )


def open_lake(catalog: CatalogSettings, days: int, rows_per_day: int) -> Lake:
    """The lake of a catalog; its history is written unless it is there."""
    spark = spark_session.open_session(catalog, {}, "benchmark")
    lake = Lake(spark, catalog, days, rows_per_day)
    if lake.lakehouse.find("gold.popular_numbers") is None:
        _build(lake)
    return lake


def _build(lake: Lake) -> None:
    """Write bronze and silver as they would be, and let the jobs make of them what follows."""
    lakehouse, table = lake.lakehouse, lake.silver_settings("history").tables[0]
    first, last = 0, lake.days * lake.rows_per_day
    events = _events(lake, first, last, fn.floor(fn.col("id") / lake.rows_per_day))
    lakehouse.ensure(layout.bronze(BRONZE))
    _bronze(events).writeTo(lakehouse.identifier(BRONZE)).append()
    upto = lakehouse.history(BRONZE).head
    properties = {
        commits.RUN: "history",
        commits.STAGE: "silver",
        commits.REVISION: "unversioned",
        commits.TOUCHED_DAYS: commits.ALL_DAYS,
        commits.source(BRONZE): str(upto),
    }
    lakehouse.ensure(layout.silver(table))
    lakehouse.append(_silver(events, table, upto), SILVER, None, properties)
    quarantine = layout.quarantine(table)
    lakehouse.ensure(quarantine)
    lakehouse.stamp(quarantine.name, properties)
    silver.run(lake.spark, lake.silver_settings("history-dimensions"), NOW)
    gold.run(lake.spark, lake.gold_settings("history-gold"), NOW)
    _share_files(lake, table)


def _share_files(lake: Lake, table: KeyedTable) -> None:
    """A second table of the very same files, for the MERGE."""
    lake.lakehouse.ensure(replace(layout.silver(table), name=NAIVE))
    append = lake.lakehouse.loaded(NAIVE).newFastAppend()
    tasks = lake.lakehouse.loaded(SILVER).newScan().planFiles()
    each = tasks.iterator()
    while each.hasNext():
        append = append.appendFile(each.next().file())
    tasks.close()
    append.commit()


def change(lake: Lake, number: int, rows: int) -> int:
    """Bring a change to bronze: a new day of `rows` events, of which one in 25 comes late, and some of them twice.

    Returns:
        How many events are new.
    """
    start = lake.days * lake.rows_per_day + number * rows
    last_day = lake.days + number
    late = fn.when(fn.col("id") % 25 == 0, 1 + fn.col("id") % _LATE_DAYS).otherwise(0)
    events = _events(lake, start, start + rows, fn.lit(last_day) - late)
    again = events.where(fn.col("id") % 100 == 7).withColumn("arrived", fn.expr("arrived + INTERVAL 1 HOUR"))
    written = _bronze(events).unionByName(_bronze(again)).coalesce(2)
    written.writeTo(lake.lakehouse.identifier(BRONZE)).append()
    return rows


def _events(lake: Lake, first: int, last: int, day: Column) -> DataFrame:
    """Events by number, each on a day that is counted from the first one."""
    number = fn.col("id")
    user = fn.pmod(fn.xxhash64(number), fn.lit(_USERS))
    # Spread over the day, in no order.
    second = fn.pmod(fn.xxhash64(number, fn.lit(1)), fn.lit(_DAY_SECONDS))
    at = fn.timestamp_seconds(fn.lit(int(FIRST_DAY.timestamp())) + day * _DAY_SECONDS + second)
    # Every day one user in 30 gets another plan.
    plan = fn.element_at(
        fn.array(*map(fn.lit, ("free", "pro", "enterprise"))),
        (fn.pmod(user + fn.floor((day + user) / _DAYS_WITH_A_PLAN), fn.lit(3)) + 1).cast("int"),
    )
    numbered = lake.spark.range(first, last, 1, 4).select(
        number, user.alias("user"), plan.alias("user_plan"), at.alias("event_time")
    )
    return numbered.select(
        "id",
        fn.sha2(number.cast("string"), 256).alias("event_id"),
        "event_time",
        (fn.col("event_time") + fn.expr("INTERVAL 1 SECOND")).alias("arrived"),
        fn.concat(fn.lit("user-"), fn.col("user").cast("string")).alias("user_id"),
        "user_plan",
        (number % 3999 + 1).alias("input_number"),
        (fn.col("id") % 97).cast("double").alias("duration_ms"),
    )


def _values(events: DataFrame) -> Mapping[str, Column]:
    """What an event says beside its id and time, by the names of the payload's fields."""
    return {
        "event_type": fn.lit("CONVERSION"),
        "user_id": events["user_id"],
        "user_plan": events["user_plan"],
        "user_country": fn.lit("DE"),
        "user_email_domain": fn.lit("example.org"),
        "input_number": events["input_number"],
        "output_numeral": _numeral(events["input_number"]),
        "status": fn.lit("OK"),
        "duration_ms": events["duration_ms"],
        "channel": fn.lit("api"),
        "client_version": fn.lit("1.0.0"),
        "schema_version": fn.lit(1),
    }


def _numeral(number: Column) -> Column:
    digits = (
        ("", "M", "MM", "MMM"),
        ("", "C", "CC", "CCC", "CD", "D", "DC", "DCC", "DCCC", "CM"),
        ("", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC"),
        ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"),
    )
    parts = []
    for power, names in zip((1000, 100, 10, 1), digits, strict=True):
        index = (fn.floor(number / power) % 10 + 1).cast("int")
        parts.append(fn.element_at(fn.array(*map(fn.lit, names)), index))
    return fn.concat(*parts)


def _origin(events: DataFrame) -> tuple[Column, ...]:
    return (
        (events["id"] % 4).cast("int").alias("kafka_partition"),
        events["id"].alias("kafka_offset"),
        events["arrived"].alias("kafka_timestamp"),
    )


def _bronze(events: DataFrame) -> DataFrame:
    values = _values(events)
    when = fn.date_format("event_time", "yyyy-MM-dd'T'HH:mm:ss'Z'")
    payload = fn.to_json(
        fn.struct(
            events["event_id"], when.alias("event_time"), *(column.alias(name) for name, column in values.items())
        )
    )
    return events.select(
        "event_id",
        "event_time",
        payload.alias("payload"),
        fn.lit(None).cast("binary").alias("kafka_key"),
        *_origin(events),
        fn.lit(False).alias("is_late_arrival"),
        events["arrived"].alias("ingested_at"),
    )


def _silver(events: DataFrame, table: KeyedTable, upto: int | None) -> DataFrame:
    values = {**_values(events), "error_code": fn.lit(None).cast("string")}
    return events.select(
        "event_id",
        "event_time",
        *(values[column.name].alias(column.name) for column in table.columns),
        fn.lit(False).alias("is_late_arrival"),
        *_origin(events),
        fn.lit("history").alias("_audit_run_id"),
        fn.lit("unversioned").alias("_audit_revision"),
        fn.lit(upto).cast("bigint").alias("_audit_source_snapshot"),
        fn.lit(NOW).cast("timestamp").alias("_audit_loaded_at"),
    )


def day(number: int) -> str:
    """A day, counted from the first one of every lake."""
    return (FIRST_DAY + timedelta(days=number)).date().isoformat()
