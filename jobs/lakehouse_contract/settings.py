"""The settings of each job: one JSON argument, read by `decoding.from_json`.

Secrets never travel here. `secret_properties` maps the name of a property to the environment variable that holds its
value in the job's process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lakehouse_contract import coherence
from lakehouse_contract.decoding import Check, Problem, SettingsRefused, at_least, checked, matches, not_empty
from lakehouse_contract.domain import Dimension, KeyedTable, Model, PayloadColumn
from lakehouse_contract.names import environment_variable, identifier, qualified, topic

_instant: Check = matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "an instant such as 2026-01-31T05:00:00Z")
_day: Check = matches(r"\d{4}-\d\d-\d\d", "a day such as 2026-01-31")
_namespace: Check = matches(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a namespace's name")
_pipeline: Check = matches(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?", "a pipeline's name")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """The Iceberg catalog, the same for every engine. `name` is a key in a JDBC catalog: it must never differ."""

    type: Literal["jdbc", "rest", "hive"]
    uri: str = checked(not_empty)
    warehouse: str = checked(not_empty)
    name: str = checked(identifier, default="lakehouse")
    properties: Mapping[str, str] = field(default_factory=dict)
    secret_properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaLogin:
    """A login by SASL: its mechanism, and the environment variables that hold user and password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str = checked(environment_variable)
    password: str = checked(environment_variable)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where events come from. `properties` are Kafka client properties.

    `offsets_gone` says what happens when Kafka no longer holds what is to be read next: the job fails, or it skips to
    the oldest record that is there.
    """

    bootstrap_servers: str = checked(not_empty)
    topic: str = checked(topic)
    consumer_group: str = checked(not_empty)
    properties: Mapping[str, str] = field(default_factory=dict)
    secret_properties: Mapping[str, str] = field(default_factory=dict)
    login: KafkaLogin | None = None
    offsets_gone: Literal["fail", "skip"] = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Which fields at the top of the payload place an event."""

    id_field: str = checked(not_empty, default="event_id")
    time_field: str = checked(not_empty, default="event_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSettings:
    """Flink's restart strategy.

    `attempts` are all restarts (fixedDelay), failures in `window_seconds` (failureRate), or restarts until the job has
    run for `window_seconds` (exponentialDelay, which doubles `delay_seconds` up to `max_delay_seconds`). 0 means none.
    """

    strategy: Literal["fixedDelay", "exponentialDelay", "failureRate"] = "fixedDelay"
    attempts: int = checked(at_least(0), default=3)
    delay_seconds: int = checked(at_least(0), default=30)
    max_delay_seconds: int = checked(at_least(0), default=300)
    window_seconds: int = checked(at_least(1), default=600)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Checkpoints: how often, and where they and savepoints lie (URIs)."""

    directory: str = checked(not_empty)
    savepoint_directory: str = checked(not_empty)
    interval_seconds: int = checked(at_least(1), default=60)
    timeout_seconds: int = checked(at_least(1), default=600)


@dataclass(frozen=True, slots=True, kw_only=True)
class BronzeSettings:
    """The streaming job. Every duration is in seconds; lateness is arrival (the Kafka timestamp) minus event time.

    `state_version` is the one of the state that the job goes on with (`lakehouse_contract.state`); 0 says nothing.
    `namespace` and `pipeline` name it among all that write to the same Kafka: the transactions of two that were called
    the same would end each other.
    """

    pipeline: str = checked(_pipeline)
    namespace: str = checked(_namespace, default="default")
    kafka: KafkaSettings
    catalog: CatalogSettings
    checkpoint: CheckpointSettings
    table: str = checked(qualified)
    dead_letter_topic: str = checked(topic)
    event: EventSettings = EventSettings()
    restart: RestartSettings = RestartSettings()
    watermark_delay_seconds: int = checked(at_least(0), default=300)
    allowed_lateness_seconds: int = checked(at_least(0), default=3600)
    too_late: Literal["deadLetter", "keep"] = "deadLetter"
    future_tolerance_seconds: int = checked(at_least(0), default=300)
    dedup_ttl_seconds: int = checked(at_least(1), default=86_400)
    idle_timeout_seconds: int = checked(at_least(1), default=30)
    transaction_timeout_seconds: int = checked(at_least(60), default=900)
    parallelism: int | None = checked(at_least(1), default=None)
    write_parallelism: int = checked(at_least(1), default=1)
    state_version: int = checked(at_least(0), default=0)
    compression: Literal["zstd", "snappy"] = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRange:
    """The commits of a source table in `(after, upto]`. No `after` means from the table's first commit."""

    upto: int
    after: int | None = None


def _fraction(value: float) -> str | None:
    return None if 0 <= value <= 1 else f"must be from 0 to 1, not {value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLimits:
    """How far days that are computed again may differ from what they replace, before they are published.

    `max_events_lost` is the share of the events that are there now and would be gone, or of the days of a gold model.
    `max_null_increase` is by how much the share of NULLs of a column may rise: 0.5 lets it rise from 10 % to 60 %.
    """

    max_events_lost: float = checked(_fraction, default=0.0)
    max_null_increase: float = checked(_fraction, default=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRange:
    """Whole event days, both ends included, recomputed from one pinned source snapshot (the current one if none)."""

    first: str = checked(_day)
    last: str = checked(_day)
    at_snapshot: int | None = None
    audit: AuditLimits = AuditLimits()

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise SettingsRefused((Problem("last", f"{self.last} lies before first, {self.first}"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """One run: who asked for it and over what. Without a range it takes what the target has not seen yet.

    `id` and `revision` are stamped on every commit and every row that the run writes.
    """

    id: str = checked(matches(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", "a run's name"))
    revision: str = checked(not_empty, default="unversioned")
    interval_start: str | None = checked(_instant, default=None)
    interval_end: str | None = checked(_instant, default=None)
    snapshots: SnapshotRange | None = None
    days: DayRange | None = None

    def __post_init__(self) -> None:
        if self.snapshots and self.days:
            raise SettingsRefused((Problem("days", "give either snapshots or days, not both"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SilverSettings:
    """The batch job that turns bronze into silver."""

    pipeline: str = checked(_pipeline)
    catalog: CatalogSettings
    run: RunSettings
    bronze_table: str = checked(qualified)
    columns: tuple[PayloadColumn, ...] = checked(not_empty)
    tables: tuple[KeyedTable, ...] = checked(not_empty)
    dimensions: tuple[Dimension, ...] = ()
    compression: Literal["zstd", "snappy"] = "zstd"

    def __post_init__(self) -> None:
        problems = coherence.silver_problems(self.bronze_table, self.columns, self.tables, self.dimensions)
        if found := tuple(problems):
            raise SettingsRefused(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldSettings:
    """The batch job that turns silver into gold. Each of `models` reads only silver and models that stand before it.

    `sources` are the silver tables (keyed tables and dimensions) that models may read.
    """

    pipeline: str = checked(_pipeline)
    catalog: CatalogSettings
    run: RunSettings
    sources: tuple[str, ...] = checked(not_empty)
    models: tuple[Model, ...] = checked(not_empty)
    compression: Literal["zstd", "snappy"] = "zstd"

    def __post_init__(self) -> None:
        problems = list(coherence.gold_problems(self.sources, self.models))
        if self.run.snapshots:
            problems.append(Problem("run.snapshots", "a gold run reads several tables, each from where it has come to"))
        if problems:
            raise SettingsRefused(tuple(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnJobSettings:
    """The settings of a user's own batch job: whatever it computes, it reads `reads` and writes `writes`."""

    pipeline: str = checked(_pipeline)
    catalog: CatalogSettings
    run: RunSettings
    reads: tuple[str, ...] = checked(not_empty)
    writes: tuple[str, ...] = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSettings:
    """Small files are rewritten into large ones, in days that got no rows for a while.

    A day is rewritten when it has `min_input_files` small files or deletes. `max_bytes` bounds what one run rewrites of
    one table; the next run goes on.
    """

    target_file_bytes: int = checked(at_least(1), default=268_435_456)
    min_age_seconds: int = checked(at_least(0), default=7200)
    min_input_files: int = checked(at_least(2), default=5)
    max_bytes: int = checked(at_least(1), default=107_374_182_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirySettings:
    """Old snapshots are removed, except what a tag holds, and so are files that no snapshot knows."""

    retention_seconds: int = checked(at_least(0), default=604_800)
    keep_snapshots: int = checked(at_least(1), default=100)
    orphan_retention_seconds: int = checked(at_least(259_200), default=604_800)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSettings:
    """The batch job that keeps a pipeline's tables in good shape. What is None is not done.

    `tables` are all tables of the pipeline, `bronze_table` among them. `readers` are those whose commits say how far
    they have come in bronze: until each of them has said so, no snapshot of bronze is removed.
    """

    pipeline: str = checked(_pipeline)
    catalog: CatalogSettings
    run: RunSettings
    bronze_table: str = checked(qualified)
    tables: tuple[str, ...] = checked(not_empty)
    readers: tuple[str, ...] = ()
    compaction: CompactionSettings | None = None
    expiry: ExpirySettings | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in (self.bronze_table, *self.readers) if name not in self.tables]
        if unknown:
            raise SettingsRefused((Problem("tables", f"must hold {', '.join(unknown)}"),))
