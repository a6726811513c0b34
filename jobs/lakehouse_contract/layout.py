"""Every table of a pipeline, as data: bronze and its dead letters, silver with its quarantine and dimensions.

Gold's columns come from the models' SQL, so only their audit columns stand here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from lakehouse_contract.domain import Dimension, KeyedTable
from lakehouse_contract.tables import Column, PartitionField, Table

_COMMON_PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "format-version": "2",  # pyiceberg writes no newer one, and Flink 1.11 and Spark 1.12 runtimes share it
        # A commit a minute would leave 1,440 metadata files a day.
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "100",
    }
)

_ORIGIN = (
    Column("kafka_partition", "int", "The Kafka partition that the event came from.", required=True),
    Column("kafka_offset", "long", "Its offset in that partition.", required=True),
    Column("kafka_timestamp", "timestamp", "When it arrived, by the topic's own timestamp.", required=True),
)

_LATE = Column("is_late_arrival", "boolean", "Arrived more than the watermark delay after event_time.", required=True)

AUDIT = (
    Column("_audit_run_id", "string", "The run that wrote the row.", required=True),
    Column("_audit_revision", "string", "The revision of the definition that the run worked with.", required=True),
    Column("_audit_source_snapshot", "long", "The snapshot of the source table that the run read up to."),
    Column("_audit_loaded_at", "timestamp", "When the run started.", required=True),
)
"""The columns at the end of every row that a batch job writes."""

GOLD_AUDIT = tuple(column for column in AUDIT if column.name != "_audit_source_snapshot")
"""The same for a row of a gold model, which may come from several tables: its commit names their snapshots."""

QUARANTINE_SUFFIX = "_quarantine"
QUALITY_TABLE = "quality_results"
AUDITS_TABLE = "backfill_audits"


def properties(compression: str) -> dict[str, str]:
    """The Iceberg properties of every table, with the Parquet codec (`zstd` or `snappy`)."""
    return {**_COMMON_PROPERTIES, "write.parquet.compression-codec": compression}


def bronze(name: str, compression: str = "zstd") -> Table:
    """The faithful log: one row for each event that could be placed, its payload as it came."""
    return Table(
        name=name,
        meaning="Every event that could be placed, once, as it came from Kafka. Append-only.",
        columns=(
            Column("event_id", "string", "The event's identity, from the payload.", required=True),
            Column("event_time", "timestamp", "When it happened, from the payload, in microseconds.", required=True),
            Column("payload", "string", "The record's value exactly as it came.", required=True),
            Column("kafka_key", "binary", "The record's key exactly as it came; null where it had none."),
            *_ORIGIN,
            _LATE,
            Column("ingested_at", "timestamp", "When Flink processed it.", required=True),
        ),
        key=("kafka_partition", "kafka_offset"),
        partitions=(PartitionField("event_time", "day"),),
        properties=properties(compression),
    )


DEAD_LETTER_COLUMNS = (
    Column(
        "original_payload",
        "binary",
        "The record's value exactly as it came (base64 in JSON); null for none, and for one that the topic can't take.",
    ),
    Column("original_key", "binary", "The record's key exactly as it came (base64 in JSON); null likewise."),
    Column("error_type", "string", "Why it could not be placed, one of the names in the event format.", required=True),
    Column("error_message", "string", "The same in a sentence.", required=True),
    Column("failed_at", "timestamp", "When Flink refused it.", required=True),
    Column("kafka_partition", "int", "The Kafka partition that it came from.", required=True),
    Column("kafka_offset", "long", "Its offset in that partition.", required=True),
    Column("kafka_timestamp", "timestamp", "When it arrived, by the topic's own timestamp.", required=True),
)
"""The fields of a dead letter: one JSON object per Kafka record."""


def silver(table: KeyedTable, compression: str = "zstd") -> Table:
    """A keyed silver table: the event's identity and origin, the declared columns, the audit."""
    return Table(
        name=table.name,
        meaning="Valid events, one row each.",
        columns=(
            Column("event_id", "string", "The event's identity.", required=True),
            Column("event_time", "timestamp", "When it happened.", required=True),
            *(Column(own.name, own.type, own.expression) for own in table.columns),
            _LATE,
            *_ORIGIN,
            *AUDIT,
        ),
        key=("event_id",),
        partitions=(PartitionField("event_time", "day"),),
        properties=properties(compression),
    )


def quarantine(table: KeyedTable, compression: str = "zstd") -> Table:
    """Rows that broke a quarantining rule of a silver table, as they came, with the names of the rules."""
    return Table(
        name=table.name + QUARANTINE_SUFFIX,
        meaning="Events that broke a rule, one row each, with the rules that they broke.",
        columns=(
            Column("event_id", "string", "The event's identity.", required=True),
            Column("event_time", "timestamp", "When it happened.", required=True),
            Column("broken_rules", "list<string>", "The names of the rules that it broke, sorted.", required=True),
            Column("payload", "string", "The record's value exactly as it came.", required=True),
            _LATE,
            *_ORIGIN,
            *AUDIT,
        ),
        key=("event_id",),
        partitions=(PartitionField("event_time", "day"),),
        properties=properties(compression),
    )


def quality(namespace: str, compression: str = "zstd") -> Table:
    """What each rule found in each run."""
    return Table(
        name=f"{namespace}.{QUALITY_TABLE}",
        meaning="One row per run, table and rule: how many rows it saw and how many broke it.",
        columns=(
            Column("table_name", "string", "The silver table that the rule belongs to.", required=True),
            Column("rule", "string", "The rule's name.", required=True),
            Column("severity", "string", "warn, quarantine or fail.", required=True),
            Column("rows_checked", "long", "Rows that the rule looked at.", required=True),
            Column(
                "rows_broken",
                "long",
                "Rows that broke it; for freshness and rowCount 1 for each day, or run, out of bounds; 0: it was kept.",
                required=True,
            ),
            Column("kind", "string", "builtIn, or the kind of the definition, such as notNull."),
            Column("detail", "string", "What a rule over the whole table found, in a sentence."),
            *AUDIT,
        ),
        key=("_audit_run_id", "table_name", "rule"),
        # Whole values in the files' statistics, so that a run finds its own rows without reading the others'.
        properties={**properties(compression), "write.metadata.metrics.column._audit_run_id": "full"},
    )


def audits(namespace: str, compression: str = "zstd") -> Table:
    """What was found out about days that were computed again, before they were published, or refused."""
    return Table(
        name=f"{namespace}.{AUDITS_TABLE}",
        meaning="One row per run over days, table and check: whether what the run prepared passed it.",
        columns=(
            Column("table_name", "string", "The table that was to be changed.", required=True),
            Column("check_name", "string", "What was looked at.", required=True),
            Column(
                "passed", "boolean", "Whether it was in order; if one was not, nothing was published.", required=True
            ),
            Column("found", "string", "What was found, in a sentence.", required=True),
            Column("first_day", "string", "The first event day of the run.", required=True),
            Column("last_day", "string", "The last one.", required=True),
            Column("replaced_snapshot", "long", "The table's snapshot before; null for a table without one."),
            Column("staged_snapshot", "long", "The snapshot that held what was looked at, on a branch of the table."),
            *AUDIT,
        ),
        key=("_audit_run_id", "table_name", "check_name"),
        properties={**properties(compression), "write.metadata.metrics.column._audit_run_id": "full"},
    )


REFRESHES_TABLE = "model_refreshes"
FRESHNESS_VIEW = "model_freshness"


def refreshes(namespace: str, compression: str = "zstd") -> Table:
    """What each gold model was last computed from; the view `model_freshness` compares it with what is there now."""
    return Table(
        name=f"{namespace}.{REFRESHES_TABLE}",
        meaning="One row per gold model and silver table that it rests on, directly or through other models.",
        columns=(
            Column("model", "string", "The gold table.", required=True),
            Column("refreshed_at", "timestamp", "When its rows were last committed.", required=True),
            Column("source_table", "string", "The silver table; null for a model that rests on none."),
            Column("source_snapshot", "long", "The snapshot of it that is in the model."),
            Column("source_committed_at", "timestamp", "When that snapshot was committed."),
            *GOLD_AUDIT,
        ),
        key=("model", "source_table"),
        properties=properties(compression),
    )


def dimension(definition: Dimension, source: KeyedTable, compression: str = "zstd") -> Table:
    """A slowly changing dimension of type 2 over a keyed silver table."""
    types = {column.name: column.type for column in source.columns}
    return Table(
        name=definition.name,
        meaning=f"Versions of {definition.key}: one row for each period in which nothing tracked changed.",
        columns=(
            Column("version_id", "string", "SHA-256 of `key@valid_from`, in microseconds.", required=True),
            Column(definition.key, types[definition.key], "Whose version it is.", required=True),
            *(Column(name, types[name], "Tracked: a change starts a new version.") for name in definition.tracked),
            Column("valid_from", "timestamp", "The first instant of the version.", required=True),
            Column("valid_to", "timestamp", "The first instant after it; null for the current version."),
            Column("is_current", "boolean", "Whether it is the key's newest version.", required=True),
            *AUDIT,
        ),
        key=("version_id",),
        # A change of a few versions must not rewrite the files of all the others.
        properties={**properties(compression), "write.merge.mode": "merge-on-read"},
    )
