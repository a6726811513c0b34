"""Gold's days again by write-audit-publish: all models are audited before one changes, and a crash changes nothing."""

from typing import Any

import pytest

from jobs.spark.lakehouse_world import DAY, HOUR, MODELS, PURCHASES, START, Killed, World, event, kill
from lakehouse_contract import commits
from lakehouse_jobs import audits, freshness, releases
from lakehouse_jobs.iceberg_commits import STAGED, Conflict, Lakehouse
from lakehouse_jobs.quality import BadData

DAY_2 = "2026-01-31"
PERSON, FACT, DAILY, TOTALS = TABLES = [model["name"] for model in MODELS]
ROWS = [
    event(1, START, who="ann"),
    event(2, START + DAY, who="ann", plan="pro", amount=5),
    event(3, START + DAY + HOUR, who="bob", amount=9),
    event(4, START + 2 * DAY, who="bob"),
]


def days(day: str = DAY_2, **more: Any) -> dict[str, Any]:
    return {"run_more": {"days": {"first": day, "last": day, **more}}}


def heads(world: World) -> dict[str, int]:
    return {table: world.head(table) for table in TABLES}


def branches(world: World) -> list[str]:
    return sorted(name for table in TABLES for name in world.history(table).refs if name.startswith(STAGED))


def spoiled(world: World) -> None:
    """A day of the fact that is not what silver says."""
    world.sql(f"DELETE FROM lakehouse.{FACT} WHERE event_id = 'e00003'")


def test_the_audited_files_are_published_in_order_and_nobody_sees_them_before(world: World) -> None:
    world.begin(*ROWS, gold=True)
    spoiled(world)
    before, order, seen = heads(world), [], {}
    publish = Lakehouse.publish

    def look(self: Lakehouse, table: str, staged: int, *rest: Any) -> None:
        assert {name: head for name, head in heads(world).items() if name not in order} == {
            name: head for name, head in before.items() if name not in order
        }
        if table == FACT:
            files = world.sql(f"SELECT partition, file_path FROM lakehouse.{table}.files VERSION AS OF {staged}")
            seen[table] = {row["file_path"] for row in files.collect() if str(row["partition"][0]) == DAY_2}
        order.append(table)
        publish(self, table, staged, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lakehouse, "publish", look)
        report = world.gold("mend", **days())
    assert order == [FACT, DAILY, TOTALS]
    assert seen[FACT] == world.files(FACT)[DAY_2]
    world.check_gold(world.check_silver(ROWS))
    assert branches(world) == []
    assert report["release"] == "rel_mend"
    assert {table: world.history(table).tags["rel_mend"] for table in TABLES} == heads(world)
    found = world.rows("gold.backfill_audits", "_audit_run_id", "table_name", "check_name", "passed")
    checks = ("rows_kept", "rows_unique", "nulls")
    assert found == sorted((("mend", table, check, True) for table in order for check in checks), key=repr)
    # A full model has come to what was published. One by day looks once more at what changed beside its days.
    done = {model["table"]: model.get("days", "skipped") for model in world.gold()["models"]}
    assert (done[PERSON], done[FACT], done[TOTALS]) == ("skipped", "skipped", "skipped")
    world.check_gold(world.check_silver(ROWS))


def kept(sql: str) -> list[dict[str, Any]]:
    fact = {**MODELS[1], "sql": sql, "whenChanged": "keep"}
    return [MODELS[0], fact, *MODELS[2:]]


def test_what_fails_its_audit_changes_no_model_and_says_why(world: World) -> None:
    world.begin(*ROWS, gold=True)
    sql = MODELS[1]["sql"]
    nobody = sql.replace("p.who,", "cast(NULL AS string) AS who,")
    refused(world, "no-names", nobody, r"gold\.fact, nulls: NULLs rise in who from 0% to 100%; allowed: 50% more")
    nothing = f"{sql} WHERE p.event_time < timestamp'{DAY_2}'"
    emptied = r"gold\.fact, rows_kept: 1 of 1 days that have rows now would have none, .*: 2026-01-31; allowed: 0%"
    refused(world, "nothing", nothing, emptied)
    refused(world, "twice", f"{sql} UNION ALL {sql}", r"gold\.fact, rows_unique: 2 rows repeat another one")
    # Who means it says so.
    world.gold("nothing", models=kept(nothing), **days(audit={"maxEventsLost": 1}))
    assert {row[0] for row in world.rows(FACT, "day")} == {"2026-01-30", "2026-02-01"}


def refused(world: World, run: str, sql: str, said: str) -> None:
    before = heads(world)
    with pytest.raises(BadData, match=f"the audit failed: .*{said}.* Nothing was published"):
        world.gold(run, models=kept(sql), **days())
    assert heads(world) == before
    assert f"{STAGED}_{run.replace('-', '_')}" in branches(world)
    failed = world.rows("gold.backfill_audits", "_audit_run_id", "passed")
    assert (run, False) in failed


def test_a_day_that_silver_lost_may_become_empty_in_gold(world: World) -> None:
    world.begin(*ROWS, gold=True)
    world.sql(f"DELETE FROM lakehouse.{PURCHASES} WHERE event_time >= '2026-01-31' AND event_time < '2026-02-01'")
    world.gold("follow", **days())
    assert {row[0] for row in world.rows(FACT, "day")} == {"2026-01-30", "2026-02-01"}


def test_days_that_another_run_changed_meanwhile_are_not_swapped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS, gold=True)
    late = event(5, START + DAY, who="cy")
    record = audits.record

    def rival(*arguments: Any) -> None:
        record(*arguments)
        monkeypatch.setattr(audits, "record", record)
        world.arrive(late)
        world.silver()
        world.gold("rival")

    monkeypatch.setattr(audits, "record", rival)
    with pytest.raises(Conflict, match=r"another run changed gold\.fact meanwhile"):
        world.gold("mend", **days())
    world.gold("mend", **days())
    world.check_gold(world.check_silver([*ROWS, late]))
    assert branches(world) == []


POINTS: list[tuple[Any, str, int, bool]] = [
    (Lakehouse, "stage", 2, True),
    (audits, "record", 1, True),
    (Lakehouse, "publish", 1, True),
    (Lakehouse, "publish", 2, False),
    (Lakehouse, "drop_staging", 2, False),
    (freshness, "record", 1, False),
    (releases, "release", 1, False),
]


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(world: World) -> None:
    world.begin(*ROWS, gold=True)
    spoiled(world)
    for owner, name, number, after in POINTS:
        with pytest.MonkeyPatch.context() as patch:
            kill(patch, owner, name, after=after, number=number)
            with pytest.raises(Killed):
                world.gold("mend", **days())
    world.gold("mend", **days())
    world.check_gold(world.check_silver(ROWS))
    for table in (FACT, DAILY, TOTALS):
        assert [each.summary.get(commits.RUN) for each in world.history(table).ancestors()].count("mend") == 1
    assert branches(world) == []
    assert {table: world.history(table).tags["rel_mend"] for table in TABLES} == heads(world)
