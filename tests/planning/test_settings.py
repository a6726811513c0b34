"""From a pipeline to the settings of its jobs, and the revisions."""

from typing import Any

import pytest

from lakehouse_contract import state
from lakehouse_contract.decoding import from_json, to_json
from lakehouse_contract.settings import (
    AuditLimits,
    BronzeSettings,
    CatalogSettings,
    CheckpointSettings,
    GoldSettings,
    KafkaSettings,
    RunSettings,
    SilverSettings,
)
from lakehouse_operator.planning import definition, job_settings
from lakehouse_operator.planning.job_settings import revision
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import validate
from planning import children, examples

RUN = RunSettings(id="a-run", revision="0123456789ab")


def roman(**changes: Any) -> ValidPipeline:
    return examples.valid("roman-numerals", **changes)


def test_the_defaults_of_the_api_are_the_defaults_of_the_contract() -> None:
    """Which are the seed's: see tests/contract and docs/seed.md."""
    expected = BronzeSettings(
        pipeline="clicks",
        kafka=KafkaSettings(bootstrap_servers="kafka:9092", topic="clicks", consumer_group="lakehouse.default.clicks"),
        catalog=CatalogSettings(type="rest", uri="http://catalog:8181", warehouse="s3://lakehouse/warehouse"),
        checkpoint=CheckpointSettings(
            directory="s3://lakehouse/clicks/checkpoints", savepoint_directory="s3://lakehouse/clicks/savepoints"
        ),
        table="bronze.clicks",
        dead_letter_topic="clicks-dlq",
        parallelism=1,
        state_version=state.VERSION,
    )
    assert job_settings.bronze_settings(examples.valid("minimal")) == expected


def test_every_setting_of_bronze_comes_from_its_field() -> None:
    changed = examples.valid(
        "minimal",
        spec__source__consumerGroup="mine",
        spec__source__event={"timeField": "at"},
        spec__source__properties={"client.id": "me"},
        spec__bronze__table="raw.events",
        spec__bronze__deadLetterTopic="dead",
        spec__bronze__checkpoint__interval="2m",
        spec__bronze__checkpoint__timeout="3m",
        spec__bronze__restart={
            "strategy": "exponentialDelay",
            "attempts": 7,
            "delay": "10s",
            "maxDelay": "2m",
            "window": "1h",
        },
        spec__bronze__watermarkDelay="1m",
        spec__bronze__allowedLateness="2h",
        spec__bronze__tooLate="keep",
        spec__bronze__futureTolerance="7m",
        spec__bronze__dedupTtl="2d",
        spec__bronze__idleTimeout="1m",
        spec__bronze__transactionTimeout="14m",
        spec__bronze__parallelism=4,
        spec__bronze__writeParallelism=2,
        spec__bronze__compression="snappy",
    )
    settings = job_settings.bronze_settings(changed)
    assert settings.kafka.consumer_group == "mine"
    assert settings.kafka.properties == {"client.id": "me"}
    assert settings.event.time_field == "at"
    assert (settings.table, settings.dead_letter_topic) == ("raw.events", "dead")
    assert (settings.checkpoint.interval_seconds, settings.checkpoint.timeout_seconds) == (120, 180)
    restart = settings.restart
    assert (restart.strategy, restart.attempts, restart.delay_seconds) == ("exponentialDelay", 7, 10)
    assert (restart.max_delay_seconds, restart.window_seconds) == (120, 3600)
    assert (settings.watermark_delay_seconds, settings.allowed_lateness_seconds) == (60, 7200)
    assert (settings.too_late, settings.future_tolerance_seconds) == ("keep", 420)
    assert (settings.dedup_ttl_seconds, settings.idle_timeout_seconds) == (172_800, 60)
    assert settings.transaction_timeout_seconds == 840
    assert (settings.parallelism, settings.write_parallelism, settings.compression) == (4, 2, "snappy")


def test_bronze_is_told_the_namespace() -> None:
    raw = examples.raw("minimal")
    raw["metadata"]["namespace"] = "elsewhere"
    pipeline = validate(raw)
    assert isinstance(pipeline, ValidPipeline)
    assert job_settings.bronze_settings(pipeline).namespace == "elsewhere"


@pytest.mark.parametrize("name", examples.names())
def test_the_jobs_read_what_is_sent(name: str) -> None:
    pipeline = examples.valid(name)
    bronze = job_settings.bronze_settings(pipeline)
    assert from_json(BronzeSettings, to_json(bronze)) == bronze
    if pipeline.silver is not None:
        silver = job_settings.silver_settings(pipeline, RUN)
        assert from_json(SilverSettings, to_json(silver)) == silver
    if pipeline.gold is not None:
        gold = job_settings.gold_settings(pipeline, RUN)
        assert from_json(GoldSettings, to_json(gold)) == gold


def test_an_s3_store_is_told_to_iceberg_and_the_users_own_properties_win() -> None:
    properties = job_settings.catalog_settings(roman().spec).properties
    assert properties["s3.endpoint"] == "http://minio:9000"
    assert properties["io-impl"].endswith("S3FileIO")
    mine = roman(spec__catalog__properties={"s3.endpoint": "http://other:9000"})
    assert job_settings.catalog_settings(mine.spec).properties["s3.endpoint"] == "http://other:9000"
    files = roman(spec__storage=..., spec__catalog__warehouse="file:///tmp/warehouse")
    assert job_settings.catalog_settings(files.spec).properties == {}


def test_a_run_tells_its_job_what_it_is_for() -> None:
    spec = children.run_spec(roman(), "silver", sourceRange={"after": "17", "upto": "8437218941234567890"})
    told = job_settings.run_settings("a-run", spec)
    assert (told.id, told.revision) == ("a-run", spec.revision)
    assert (told.interval_start, told.interval_end) == (children.START, children.END)
    assert told.snapshots is not None
    assert (told.snapshots.after, told.snapshots.upto) == (17, 8437218941234567890)
    days = {"first": "2026-01-01", "last": "2026-01-02", "atSnapshot": "99"}
    spec = children.run_spec(roman(), "silver", sourceRange=None, reason="manual", dataInterval=None, days=days)
    told = job_settings.run_settings("a-run", spec)
    assert told.days is not None
    assert (told.days.first, told.days.last, told.days.at_snapshot) == ("2026-01-01", "2026-01-02", 99)
    assert told.days.audit == AuditLimits(), "the API's defaults are the contract's"
    days = {**days, "audit": {"maxEventsLost": 0.25, "maxNullIncrease": 1}}
    spec = children.run_spec(roman(), "silver", sourceRange=None, reason="manual", dataInterval=None, days=days)
    told = job_settings.run_settings("a-run", spec)
    assert told.days is not None
    assert told.days.audit == AuditLimits(max_events_lost=0.25, max_null_increase=1.0)


def test_maintenance_covers_every_table_that_the_pipeline_writes() -> None:
    pipeline = roman(spec__maintenance={"compaction": {"targetFileSize": "128Mi"}, "expiry": {"enabled": False}})
    settings = job_settings.maintenance_settings(pipeline, RUN)
    assert settings.tables[:6] == (
        "bronze.conversion_events",
        "silver.conversions",
        "silver.conversions_quarantine",
        "silver.quality_results",
        "silver.backfill_audits",
        "silver.dim_users",
    )
    assert {"gold.popular_numbers", "gold.model_refreshes", "gold.backfill_audits"} <= set(settings.tables)
    assert settings.compaction is not None
    assert settings.compaction.target_file_bytes == 128 * 1024 * 1024
    assert settings.expiry is None


BASE = examples.valid("roman-numerals")
RULE = "spec__silver__tables__0__rules__0__"
SAME: dict[str, dict[str, Any]] = {
    "the schedule": {"spec__silver__schedule": "5 * * * *", "spec__gold__timeZone": "Europe/Berlin"},
    "the image": {"spec__silver__image": "lakehouse-spark:9"},
    "resources": {"spec__silver__executor": {"instances": 9}, "spec__gold__driver": {"memory": "9Gi"}},
    "a default that is spelled out": {f"{RULE}severity": "quarantine"},
    "the stream": {"spec__bronze__image": "other:1", "spec__bronze__dedupTtl": "48h"},
    "where the catalog is": {"spec__catalog__uri": "jdbc:postgresql://elsewhere/catalog"},
}
SILVER: dict[str, dict[str, Any]] = {
    "a rule": {f"{RULE}expression": "event_type = 'OTHER'"},
    "a severity": {f"{RULE}severity": "fail"},
    "a path": {"spec__silver__columns__0__path": "$.kind"},
    "a type": {"spec__silver__columns__5__type": "int"},
    "a condition": {"spec__silver__tables__0__where": "status = 'OK'"},
    "what a dimension tracks": {"spec__silver__dimensions__0__tracked": ["user_plan", "user_country"]},
    "the source": {"spec__bronze__table": "bronze.other"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_a_change_that_can_not_change_results_keeps_the_revision(changes: dict[str, Any]) -> None:
    changed = roman(**changes)
    assert revision(changed, "silver") == revision(BASE, "silver")
    assert revision(changed, "gold") == revision(BASE, "gold")


@pytest.mark.parametrize("changes", SILVER.values(), ids=SILVER)
def test_a_change_of_what_silver_computes_is_another_revision(changes: dict[str, Any]) -> None:
    models = [{"name": "gold.users", "kind": "full", "sql": "SELECT user_id FROM silver.dim_users"}]
    before = roman(spec__gold__models=models)
    assert revision(roman(spec__gold__models=models, **changes), "silver") != revision(before, "silver")


def test_the_order_in_which_models_are_written_down_makes_no_difference() -> None:
    raw = examples.raw("roman-numerals")
    raw["spec"]["gold"]["models"].reverse()
    assert revision(examples.valid(raw), "gold") == revision(BASE, "gold")


def test_a_change_of_a_model_is_another_revision_of_gold_alone() -> None:
    changed = roman(spec__gold__models__2__sql="SELECT id AS hour FROM range(0, 24)")
    assert revision(changed, "gold") != revision(BASE, "gold")
    assert revision(changed, "silver") == revision(BASE, "silver")


def test_the_code_of_a_job_of_ones_own_is_its_definition() -> None:
    own = {"entryPoint": "local:///opt/mine.py", "writes": ["silver.mine"]}
    gold = [{"name": "gold.all", "kind": "full", "sql": "SELECT * FROM silver.mine"}]
    one, other = (roman(spec__silver={"image": image, "job": own}, spec__gold__models=gold) for image in ("a:1", "a:2"))
    assert revision(one, "silver") != revision(other, "silver")


def test_revisions_stay_what_they_are() -> None:
    """A change of these, unless the example changed, calls every user's silver and gold outdated on an upgrade."""
    assert revision(BASE, "silver") == "07bab83bd039"
    assert revision(BASE, "gold") == "2689390dfc9f"


def test_a_kept_definition_gives_the_same_pipeline_without_its_config_maps() -> None:
    raw = examples.changed(
        "roman-numerals", spec__gold__models__0__sql=..., spec__gold__models__0__sqlFrom={"configMap": "m", "key": "k"}
    )
    sql = {"m": {"k": examples.raw("roman-numerals")["spec"]["gold"]["models"][0]["sql"]}}
    raw["spec"]["gold"]["models"].reverse()
    read = definition.validate(raw, sql)
    assert isinstance(read, ValidPipeline)
    record = definition.build_definition_record(read)
    assert record["immutable"] is True
    assert record["metadata"]["name"] == definition.definition_name(read)
    again = definition.read_definition(record["data"], name=read.name, namespace=read.namespace)
    assert isinstance(again, ValidPipeline)
    assert (again.silver, again.gold) == (read.silver, read.gold)
    assert job_settings.bronze_settings(again) == job_settings.bronze_settings(read)
    assert definition.definition_name(again) == definition.definition_name(read)


def test_a_kept_definition_with_a_job_of_ones_own_gives_the_same_pipeline() -> None:
    own = {"entryPoint": "local:///opt/mine.py", "writes": ["silver.mine"]}
    pipeline = roman(spec__silver={"image": "mine:1", "job": own}, spec__gold=...)
    data = definition.build_definition_record(pipeline)["data"]
    assert definition.read_definition(data, name=pipeline.name, namespace=pipeline.namespace) == pipeline


def test_another_spec_is_kept_under_another_name() -> None:
    assert definition.definition_name(roman(spec__suspend=True)) != definition.definition_name(BASE)


@pytest.mark.parametrize("data", [{}, {"spec.json": "{"}, {"spec.json": "{}"}, {"spec.json": "[]"}], ids=str)
def test_a_config_map_that_is_no_definition_is_refused_without_a_crash(data: dict[str, str]) -> None:
    assert isinstance(definition.read_definition(data, name="a", namespace="b"), Problems)
