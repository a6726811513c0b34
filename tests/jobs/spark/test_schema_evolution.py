"""A new field of the events, from bronze to gold, by a change of the definition and without rewriting a file."""

from typing import Any

import pytest

from jobs.spark.lakehouse_world import (
    COLUMNS,
    DAY,
    DIMENSION,
    HOUR,
    MODELS,
    PEOPLE,
    PURCHASES,
    START,
    TABLE,
    World,
    event,
)
from lakehouse_contract.decoding import SettingsRefused

ROWS = [event(1, START, amount=3), event(2, START + HOUR, plan="pro"), event(3, START + DAY, more={"referrer": "old"})]
FIELD = {"name": "referrer", "type": "string", "path": "$.referrer"}
NEW_TABLE = {**TABLE, "columns": [*TABLE["columns"], {"name": "referrer", "type": "string", "expression": "referrer"}]}
FACT, DAILY = MODELS[1], MODELS[2]
FACT_SQL = FACT["sql"].replace("p.amount,", "p.amount, p.referrer,")


def with_type(kind: str) -> dict[str, Any]:
    columns = [{**each, "type": kind} if each["name"] == "amount" else each for each in TABLE["columns"]]
    return {**TABLE, "columns": columns}


def kept(sql: str) -> dict[str, Any]:
    return {**FACT, "sql": sql, "whenChanged": "keep"}


def test_a_new_optional_field_reaches_silver_and_gold_without_a_rewrite(world: World) -> None:
    world.arrive(*ROWS)
    models = [MODELS[0], kept(FACT["sql"]), DAILY]
    world.silver()
    world.gold(models=models)
    files = {table: world.files(table) for table in (PURCHASES, "gold.fact", "gold.daily")}
    evolved: dict[str, Any] = {"columns": [*COLUMNS, FIELD], "tables": [NEW_TABLE]}
    # The definition alone: the columns are there, no row is touched, and models can name them at once.
    world.silver(**evolved)
    models = [MODELS[0], kept(FACT_SQL), DAILY]
    world.gold(models=models)
    assert {table: world.files(table) for table in files} == files
    world.arrive(event(4, START + 2 * DAY, more={"referrer": "new"}), event(5, START + 2 * DAY))
    world.silver(**evolved)
    world.gold(models=models)
    now = [("e00001", None), ("e00002", None), ("e00003", None), ("e00004", "new"), ("e00005", None)]
    assert world.rows(PURCHASES, "event_id", "referrer") == now
    assert world.rows("gold.fact", "event_id", "referrer") == now
    for table, before in files.items():
        after = world.files(table)
        assert {day: after[day] for day in before} == before, table
    # A copy that came earlier makes silver write its day again, with rows from before the change.
    world.arrive(event(2, START + HOUR, plan="pro", arrived=START, more={"referrer": "first"}))
    world.silver(**evolved)
    # The payload was kept: a backfill fills the column on days from before.
    days = {"run_more": {"days": {"first": "2026-01-31", "last": "2026-01-31"}}}
    world.silver("mend", **evolved, **days)
    world.gold("mend-gold", models=models, **days)
    filled = [("e00001", None), ("e00002", "first"), ("e00003", "old"), ("e00004", "new"), ("e00005", None)]
    assert world.rows(PURCHASES, "event_id", "referrer") == filled
    assert ("e00003", "old") in world.rows("gold.fact", "event_id", "referrer")
    # A dimension may track it from now on.
    world.silver(**evolved, dimensions=[{**DIMENSION, "tracked": ["plan", "city", "referrer"]}])
    world.arrive(event(6, START + 3 * DAY, plan="pro", more={"referrer": "newer"}))
    world.silver(**evolved, dimensions=[{**DIMENSION, "tracked": ["plan", "city", "referrer"]}])
    assert ("newer", True) in world.rows(PEOPLE, "referrer", "is_current")


def test_a_type_gets_wider_and_gold_follows_with_all_of_its_days(world: World) -> None:
    world.arrive(*ROWS)
    amounts_by_day = f"SELECT event_id, cast(event_time AS date) AS day, amount FROM {PURCHASES}"
    everything = {**FACT, "sql": amounts_by_day}
    narrow, wide = with_type("int"), with_type("long")
    world.silver(tables=[narrow], dimensions=[])
    sources = {"sources": [PURCHASES], "models": [everything]}
    world.gold(**sources)
    files = world.files(PURCHASES)
    world.arrive(event(4, START + 2 * DAY, amount=2**40))
    world.silver(tables=[wide], dimensions=[])
    assert {day: names for day, names in world.files(PURCHASES).items() if day in files} == files
    amounts = [("e00001", 3), ("e00002", 1), ("e00003", 1), ("e00004", 2**40)]
    assert world.rows(PURCHASES, "event_id", "amount") == amounts
    # What the model gives changed though its text did not: no day may get lost with the table's old columns.
    world.gold(**sources)
    assert world.rows("gold.fact", "event_id", "amount") == amounts


def test_what_a_table_can_not_follow_is_refused_with_the_plan_that_works(world: World) -> None:
    world.begin(*ROWS)
    models = [MODELS[0], kept(FACT["sql"])]
    world.gold(models=models)
    heads = [world.head(table) for table in (PURCHASES, PEOPLE, "gold.fact")]
    renamed = [{**each, "name": "town"} if each["name"] == "city" else each for each in TABLE["columns"]]
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"tables": [with_type("int")]},
            "the column amount as long, which can't become int: .* Add a column of another",
        ),
        ({"tables": [with_type("string")]}, "the column amount as long, which can't become string: "),
        (
            {"tables": [{**TABLE, "columns": TABLE["columns"][:3]}]},
            "the column amount, which can't be dropped or renamed",
        ),
        (
            {"tables": [{**TABLE, "columns": renamed}]},
            "the column city, which can't be dropped or renamed: .* backfilled",
        ),
        (
            {"dimensions": [{**DIMENSION, "tracked": ["plan"]}]},
            "dim_people has the column city, which can't be dropped",
        ),
    ]
    for changes, said in refused:
        dimensions = {"dimensions": []} if "dimensions" not in changes else {}
        with pytest.raises(SettingsRefused, match=said):
            world.silver(**changes, **dimensions)
    with pytest.raises(
        SettingsRefused, match=r"^models\[1\]\.sql: gold\.fact has the column amount, which can't be dropped"
    ):
        world.gold(models=[MODELS[0], kept(FACT["sql"].replace("p.amount,", ""))])
    assert [world.head(table) for table in (PURCHASES, PEOPLE, "gold.fact")] == heads
    # Without `keep`, a model may become anything: its table is computed anew.
    world.gold(models=[MODELS[0], {**FACT, "sql": FACT["sql"].replace("p.amount,", "")}])
    assert "amount" not in world.history("gold.fact").columns
