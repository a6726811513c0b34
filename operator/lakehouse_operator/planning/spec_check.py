"""What a rule of the API server can't say: schedules, time zones, relations of durations, keys of configurations."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from lakehouse_contract.decoding import Problem
from lakehouse_operator.api.backfill import MAX_DAYS, BackfillSpec
from lakehouse_operator.api.pipeline import BatchStage, Bronze, Catalog, Expiry, PipelineSpec
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.api.values import mebibytes, seconds
from lakehouse_operator.planning.flink_manifest import flink_configuration

_ANY_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|secret|token|credentials?|(private|secret|access)[._-]?key([._-]?id)?|jaas[._-]config"
    r"|keystore[._-]key)$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"//[^/@\s]*:[^/@\s]*@|[?&;](password|token|secret)=", re.IGNORECASE)

# Keys of Flink's configuration that are not the user's: (beginning of the key, what to do instead). The first that
# fits is told.
_FLINK_OWNED: tuple[tuple[str, str], ...] = (
    (
        "$internal.",
        "Flink sets its internal keys itself; a pinned job id would make the sink lose data (iceberg #18098)",
    ),
    (
        "execution.checkpointing.unaligned",
        "unaligned checkpoints make the Iceberg sink lose data (iceberg #15846); they stay off",
    ),
    ("execution.checkpointing.interval", "set spec.bronze.checkpoint.interval"),
    ("execution.checkpointing.timeout", "set spec.bronze.checkpoint.timeout"),
    ("execution.checkpointing.dir", "set spec.bronze.checkpoint.directory"),
    ("execution.checkpointing.savepoint-dir", "set spec.bronze.checkpoint.savepointDirectory"),
    ("execution.checkpointing.mode", "exactly-once is what bronze promises"),
    ("execution.checkpointing.externalized", "checkpoints are kept, because recovery needs them"),
    ("execution.state-recovery", "the operator decides what the stream starts from"),
    ("execution.savepoint", "the operator decides what the stream starts from"),
    ("execution.target", "the operator decides where the stream runs"),
    ("execution.runtime-mode", "bronze is a stream"),
    ("state.checkpoints.dir", "set spec.bronze.checkpoint.directory"),
    ("state.savepoints.dir", "set spec.bronze.checkpoint.savepointDirectory"),
    ("state.backend.type", "the state backend is part of what savepoints are made of"),
    ("pipeline.max-parallelism", "it is part of what savepoints are made of"),
    ("high-availability", "high availability is set up by the operator; its ids must stay"),
    ("kubernetes.cluster-id", "the operator names the cluster"),
    ("kubernetes.namespace", "the stream runs in the pipeline's namespace"),
    ("kubernetes.service-account", "set spec.bronze.serviceAccount"),
    ("kubernetes.jobmanager.service-account", "set spec.bronze.serviceAccount"),
    ("kubernetes.taskmanager.service-account", "set spec.bronze.serviceAccount"),
    ("kubernetes.container.image", "set spec.bronze.image"),
    ("kubernetes.pod-template-file", "set spec.bronze.pod"),
    ("kubernetes.operator.", "these follow from spec.bronze.upgrade, spec.bronze.restart and spec.bronze.deletion"),
    (
        "job.autoscaler.",
        "the autoscaler restarts the stream without a recovery point; set spec.bronze.parallelism",
    ),
    ("restart-strategy", "set spec.bronze.restart"),
    ("parallelism.default", "set spec.bronze.parallelism"),
    ("pipeline.name", "the operator names the job"),
    ("pipeline.jobvertex-parallelism-overrides", "set spec.bronze.parallelism"),
    ("taskmanager.numberOfTaskSlots", "set spec.bronze.taskManager.slots"),
    ("jobmanager.memory.process.size", "set spec.bronze.jobManager.memory"),
    ("taskmanager.memory.process.size", "set spec.bronze.taskManager.memory"),
    ("table.exec.state.ttl", "set spec.bronze.dedupTtl"),
    ("table.exec.source.idle-timeout", "set spec.bronze.idleTimeout"),
    ("table.exec.iceberg.use-v2-sink", "savepoints need the V2 sink (iceberg #14063)"),
    ("table.local-time-zone", "times are in UTC"),
    # All others, whether they would change the plan or not: the job refuses a changed plan only when it starts, after
    # the old one has stopped.
    ("table", "options of Flink's tables decide the stream's plan, and so what its savepoints hold"),
    ("s3.endpoint", "set spec.storage.endpoint"),
    ("s3.path-style-access", "set spec.storage.pathStyleAccess"),
)
_LEAST_HEAP_MIB = 480
"""Spark wants 1.5 times the 300 MiB that it keeps for itself (`INVALID_DRIVER_MEMORY`), and Java counts a bit less."""
_SPARK_OWNED: tuple[tuple[str, str], ...] = (
    ("spark.master", "the operator decides where jobs run"),
    ("spark.submit.", "the operator decides how jobs are submitted"),
    ("spark.app.name", "the operator names the application"),
    ("spark.kubernetes.namespace", "jobs run in the pipeline's namespace"),
    ("spark.kubernetes.authenticate", "set serviceAccount"),
    ("spark.kubernetes.container.image", "set image"),
    ("spark.kubernetes.driver.container.image", "set image"),
    ("spark.kubernetes.executor.container.image", "set image"),
    ("spark.kubernetes.driver.podTemplate", "set pod"),
    ("spark.kubernetes.executor.podTemplate", "set pod"),
    ("spark.kubernetes.driver.pod.name", "the operator names pods"),
    ("spark.kubernetes.executor.podNamePrefix", "the operator names pods"),
    ("spark.driver.memory", "set driver.memory and driver.memoryOverhead"),
    ("spark.driver.cores", "set driver.cpu"),
    ("spark.executor.memory", "set executor.memory and executor.memoryOverhead"),
    ("spark.executor.cores", "set executor.cores"),
    ("spark.executor.instances", "set executor.instances"),
    ("spark.sql.extensions", "the job sets up Iceberg itself"),
    ("spark.sql.session.timeZone", "times are in UTC"),
    ("spark.sql.iceberg.snapshot-property", "the job stamps its commits itself: the ledger is rebuilt from them"),
)
_KAFKA_OWNED: tuple[tuple[str, str], ...] = (
    ("bootstrap.servers", "set spec.source.bootstrapServers"),
    ("group.id", "set spec.source.consumerGroup"),
    ("security.protocol", "set spec.source.security.protocol"),
    ("sasl.mechanism", "set spec.source.security.mechanism"),
    ("isolation.level", "only committed records are read"),
    ("enable.auto.commit", "offsets are committed with checkpoints"),
    ("transaction.timeout.ms", "set spec.bronze.transactionTimeout"),
    ("transactional.id", "the job names its transactions"),
    ("auto.offset.reset", "a new consumer group starts at the earliest record"),
    ("enable.idempotence", "dead letters are written exactly once"),
    ("acks", "dead letters are written exactly once"),
    ("max.request.size", "it follows the dead letter topic's max.message.bytes"),
    ("buffer.memory", "it follows the dead letter topic's max.message.bytes"),
    ("config.providers", "secrets come by spec.source.security.secretRef"),
    ("key.serializer", "the job writes bytes"),
    ("value.serializer", "the job writes bytes"),
    ("key.deserializer", "the job reads bytes"),
    ("value.deserializer", "the job reads bytes"),
)
_CATALOG_OWNED: tuple[tuple[str, str], ...] = (
    ("uri", "set spec.catalog.uri"),
    ("warehouse", "set spec.catalog.warehouse"),
    ("type", "set spec.catalog.type"),
    ("catalog-impl", "set spec.catalog.type"),
)
_HOST = r"(?:[^/@\s]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?"
_HOSTS = rf"{_HOST}(?:,{_HOST})*"
_CATALOG_ADDRESSES: Mapping[str, tuple[re.Pattern[str], str]] = MappingProxyType(
    {  # type: (what its addresses look like, examples)
        "rest": (re.compile(rf"https?://{_HOST}(?:[/?]\S*)?"), "http://catalog:8181"),
        "hive": (re.compile(rf"thrift://{_HOST}(?:,thrift://{_HOST})*"), "thrift://hive-metastore:9083"),
        "jdbc": (
            re.compile(rf"jdbc:(?:postgresql://{_HOSTS}/[^/\s]+|sqlite:\S+)"),
            "jdbc:postgresql://postgres:5432/catalog, or jdbc:sqlite:/file on one machine",
        ),
    }
)


def problems(spec: PipelineSpec) -> tuple[Problem, ...]:
    """What is wrong with a pipeline's spec besides its shape and its domain."""
    return tuple(_problems(spec))


def _problems(spec: PipelineSpec) -> Iterator[Problem]:
    yield from _bronze_durations(spec.bronze)
    for name in ("silver", "gold", "maintenance"):
        stage: BatchStage | None = getattr(spec, name)
        if stage is not None:
            yield from _stage(f"spec.{name}", stage)
    if spec.maintenance is not None:
        yield from _expiry(spec, spec.maintenance.expiry)
    yield from _catalog(spec.catalog)
    yield from _configurations(spec)
    yield from _passwords(spec)


def _catalog(catalog: Catalog) -> Iterator[Problem]:
    address, examples = _CATALOG_ADDRESSES[catalog.type]
    if not address.fullmatch(catalog.uri):
        yield Problem(
            "spec.catalog.uri", f"is no address of a catalog of type {catalog.type}: give one such as {examples}"
        )
    if catalog.type == "hive" and catalog.secret_ref is not None and not catalog.secret_ref.properties:
        yield Problem(
            "spec.catalog.secretRef.properties",
            "must say which property of the catalog each key holds: a catalog of type hive has none by itself",
        )


def _passwords(spec: PipelineSpec) -> Iterator[Problem]:
    """Passwords in addresses and arguments: those go into manifests and ConfigMaps that many may read."""
    checkpoint, endpoint = spec.bronze.checkpoint, spec.storage.endpoint if spec.storage else None
    addresses = (
        ("spec.catalog.uri", spec.catalog.uri, "spec.catalog.secretRef"),
        ("spec.catalog.warehouse", spec.catalog.warehouse, "spec.catalog.secretRef"),
        ("spec.storage.endpoint", endpoint, "spec.storage.secretRef"),
        ("spec.bronze.checkpoint.directory", checkpoint.directory, "spec.storage.secretRef"),
        ("spec.bronze.checkpoint.savepointDirectory", checkpoint.savepoint_directory, "spec.storage.secretRef"),
    )
    for path, address, reference in addresses:
        if address is not None and _USER_INFO.search(address):
            yield Problem(path, f"must hold no password: put it into a Secret and name it in {reference}")
    if "@" in spec.source.bootstrap_servers:
        advice = "user and password belong into a Secret; name it in spec.source.security.secretRef"
        yield Problem("spec.source.bootstrapServers", f"must hold hosts and ports alone: {advice}")
    for name, stage in (("silver", spec.silver), ("gold", spec.gold)):
        for number, argument in enumerate(stage.job.arguments if stage is not None and stage.job is not None else ()):
            option, assigned, _ = argument.partition("=")
            if _USER_INFO.search(argument) or (assigned and _SECRET_KEY.search(option)):
                yield Problem(
                    f"spec.{name}.job.arguments[{number}]",
                    "looks like a secret, which all who may read this would see: let the job read it from a Secret",
                )


def _expiry(spec: PipelineSpec, expiry: Expiry) -> Iterator[Problem]:
    if seconds(expiry.orphan_retention) < 3 * 86_400:
        yield Problem(
            "spec.maintenance.expiry.orphanRetention",
            "must be at least 3d: files of commits that are under way look like orphans",
        )
    stages = {"silver": spec.silver, "gold": spec.gold}
    name, longest = max(
        ((name, seconds(stage.timeout)) for name, stage in stages.items() if stage is not None),
        key=lambda item: item[1],
        default=("silver", 0),
    )
    if seconds(expiry.retention) < longest:
        yield Problem(
            "spec.maintenance.expiry.retention",
            f"must be at least {longest} s, spec.{name}.timeout: a run may read a snapshot so long",
        )


def _bronze_durations(bronze: Bronze) -> Iterator[Problem]:
    positive = {
        "checkpoint.interval": bronze.checkpoint.interval,
        "checkpoint.timeout": bronze.checkpoint.timeout,
        "dedupTtl": bronze.dedup_ttl,
        "idleTimeout": bronze.idle_timeout,
        "upgrade.maxRecoveryPointAge": bronze.upgrade.max_recovery_point_age,
        "upgrade.savepointTimeout": bronze.upgrade.savepoint_timeout,
        "restart.window": bronze.restart.window,
    }
    for path, duration in positive.items():
        if seconds(duration) < 1:
            yield Problem(f"spec.bronze.{path}", "must be at least 1s")
    if 0 < seconds(bronze.recovery_points.interval) < 60:
        yield Problem("spec.bronze.recoveryPoints.interval", "must be at least 1m, or 0s for never")
    open_for = seconds(bronze.checkpoint.interval) + seconds(bronze.checkpoint.timeout)
    if not max(60, open_for) <= seconds(bronze.transaction_timeout):
        yield Problem(
            "spec.bronze.transactionTimeout",
            f"must be at least 1m, and not below checkpoint.interval and checkpoint.timeout together ({open_for}s): "
            "Kafka would drop dead letters that wait for their checkpoint",
        )
    if bronze.restart.strategy == "exponentialDelay":
        if seconds(bronze.restart.delay) < 1:
            yield Problem("spec.bronze.restart.delay", "must be at least 1s for strategy exponentialDelay")
        yield from _ordered("spec.bronze.restart.maxDelay", bronze.restart.delay, bronze.restart.max_delay, "delay")
    recovery = bronze.restart.recovery
    yield from _ordered("spec.bronze.restart.recovery.maxBackoff", recovery.backoff, recovery.max_backoff, "backoff")


def _ordered(path: str, low: str, high: str, name: str) -> Iterator[Problem]:
    if seconds(high) < seconds(low):
        yield Problem(path, f"must not be below {name} ({low})")


def _stage(path: str, stage: BatchStage) -> Iterator[Problem]:
    schedule = getattr(stage, "schedule", "")
    zone = _time_zone(f"{path}.timeZone", stage.time_zone)
    if zone is not None:
        yield zone
    try:
        CronSim(schedule, _ANY_MOMENT)
    except CronSimError as error:
        yield Problem(f"{path}.schedule", f"{schedule!r} is no cron expression that ever comes: {error}")
    if seconds(stage.timeout) < 60:
        yield Problem(f"{path}.timeout", "must be at least 1m")
    yield from _ordered(f"{path}.retry.maxBackoff", stage.retry.backoff, stage.retry.max_backoff, "backoff")
    for role, memory in (("driver", stage.driver.memory), ("executor", stage.executor.memory)):
        if mebibytes(memory) < _LEAST_HEAP_MIB:
            yield Problem(f"{path}.{role}.memory", f"Spark starts with no less than {_LEAST_HEAP_MIB}Mi")
    largest = max((stage.driver.memory, stage.executor.memory), key=mebibytes)
    if mebibytes(stage.retry.max_memory) < mebibytes(largest):
        yield Problem(f"{path}.retry.maxMemory", f"must not be below the memory that runs start with ({largest})")


def _time_zone(path: str, name: str) -> Problem | None:
    """Time zone data is read as if it were a constant of Python: it decides what a schedule means."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Problem(path, f"{name} is no time zone of the IANA database; give one such as UTC or Europe/Berlin")
    return None


def _configurations(spec: PipelineSpec) -> Iterator[Problem]:
    kafka = "put it into a Secret and name it in spec.source.security.secretRef"
    catalog = "put it into a Secret and name it in spec.catalog.secretRef"
    storage = "put it into a Secret and name it in spec.storage.secretRef"
    yield from _keys("spec.source.properties", spec.source.properties, _KAFKA_OWNED, kafka)
    for key, value in spec.source.properties.items():
        if "${" in value:
            yield Problem(f"spec.source.properties.{key}", f"must not hold ${{: where it should be a secret, {kafka}")
    yield from _keys("spec.catalog.properties", spec.catalog.properties, _CATALOG_OWNED, catalog)
    yield from _keys("spec.bronze.flinkConfiguration", spec.bronze.flink_configuration, _FLINK_OWNED, storage)
    yield from _one_tree("spec.bronze.flinkConfiguration", spec.bronze.flink_configuration, flink_configuration(spec))
    for name in ("silver", "gold", "maintenance"):
        stage: BatchStage | None = getattr(spec, name)
        if stage is None:
            continue
        path, catalogs = f"spec.{name}.sparkConf", f"spark.sql.catalog.{spec.catalog.name}"
        owned = (*_SPARK_OWNED, (catalogs, "the job sets up the catalog from spec.catalog"))
        yield from _keys(path, stage.spark_conf, owned, storage)
        for key in stage.spark_conf:
            if not key.startswith("spark."):
                yield Problem(f"{path}.{key}", "is no Spark property: those start with spark.")


def _keys(path: str, properties: Mapping[str, str], owned: Iterable[tuple[str, str]], secret: str) -> Iterator[Problem]:
    for key, value in properties.items():
        advice = next((advice for start, advice in owned if _begins(key, start)), None)
        if advice is not None:
            yield Problem(f"{path}.{key}", f"can't be set here: {advice}")
        elif _SECRET_KEY.search(key) or _USER_INFO.search(value):
            yield Problem(f"{path}.{key}", f"looks like a secret, which all who may read this would see: {secret}")


def _one_tree(path: str, given: Iterable[str], keys: Collection[str]) -> Iterator[Problem]:
    """The Flink operator writes the configuration as a tree: of a key and one below it, one is lost in silence."""
    for key in given:
        for other in sorted(keys):
            if other.startswith(f"{key}.") or key.startswith(f"{other}."):
                yield Problem(
                    f"{path}.{key}", f"can't stand beside {other}: Flink would lose one of them; leave one out"
                )


def _begins(key: str, start: str) -> bool:
    """Whether a key is `start`, or goes on after it with a dot or a hyphen."""
    stem = start.rstrip(".")
    return key == stem or key.startswith((f"{stem}.", f"{stem}-"))


def warnings(spec: PipelineSpec) -> tuple[Problem, ...]:
    """What can be carried out and is probably not meant."""
    return tuple(_warnings(spec))


def _warnings(spec: PipelineSpec) -> Iterator[Problem]:
    bronze = spec.bronze
    arrives_within = seconds(bronze.watermark_delay) + seconds(bronze.allowed_lateness)
    if seconds(bronze.dedup_ttl) < arrives_within:
        yield Problem(
            "spec.bronze.dedupTtl",
            f"is shorter than watermarkDelay and allowedLateness together ({arrives_within}s): "
            "a late repeat can get into bronze twice; silver still keeps one",
        )
    if seconds(bronze.checkpoint.interval) < 10:
        yield Problem("spec.bronze.checkpoint.interval", "below 10s makes a commit with new files every few seconds")
    for name in ("silver", "gold"):
        stage = getattr(spec, name)
        if stage is not None and stage.image is not None and stage.image.endswith(":latest"):
            yield Problem(f"spec.{name}.image", "is a moving tag: a retry may run other code; name a version")
    if bronze.image.endswith(":latest"):
        yield Problem("spec.bronze.image", "is a moving tag: a rollback could not find the old code; name a version")


def run_problems(spec: RunSpec) -> tuple[Problem, ...]:
    """What is wrong with a run's spec besides its shape."""
    days = [("spec.days.first", spec.days.first), ("spec.days.last", spec.days.last)] if spec.days else []
    instants = []
    if spec.data_interval:
        instants = [
            ("spec.dataInterval.start", spec.data_interval.start),
            ("spec.dataInterval.end", spec.data_interval.end),
        ]
    found = [*(_day(path, text) for path, text in days), *(_instant(path, text) for path, text in instants)]
    return tuple(problem for problem in found if problem)


def backfill_problems(spec: BackfillSpec) -> tuple[Problem, ...]:
    """What is wrong with a backfill's spec besides its shape."""
    ends = (_day("spec.range.first", spec.range.first), _day("spec.range.last", spec.range.last))
    found = tuple(problem for problem in ends if problem)
    if found:
        return found
    length = (date.fromisoformat(spec.range.last) - date.fromisoformat(spec.range.first)).days + 1
    if length > MAX_DAYS:
        return (Problem("spec.range", f"spans {length} days; at most {MAX_DAYS} fit one backfill, so make several"),)
    return ()


def _day(path: str, text: str) -> Problem | None:
    try:
        date.fromisoformat(text)
    except ValueError:
        return Problem(path, f"{text} is no day of the calendar")
    return None


def _instant(path: str, text: str) -> Problem | None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return Problem(path, f"{text} is no instant of the calendar")
    return None
