"""Settings travel as one line of JSON, strictly: what is wrong is refused with its path, all of it at once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_contract.decoding import SettingsRefused, camel, decode, from_json, to_json
from lakehouse_contract.names import flink_literal, quoted_identifier, spark_literal
from lakehouse_contract.settings import BronzeSettings, GoldSettings, RunSettings, SilverSettings

CATALOG = {"type": "jdbc", "uri": "jdbc:sqlite:/x.db", "warehouse": "file:///w"}
BRONZE: dict[str, Any] = {
    "pipeline": "numerals",
    "kafka": {"bootstrapServers": "k:9092", "topic": "events", "consumerGroup": "g"},
    "catalog": CATALOG,
    "checkpoint": {"directory": "file:///c", "savepointDirectory": "file:///s"},
    "table": "bronze.events",
    "deadLetterTopic": "events-dlq",
}
SILVER: dict[str, Any] = {
    "pipeline": "numerals",
    "catalog": CATALOG,
    "run": {"id": "r1"},
    "bronzeTable": "bronze.events",
    "columns": [{"name": "a", "type": "int", "path": "$.a"}],
    "tables": [{"name": "silver.t", "columns": [{"name": "a", "type": "int", "expression": "a"}]}],
}
GOLD: dict[str, Any] = {
    "pipeline": "numerals",
    "catalog": CATALOG,
    "run": {"id": "r1"},
    "sources": ["silver.t"],
    "models": [{"name": "gold.m", "kind": "full", "sql": "SELECT 1"}],
}


def spoiled(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The settings with one field set, by a dotted path with numbers for places in lists; None removes it."""
    copy = json.loads(json.dumps(raw))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    where = copy
    for parent in parents:
        where = where[parent]
    if value is None:
        del where[last]
    else:
        where[last] = value
    return copy  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "raw"), [(BronzeSettings, BRONZE), (SilverSettings, SILVER), (GoldSettings, GOLD)])
def test_settings_survive_the_journey(kind: type[object], raw: dict[str, Any]) -> None:
    value = decode(kind, raw)
    assert from_json(kind, to_json(value)) == value
    assert "\n" not in to_json(value)


def test_equal_settings_give_equal_text() -> None:
    shuffled = dict(reversed(BRONZE.items()))
    assert to_json(decode(BronzeSettings, shuffled)) == to_json(decode(BronzeSettings, BRONZE))


def test_a_default_spelled_out_is_the_default() -> None:
    spelled = {**BRONZE, "watermarkDelaySeconds": 300, "restart": {"attempts": 3, "delaySeconds": 30}}
    assert to_json(decode(BronzeSettings, spelled)) == to_json(decode(BronzeSettings, BRONZE))


@pytest.mark.parametrize(
    ("kind", "raw", "path", "value", "expected"),
    [
        (BronzeSettings, BRONZE, "kafka.tpoic", "x", "kafka.tpoic: unknown field"),
        (BronzeSettings, BRONZE, "kafka.topic", None, "kafka.topic: is required"),
        (BronzeSettings, BRONZE, "kafka.topic", "a b", "kafka.topic: "),
        (BronzeSettings, BRONZE, "kafka", [], "kafka: must be an object"),
        (BronzeSettings, BRONZE, "table", "events", "table: "),
        (BronzeSettings, BRONZE, "table", "bronze.events; drop", "table: "),
        (
            BronzeSettings,
            BRONZE,
            "checkpoint.intervalSeconds",
            "60",
            "checkpoint.intervalSeconds: must be a whole number",
        ),
        (
            BronzeSettings,
            BRONZE,
            "checkpoint.intervalSeconds",
            True,
            "checkpoint.intervalSeconds: must be a whole number",
        ),
        (BronzeSettings, BRONZE, "checkpoint.intervalSeconds", 0, "checkpoint.intervalSeconds: must be at least 1"),
        (BronzeSettings, BRONZE, "compression", "lz4", "compression: must be one of zstd, snappy"),
        (BronzeSettings, BRONZE, "catalog.type", "glue", "catalog.type: must be one of"),
        (SilverSettings, SILVER, "columns.0.type", "varchar", "columns[0].type: "),
        (SilverSettings, SILVER, "columns.0.path", "a", "columns[0].path: "),
        (SilverSettings, SILVER, "columns.0.required", "yes", "columns[0].required: must be true or false"),
        (SilverSettings, SILVER, "tables", [], "tables: must not be empty"),
        (SilverSettings, SILVER, "tables.0.columns.0.name", "a`b", "tables[0].columns[0].name: "),
        (GoldSettings, GOLD, "models.0.kind", "view", "models[0].kind: must be one of"),
        (GoldSettings, GOLD, "models.0.kind", "incrementalByDay", "models[0].dayColumn: is required"),
        (GoldSettings, GOLD, "run.days", {"first": "2026-02-02", "last": "2026-02-01"}, "run.days.last: "),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(
    kind: type[object], raw: dict[str, Any], path: str, value: Any, expected: str
) -> None:
    with pytest.raises(SettingsRefused) as refused:
        decode(kind, spoiled(raw, path, value))
    assert any(str(problem).startswith(expected) for problem in refused.value.problems), refused.value


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsRefused) as refused:
        decode(BronzeSettings, spoiled(spoiled(BRONZE, "table", "x"), "kafka.topic", None))
    assert {problem.path for problem in refused.value.problems} == {"table", "kafka.topic"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(SettingsRefused):
        from_json(BronzeSettings, text)


def test_a_run_takes_snapshots_or_days_not_both() -> None:
    both = {"id": "r", "snapshots": {"upto": 1}, "days": {"first": "2026-01-01", "last": "2026-01-01"}}
    with pytest.raises(SettingsRefused, match="either snapshots or days"):
        decode(RunSettings, both)


def test_names_are_camel_case() -> None:
    assert camel("watermark_delay_seconds") == "watermarkDelaySeconds"


@given(st.text(max_size=40))
def test_nothing_leaves_its_quotes(text: str) -> None:
    flink = flink_literal(text)[1:-1]
    assert flink.replace("''", "").count("'") == 0
    spark = spark_literal(text)[1:-1]
    assert "'" not in spark.replace("\\\\", "").replace("\\'", "")
    assert "`" not in quoted_identifier(text)[1:-1].replace("``", "")
