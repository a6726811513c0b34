"""What a gold run computes, what it leaves alone, and what it refuses."""

from datetime import timedelta
from typing import Any

import pytest

from jobs.spark.lakehouse_world import DAY, HOUR, MODELS, PEOPLE, PURCHASES, START, World, event
from lakehouse_contract import commits
from lakehouse_contract.decoding import SettingsRefused

EVENTS = [
    event(1, START + HOUR),
    event(2, START + 2 * HOUR, plan="pro", city="Riga"),
    event(3, START + DAY, who="bob", plan="pro", amount=7),
    event(4, START + 2 * DAY, who="cy", amount=3),
]
TABLES = ("gold.person", "gold.fact", "gold.daily", "gold.totals")


def heads(world: World) -> dict[str, int]:
    return {table: world.head(table) for table in TABLES}


def filled(world: World) -> World:
    world.arrive(*EVENTS)
    world.silver()
    world.gold()
    return world


def test_gold_is_what_silver_gives(world: World) -> None:
    filled(world).check_gold(world.check_silver(EVENTS))


def test_a_run_with_nothing_new_commits_nothing(world: World) -> None:
    before = heads(filled(world))
    world.gold()
    assert heads(world) == before


def test_only_the_days_that_were_touched_are_rewritten(world: World) -> None:
    filled(world)
    before = {table: world.files(table) for table in ("gold.fact", "gold.daily")}
    late = event(5, START + DAY + HOUR, plan="pro", city="Riga")  # as ann was then: no version of her changes
    world.arrive(late)
    world.silver()
    world.gold()
    world.check_gold(world.check_silver([*EVENTS, late]))
    for table, files in before.items():
        changed = {day for day, paths in world.files(table).items() if paths != files.get(day)}
        assert changed == {"2026-01-31"}, table


def test_a_late_change_of_a_person_moves_the_facts_of_the_days_that_follow(world: World) -> None:
    first = [event(1, START, city="Riga"), event(2, START + 2 * DAY, city="Riga"), event(3, START + 2 * DAY, who="bob")]
    world.arrive(*first)
    world.silver()
    world.gold()
    moved = event(4, START + DAY, city="Oslo")
    world.arrive(moved)
    world.silver()
    world.gold()
    world.check_gold(world.check_silver([*first, moved]))


def test_every_commit_names_what_it_read_and_which_days_it_touched(world: World) -> None:
    world.arrive(*EVENTS)
    world.silver()
    world.gold("daily-1")
    summary = world.history("gold.fact").snapshots[world.head("gold.fact")].summary
    assert (summary[commits.RUN], summary[commits.STAGE]) == ("daily-1", "gold")
    assert summary[commits.source(PURCHASES)] == str(world.head(PURCHASES))
    assert summary[commits.source(PEOPLE)] == str(world.head(PEOPLE))
    assert summary[commits.TOUCHED_DAYS] == commits.ALL_DAYS
    world.arrive(event(5, START + DAY + HOUR, plan="pro", city="Riga"))
    world.silver()
    world.gold("daily-2")
    summary = world.history("gold.fact").snapshots[world.head("gold.fact")].summary
    assert (summary[commits.RUN], summary[commits.TOUCHED_DAYS]) == ("daily-2", "2026-01-31")


def test_a_changed_model_is_computed_again_and_no_other(world: World) -> None:
    before = heads(filled(world))
    changed = [*MODELS[:3], {**MODELS[3], "sql": MODELS[3]["sql"].replace("sum(amount)", "2 * sum(amount)")}]
    world.gold(models=changed)
    after = heads(world)
    assert {table for table in TABLES if after[table] != before[table]} == {"gold.totals"}
    assert dict(world.rows("gold.totals", "who", "amount"))["bob"] == 14


def test_compaction_of_silver_makes_gold_neither_stale_nor_busy(world: World) -> None:
    before = heads(filled(world))
    world.sql(
        f"CALL lakehouse.system.rewrite_data_files(table => '{PURCHASES}', options => map('rewrite-all', 'true'))"
    )
    world.gold()
    assert heads(world) == before


def test_days_can_be_computed_again_by_hand(world: World) -> None:
    filled(world)
    before = world.files("gold.fact")
    world.gold(run_more={"days": {"first": "2026-01-31", "last": "2026-01-31"}})
    changed = {day for day, paths in world.files("gold.fact").items() if paths != before[day]}
    assert changed == {"2026-01-31"}
    world.check_gold(world.check_silver(EVENTS))


def freshness(world: World) -> dict[str, bool]:
    found = world.rows("gold.model_freshness", "model", "is_fresh")
    return {model: all(fresh for name, fresh in found if name == model) for model, _ in found}


def test_each_model_knows_whether_it_is_fresh(world: World) -> None:
    filled(world)
    assert set(freshness(world)) >= {"gold.fact", "gold.daily"}
    assert all(freshness(world).values())
    world.arrive(event(9, START + timedelta(hours=5)))
    world.silver()
    assert freshness(world)["gold.fact"] is False
    world.gold()
    assert all(freshness(world).values())


def test_a_run_marks_one_consistent_set_of_tables(world: World) -> None:
    world.arrive(*EVENTS)
    world.silver()
    world.gold("daily-1")
    for table in TABLES:
        tags = {row[0]: row[1] for row in world.sql(f"SELECT name, snapshot_id FROM lakehouse.{table}.refs").collect()}
        assert tags["rel_daily-1"] == world.head(table), table


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT * FROM bronze.purchases", "bronze.purchases"),
        ("SELECT * FROM silver.nothing", "silver.nothing"),
        ("SELECT * FROM gold.later", "gold.later"),
        ("DROP TABLE silver.purchases", "SELECT"),
        ("SELECT 1; SELECT 2", ""),
        ("SELECT * FROM parquet.`/etc/passwd`", ""),
        ("SELEKT 1", ""),
        ("SELECT nobody FROM silver.purchases", "nobody"),
    ],
)
def test_a_model_may_only_read_what_is_its_own(world: World, sql: str, why: str) -> None:
    world.arrive(*EVENTS)
    world.silver()
    model: dict[str, Any] = {"name": "gold.bad", "kind": "full", "sql": sql}
    with pytest.raises(SettingsRefused) as refused:
        world.gold(models=[model])
    assert any("models[0].sql" in problem.path for problem in refused.value.problems)
    assert why in str(refused.value)
    world.check_silver(EVENTS)


def test_a_day_column_that_the_result_lacks_is_refused(world: World) -> None:
    world.arrive(*EVENTS)
    world.silver()
    model = {"name": "gold.bad", "kind": "incrementalByDay", "dayColumn": "day", "sql": f"SELECT who FROM {PURCHASES}"}
    with pytest.raises(SettingsRefused, match="day"):
        world.gold(models=[model])
