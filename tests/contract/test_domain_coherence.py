"""What only the parts of a definition together can tell is refused with its path, before a job starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_contract.decoding import SettingsRefused, decode, from_json, to_json
from lakehouse_contract.domain import built_in_rules
from lakehouse_contract.settings import GoldSettings, SilverSettings

CATALOG = {"type": "jdbc", "uri": "jdbc:sqlite:/x.db", "warehouse": "file:///w"}
SILVER: dict[str, Any] = {
    "pipeline": "shop",
    "catalog": CATALOG,
    "run": {"id": "r1"},
    "bronzeTable": "bronze.orders",
    "columns": [
        {"name": "who", "type": "string", "path": "$.who", "required": True},
        {"name": "total", "type": "long", "path": "$.total"},
    ],
    "tables": [
        {
            "name": "silver.orders",
            "columns": [
                {"name": "who", "type": "string", "expression": "who"},
                {"name": "total", "type": "long", "expression": "total"},
                {"name": "tags", "type": "list<string>", "expression": "array(who)"},
            ],
            "rules": [{"name": "positive", "expression": "total > 0"}],
        },
        {
            "name": "silver.big",
            "columns": [{"name": "who", "type": "string", "expression": "who"}],
            "where": "total > 9",
        },
    ],
    "dimensions": [{"name": "silver.dim_people", "source": "silver.orders", "key": "who", "tracked": ["total"]}],
}
GOLD: dict[str, Any] = {
    "pipeline": "shop",
    "catalog": CATALOG,
    "run": {"id": "r1"},
    "sources": ["silver.orders", "silver.dim_people"],
    "models": [
        {"name": "gold.a", "kind": "full", "sql": "SELECT 1"},
        {"name": "gold.b", "kind": "incrementalByDay", "dayColumn": "day", "sql": "SELECT 1"},
    ],
}


def spoiled(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(raw))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    where: Any = copy
    for parent in parents:
        where = where[parent]
    where[last] = value
    return copy


SPOILED_SILVER: dict[str, tuple[str, Any, str]] = {
    "two payload columns of one name": ("columns.1.name", "who", "columns[1].name: who is there twice"),
    "a payload column like bronze's": ("columns.1.name", "event_time", "columns[1].name: event_time is bronze's own"),
    "a payload column like the jobs' own": ("columns.1.name", "_type_who", "columns[1].name: _type_who: names with"),
    "two columns of one name": ("tables.0.columns.1.name", "who", "tables[0].columns[1].name: who is there twice"),
    "a column that every table has": (
        "tables.0.columns.1.name",
        "kafka_offset",
        "tables[0].columns[1].name: kafka_offset is every silver table's own",
    ),
    "a column of the audit": (
        "tables.0.columns.1.name",
        "_audit_run_id",
        "tables[0].columns[1].name: _audit_run_id is every silver table's own",
    ),
    "a rule like a built-in one": (
        "tables.0.rules.0.name",
        "who_required",
        "tables[0].rules[0].name: who_required is a built-in rule's",
    ),
    "two rules of one name": (
        "tables.0.rules",
        [{"name": "r", "expression": "true"}, {"name": "r", "expression": "false"}],
        "tables[0].rules[1].name: r is there twice",
    ),
    "a rule of no kind": ("tables.0.rules.0", {"name": "r"}, "tables[0].rules[0]: give exactly one of expression, "),
    "a rule of two kinds": (
        "tables.0.rules.0",
        {"name": "r", "notNull": {"column": "who"}, "unique": {"columns": ["who"]}},
        "tables[0].rules[0]: give exactly one of expression, ",
    ),
    "an age that sets rows aside": (
        "tables.0.rules.0",
        {"name": "r", "freshness": {"maxAgeSeconds": 9}},
        "tables[0].rules[0].severity: freshness looks at many rows together",
    ),
    "bounds upside down": (
        "tables.0.rules.0",
        {"name": "r", "range": {"column": "total", "min": 2, "max": 1}},
        "tables[0].rules[0].range.min: 2 lies above max, 1",
    ),
    "no bounds": (
        "tables.0.rules.0",
        {"name": "r", "severity": "warn", "rowCount": {}},
        "tables[0].rules[0].rowCount.min: give min, max or both",
    ),
    "a range over a text": (
        "tables.0.rules.0",
        {"name": "r", "range": {"column": "who", "min": 1}},
        "tables[0].rules[0].range.column: who is of type string",
    ),
    "a rule over no column": (
        "tables.0.rules.0",
        {"name": "r", "notNull": {"column": "x"}},
        "tables[0].rules[0].notNull.column: there is no column x",
    ),
    "rows alike in what is not there": (
        "tables.0.rules.0",
        {"name": "r", "severity": "warn", "unique": {"columns": ["x"]}},
        "tables[0].rules[0].unique.columns[0]: silver.orders has no column x",
    ),
    "two tables of one name": ("tables.1.name", "silver.orders", "tables[1].name: silver.orders is another table"),
    "a table like a quarantine": (
        "tables.1.name",
        "silver.orders_quarantine",
        "tables[1].name: silver.orders_quarantine is another table",
    ),
    "a table like the results of the rules": (
        "tables.1.name",
        "silver.quality_results",
        "tables[1].name: silver.quality_results is another table",
    ),
    "a table like bronze": ("tables.1.name", "bronze.orders", "tables[1].name: bronze.orders is another table"),
    "a name too long for its quarantine": (
        "tables.1.name",
        "silver." + "x" * 53,
        "tables[1].name: must have at most 52",
    ),
    "a dimension over nothing": ("dimensions.0.source", "silver.x", "dimensions[0].source: there is no silver table"),
    "a key that is not there": ("dimensions.0.key", "x", "dimensions[0].key: silver.orders has no column x"),
    "a key that is a list": ("dimensions.0.key", "tags", "dimensions[0].key: a list can't be a key"),
    "tracked what is not there": (
        "dimensions.0.tracked",
        ["x"],
        "dimensions[0].tracked[0]: silver.orders has no column x",
    ),
    "tracked the key": ("dimensions.0.tracked", ["who"], "dimensions[0].tracked[0]: who is the dimension's own"),
    "tracked twice": ("dimensions.0.tracked", ["total"] * 2, "dimensions[0].tracked[1]: total is there twice"),
    "tracked no name": (
        "dimensions.0.tracked",
        ["a b"],
        'dimensions[0].tracked[0]: "a b" is not a table or column name',
    ),
    "a dimension like a table": ("dimensions.0.name", "silver.big", "dimensions[0].name: silver.big is another table"),
}
SPOILED_GOLD: dict[str, tuple[str, Any, str]] = {
    "two models of one name": ("models.1.name", "gold.a", "models[1].name: gold.a is another table"),
    "a model like a source": ("models.1.name", "silver.orders", "models[1].name: silver.orders is another table"),
    "a model like the freshness": ("models.1.name", "gold.model_freshness", "models[1].name: gold.model_freshness is"),
    "a model like the audits": ("models.1.name", "gold.backfill_audits", "models[1].name: gold.backfill_audits is"),
    "a source that is no name": ("sources.1", "orders; drop", "sources[1]: "),
    "a range of snapshots": ("run.snapshots", {"upto": 1}, "run.snapshots: a gold run reads several tables"),
}


def refusals(kind: type[object], raw: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsRefused) as refused:
        decode(kind, raw)
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize("name", SPOILED_SILVER)
def test_silver_that_contradicts_itself_is_refused(name: str) -> None:
    path, value, said = SPOILED_SILVER[name]
    assert any(problem.startswith(said) for problem in refusals(SilverSettings, spoiled(SILVER, path, value)))


@pytest.mark.parametrize("name", SPOILED_GOLD)
def test_gold_that_contradicts_itself_is_refused(name: str) -> None:
    path, value, said = SPOILED_GOLD[name]
    assert any(problem.startswith(said) for problem in refusals(GoldSettings, spoiled(GOLD, path, value)))


def test_sound_settings_are_taken_as_they_are() -> None:
    for kind, raw in ((SilverSettings, SILVER), (GoldSettings, GOLD)):
        value = decode(kind, raw)
        assert from_json(kind, to_json(value)) == value


def test_several_contradictions_are_told_at_once() -> None:
    raw = spoiled(spoiled(SILVER, "columns.1.name", "who"), "dimensions.0.key", "x")
    assert len(refusals(SilverSettings, raw)) == 2


def test_the_built_in_rules_follow_from_the_definition() -> None:
    settings = decode(SilverSettings, SILVER)
    assert built_in_rules(settings.columns, settings.tables[1]) == (
        "payload_json",
        "who_required",
        "who_type",
        "total_type",
        "who_computable",
        "where_computable",
    )


@pytest.mark.parametrize("example", ["roman-numerals.yaml", "orders.yaml"])
def test_the_examples_are_sound(example: str) -> None:
    spec = yaml.safe_load((Path(__file__).parents[2] / "examples" / example).read_text())["spec"]
    common = {"pipeline": "example", "catalog": CATALOG, "run": {"id": "r1"}}
    silver = {key: spec["silver"][key] for key in ("columns", "tables", "dimensions")}
    decode(SilverSettings, {**common, "bronzeTable": spec["bronze"]["table"], **silver})
    sources = [table["name"] for table in (*silver["tables"], *silver["dimensions"])]
    decode(GoldSettings, {**common, "sources": sources, "models": spec["gold"]["models"]})
