"""The LakehousePipeline: one stream of events from Kafka to gold.

The defaults are the reference pipeline's, so a pipeline that only needs bronze is about fifteen lines.
"""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lakehouse_contract.state import MAX_PARALLELISM
from lakehouse_operator.api.objects import ConfigMapKey, Metadata, SecretRef
from lakehouse_operator.api.parts import Cel, KeyedBy, Part, rolls
from lakehouse_operator.api.pipeline_status import PipelineStatus
from lakehouse_operator.api.values import (
    ColumnType,
    Cron,
    Duration,
    Expression,
    FlinkVersion,
    Identifier,
    Image,
    JsonPath,
    Labels,
    Memory,
    ObjectName,
    Properties,
    SecretKey,
    Statement,
    TableName,
    Text,
    TimeZone,
    Topic,
    Uri,
    anything,
)

MAX_NAME = 38
"""The longest name of a pipeline: with its suffix it must fit the 45 characters of a FlinkDeployment's name."""

_NAME = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")

EventField = Annotated[str, anything("the name of a field at the top of the payload", 128)]
Cpu = Annotated[float, Field(ge=0.1, le=256)]
PositiveInt = Annotated[int, Field(ge=1, le=10_000)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Parallelism = Annotated[int, Field(ge=1, le=MAX_PARALLELISM)]


# --- where events come from -----------------------------------------------------------------------------------------


class EventFields(Part):
    """Which fields at the top of the payload place an event."""

    id_field: Annotated[
        EventField,
        rolls("newState"),
        Cel("self == oldSelf", "idField can't be changed: repeats are recognized by it; create a new pipeline instead"),
    ] = "event_id"
    """The field that identifies an event; a repeat of the same value is the same event."""
    time_field: EventField = "event_time"
    """The field that says when it happened (RFC 3339)."""


class KafkaSecurity(Part):
    """How the job and the operator prove to Kafka who they are."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.protocol.startsWith('SASL_') || (has(self.mechanism) && has(self.secretRef))",
            "protocol SASL_* needs mechanism and secretRef (a Secret with the keys username and password)",
            lambda self: not self.protocol.startswith("SASL_") or bool(self.mechanism and self.secret_ref),
        ),
        Cel(
            "self.protocol.startsWith('SASL_') || !has(self.mechanism)",
            "mechanism belongs only to protocol SASL_PLAINTEXT or SASL_SSL",
            lambda self: self.protocol.startswith("SASL_") or self.mechanism is None,
            "mechanism",
        ),
        Cel(
            "(self.verifyWith == 'system' && !self.clientCertificate)"
            " || (self.protocol.endsWith('SSL') && has(self.secretRef))",
            "verifyWith secret and clientCertificate need protocol SSL or SASL_SSL and secretRef",
            lambda self: (
                (self.verify_with == "system" and not self.client_certificate)
                or (self.protocol.endswith("SSL") and self.secret_ref is not None)
            ),
        ),
    )

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "SASL_SSL"
    """Kafka's `security.protocol`."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """Kafka's `sasl.mechanism`."""
    secret_ref: SecretRef | None = None
    """The Secret: `username` and `password` for SASL; for TLS, where wanted, `ca.crt` and, for client certificates,
    `tls.crt` and `tls.key` (PEM)."""
    verify_with: Literal["system", "secret"] = "system"
    """Whom a broker's certificate must be signed by: an authority that the image trusts, or the Secret's `ca.crt`."""
    client_certificate: bool = False
    """Whether the client shows the certificate `tls.crt` with the key `tls.key` of the Secret."""


class Source(Part):
    """The Kafka topic that the events come from."""

    bootstrap_servers: Annotated[
        str, Text(r"[^ ,]+:[0-9]{1,5}(,[^ ,]+:[0-9]{1,5})*", "brokers such as kafka-0:9092,kafka-1:9092", 2048)
    ]
    """Brokers to start from, as `host:port`, separated by commas."""
    topic: Annotated[
        Topic,
        rolls("newState"),
        Cel(
            "self == oldSelf",
            "topic can't be changed: the stream's offsets belong to it; create a new pipeline",
        ),
    ]
    """The topic. It should carry arrival time (`message.timestamp.type=LogAppendTime`)."""
    consumer_group: (
        Annotated[str, Text(r"[A-Za-z0-9._-]{1,249}", "a consumer group: 1 to 249 of A-Z a-z 0-9 . _ -", 249)] | None
    ) = None
    """The consumer group whose committed offsets show the progress. Default: `lakehouse.<namespace>.<name>`. No other
    application may use it."""
    event: EventFields = EventFields()
    """Which fields of the payload place an event."""
    offsets_gone: Literal["fail", "skip"] = "fail"
    """What happens when Kafka no longer holds the record that bronze has to read next, because of the topic's retention
    or because the topic was made again. `fail`: the stream fails and says so. `skip`: it goes on from the oldest record
    that is there. Either way the condition SourceIntact says what is missing."""
    properties: Properties = Field(default_factory=dict)
    """Further Kafka client properties. Passwords and the like are refused here: they come by `security.secretRef`."""
    security: KafkaSecurity | None = None
    """How to authenticate. Without it, the connection is plain text."""


# --- where tables live ----------------------------------------------------------------------------------------------


class CatalogSecret(Part):
    """A Secret that holds secret properties of the catalog."""

    name: ObjectName
    """The Secret's name."""
    properties: Annotated[Mapping[str, SecretKey], Field(max_length=16)] = Field(default_factory=dict)
    """Catalog property -> key in the Secret. Default for `jdbc`: `jdbc.user: username` and `jdbc.password: password`;
    for `rest`: `credential: credential`; for `hive`: none."""


class Catalog(Part):
    """The Iceberg catalog, the same for every engine."""

    type: Literal["rest", "jdbc", "hive"]
    """The catalog's protocol."""
    uri: Uri
    """Where it answers: `http(s)://...` (rest), `jdbc:...` (jdbc) or `thrift://...` (hive)."""
    warehouse: Annotated[str, Text(r"[^ ]+", "a warehouse such as s3://bucket/warehouse", 1024)]
    """Where new tables go: a URI, or the name that a REST catalog knows the warehouse by."""
    name: Annotated[
        Identifier,
        rolls("newState"),
        Cel("self == oldSelf", "name can't be changed: a JDBC catalog keeps tables under it; create a new pipeline"),
    ] = "lakehouse"
    """The catalog's name in SQL. In a JDBC catalog it is part of every table's key."""
    properties: Properties = Field(default_factory=dict)
    """Further catalog properties. Passwords and the like are refused here: they come by `secretRef`."""
    secret_ref: CatalogSecret | None = None
    """The Secret with the catalog's credentials."""


class Storage(Part):
    """The S3-compatible store of tables, checkpoints and savepoints. Leave it out where the platform grants access."""

    endpoint: Annotated[str, Text(r"https?://[^ ]+", "a URL such as https://s3.example", 1024)] | None = None
    """The endpoint, where it is not AWS's own."""
    region: Annotated[str, Text(r"[a-z0-9-]+", "a region such as eu-central-1", 64)] = "us-east-1"
    """The region."""
    path_style_access: bool = False
    """Whether buckets are addressed as a path (`http://host/bucket`), as MinIO and versitygw want it."""
    secret_ref: SecretRef | None = None
    """The Secret with the keys `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where needed, `AWS_SESSION_TOKEN`."""


# --- pods -----------------------------------------------------------------------------------------------------------


class Toleration(Part):
    """A toleration, as in a pod's spec."""

    key: Annotated[str, Text("", "a taint's key", 316, min_length=0)] | None = None
    """The taint's key; every key where left out."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared."""
    value: Annotated[str, Text("", "a taint's value", 63, min_length=0)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; every effect where left out."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated."""


class Pod(Part):
    """Where pods may run and what they carry. Security contexts are set by the operator."""

    labels: Labels = Field(default_factory=dict)
    """Labels of the pods."""
    annotations: Labels = Field(default_factory=dict)
    """Annotations of the pods."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that are tolerated."""
    priority_class_name: ObjectName | None = None
    """The pods' priority class."""
    image_pull_secrets: Annotated[tuple[SecretRef, ...], KeyedBy("name"), Field(max_length=8)] = ()
    """Secrets for pulling the image."""


# --- bronze ---------------------------------------------------------------------------------------------------------


class JobManager(Part):
    """The process that coordinates the stream."""

    cpu: Cpu = 1.0
    """CPUs. Far below 1 a start takes minutes."""
    memory: Memory = "2Gi"
    """Memory of the whole process."""


class TaskManager(Part):
    """A process that does the stream's work."""

    cpu: Cpu = 1.0
    """CPUs."""
    memory: Memory = "2Gi"
    """Memory of the whole process."""
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    """Task slots: how much of the parallelism runs in one process."""


class Checkpoint(Part):
    """Checkpoints: the unit of exactly-once. Bronze gets its rows once per checkpoint."""

    directory: Uri
    """Where checkpoints are kept."""
    savepoint_directory: Uri | None = None
    """Where savepoints are kept. Required unless `upgrade.mode` is lastState and `deletion.policy` is Force."""
    interval: Duration = "60s"
    """How often a checkpoint is taken, and so how fresh bronze is."""
    timeout: Duration = "10m"
    """When a checkpoint or savepoint counts as failed."""


class Soak(Part):
    """How long, and by what, an upgrade is watched before it counts as good."""

    duration: Duration = "10m"
    """How long it is watched; `0s` means that RUNNING with one completed checkpoint is enough."""
    max_restarts: Count = 2
    """How often the job may restart in that time."""
    max_failed_checkpoints: Count = 3
    """How many checkpoints may fail in that time."""
    max_lag: Annotated[int, Field(ge=0)] | None = None
    """How many records the stream may be behind at the end; not looked at where left out."""


class Upgrade(Part):
    """How a change that needs a restart is carried out."""

    mode: Literal["savepoint", "lastState"] = "savepoint"
    """`savepoint`: stop with a savepoint. `lastState`: stop at once and go on from the newest checkpoint."""
    when_unhealthy: Literal["hold", "lastState"] = "hold"
    """What to do where mode savepoint can't take one: wait with a condition that says so, or go on from the newest
    checkpoint. Never without state."""
    max_recovery_point_age: Duration = "15m"
    """How old a checkpoint may be that the stream goes on from."""
    savepoint_timeout: Duration = "10m"
    """How long to wait for a savepoint before it counts as failed."""
    soak: Soak = Soak()
    """How the new revision is watched afterwards."""
    rollback: Literal["automatic", "manual"] = "automatic"
    """Whether a revision that fails its soak is taken back to the last good one, with its state."""


class Recovery(Part):
    """What the operator does when Flink has given up."""

    retries: Count = 5
    """How often the operator starts the job again from its newest state before it reports Stalled."""
    backoff: Duration = "1m"
    """How long it waits before the first time; doubled each time."""
    max_backoff: Duration = "30m"
    """The longest wait."""
    reset_after: Duration = "1h"
    """After running this long the count starts again."""


class Restart(Part):
    """How Flink restarts the job after a failure, and what happens when that is used up."""

    strategy: Literal["fixedDelay", "exponentialDelay", "failureRate"] = "fixedDelay"
    """Flink's restart strategy."""
    attempts: Count = 3
    """`fixedDelay`: how many restarts in all. `failureRate`: how many failures in `window`. `exponentialDelay`: how
    many restarts before it gives up; it starts to count again after running for `window`."""
    delay: Duration = "30s"
    """How long to wait before a restart; for `exponentialDelay` before the first, doubled each time."""
    max_delay: Duration = "5m"
    """`exponentialDelay`: the longest wait."""
    window: Duration = "10m"
    """`failureRate`: the time in which failures are counted. `exponentialDelay`: the time without failure after which
    the wait is short again."""
    recovery: Annotated[Recovery, rolls("hot")] = Recovery()
    """What the operator does when Flink has given up."""


class Deletion(Part):
    """What deleting the pipeline does. The tables and the events in Kafka are never deleted."""

    policy: Literal["Retain", "Block", "Force"] = "Retain"
    """`Retain`: stop with a savepoint and keep the record of it, so that the pipeline can be created again. `Block`:
    refuse while there is no recovery point younger than `upgrade.maxRecoveryPointAge` (a proven one, where that can be
    seen). `Force`: delete without a savepoint."""


class RecoveryPoints(Part):
    """Savepoints that are taken while the stream runs."""

    interval: Duration = "6h"
    """How often one is taken; `0s` means never."""
    keep: Annotated[int, Field(ge=1, le=50)] = 5
    """How many of them are kept; each keeps its bronze snapshot alive. Those taken by hand are kept until
    `lakehouse forget` gives them up."""


class Bronze(Part):
    """The stream: Kafka to the bronze table, exactly once, with Apache Flink."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.upgrade.mode != 'savepoint' || has(self.checkpoint.savepointDirectory)",
            "upgrade.mode savepoint needs checkpoint.savepointDirectory; set it, or choose upgrade.mode lastState",
            lambda self: self.upgrade.mode != "savepoint" or self.checkpoint.savepoint_directory is not None,
            "checkpoint",
        ),
        Cel(
            "self.deletion.policy == 'Force' || has(self.checkpoint.savepointDirectory)",
            "deletion.policy Retain or Block needs checkpoint.savepointDirectory; set it, or choose Force",
            lambda self: self.deletion.policy == "Force" or self.checkpoint.savepoint_directory is not None,
            "checkpoint",
        ),
        Cel(
            "!has(self.checkpoint.savepointDirectory)"
            " || self.checkpoint.savepointDirectory != self.checkpoint.directory",
            "savepointDirectory must differ from directory, so that cleaning up one spares the other",
            lambda self: self.checkpoint.savepoint_directory != self.checkpoint.directory,
            "checkpoint",
        ),
    )

    image: Image
    """The image with Flink, the connectors and the bronze job."""
    table: Annotated[TableName | None, rolls("newState")] = None
    """The bronze table. Default: `bronze.<name>` with underscores for hyphens. It can't be changed later."""
    flink_version: FlinkVersion = "v2_1"
    """The Flink version of the image, as the Flink operator spells it."""
    service_account: ObjectName = "flink"
    """The service account of the pods; Flink's JobManager creates TaskManagers with it."""
    parallelism: Parallelism = 1
    """How many tasks work side by side; more than the topic has partitions does not help."""
    write_parallelism: Parallelism = 1
    """How many of them write files; each writes at least one file per day and checkpoint."""
    job_manager: JobManager = JobManager()
    """The coordinating process."""
    task_manager: TaskManager = TaskManager()
    """The working processes."""
    pod: Pod = Pod()
    """Where the pods may run and what they carry."""
    checkpoint: Checkpoint
    """Checkpoints and savepoints."""
    watermark_delay: Duration = "5m"
    """How long events are waited for: an event that arrives later than this after it happened is flagged late."""
    allowed_lateness: Duration = "1h"
    """How much later still it may arrive before it is `tooLate`."""
    too_late: Literal["deadLetter", "keep"] = "deadLetter"
    """What happens to events beyond the allowed lateness."""
    future_tolerance: Duration = "5m"
    """How far ahead of its arrival an event's time may lie."""
    dedup_ttl: Duration = "24h"
    """How long a repeat of an event is recognized, from its first arrival."""
    idle_timeout: Duration = "30s"
    """After this long without events a partition no longer holds back the watermark."""
    dead_letter_topic: Topic | None = None
    """Where events go that can't be placed. Default: `<topic>-dlq`."""
    transaction_timeout: Duration = "15m"
    """How long Kafka keeps a transaction of dead letters open. It must not be above the broker's
    `transaction.max.timeout.ms` (15 minutes by default), nor below checkpoint interval and timeout together."""
    compression: Literal["zstd", "snappy"] = "zstd"
    """The codec of the Parquet files."""
    flink_configuration: Annotated[Properties, Field(max_length=128)] = Field(default_factory=dict)
    """Further Flink configuration. Keys that other fields set, or that would endanger the data, are refused; so are all
    `table.*`."""
    upgrade: Annotated[Upgrade, rolls("hot")] = Upgrade()
    """How changes are carried out."""
    restart: Restart = Restart()
    """What happens after failures."""
    deletion: Annotated[Deletion, rolls("hot")] = Deletion()
    """What deleting the pipeline does."""
    recovery_points: Annotated[RecoveryPoints, rolls("hot")] = RecoveryPoints()
    """Savepoints on a schedule."""


# --- batch stages ---------------------------------------------------------------------------------------------------


class Driver(Part):
    """Spark's driver."""

    cpu: Cpu = 1.0
    """CPUs."""
    memory: Memory = "1Gi"
    """The driver's Java heap; at least 480Mi."""
    memory_overhead: Memory = "512Mi"
    """Memory beyond the heap: Python, buffers, threads."""


class Executor(Part):
    """Spark's executors."""

    instances: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many."""
    cores: Annotated[int, Field(ge=1, le=64)] = 1
    """Tasks that one executor runs at a time."""
    cpu: Cpu | None = None
    """CPUs that one executor asks for. Default: `cores`."""
    memory: Memory = "2Gi"
    """One executor's Java heap; at least 480Mi."""
    memory_overhead: Memory = "512Mi"
    """Memory beyond the heap."""


class CatchUp(Part):
    """What happens to intervals that were missed while the operator or a dependency was away."""

    policy: Literal["all", "latest", "none"] = "all"
    """`all`: run each, oldest first. `latest`: run only the newest; it takes the rows of the others with it. `none`: as
    `latest`, but not where the newest ended longer ago than its own length and the trigger's deadline together, as a
    schedule that is rarer than its intervals lets happen; the next one takes its rows with it."""
    limit: PositiveInt = 168
    """With `all`: at most so many, the newest ones; the oldest of them takes the rows of those before."""


class Retry(Part):
    """How often a failed run is tried again, by what it failed from."""

    infrastructure: Count = 10
    """Evicted and preempted pods, lost nodes, drivers that somebody stopped or killed, services that did not answer."""
    out_of_memory: Count = 3
    """Drivers and executors that were killed for their memory, or whose Java heap was too small; tried again with
    more."""
    data: Count = 0
    """Rules of severity fail that were broken: the same data breaks them again."""
    code: Count = 1
    """Everything else that the job itself raised."""
    backoff: Duration = "30s"
    """How long to wait before the first retry; doubled each time."""
    max_backoff: Duration = "15m"
    """The longest wait."""
    memory_growth: Annotated[float, Field(ge=1.0, le=4.0)] = 1.5
    """By what memory is multiplied after a kill."""
    max_memory: Memory = "16Gi"
    """The most that a driver or executor heap is given."""


class History(Part):
    """How many finished runs are kept as objects. What they did stays known from the tables' own commits."""

    succeeded: Annotated[int, Field(ge=1, le=1000)] = 48
    """How many that succeeded."""
    failed: Annotated[int, Field(ge=1, le=1000)] = 24
    """How many that failed or were cancelled."""


class OwnJob(Part):
    """A job of one's own instead of the built-in one, under the same contract (`OwnJobSettings`).

    It gets `arguments`, then `--settings` and its settings as JSON.
    """

    entry_point: Annotated[
        str, Text(r"local:///[^ ]+\.py", "a script in the image such as local:///opt/jobs/silver.py", 512)
    ]
    """The Python script in the image."""
    arguments: Annotated[tuple[Annotated[str, anything("an argument", 1024)], ...], Field(max_length=64)] = ()
    """Arguments before the settings. They are no place for secrets."""
    writes: Annotated[tuple[TableName, ...], Field(min_length=1, max_length=64)]
    """The tables that it writes, so that gold knows what it may read."""


class BatchStage(Part):
    """What silver and gold have in common: a Spark job that runs on a schedule."""

    spark_version: Annotated[str, Text(r"[0-9]+\.[0-9]+\.[0-9]+", "a Spark version such as 4.1.4", 16)] = "4.1.4"
    """The Spark version of the image."""
    service_account: ObjectName = "spark"
    """The service account of the driver, which creates the executors."""
    time_zone: TimeZone = "UTC"
    """The time zone of `schedule`. It moves when runs start, never the intervals: those are in UTC."""
    catch_up: CatchUp = CatchUp()
    """What happens to missed intervals."""
    concurrency: Literal["Forbid", "Replace"] = "Forbid"
    """What happens when a run is due while one is going on: it waits, or the running one is cancelled."""
    driver: Driver = Driver()
    """The driver's resources."""
    executor: Executor = Executor()
    """The executors' resources."""
    timeout: Duration = "6h"
    """How long one attempt may take before it is stopped and counts as a failure of infrastructure."""
    retry: Retry = Retry()
    """How often a failed run is tried again."""
    history: History = History()
    """How many finished runs are kept."""
    spark_conf: Annotated[Properties, Field(max_length=128)] = Field(default_factory=dict)
    """Further Spark configuration. Keys that other fields set are refused."""
    pod: Pod = Pod()
    """Where the pods may run and what they carry."""


Interval = Literal["15m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h", "24h"]


class SilverTrigger(Part):
    """When a silver run that is due really starts."""

    mode: Literal["dataComplete", "clock"] = "dataComplete"
    """`dataComplete`: when bronze provably holds everything that arrived in the interval. `clock`: at once."""
    deadline: Duration = "2h"
    """How long after the end of its interval the run starts all the same; it then says so."""


class GoldTrigger(Part):
    """When a gold run that is due really starts."""

    mode: Literal["afterSilver", "clock"] = "afterSilver"
    """`afterSilver`: when the silver runs of its interval have succeeded. `clock`: at once."""
    deadline: Duration = "6h"
    """How long after the end of its interval the run starts all the same; it then says so."""


class PayloadColumn(Part):
    """A value that silver reads out of the payload.

    A missing required value breaks the rule `<name>_required`, one of another JSON type `<name>_type`: the row is
    quarantined, never lost.
    """

    name: Identifier
    """The column's name in expressions."""
    type: ColumnType
    """Its type: string, boolean, int, long, double, date, timestamp, binary, list<string> or decimal(P,S)."""
    path: JsonPath
    """Where it stands in the payload."""
    required: bool = False
    """Whether a row without it is invalid."""


class TableColumn(Part):
    """A column of a silver table."""

    name: Identifier
    """The column's name."""
    type: ColumnType
    """Its type."""
    expression: Expression
    """A Spark SQL expression over the payload columns and bronze's own columns."""


Bound = Annotated[float, Field(ge=-(2.0**53), le=2.0**53, allow_inf_nan=False)]
RowBound = Annotated[int, Field(ge=0)]
AcceptedValue = Annotated[str, Text("", "a value", 256, min_length=0)]
_BOUNDED = (
    Cel(
        "has(self.min) || has(self.max)",
        "give min, max or both",
        lambda self: self.min is not None or self.max is not None,
    ),
    Cel(
        "!has(self.min) || !has(self.max) || self.min <= self.max",
        "min must not lie above max",
        lambda self: self.min is None or self.max is None or self.min <= self.max,
        "min",
    ),
)
"""What has bounds `min` and `max` has one of them at least, and in their order."""


class NotNullRule(Part):
    """The column has a value in each row."""

    column: Identifier
    """A payload column, or one of bronze's own."""


class RangeRule(Part):
    """The column's number lies within bounds. A row without a value keeps the rule: add `notNull` where it must not."""

    invariants: ClassVar[tuple[Cel, ...]] = _BOUNDED

    column: Identifier
    """A payload column, or one of bronze's own: an int, long, double or decimal."""
    min: Bound | None = None
    """The lowest number that keeps the rule."""
    max: Bound | None = None
    """The highest number that keeps the rule."""


class PatternRule(Part):
    """The column's whole text matches. A row without a value keeps the rule."""

    column: Identifier
    """A payload column, or one of bronze's own: a string."""
    regex: Annotated[str, anything("a regular expression", 4096)]
    """A Java regular expression for the whole text, from its first character to its last."""


class AcceptedValuesRule(Part):
    """The column's value is one of a list. A row without a value keeps the rule."""

    column: Identifier
    """A payload column, or one of bronze's own: a string, int, long or boolean."""
    values: Annotated[tuple[AcceptedValue, ...], Field(min_length=1, max_length=200)]
    """The values, as text: `"1"`, `"true"`."""


class UniqueRule(Part):
    """No two rows of the table have the same values on one event day; looked at on the days that a run changes."""

    columns: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=20)]
    """Columns of the table itself. A row without one of the values is left out."""


class FreshnessRule(Part):
    """The newest event of the table is young enough when a run looks. Runs over days, of a backfill, don't look."""

    max_age: Duration
    """How old it may be at the end of the run's interval (a run without one: at its start)."""


class RowCountRule(Part):
    """There are neither too few nor too many valid rows."""

    invariants: ClassVar[tuple[Cel, ...]] = _BOUNDED

    per: Literal["run", "day"] = "run"
    """`run`: the rows that one run brings. `day`: the rows of each event day that it changes, in the whole table; a day
    that is not over yet is not held against `min`."""
    min: RowBound | None = None
    """The least."""
    max: RowBound | None = None
    """The most."""


_KINDS = ("expression", "notNull", "range", "pattern", "acceptedValues", "unique", "freshness", "rowCount")


class Rule(Part):
    """A rule that the rows, or the table as a whole, must keep: exactly one of the kinds, and what happens if not."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].exists_one(given, given)",
            f"give exactly one of {', '.join(_KINDS)}",
            lambda self: (
                sum(
                    each is not None
                    for each in (
                        self.expression,
                        self.not_null,
                        self.range,
                        self.pattern,
                        self.accepted_values,
                        self.unique,
                        self.freshness,
                        self.row_count,
                    )
                )
                == 1
            ),
        ),
        Cel(
            "self.severity != 'quarantine' || !(has(self.unique) || has(self.freshness) || has(self.rowCount))",
            "severity quarantine sets rows aside, but unique, freshness and rowCount look at many rows together: say"
            " warn or fail",
            lambda self: self.severity != "quarantine" or not (self.unique or self.freshness or self.row_count),
            "severity",
        ),
    )

    name: Identifier
    """The rule's name; it stands in the quarantine and in the quality results."""
    severity: Literal["warn", "quarantine", "fail"] = "quarantine"
    """What a broken rule does: it is counted; the row is set aside; the run stops before it writes, and what is
    downstream waits. `unique`, `freshness` and `rowCount` can't set rows aside."""
    expression: Expression | None = None
    """A Spark SQL condition that is true for a good row. Null counts as broken."""
    not_null: NotNullRule | None = None
    """There is a value."""
    range: RangeRule | None = None
    """A number within bounds."""
    pattern: PatternRule | None = None
    """A text that matches as a whole."""
    accepted_values: AcceptedValuesRule | None = None
    """A value out of a list."""
    unique: UniqueRule | None = None
    """No two rows are alike in some columns."""
    freshness: FreshnessRule | None = None
    """The newest event is young enough."""
    row_count: RowCountRule | None = None
    """Neither too few rows nor too many."""


class KeyedTable(Part):
    """A silver table with one row per event, merged on `event_id`.

    Besides its own columns it holds `event_id`, `event_time`, `is_late_arrival`, where the row came from in Kafka, and
    the `_audit` columns. Rows that break a rule are in `<name>_quarantine` instead.
    """

    name: TableName
    """The table's name."""
    columns: Annotated[tuple[TableColumn, ...], KeyedBy("name"), Field(min_length=1, max_length=300)]
    """Its own columns."""
    where: Expression | None = None
    """Which events belong into it; all where left out."""
    rules: Annotated[tuple[Rule, ...], KeyedBy("name"), Field(max_length=300)] = ()
    """What its rows must keep."""


class Dimension(Part):
    """A slowly changing dimension of type 2: one row per key and period in which nothing tracked changed."""

    name: TableName
    """The table's name."""
    source: TableName
    """The silver table whose rows it follows."""
    key: Identifier
    """The column of `source` that says whose version a row is."""
    tracked: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=100)]
    """The columns of `source` whose change starts a new version."""


class Silver(BatchStage):
    """Bronze to silver with Apache Spark: cleaned, validated, deduplicated, with the history of dimensions."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.job) != (has(self.columns) || has(self.tables))",
            "give either columns and tables (what the built-in job computes) or job (one of your own)",
            lambda self: (self.job is not None) != bool(self.columns or self.tables),
        ),
        Cel(
            "has(self.columns) == has(self.tables)",
            "columns and tables belong together: columns are read out of the payload, tables are computed from them",
            lambda self: bool(self.columns) == bool(self.tables),
        ),
        Cel(
            "!has(self.dimensions) || has(self.tables)",
            "dimensions need tables: each follows one of them",
            lambda self: not self.dimensions or bool(self.tables),
            "dimensions",
        ),
    )

    image: Image
    """The image with Spark and the job."""
    schedule: Cron = "0 * * * *"
    """When runs are due: a cron expression."""
    interval: Interval = "1h"
    """The length of the data interval of a run. Intervals start at midnight UTC."""
    trigger: SilverTrigger = SilverTrigger()
    """When a run that is due really starts."""
    columns: Annotated[
        tuple[PayloadColumn, ...],
        rolls("hot", "silver", "gold"),
        KeyedBy("name"),
        Field(min_length=1, max_length=500),
    ] = ()
    """What is read out of the payload."""
    tables: Annotated[
        tuple[KeyedTable, ...],
        rolls("hot", "silver", "gold"),
        KeyedBy("name"),
        Field(min_length=1, max_length=50),
    ] = ()
    """The tables with one row per event."""
    dimensions: Annotated[
        tuple[Dimension, ...],
        rolls("hot", "silver", "gold"),
        KeyedBy("name"),
        Field(max_length=50),
    ] = ()
    """Slowly changing dimensions over them."""
    job: Annotated[OwnJob | None, rolls("hot", "silver", "gold")] = None
    """A job of one's own instead of columns, tables and dimensions."""


class Model(Part):
    """A gold table computed by one SELECT over silver and gold tables."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.sql) != has(self.sqlFrom)",
            "give either sql or sqlFrom",
            lambda self: (self.sql is None) != (self.sql_from is None),
        ),
        Cel(
            "(self.kind == 'incrementalByDay') == has(self.dayColumn)",
            "kind incrementalByDay needs dayColumn, and only that kind has one",
            lambda self: (self.kind == "incrementalByDay") == (self.day_column is not None),
        ),
        Cel(
            "self.whenChanged != 'keep' || self.kind == 'incrementalByDay'",
            "whenChanged keep belongs only to kind incrementalByDay: a full model is replaced as a whole",
            lambda self: self.when_changed != "keep" or self.kind == "incrementalByDay",
            "whenChanged",
        ),
    )

    name: TableName
    """The table's name."""
    kind: Literal["incrementalByDay", "full"]
    """`incrementalByDay`: partitioned by `dayColumn`, and the days whose events changed are replaced. `full`: replaced
    as a whole when a table that it reads has changed."""
    day_column: Identifier | None = None
    """The column of the result that holds the event's day (a date, UTC)."""
    when_changed: Literal["rebuild", "keep"] = "rebuild"
    """What a change of the model does to the days that are there. `rebuild`: all are computed again. `keep`: they stay
    as they are until a backfill; new columns are added to the table and are NULL on them, types may get wider, and
    another change of the columns is refused."""
    sql: Statement | None = None
    """One SELECT in Spark SQL. Tables are named `namespace.table`; the operator finds the order of the models."""
    sql_from: ConfigMapKey | None = None
    """The same, kept in a ConfigMap."""


class Gold(BatchStage):
    """Silver to gold with Apache Spark: star schema, aggregates, materialized views."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.job) != has(self.models)",
            "give either models (what the built-in job computes) or job (one of your own)",
            lambda self: (self.job is not None) != bool(self.models),
        ),
    )

    image: Image | None = None
    """The image with Spark and the job. Default: silver's."""
    schedule: Cron = "0 1 * * *"
    """When runs are due: a cron expression."""
    interval: Interval = "24h"
    """The length of the data interval of a run. Intervals start at midnight UTC."""
    trigger: GoldTrigger = GoldTrigger()
    """When a run that is due really starts."""
    models: Annotated[
        tuple[Model, ...], rolls("hot", "gold"), KeyedBy("name"), Field(min_length=1, max_length=200)
    ] = ()
    """The tables, each with its SELECT."""
    job: Annotated[OwnJob | None, rolls("hot", "gold")] = None
    """A job of one's own instead of models."""


class Compaction(Part):
    """Small files are rewritten into large ones."""

    enabled: bool = True
    """Whether it is done."""
    target_file_size: Memory = "256Mi"
    """The size of the new files. One below three quarters of it is small."""
    min_input_files: Annotated[int, Field(ge=2, le=10_000)] = 5
    """A day is rewritten when it has so many small files."""
    min_age: Duration = "2h"
    """Days that got rows more recently are left alone."""
    max_size: Memory = "100Gi"
    """How much of one table a run rewrites at most, the newest days first; the next run goes on."""


class Expiry(Part):
    """Old snapshots and their files are removed. What a recovery point or a run needs is kept, however old."""

    enabled: bool = True
    """Whether it is done."""
    retention: Duration = "7d"
    """How long a snapshot is kept; not below a stage's `timeout`, because a run may read one so long."""
    keep_snapshots: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many are kept at least."""
    orphan_retention: Duration = "7d"
    """How old a file that no snapshot knows must be before it is removed; not below 3 days."""


class Maintenance(BatchStage):
    """Keeping the tables in good shape, with Apache Spark.

    One run makes up for all that were missed or failed, so `catchUp` changes nothing here. It waits for backfills, and
    is cancelled when the stream goes back to a recovery point.
    """

    image: Image | None = None
    """The image with Spark and the job. Default: silver's."""
    schedule: Cron = "0 3 * * *"
    """When it is done: a cron expression."""
    compaction: Compaction = Compaction()
    """Rewriting small files."""
    expiry: Expiry = Expiry()
    """Removing old snapshots."""


# --- the whole ------------------------------------------------------------------------------------------------------


class PipelineSpec(Part):
    """What a pipeline should be."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.gold) || has(self.silver)",
            "gold needs silver: it is computed from silver's tables",
            lambda self: self.gold is None or self.silver is not None,
            "gold",
        ),
        Cel(
            "!has(self.maintenance) || has(self.maintenance.image) || has(self.silver)",
            "maintenance needs an image: set maintenance.image",
            lambda self: self.maintenance is None or bool(self.maintenance.image or self.silver),
            "maintenance",
        ),
        Cel(
            "!has(self.bronze.deadLetterTopic) || self.bronze.deadLetterTopic != self.source.topic",
            "bronze.deadLetterTopic must differ from source.topic, or dead letters would be read again as events",
            lambda self: self.bronze.dead_letter_topic != self.source.topic,
            "bronze",
        ),
    )

    source: Annotated[Source, rolls("restart")]
    """Where events come from."""
    catalog: Annotated[Catalog, rolls("restart")]
    """Where tables are registered."""
    storage: Annotated[Storage | None, rolls("restart")] = None
    """Where files are kept."""
    bronze: Annotated[Bronze, rolls("restart")]
    """Kafka to bronze: the stream."""
    silver: Annotated[Silver | None, rolls("hot")] = None
    """Bronze to silver: hourly."""
    gold: Annotated[Gold | None, rolls("hot")] = None
    """Silver to gold: daily."""
    maintenance: Annotated[Maintenance | None, rolls("hot")] = None
    """Compaction and expiry: nightly."""
    suspend: Annotated[bool, rolls("restart")] = False
    """Stops the stream with a savepoint and starts no runs, until it is false again."""


_TABLE = "has({0}.spec.bronze.table) ? {0}.spec.bronze.table : 'bronze.' + {0}.metadata.name.replace('-', '_')"


class LakehousePipeline(Part):
    """One stream of events from Kafka to bronze, silver and gold tables on Apache Iceberg."""

    invariants: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"size(self.metadata.name) <= {MAX_NAME}",
            f"metadata.name must have at most {MAX_NAME} characters, so that the names made from it fit Flink's limit",
            lambda self: len(self.metadata.name) <= MAX_NAME,
            "metadata.name",
        ),
        Cel(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must start with a letter and hold only lower-case letters, digits and hyphens",
            lambda self: bool(_NAME.fullmatch(self.metadata.name)),
            "metadata.name",
        ),
        Cel(
            f"({_TABLE.format('self')}) == ({_TABLE.format('oldSelf')})",
            "bronze.table can't be changed: the stream's state belongs to it; create a new pipeline instead",
            path="spec.bronze",
        ),
    )

    api_version: Literal["lakehouse.dev/v1alpha1"]
    """The version of this API."""
    kind: Literal["LakehousePipeline"]
    """The kind of this object."""
    metadata: Metadata
    """Standard object metadata."""
    spec: PipelineSpec
    """What it should be."""
    status: PipelineStatus | None = None
    """What it is."""
