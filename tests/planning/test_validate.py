"""What is refused, with which sentence, and what is made of what is not refused."""

from dataclasses import replace
from typing import Any

import pytest

from crds.spoilers import backfill, run
from lakehouse_jobs import kafka_client
from lakehouse_operator.api.pipeline import LakehousePipeline
from lakehouse_operator.planning import job_settings
from lakehouse_operator.planning.pipeline import GoldModels, OwnJob, Problems, SilverTables
from lakehouse_operator.planning.structure import read
from lakehouse_operator.planning.validate import validate, validate_backfill, validate_run
from planning import examples
from planning.examples import changed, problems, valid

SILVER, GOLD = "spec__silver__", "spec__gold__models__"
A_RULE = f"{SILVER}tables__0__rules__0"
RULE = f"{A_RULE}__expression"
COLUMN = f"{SILVER}tables__0__columns__0__expression"
FACT_SQL = f"{GOLD}3__sql"
EXTRA = len(examples.raw("roman-numerals")["spec"]["gold"]["models"])


def extra(sql: str, **fields: Any) -> dict[str, Any]:
    """The change that adds one more model."""
    return {f"{GOLD}{EXTRA}": {"name": "gold.extra", "kind": "full", "sql": sql, **fields}}


def roman(**changes: Any) -> dict[str, Any]:
    return changed("roman-numerals", **changes)


def minimal(**changes: Any) -> dict[str, Any]:
    return changed("minimal", **changes)


@pytest.mark.parametrize("name", sorted(kafka_client.OWN))
def test_what_the_job_would_refuse_of_kafka_is_refused_before(name: str) -> None:
    [problem] = problems(minimal(spec__source__properties={name: "x"}))
    assert problem.startswith(f"spec.source.properties.{name}: ")


def own_job(*arguments: str) -> dict[str, Any]:
    """A silver of one's own with arguments."""
    job = {"entryPoint": "local:///opt/mine.py", "writes": ["silver.mine"], "arguments": list(arguments)}
    return {"image": "mine:1", "job": job}


@pytest.mark.parametrize("name", examples.names())
def test_the_examples_are_valid_and_warn_of_nothing(name: str) -> None:
    assert valid(name).warnings == ()


# One spoiler for each thing that only the operator can see: (object, path, what is said).
SPOILED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a cron expression with minute 60": (
        roman(spec__silver__schedule="60 * * * *"),
        "spec.silver.schedule",
        "is no cron expression that ever comes: Bad minute",
    ),
    "a day that never comes": (roman(spec__gold__schedule="0 0 31 2 *"), "spec.gold.schedule", "that ever comes"),
    "a time zone that is none": (
        roman(spec__silver__timeZone="Europe/Atlantis"),
        "spec.silver.timeZone",
        "no time zone of the IANA database",
    ),
    "a path as a time zone": (roman(spec__silver__timeZone="../../etc/passwd"), "spec.silver.timeZone", "no time zone"),
    "a checkpoint every 0 s": (
        minimal(spec__bronze__checkpoint__interval="0s"),
        "spec.bronze.checkpoint.interval",
        "at least 1s",
    ),
    "savepoints every second": (
        minimal(spec__bronze__recoveryPoints={"interval": "1s"}),
        "spec.bronze.recoveryPoints.interval",
        "at least 1m, or 0s for never",
    ),
    "transactions shorter than checkpoints": (
        minimal(spec__bronze__checkpoint__interval="30m"),
        "spec.bronze.transactionTimeout",
        "not below checkpoint.interval and checkpoint.timeout together (2400s)",
    ),
    "a shrinking delay": (
        minimal(spec__bronze__restart={"strategy": "exponentialDelay", "delay": "10m"}),
        "spec.bronze.restart.maxDelay",
        "must not be below delay (10m)",
    ),
    "a shrinking backoff": (
        roman(spec__silver__retry={"backoff": "1h"}),
        "spec.silver.retry.maxBackoff",
        "must not be below backoff (1h)",
    ),
    "a memory cap below the memory": (
        roman(spec__silver__executor={"memory": "32Gi"}),
        "spec.silver.retry.maxMemory",
        "must not be below the memory that runs start with (32Gi)",
    ),
    "a driver that Spark does not start": (
        roman(spec__silver__driver={"memory": "450Mi"}),
        "spec.silver.driver.memory",
        "Spark starts with no less than 480Mi",
    ),
    "orphans that may be commits": (
        roman(spec__maintenance={"expiry": {"orphanRetention": "1d"}}),
        "spec.maintenance.expiry.orphanRetention",
        "at least 3d",
    ),
    "a password in the catalog's address": (
        minimal(spec__catalog__type="jdbc", spec__catalog__uri="jdbc:postgresql://me:secret@postgres/catalog"),
        "spec.catalog.uri",
        "must hold no password",
    ),
    "a password in the catalog's query": (
        minimal(
            spec__catalog__type="jdbc",
            spec__catalog__uri="jdbc:postgresql://postgres/catalog?user=me&password=secret",
        ),
        "spec.catalog.uri",
        "must hold no password",
    ),
    "a database as the address of a REST catalog": (
        minimal(spec__catalog__uri="jdbc:postgresql://postgres/catalog"),
        "spec.catalog.uri",
        "is no address of a catalog of type rest: give one such as http://catalog:8181",
    ),
    "a metastore without its protocol": (
        minimal(spec__catalog__type="hive", spec__catalog__uri="hive-metastore:9083"),
        "spec.catalog.uri",
        "of type hive: give one such as thrift://hive-metastore:9083",
    ),
    "a database that no image has the driver of": (
        minimal(spec__catalog__type="jdbc", spec__catalog__uri="jdbc:mysql://db/catalog"),
        "spec.catalog.uri",
        "of type jdbc: give one such as jdbc:postgresql://postgres:5432/catalog",
    ),
    "a port that is no number": (
        minimal(spec__catalog__uri="http://catalog:eighty"),
        "spec.catalog.uri",
        "is no address of a catalog of type rest",
    ),
    "a secret of a metastore that nothing is read from": (
        minimal(
            spec__catalog__type="hive",
            spec__catalog__uri="thrift://one:9083,thrift://two:9083",
            spec__catalog__secretRef={"name": "catalog"},
        ),
        "spec.catalog.secretRef.properties",
        "must say which property of the catalog each key holds",
    ),
    "a password in the warehouse's address": (
        minimal(spec__catalog__warehouse="s3://me:secret@lake/warehouse"),
        "spec.catalog.warehouse",
        "must hold no password",
    ),
    "a password in the store's address": (
        minimal(spec__storage__endpoint="http://admin:s3cr3t@minio:9000"),
        "spec.storage.endpoint",
        "name it in spec.storage.secretRef",
    ),
    "a password in the checkpoints' address": (
        minimal(spec__bronze__checkpoint__directory="s3://a:b@lake/checkpoints"),
        "spec.bronze.checkpoint.directory",
        "must hold no password",
    ),
    "a password in the savepoints' address": (
        minimal(spec__bronze__checkpoint__savepointDirectory="s3://a:b@lake/savepoints"),
        "spec.bronze.checkpoint.savepointDirectory",
        "must hold no password",
    ),
    "a password among the brokers": (
        minimal(spec__source__bootstrapServers="me:secret@kafka:9092"),
        "spec.source.bootstrapServers",
        "must hold hosts and ports alone",
    ),
    "a password in an argument": (
        minimal(spec__silver=own_job("--db-password=s3cr3t")),
        "spec.silver.job.arguments[0]",
        "looks like a secret",
    ),
    "a password in an argument's address": (
        minimal(spec__silver=own_job("--from", "https://me:s3cr3t@lookup/")),
        "spec.silver.job.arguments[1]",
        "looks like a secret",
    ),
    "a password among the catalog's properties": (
        minimal(spec__catalog__properties={"jdbc.password": "secret"}),
        "spec.catalog.properties.jdbc.password",
        "spec.catalog.secretRef",
    ),
    "a login among Kafka's properties": (
        minimal(spec__source__properties={"sasl.jaas.config": "secret"}),
        "spec.source.properties.sasl.jaas.config",
        "spec.source.security.secretRef",
    ),
    "a reference among Kafka's properties": (
        minimal(spec__source__properties={"client.id": "${env:KAFKA_PASSWORD}"}),
        "spec.source.properties.client.id",
        "must not hold ${",
    ),
    "a key in Flink's configuration": (
        minimal(spec__bronze__flinkConfiguration={"s3.secret-key": "secret"}),
        "spec.bronze.flinkConfiguration.s3.secret-key",
        "looks like a secret",
    ),
    "a key of Flink's configuration above one of ours": (
        minimal(spec__bronze__flinkConfiguration={"env.java.opts": "-Dx=y"}),
        "spec.bronze.flinkConfiguration.env.java.opts",
        "can't stand beside env.java.opts.all",
    ),
    "a key of Flink's configuration below another": (
        minimal(spec__bronze__flinkConfiguration={"metrics.reporters": "a", "metrics.reporters.a.class": "b"}),
        "spec.bronze.flinkConfiguration.metrics.reporters",
        "can't stand beside metrics.reporters.a.class",
    ),
    "a key in Spark's configuration": (
        roman(spec__silver__sparkConf={"spark.hadoop.fs.s3a.secret.key": "secret"}),
        "spec.silver.sparkConf.spark.hadoop.fs.s3a.secret.key",
        "looks like a secret",
    ),
    "a consumer group among the properties": (
        minimal(spec__source__properties={"group.id": "mine"}),
        "spec.source.properties.group.id",
        "set spec.source.consumerGroup",
    ),
    "a pinned job id": (
        minimal(spec__bronze__flinkConfiguration={"$internal.pipeline.job-id": "0" * 32}),
        "spec.bronze.flinkConfiguration.$internal.pipeline.job-id",
        "pinned job id",
    ),
    "unaligned checkpoints": (
        minimal(spec__bronze__flinkConfiguration={"execution.checkpointing.unaligned.enabled": "true"}),
        "spec.bronze.flinkConfiguration.execution.checkpointing.unaligned.enabled",
        "iceberg #15846",
    ),
    "unaligned checkpoints by their old name": (
        minimal(spec__bronze__flinkConfiguration={"execution.checkpointing.unaligned": "true"}),
        "spec.bronze.flinkConfiguration.execution.checkpointing.unaligned",
        "iceberg #15846",
    ),
    "a cluster id": (
        minimal(spec__bronze__flinkConfiguration={"kubernetes.cluster-id": "mine"}),
        "spec.bronze.flinkConfiguration.kubernetes.cluster-id",
        "names the cluster",
    ),
    "an id of high availability": (
        minimal(spec__bronze__flinkConfiguration={"high-availability.cluster-id": "mine"}),
        "spec.bronze.flinkConfiguration.high-availability.cluster-id",
        "its ids must stay",
    ),
    "another namespace": (
        minimal(spec__bronze__flinkConfiguration={"kubernetes.namespace": "kube-system"}),
        "spec.bronze.flinkConfiguration.kubernetes.namespace",
        "runs in the pipeline's namespace",
    ),
    "another service account": (
        roman(spec__silver__sparkConf={"spark.kubernetes.authenticate.driver.serviceAccountName": "admin"}),
        "spec.silver.sparkConf.spark.kubernetes.authenticate.driver.serviceAccountName",
        "set serviceAccount",
    ),
    "another catalog behind the same name": (
        roman(spec__silver__sparkConf={"spark.sql.catalog.lakehouse.uri": "jdbc:sqlite:/tmp/x"}),
        "spec.silver.sparkConf.spark.sql.catalog.lakehouse.uri",
        "sets up the catalog",
    ),
    "a Spark property that is none": (
        roman(spec__silver__sparkConf={"sparc.ui.enabled": "false"}),
        "spec.silver.sparkConf.sparc.ui.enabled",
        "is no Spark property",
    ),
    "a column of bronze again": (
        roman(spec__silver__columns__0__name="event_time"),
        "spec.silver.columns[0].name",
        "event_time is bronze's own",
    ),
    "two payload columns of one name": (
        roman(spec__silver__columns__1__name="event_type"),
        "spec.silver.columns[1]",
        "event_type is there twice",
    ),
    "two table columns of one name": (
        roman(spec__silver__tables__0__columns__1__name="user_id"),
        "spec.silver.tables[0].columns[1]",
        "user_id is there twice",
    ),
    "two rules of one name": (
        roman(spec__silver__tables__0__rules__1__name="known_type"),
        "spec.silver.tables[0].rules[1]",
        "known_type is there twice",
    ),
    "a column that every table has": (
        roman(spec__silver__tables__0__columns__0__name="kafka_offset"),
        "spec.silver.tables[0].columns[0].name",
        "kafka_offset is every silver table's own",
    ),
    "a rule named like a column's own": (
        roman(spec__silver__tables__0__rules__0__name="user_id_required"),
        "spec.silver.tables[0].rules[0].name",
        "user_id_required is a built-in rule's",
    ),
    "a rule over a column that is not there": (
        roman(**{RULE: "evnt_type = 'CONVERSION'"}),
        "spec.silver.tables[0].rules[0].expression",
        "there is no column evnt_type",
    ),
    "an expression over a column that is not there": (
        roman(**{COLUMN: "upper(userid)"}),
        "spec.silver.tables[0].columns[0].expression",
        "there is no column userid",
    ),
    "a condition over a column that is not there": (
        roman(spec__silver__tables__0__where="kind = 'a'"),
        "spec.silver.tables[0].where",
        "there is no column kind",
    ),
    "an expression that does not parse": (
        roman(**{RULE: "event_type = "}),
        "spec.silver.tables[0].rules[0].expression",
        "is not Spark SQL",
    ),
    "an expression that is a whole query": (
        roman(**{RULE: "event_type FROM secrets.table"}),
        "spec.silver.tables[0].rules[0].expression",
        "is not one SQL expression",
    ),
    "an expression that closes its bracket": (
        roman(**{RULE: "true); DROP TABLE silver.conversions; SELECT (1"}),
        "spec.silver.tables[0].rules[0].expression",
        "is not Spark SQL",
    ),
    "an expression with a second statement": (
        roman(**{RULE: "true; DROP TABLE silver.conversions"}),
        "spec.silver.tables[0].rules[0].expression",
        "must be one statement",
    ),
    "an expression with a subquery": (
        roman(**{RULE: "user_id in (SELECT id FROM other.users)"}),
        "spec.silver.tables[0].rules[0].expression",
        "no SELECT",
    ),
    "an expression that changes by itself": (
        roman(**{RULE: "event_time < now()"}),
        "spec.silver.tables[0].rules[0].expression",
        "now() gives another value each time",
    ),
    "two expressions": (
        roman(**{RULE: "true, false"}),
        "spec.silver.tables[0].rules[0].expression",
        "is not one SQL expression",
    ),
    "a rule over a column that nobody reads": (
        roman(**{A_RULE: {"name": "r", "notNull": {"column": "evnt_type"}}}),
        "spec.silver.tables[0].rules[0].notNull.column",
        "there is no column evnt_type to read",
    ),
    "a range over a text": (
        roman(**{A_RULE: {"name": "r", "range": {"column": "user_id", "min": 1}}}),
        "spec.silver.tables[0].rules[0].range.column",
        "user_id is of type string, and range is for int, long, double, decimal; use expression",
    ),
    "a pattern over a number": (
        roman(**{A_RULE: {"name": "r", "pattern": {"column": "input_number", "regex": "[0-9]"}}}),
        "spec.silver.tables[0].rules[0].pattern.column",
        "pattern is for string",
    ),
    "accepted values of fractions": (
        roman(**{A_RULE: {"name": "r", "acceptedValues": {"column": "duration_ms", "values": ["1"]}}}),
        "spec.silver.tables[0].rules[0].acceptedValues.column",
        "acceptedValues is for string, int, long, boolean",
    ),
    "a pattern that does not close": (
        roman(**{A_RULE: {"name": "r", "pattern": {"column": "user_id", "regex": "(a|b"}}}),
        "spec.silver.tables[0].rules[0].pattern.regex",
        "is no regular expression: missing ), ",
    ),
    "rows alike in a column that the table lacks": (
        roman(**{A_RULE: {"name": "r", "severity": "warn", "unique": {"columns": ["event_id", "event_type"]}}}),
        "spec.silver.tables[0].rules[0].unique.columns[1]",
        "silver.conversions has no column event_type",
    ),
    "rows alike in one column twice": (
        roman(**{A_RULE: {"name": "r", "severity": "warn", "unique": {"columns": ["user_id", "user_id"]}}}),
        "spec.silver.tables[0].rules[0].unique.columns[1]",
        "user_id is there twice",
    ),
    "an age of nothing": (
        roman(**{A_RULE: {"name": "r", "severity": "fail", "freshness": {"maxAge": "0s"}}}),
        "spec.silver.tables[0].rules[0].freshness.maxAge",
        "must be longer than 0s",
    ),
    "rows that are to be set aside for the table's age": (
        roman(**{A_RULE: {"name": "r", "freshness": {"maxAge": "2h"}}}),
        "spec.silver.tables[0].rules[0].severity",
        "say warn or fail",
    ),
    "a dimension of a table that is not there": (
        roman(spec__silver__dimensions__0__source="silver.users"),
        "spec.silver.dimensions[0].source",
        "there is no silver table silver.users",
    ),
    "a dimension over a column that is not there": (
        roman(spec__silver__dimensions__0__key="user"),
        "spec.silver.dimensions[0].key",
        "silver.conversions has no column user",
    ),
    "a dimension that tracks its key": (
        roman(spec__silver__dimensions__0__tracked=["user_id"]),
        "spec.silver.dimensions[0].tracked[0]",
        "user_id is the dimension's own",
    ),
    "a dimension that tracks a column twice": (
        roman(spec__silver__dimensions__0__tracked=["user_plan", "user_plan"]),
        "spec.silver.dimensions[0].tracked[1]",
        "user_plan is there twice",
    ),
    "a model that reads a stranger's table": (
        roman(**{FACT_SQL: "SELECT cast(now() AS date) AS event_date FROM other.table"}),
        "spec.gold.models[3].sql",
        "reads other.table, which this pipeline does not make",
    ),
    "a model that reads bronze": (
        roman(**{FACT_SQL: "SELECT 1 AS event_date FROM bronze.conversion_events"}),
        "spec.gold.models[3].sql",
        "reads bronze.conversion_events, which",
    ),
    "a model that reads files": (
        roman(**{FACT_SQL: "SELECT 1 AS event_date FROM parquet.`s3://other/table`"}),
        "spec.gold.models[3].sql",
        "which this pipeline does not make",
    ),
    "a model that reads a stranger's table in a subquery": (
        roman(**{f"{GOLD}0__sql": "SELECT user_id FROM silver.dim_users WHERE user_id IN (SELECT id FROM other.t)"}),
        "spec.gold.models[0].sql",
        "reads other.t, which",
    ),
    "a model that is no SELECT": (
        roman(**{f"{GOLD}0__sql": "DROP TABLE silver.conversions"}),
        "spec.gold.models[0].sql",
        "must be one SELECT",
    ),
    "a model that writes": (
        roman(**{f"{GOLD}0__sql": "INSERT INTO silver.conversions SELECT * FROM silver.conversions"}),
        "spec.gold.models[0].sql",
        "must be one SELECT",
    ),
    "a model that selects into a table": (
        roman(**{f"{GOLD}0__sql": "SELECT user_id INTO silver.conversions FROM silver.dim_users"}),
        "spec.gold.models[0].sql",
        "writes nothing",
    ),
    "a model of two statements": (
        roman(**{f"{GOLD}0__sql": "SELECT 1 AS a; SELECT 2 AS a"}),
        "spec.gold.models[0].sql",
        "must be one statement",
    ),
    "a model that does not parse": (
        roman(**{f"{GOLD}0__sql": "SELECT a FROM WHERE"}),
        "spec.gold.models[0].sql",
        "is not Spark SQL",
    ),
    "a model that reads a column that is not there": (
        roman(**extra("SELECT user_name FROM silver.dim_users")),
        f"spec.gold.models[{EXTRA}].sql",
        "there is no column user_name",
    ),
    "a model that reads a column of the wrong table": (
        roman(**{f"{GOLD}0__sql": "SELECT u.status FROM silver.conversions c JOIN silver.dim_users u USING (user_id)"}),
        "spec.gold.models[0].sql",
        "there is no column u.status",
    ),
    "a model that reads a column that another model does not give": (
        roman(**{f"{GOLD}5__sql": "SELECT event_date, sum(price) AS total FROM gold.fact_conversions GROUP BY 1"}),
        "spec.gold.models[5].sql",
        "there is no column price",
    ),
    "a model without its day": (
        roman(**{f"{GOLD}3__dayColumn": "day"}),
        "spec.gold.models[3].dayColumn",
        "the SELECT gives no column day; it gives: event_id, event_time, event_date",
    ),
    "a model that reads itself": (
        roman(**{f"{GOLD}0__sql": "SELECT * FROM gold.dim_user"}),
        "spec.gold.models[0]",
        "gold.dim_user reads gold.dim_user",
    ),
    "a circle of models": (
        roman(**{f"{GOLD}1__sql": "SELECT * FROM gold.dim_time", f"{GOLD}2__sql": "SELECT * FROM gold.dim_numeral"}),
        "spec.gold.models[",
        "reads what is computed from it",
    ),
    "SQL in a ConfigMap that is not there": (
        roman(**{f"{GOLD}0__sql": ..., f"{GOLD}0__sqlFrom": {"configMap": "models", "key": "user.sql"}}),
        "spec.gold.models[0].sqlFrom.configMap",
        "there is no ConfigMap models",
    ),
    "a table over bronze": (
        roman(spec__silver__tables__0__name="bronze.conversion_events"),
        "spec.silver.tables[0].name",
        "is another table of the pipeline",
    ),
    "a model over a silver table": (
        roman(**{f"{GOLD}0__name": "silver.conversions"}),
        "spec.gold.models[0].name",
        "is another table of the pipeline",
    ),
    "a job of one's own over bronze": (
        roman(
            spec__silver={
                "image": "mine:1",
                "job": {"entryPoint": "local:///opt/mine.py", "writes": ["silver.mine", "bronze.conversion_events"]},
            },
            spec__gold=...,
        ),
        "spec.silver.job.writes[1]",
        "is another table of the pipeline",
    ),
    "gold's own job over silver": (
        roman(
            spec__gold={
                "schedule": "0 1 * * *",
                "job": {"entryPoint": "local:///opt/mine.py", "writes": ["silver.conversions"]},
            }
        ),
        "spec.gold.job.writes[0]",
        "is another table of the pipeline",
    ),
    "a model over the quarantine": (
        roman(**{f"{GOLD}0__name": "silver.conversions_quarantine"}),
        "spec.gold.models[0].name",
        "is another table of the pipeline",
    ),
    "a model over the quality results": (
        roman(**{f"{GOLD}0__name": "silver.quality_results"}),
        "spec.gold.models[0].name",
        "is another table of the pipeline",
    ),
}


@pytest.mark.parametrize(("raw", "path", "says"), SPOILED.values(), ids=SPOILED)
def test_one_thing_is_wrong_and_its_field_is_named(raw: dict[str, Any], path: str, says: str) -> None:
    found = problems(raw)
    assert any(problem.startswith(path) and says in problem for problem in found), found


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = problems(
        roman(
            spec__silver__schedule="60 * * * *",
            spec__gold__timeZone="Mars/Olympus",
            spec__bronze__flinkConfiguration={"kubernetes.cluster-id": "a", "parallelism.default": "2"},
            **{RULE: "nonsense = 1"},
            **extra("SELECT nothing FROM silver.dim_users"),
        )
    )
    assert len(found) == 6


def test_everything_that_has_the_wrong_shape_is_said_at_once() -> None:
    raw = minimal(
        spec__source__topic="a b",
        spec__bronze__paralelism=2,
        spec__bronze__watermarkDelay="5 minutes",
        spec__bronze__taskManager={"slots": 0, "cpu": "1"},
        spec__bronze__checkpoint=...,
        spec__bronze__tooLate="drop",
    )
    assert problems(raw) == [
        'spec.source.topic: "a b" is not a Kafka topic name: 1 to 249 of A-Z a-z 0-9 . _ -',
        'spec.bronze.taskManager.cpu: must be a number, not "1"',
        "spec.bronze.taskManager.slots: must be at least 1, not 0",
        "spec.bronze.checkpoint: is required",
        'spec.bronze.watermarkDelay: "5 minutes" is not a duration such as 30s, 5m, 1h30m or 7d',
        'spec.bronze.tooLate: must be one of deadLetter, keep, not "drop"',
        "spec.bronze.paralelism: unknown field; did you mean parallelism?",
    ]


def test_an_unknown_field_without_a_likeness_shows_what_is_known() -> None:
    (problem,) = problems(minimal(spec__source__event={"zzz": 1}))
    assert problem == "spec.source.event.zzz: unknown field; known here: idField, timeField"


def test_the_path_of_an_item_names_its_place() -> None:
    (problem,) = problems(roman(spec__silver__tables__0__rules__2__severity="loud"))
    assert problem == ('spec.silver.tables[0].rules[2].severity: must be one of warn, quarantine, fail, not "loud"')


@pytest.mark.parametrize("raw", [{}, {"spec": None}, {"kind": "Pod"}, {"spec": []}], ids=str)
def test_what_is_no_pipeline_at_all_is_refused_without_a_crash(raw: dict[str, Any]) -> None:
    assert problems(raw)


def test_a_null_is_as_good_as_leaving_the_field_out() -> None:
    assert valid(minimal(spec__bronze__parallelism=None, spec__silver=None)) == valid(minimal())


def kind(**what: Any) -> dict[str, Any]:
    return {"name": "r", **what}


# What Spark understands and a careless check would refuse.
FINE: dict[str, dict[str, Any]] = {
    "a lambda's own variable": {COLUMN: "cast(aggregate(array(1, 2), 0, (sum, x) -> sum + x) AS string)"},
    "a field of a struct": {COLUMN: "named_struct('a', user_id).a"},
    "upper case": {COLUMN: "UPPER(USER_ID)"},
    "backticks": {COLUMN: "`user_id`"},
    "a comment at the end": {COLUMN: "user_id -- who"},
    "bronze's own column": {COLUMN: "cast(kafka_offset AS string)"},
    "a pattern that only Java reads": {A_RULE: kind(pattern={"column": "user_id", "regex": r"\p{L}[a[b(]c)]*\Q(\E"})},
    "a set within a set": {A_RULE: kind(pattern={"column": "user_id", "regex": "[a[b(]c)]*"})},
    "a bound of a number that bronze holds": {A_RULE: kind(range={"column": "kafka_offset", "min": -0.5})},
    "an age": {A_RULE: kind(severity="warn", freshness={"maxAge": "1h30m"})},
    "rows per day": {A_RULE: kind(severity="fail", rowCount={"per": "day", "min": 0, "max": 9})},
    "a semicolon in a text": {RULE: "event_type <> ';'"},
    "a window over the row": {COLUMN: "concat_ws('-', user_id, date_format(event_time, 'yyyy'))"},
    "a common table expression": extra("WITH u AS (SELECT user_id AS id FROM silver.dim_users) SELECT id FROM u"),
    "a correlated subquery": extra(
        "SELECT user_id FROM silver.dim_users u WHERE EXISTS "
        "(SELECT 1 FROM silver.conversions c WHERE c.user_id = u.user_id AND is_current)"
    ),
    "an alias used later": extra("SELECT upper(user_id) AS loud, length(loud) AS size FROM silver.dim_users"),
    "an alias in ORDER BY": extra("SELECT user_id AS who FROM silver.dim_users ORDER BY who"),
    "a lateral view": extra("SELECT part FROM silver.dim_users LATERAL VIEW explode(split(user_id, '-')) p AS part"),
    "names given to a query's columns": extra("SELECT a FROM (SELECT user_id FROM silver.dim_users) AS t(a)"),
    "names given to a common table expression's columns": extra(
        "WITH t(a) AS (SELECT user_id FROM silver.dim_users) SELECT a FROM t"
    ),
    "names given to a table's columns": extra(
        "SELECT x.a FROM silver.dim_users AS x(a, b, c, d, e, f, g, h, i, j, k, l, m)"
    ),
    "a subquery's own column": extra(
        "SELECT user_id FROM silver.dim_users "
        "WHERE user_id IN (SELECT user_id FROM silver.conversions WHERE status = 'OK')"
    ),
    "a field of a struct of a table": extra(
        "SELECT t.s.a FROM (SELECT named_struct('a', user_id) AS s FROM silver.dim_users) t"
    ),
    "a hint": extra(
        "SELECT /*+ BROADCAST(u) */ c.status FROM silver.conversions c JOIN silver.dim_users u ON u.user_id = c.user_id"
    ),
    "an id of grouping": extra(
        "SELECT user_plan, grouping__id AS g FROM silver.dim_users GROUP BY user_plan WITH CUBE"
    ),
    "Iceberg's own columns": extra("SELECT _file, count(*) AS n FROM silver.dim_users GROUP BY _file"),
    "a generator's column": extra("SELECT col FROM (SELECT explode(split(user_id, '-')) FROM silver.dim_users)"),
    "VALUES": extra("SELECT t.a FROM VALUES (1, 2) AS t(a, b)"),
    "a star": extra("SELECT * FROM silver.dim_users"),
    "a star with more": extra("SELECT u.*, 1 AS one FROM silver.dim_users u"),
    "a table function": extra("SELECT id FROM range(10)"),
    "a union": extra("SELECT user_id FROM silver.dim_users UNION ALL SELECT user_id FROM silver.conversions"),
    "the audit columns": extra("SELECT _audit_run_id FROM silver.dim_users"),
    "the table's name before a column": extra("SELECT dim_users.user_id FROM silver.dim_users"),
    "quoted names": extra("SELECT `user_id` FROM `silver`.`dim_users`"),
    "a pivot": extra(
        "SELECT * FROM (SELECT user_id, status FROM silver.conversions) PIVOT (count(*) FOR status IN ('OK', 'ERROR'))"
    ),
    "a qualified window": extra(
        "SELECT user_id, row_number() OVER (PARTITION BY user_plan ORDER BY valid_from) AS n "
        "FROM silver.dim_users QUALIFY n = 1"
    ),
    "an option of a TaskManager": {"spec__bronze__flinkConfiguration": {"taskmanager.memory.managed.fraction": "0.5"}},
    "a harmless option of Flink": {"spec__bronze__flinkConfiguration": {"web.submit.enable": "false"}},
    "an option whose name holds the word token": {
        "spec__source__properties": {"sasl.oauthbearer.token.endpoint.url": "https://idp.example/token"}
    },
    "a fixed delay beyond the growing one's cap": {"spec__bronze__restart": {"delay": "10m"}},
}


@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
def test_what_is_fine_is_not_refused(changes: dict[str, Any]) -> None:
    valid(roman(**changes))


def test_models_run_in_the_order_in_which_they_need_each_other() -> None:
    raw = roman()
    declared = [model["name"] for model in raw["spec"]["gold"]["models"]]
    assert [model.name for model in _gold(raw).models] == declared, "those in order stay where they are"
    raw["spec"]["gold"]["models"].reverse()
    ordered = [model.name for model in _gold(raw).models]
    assert sorted(ordered) == sorted(declared)
    for later in ("gold.daily_metrics", "gold.plan_metrics", "gold.popular_numbers"):
        assert ordered.index("gold.fact_conversions") < ordered.index(later)
    assert ordered.index("gold.dim_user") < ordered.index("gold.plan_metrics")


def _gold(raw: dict[str, Any]) -> GoldModels:
    gold = valid(raw).gold
    assert isinstance(gold, GoldModels)
    return gold


def test_sql_from_a_config_map_is_in_its_place() -> None:
    raw = roman(**extra("", sqlFrom={"configMap": "models", "key": "user.sql"}))
    del raw["spec"]["gold"]["models"][EXTRA]["sql"]
    sql = "SELECT user_id FROM silver.dim_users"
    read_with = validate(raw, {"models": {"user.sql": sql}})
    assert not isinstance(read_with, Problems)
    assert isinstance(read_with.gold, GoldModels)
    assert read_with.gold.models[EXTRA].sql == sql
    (problem,) = problems(raw, config_maps={"models": {"other.sql": sql}})
    assert problem.endswith("ConfigMap models has no key user.sql; it has: other.sql")
    (problem,) = problems(raw, config_maps={"models": {"user.sql": "SELECT nobody FROM silver.dim_users"}})
    assert problem == f"spec.gold.models[{EXTRA}].sqlFrom: there is no column nobody in what it reads"


def test_what_the_user_left_open_is_decided() -> None:
    pipeline = valid(minimal(metadata__name="page-views", metadata__namespace="web"))
    assert pipeline.bronze_table == "bronze.page_views"
    assert pipeline.dead_letter_topic == "clicks-dlq"
    assert pipeline.consumer_group == "lakehouse.web.page-views"
    assert (pipeline.silver, pipeline.gold, pipeline.stages) == (None, None, ())


def test_gold_runs_on_silvers_image_if_it_has_none() -> None:
    pipeline = valid(roman(spec__gold__image=..., spec__maintenance={"image": "other:1"}))
    assert pipeline.image("gold") == "lakehouse-spark:0.1.0"
    assert pipeline.image("maintenance") == "other:1"
    assert pipeline.stages == ("silver", "gold", "maintenance")


def test_models_may_read_what_a_job_of_ones_own_writes() -> None:
    own = {"entryPoint": "local:///opt/mine.py", "writes": ["silver.mine"]}
    models = [{"name": "gold.all", "kind": "full", "sql": "SELECT anything FROM silver.mine"}]
    pipeline = valid(roman(spec__silver={"image": "mine:1", "job": own}, spec__gold__models=models))
    assert isinstance(pipeline.silver, OwnJob)
    assert isinstance(pipeline.gold, GoldModels)
    assert pipeline.gold.sources == ("silver.mine",)
    models[0]["sql"] = "SELECT anything FROM silver.theirs"
    (problem,) = problems(roman(spec__silver={"image": "mine:1", "job": own}, spec__gold__models=models))
    assert "reads silver.theirs" in problem


def test_silver_is_what_the_contract_calls_it() -> None:
    silver = valid("roman-numerals").silver
    assert isinstance(silver, SilverTables)
    assert silver.columns[1].required
    assert silver.tables[0].rules[0].severity == "quarantine"
    assert silver.writes == ("silver.conversions", "silver.dim_users")


WARNED = {
    "spec.bronze.dedupTtl: is shorter": minimal(spec__bronze__dedupTtl="1h"),
    "spec.bronze.checkpoint.interval: below 10s": minimal(spec__bronze__checkpoint__interval="5s"),
    "spec.bronze.image: is a moving tag": minimal(spec__bronze__image="flink:latest"),
    "spec.silver.image: is a moving tag": roman(spec__silver__image="spark:latest"),
}


@pytest.mark.parametrize(("warning", "raw"), WARNED.items(), ids=WARNED)
def test_what_is_probably_not_meant_is_a_warning(warning: str, raw: dict[str, Any]) -> None:
    (found,) = valid(raw).warnings
    assert str(found).startswith(warning)


def test_what_a_job_would_refuse_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be if the contract became stricter than the checks here."""
    good = job_settings.bronze_settings
    monkeypatch.setattr(job_settings, "bronze_settings", lambda pipeline: replace(good(pipeline), table="none"))
    (problem,) = problems(minimal())
    assert problem.startswith("spec.bronze: the job would refuse this: table: ")


def test_runs_and_backfills_are_read_too() -> None:
    assert not isinstance(validate_run(run()), Problems)
    assert not isinstance(validate_backfill(backfill()), Problems)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            validate_run(run(sourceRange=..., days={"first": "2026-02-30", "last": "2026-03-01"})),
            "spec.days.first: 2026-02-30 is no day of the calendar",
        ),
        (
            validate_run(run(dataInterval={"start": "2026-01-31T25:00:00Z", "end": "2026-02-31T06:00:00Z"})),
            "spec.dataInterval.start: 2026-01-31T25:00:00Z is no instant of the calendar",
        ),
        (
            validate_backfill(backfill(range={"first": "2026-02-30", "last": "2026-03-01"})),
            "spec.range.first: 2026-02-30 is no day of the calendar",
        ),
        (
            validate_backfill(backfill(range={"first": "2020-01-01", "last": "2026-01-01"})),
            "spec.range: spans 2193 days; at most 1000 fit one backfill",
        ),
    ],
    ids=["a run's day", "a run's instant", "a backfill's day", "a backfill's length"],
)
def test_a_date_that_the_pattern_lets_pass_is_refused(found: object, says: str) -> None:
    assert isinstance(found, Problems)
    assert says in str(found)


def test_reading_knows_no_conversions() -> None:
    assert isinstance(read(LakehousePipeline, minimal(spec__bronze__parallelism="1")), Problems)
    assert isinstance(read(LakehousePipeline, minimal(spec__bronze__parallelism=True)), Problems)
    assert isinstance(read(LakehousePipeline, minimal(spec__suspend=1)), Problems)
