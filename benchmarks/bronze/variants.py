"""The full job and its parts: each variant has one thing more than the one before it, so the difference is its cost."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakehouse_contract.settings import BronzeSettings
from lakehouse_jobs import bronze_sql, dead_letter_topic, iceberg_catalog

_BOUNDED = {"scan.bounded.mode": "latest-offset", "scan.startup.mode": "earliest-offset"}


@dataclass(frozen=True, slots=True)
class Statements:
    """What to define, and what to run as one job."""

    definitions: tuple[str, ...]
    inserts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of the job.

    Attributes:
        name: What it is called.
        adds: What it does that the one before it does not.
        writes: Whether it writes to the table and to the dead letters, so that the counts can be checked there.
        drops_repeats: Whether there is one row for each id.
        build: Its statements.
    """

    name: str
    adds: str
    writes: bool
    build: Callable[[BronzeSettings], Statements]
    drops_repeats: bool = True


def full(settings: BronzeSettings) -> Statements:
    """The job as it is, but it ends with the topic."""
    largest = dead_letter_topic.KAFKA_DEFAULT
    made = bronze_sql.statements(
        settings,
        source_options={**bronze_sql.kafka_source(settings), **_BOUNDED},
        dead_letter_options=bronze_sql.kafka_dead_letters(settings, largest),
        catalog_options=iceberg_catalog.flink_catalog_options(iceberg_catalog.catalog_properties(settings.catalog, {})),
        largest_dead_letter=largest,
    )
    return Statements(made.definitions, made.inserts)


def without_deduplication(settings: BronzeSettings) -> Statements:
    """Both real sinks, but repeats are not dropped."""
    made = full(settings)
    return Statements(made.definitions, (made.inserts[0], _without_rank(made.inserts[1])))


def into_nothing(settings: BronzeSettings) -> Statements:
    """Everything but the sinks."""
    made = full(settings)
    return _into_nothing(made.definitions, made.inserts)


def checked(settings: BronzeSettings) -> Statements:
    """Source, watermark and verdicts."""
    made = without_deduplication(settings)
    return _into_nothing(made.definitions, made.inserts)


def without_watermark(settings: BronzeSettings) -> Statements:
    """Source and verdicts."""
    made = checked(settings)
    source = re.sub(r",\s*WATERMARK FOR row_time AS.*?(?=\n\) WITH)", "", made.definitions[0], flags=re.DOTALL)
    if "WATERMARK" in source:
        raise ValueError("the watermark is declared in another way than this benchmark knows")
    return Statements((source, *made.definitions[1:]), made.inserts)


def parsed(settings: BronzeSettings) -> Statements:
    """The format alone: every column of it, and nothing else."""
    columns = (
        "payload BYTES, payload_text STRING, event_id STRING, event_time TIMESTAMP_LTZ(6), row_time TIMESTAMP_LTZ(3),"
        " error_type STRING, error_message STRING"
    )
    options = {key: value for key, value in bronze_sql.kafka_source(settings).items() if not key.startswith("key.")}
    return _copy(columns, {**options, **_BOUNDED, "value.fields-include": "ALL"})


def raw(settings: BronzeSettings) -> Statements:
    """Kafka's bytes, unread."""
    options = {
        key: value for key, value in bronze_sql.kafka_source(settings).items() if not key.startswith(("key.", "value."))
    }
    return _copy("payload BYTES", {**options, **_BOUNDED, "format": "raw"})


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("raw", "Kafka to nothing", writes=False, build=raw),
        Variant("parsed", "the format: JSON, id, time", writes=False, build=parsed),
        Variant("checked", "key, partition, offset; late, too late, future", writes=False, build=without_watermark),
        Variant("watermark", "the watermark", writes=False, build=checked),
        Variant("deduplicated", "the exchange and the state in RocksDB", writes=False, build=into_nothing),
        Variant("full", "both sinks, exactly once", writes=True, build=full),
        Variant(
            "not deduplicated",
            "(both sinks, but no exchange and no state)",
            writes=True,
            build=without_deduplication,
            drops_repeats=False,
        ),
    )
}


def _copy(columns: str, options: Mapping[str, str]) -> Statements:
    source = f"CREATE TEMPORARY TABLE events ({columns}) WITH (\n{bronze_sql.options_clause(options)}\n)"
    nothing = f"CREATE TEMPORARY TABLE nothing ({columns}) WITH ('connector' = 'blackhole')"
    return Statements((source, nothing), ("INSERT INTO nothing SELECT * FROM events",))


def _into_nothing(definitions: tuple[str, ...], inserts: tuple[str, ...]) -> Statements:
    """The same queries, but what comes out of them goes nowhere."""
    source, letters, _, view = definitions
    nowhere = letters[: letters.rindex(") WITH (")] + ") WITH ('connector' = 'blackhole')"
    bronze = (
        "CREATE TEMPORARY TABLE bronze_nothing (event_id STRING NOT NULL, event_time TIMESTAMP_LTZ(6) NOT NULL,"
        " payload STRING NOT NULL, kafka_key BYTES, kafka_partition INT NOT NULL, kafka_offset BIGINT NOT NULL,"
        " kafka_timestamp TIMESTAMP_LTZ(6) NOT NULL, is_late_arrival BOOLEAN NOT NULL,"
        " ingested_at TIMESTAMP_LTZ(6) NOT NULL) WITH ('connector' = 'blackhole')"
    )
    target, found = re.subn(r"^INSERT INTO \S+ /\*.*?\*/", "INSERT INTO bronze_nothing", inserts[1])
    if not found:
        raise ValueError("the table is written in another way than this benchmark knows")
    return Statements((source, nowhere, bronze, view), (inserts[0], target))


def _without_rank(insert: str) -> str:
    start = insert.rindex("FROM (\n")
    return insert[:start] + "FROM checked WHERE error_type IS NULL"
