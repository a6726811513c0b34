"""The bronze job as Flink SQL: settings in, statements out. Nothing here runs anything.

The source's format (`jobs/envelope-format`) parses each Kafka value once and hands over plain columns: the payload, the
id and the time, or why the record can't be placed. SQL adds what needs the Kafka timestamp (future, too late, late) and
routes: dead letters to their topic, the first arrival of each id to the Iceberg table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lakehouse_contract.layout import DEAD_LETTER_COLUMNS, bronze
from lakehouse_contract.names import flink_literal, quoted_identifier, quoted_name, split
from lakehouse_contract.settings import BronzeSettings
from lakehouse_contract.state import SINK_UID_SUFFIX
from lakehouse_contract.tables import flink_type
from lakehouse_jobs import kafka_client

_SOURCE = "events"
_DEAD_LETTERS = "dead_letters"
_CHECKED = "checked"
_KAFKA_MAX_REQUEST = 1_048_576
_KAFKA_BUFFER_MEMORY = 33_554_432
_LETTER_OVERHEAD = 4_096
"""Bytes of a dead letter beside its payload and its key, and then some: names, message, Kafka's own."""


@dataclass(frozen=True, slots=True)
class BronzeStatements:
    """The statements of the job, in the order in which they run.

    `definitions` may hold secrets, so they are neither logged nor shown. `inserts` form one statement set. `tables`
    tells which table that they write, by its whole name, is which of `lakehouse_contract.state.PARTS`.
    """

    definitions: tuple[str, ...] = field(repr=False)
    inserts: tuple[str, ...]
    tables: Mapping[str, str]


def statements(
    settings: BronzeSettings,
    *,
    source_options: Mapping[str, str],
    dead_letter_options: Mapping[str, str],
    catalog_options: Mapping[str, str],
    largest_dead_letter: int,
) -> BronzeStatements:
    """The job of `settings`.

    Args:
        settings: What to ingest.
        source_options: The connector of the source table; see `kafka_source`.
        dead_letter_options: The connector of the dead letters' table; see `kafka_dead_letters`.
        catalog_options: The Iceberg catalog, as Flink names its options.
        largest_dead_letter: The largest Kafka record, in bytes, that the dead letters' topic takes. What does not fit
            is left out of the letter: a record that the broker refuses would fail the job again and again.
    """
    catalog = quoted_identifier(settings.catalog.name)
    return BronzeStatements(
        definitions=(
            _source(settings, source_options),
            _dead_letters(dead_letter_options),
            f"CREATE CATALOG {catalog} WITH (\n{options_clause(catalog_options)}\n)",
            _checked(settings),
        ),
        inserts=(_insert_dead_letters(settings, largest_dead_letter), _insert_bronze(settings)),
        tables={
            quoted_name("default_catalog", "default_database", _DEAD_LETTERS): "dead_letters",
            quoted_name(settings.catalog.name, *settings.table.split(".")): "bronze",
        },
    )


def kafka_source(settings: BronzeSettings) -> dict[str, str]:
    """The options of the source table.

    Raises:
        SettingsRefused: A property is one that the job sets itself.
    """
    kafka = settings.kafka
    return {
        "connector": "kafka",
        "topic": kafka.topic,
        **_kafka_properties(settings),
        "properties.group.id": kafka.consumer_group,
        # After a start without state the group goes on where its last checkpoint committed.
        "scan.startup.mode": "group-offsets",
        # This too is what happens where the record that is to be read next is gone.
        "properties.auto.offset.reset": "none" if kafka.offsets_gone == "fail" else "earliest",
        "properties.isolation.level": "read_committed",
        "key.format": "raw",
        "key.fields": "kafka_key",
        "value.format": "lakehouse-envelope",
        "value.lakehouse-envelope.id-field": settings.event.id_field,
        "value.lakehouse-envelope.time-field": settings.event.time_field,
        "value.fields-include": "EXCEPT_KEY",
    }


def kafka_dead_letters(settings: BronzeSettings, largest: int) -> dict[str, str]:
    """The options of the dead letters' table: transactional, keyed like the source, base64 for bytes.

    Args:
        settings: What to ingest.
        largest: The largest record, in bytes, that the topic takes.

    Raises:
        SettingsRefused: A property is one that the job sets itself.
    """
    return {
        "connector": "kafka",
        "topic": settings.dead_letter_topic,
        **_kafka_properties(settings),
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": f"{settings.namespace}/{settings.pipeline}/{settings.dead_letter_topic}",
        # The other strategy, pooling, can leave a transaction open after a recovery, and readers wait (FLINK-40626).
        "sink.transaction-naming-strategy": "incrementing",
        "properties.transaction.timeout.ms": str(1000 * settings.transaction_timeout_seconds),
        "properties.max.request.size": str(max(largest, _KAFKA_MAX_REQUEST)),
        "properties.buffer.memory": str(max(2 * largest, _KAFKA_BUFFER_MEMORY)),
        "key.format": "raw",
        "key.fields": "original_key",
        "value.format": "json",
        "value.fields-include": "ALL",
        "value.json.timestamp-format.standard": "ISO-8601",
    }


def _kafka_properties(settings: BronzeSettings) -> dict[str, str]:
    return {f"properties.{name}": value for name, value in kafka_client.properties(settings.kafka).items()}


def _source(settings: BronzeSettings, options: Mapping[str, str]) -> str:
    # A row that can't be placed has 1970 as its time, and a time in the far future counts as that too. A watermark only
    # ever rises, so neither moves it. The Kafka timestamp would not do instead: in a replay it is far ahead.
    return f"""CREATE TEMPORARY TABLE {_SOURCE} (
  kafka_key BYTES,
  payload BYTES,
  payload_text STRING,
  event_id STRING,
  event_time TIMESTAMP_LTZ(6) NOT NULL,
  row_time TIMESTAMP_LTZ(3) NOT NULL,
  error_type STRING,
  error_message STRING,
  kafka_partition INT NOT NULL METADATA FROM 'partition' VIRTUAL,
  kafka_offset BIGINT NOT NULL METADATA FROM 'offset' VIRTUAL,
  kafka_timestamp TIMESTAMP_LTZ(3) NOT NULL METADATA FROM 'timestamp' VIRTUAL,
  arrival AS PROCTIME(),
  WATERMARK FOR row_time AS
    CASE WHEN row_time - {_interval(settings.future_tolerance_seconds)} > kafka_timestamp
      THEN TO_TIMESTAMP_LTZ(0, 3) ELSE row_time END - {_interval(settings.watermark_delay_seconds)}
) WITH (
{options_clause(options)}
)"""


def _dead_letters(options: Mapping[str, str]) -> str:
    columns = ",\n".join(
        f"  {column.name} {flink_type(column.type)}{' NOT NULL' if column.required else ''}"
        for column in DEAD_LETTER_COLUMNS
    )
    return f"CREATE TEMPORARY TABLE {_DEAD_LETTERS} (\n{columns}\n) WITH (\n{options_clause(options)}\n)"


def _checked(settings: BronzeSettings) -> str:
    # Seconds are added to the event's time alone: the format bounds it, but a producer's Kafka timestamp is any number.
    future = f"event_time - {_interval(settings.future_tolerance_seconds)} > kafka_timestamp"
    late = f"kafka_timestamp > event_time + {_interval(settings.watermark_delay_seconds)}"
    too_late_seconds = settings.watermark_delay_seconds + settings.allowed_lateness_seconds
    too_late = f"\n      WHEN kafka_timestamp > event_time + {_interval(too_late_seconds)} THEN 'TOO_LATE'"
    return f"""CREATE TEMPORARY VIEW {_CHECKED} AS
SELECT kafka_key, payload, payload_text, event_id, event_time, error_message,
  kafka_partition, kafka_offset, kafka_timestamp, arrival,
  CASE
      WHEN error_type IS NOT NULL THEN error_type
      WHEN {future} THEN 'FUTURE_EVENT_TIME'{too_late if settings.too_late == "deadLetter" else ""}
  END AS error_type,
  {late} AS is_late_arrival
FROM {_SOURCE}"""  # noqa: S608 - numbers of checked settings


def _insert_dead_letters(settings: BronzeSettings, largest: int) -> str:
    too_late = settings.watermark_delay_seconds + settings.allowed_lateness_seconds
    payload, key, cut = _fitting(largest)
    message = f"""CONCAT(
    CASE error_type
      WHEN 'FUTURE_EVENT_TIME' THEN
        'The event lies more than {settings.future_tolerance_seconds} s after its arrival in Kafka.'
      WHEN 'TOO_LATE' THEN 'The event arrived in Kafka more than {too_late} s after it happened.'
      ELSE error_message
    END,
    CASE WHEN {cut} THEN
      ' It does not fit into a dead letter of {largest} bytes: read it in the source, at this partition and offset.'
    ELSE '' END)"""
    values = {
        "original_payload": payload,
        "original_key": key,
        "error_type": "error_type",
        "error_message": message,
        "failed_at": "CURRENT_TIMESTAMP",
    }
    return _insert(
        _DEAD_LETTERS,
        (column.name for column in DEAD_LETTER_COLUMNS),
        values,
        f"FROM {_CHECKED}\nWHERE error_type IS NOT NULL",
    )


def _fitting(largest: int) -> tuple[str, str, str]:
    """Payload and key as far as they fit into a dead letter of `largest` bytes, and whether one of them did not.

    Base64 makes four bytes of three, and the key stands in a letter twice: as it is, and in base64.
    """
    most_key = largest // 16
    most_payload = (largest - _LETTER_OVERHEAD - 3 * most_key) * 3 // 4
    too_large = {  # Latin-1 has one character for each byte
        column: f"CHAR_LENGTH(DECODE({column}, 'ISO-8859-1')) > {most}"
        for column, most in (("payload", most_payload), ("kafka_key", most_key))
    }
    payload, key = (f"CASE WHEN {test} THEN NULL ELSE {column} END" for column, test in too_large.items())
    return payload, key, " OR ".join(too_large.values())


def _insert_bronze(settings: BronzeSettings) -> str:
    table = bronze(settings.table)
    hints = {"uid-suffix": SINK_UID_SUFFIX, "write-parallelism": str(settings.write_parallelism)}
    options = ", ".join(f"{flink_literal(key)}={flink_literal(value)}" for key, value in hints.items())
    name = split(settings.table)
    target = quoted_name(settings.catalog.name, name.namespace, name.table)
    return _insert(
        f"{target} /*+ OPTIONS({options}) */",
        (column.name for column in table.columns),
        {"payload": "payload_text", "ingested_at": "CURRENT_TIMESTAMP"},
        f"""FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY arrival ASC) AS arrival_number
  FROM {_CHECKED}
  WHERE error_type IS NULL
)
WHERE arrival_number = 1""",  # noqa: S608 - constants
    )


def _insert(target: str, columns: Iterable[str], values: Mapping[str, str], origin: str) -> str:
    names = tuple(columns)
    selected = ",\n".join(f"  {values.get(name, name)}" for name in names)
    return f"INSERT INTO {target} ({', '.join(names)})\nSELECT\n{selected}\n{origin}"


def _interval(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    return f"INTERVAL '{days} {hours:02}:{rest // 60:02}:{rest % 60:02}' DAY({len(str(days))}) TO SECOND"


def options_clause(options: Mapping[str, str]) -> str:
    """The inside of a WITH clause, quoted."""
    return ",\n".join(f"  {flink_literal(key)} = {flink_literal(value)}" for key, value in options.items())
