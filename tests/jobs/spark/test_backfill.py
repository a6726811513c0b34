"""Days again by write-audit-publish: all is audited before anything changes, others go on, a crash changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import DataFrame

from jobs.spark.lakehouse_world import (
    BRONZE,
    DAY,
    HOUR,
    PEOPLE,
    PURCHASES,
    QUARANTINE,
    START,
    TABLE,
    Killed,
    World,
    event,
    kill,
    replace,
)
from lakehouse_contract import commits
from lakehouse_jobs import audits, keyed_tables, releases, silver_dimensions
from lakehouse_jobs.iceberg_commits import STAGED, Conflict, Lakehouse
from lakehouse_jobs.quality import BadData

ROWS = [
    event(1, START),
    event(2, START + HOUR, plan="pro", who="bob"),
    event(3, START + DAY, plan="pro"),
    event(4, START + DAY + HOUR, amount=-1),
    event(5, START + DAY + 2 * HOUR, who="bob", plan="pro"),
    event(6, START + 2 * DAY),
    event(7, START + 2 * HOUR, who="bob"),
]
DAY_2 = "2026-01-31"
PLACES = (PURCHASES, QUARANTINE, PEOPLE)


def days(first: str = DAY_2, last: str | None = None, **more: Any) -> dict[str, Any]:
    return {"run_more": {"days": {"first": first, "last": last or first, **more}}}


def heads(world: World) -> list[int | None]:
    return [world.history(table).head for table in PLACES]


def branches(world: World) -> list[str]:
    return sorted(name for table in PLACES for name in world.history(table).refs if name.startswith(STAGED))


def just_before_publishing(monkeypatch: pytest.MonkeyPatch, rival: Callable[[], object]) -> None:
    """Let another run do its work once everything is staged and audited."""
    record = audits.record

    def then(*arguments: Any) -> None:
        record(*arguments)
        monkeypatch.setattr(audits, "record", record)
        rival()

    monkeypatch.setattr(audits, "record", then)


def audited(world: World, run: str) -> dict[tuple[str, str], tuple[bool, str]]:
    rows = world.rows("silver.backfill_audits", "_audit_run_id", "table_name", "check_name", "passed", "found")
    assert len({row[:3] for row in rows}) == len(rows)
    return {(row[1], row[2]): row[3:] for row in rows if row[0] == run}


def test_the_audited_files_are_published_and_one_tag_names_all_tables(world: World) -> None:
    upto = world.arrive(*ROWS)
    world.silver()
    seen: dict[str, set[str]] = {}
    publish = Lakehouse.publish

    def look(self: Lakehouse, table: str, staged: int, *rest: Any) -> None:
        files = world.sql(f"SELECT partition, file_path FROM lakehouse.{table}.files VERSION AS OF {staged}").collect()
        seen[table] = {row["file_path"] for row in files if str(row["partition"][0]) == DAY_2}
        publish(self, table, staged, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lakehouse, "publish", look)
        report = world.silver("mend", **days())
    world.check_silver(ROWS)
    for table in (PURCHASES, QUARANTINE):
        assert seen[table] == world.files(table)[DAY_2]
        assert {
            row[0] for row in world.rows(table, "_audit_run_id", "event_time") if row[1].date().isoformat() == DAY_2
        } == {"mend"}
    assert branches(world) == []
    assert report["release"] == "rel_mend"
    assert [world.history(table).tags["rel_mend"] for table in PLACES] == heads(world)
    found = audited(world, "mend")
    assert all(passed for passed, _ in found.values())
    assert found[PURCHASES, "reconciles_with_bronze"][1].startswith("bronze has 3 events; 0 of them are missing")
    assert {name for _, name in found} == {
        "keys_unique", "reconciles_with_bronze", "events_kept", "nulls", "versions_unbroken",
    }  # fmt: skip
    assert world.history(PURCHASES).mark(BRONZE) == upto
    # The staged snapshot shares its files with main; when it expires, they stay.
    for table in (PURCHASES, QUARANTINE):
        world.sql(
            f"CALL lakehouse.system.expire_snapshots(table => '{table}', retain_last => 1, "
            "older_than => TIMESTAMP '2100-01-01 00:00:00')"
        )
        assert seen[table] == world.files(table)[DAY_2]
    world.check_silver(ROWS)
    # The very same run again is no second swap.
    before = heads(world)
    assert world.silver("mend", **days())["tables"][0]["skipped"] == "already done"
    assert heads(world) == before


def test_the_hourly_run_goes_on_while_days_are_staged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS)
    elsewhere = [event(10, START + 3 * DAY), event(11, START, amount=-1)]

    def hourly() -> None:
        world.arrive(*elsewhere)
        world.silver("hourly")

    just_before_publishing(monkeypatch, hourly)
    world.silver("mend", **days())
    world.check_silver([*ROWS, *elsewhere])
    runs = [snapshot.summary.get(commits.RUN) for snapshot in world.history(PURCHASES).ancestors()]
    assert runs[:2] == ["mend", "hourly"]
    # Neither lost: the next run finds nothing that it has not.
    assert world.silver()["tables"][0]["skipped"] == "already done"


def test_days_that_others_change_meanwhile_are_computed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS)
    late = [event(10, START + DAY), event(11, START + DAY, amount=-1), replace(ROWS[3], amount=5, arrived=START)]

    def hourly() -> None:
        world.arrive(*late)
        world.silver("hourly")

    just_before_publishing(monkeypatch, hourly)
    world.silver("mend", **days())
    world.check_silver([*ROWS, *late])
    assert branches(world) == []


def test_days_that_never_hold_still_are_left_to_a_later_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS)
    numbers = iter(range(20, 30))
    record = audits.record

    def restless(*arguments: Any) -> None:
        record(*arguments)
        world.arrive(event(next(numbers), START + DAY))
        world.silver()

    monkeypatch.setattr(audits, "record", restless)
    with pytest.raises(Conflict, match=r"another run changed silver\.purchases"):
        world.silver("mend", **days())
    world.check_silver([*ROWS, *(event(number, START + DAY) for number in (20, 21, 22))])


def lose_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = keyed_tables.placed

    def careless(candidates: DataFrame) -> DataFrame:
        return placed(candidates).where("event_id <> 'e00005'")

    monkeypatch.setattr(keyed_tables, "placed", careless)


def double_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = keyed_tables.placed

    def careless(candidates: DataFrame) -> DataFrame:
        rows = placed(candidates)
        return rows.unionByName(rows.where("event_id = 'e00003'"))

    monkeypatch.setattr(keyed_tables, "placed", careless)


NO_PLAN = {**TABLE, "columns": [{**one, "expression": "cast(null as string)"} if one["name"] == "plan" else one
                                for one in TABLE["columns"]]}  # fmt: skip


def test_what_fails_its_audit_changes_no_table_and_says_why(world: World) -> None:
    world.begin(*ROWS)
    refuse(world, "a-lost-row", "reconciles_with_bronze: bronze has 3 events; 1 of them are missing", lose_a_row)
    refuse(world, "a-doubled-row", "keys_unique: 4 rows of 3 events", double_a_row)
    refuse(world, "a-lost-column", "nulls: NULLs rise in plan from 0% to 100%", tables=[NO_PLAN])
    narrow = {**TABLE, "where": "who = 'ann'"}
    refuse(world, "a-narrower-table", "events_kept: 1 of 3 events .* allowed: 0%", tables=[narrow])
    # The day makes a difference to bob, whose versions have a gap before it.
    world.sql(f"UPDATE lakehouse.{PURCHASES} SET plan = 'free' WHERE event_id = 'e00005'")
    first = f"who = 'bob' AND plan = 'pro' AND valid_to < timestamp'{DAY_2}'"
    world.sql(f"UPDATE lakehouse.{PEOPLE} SET valid_to = valid_to - INTERVAL 10 MINUTES WHERE {first}")
    gap = r"dim_people, versions_unbroken: 1 of 3 versions leave a gap.* of bob; drop silver\.dim_people"
    refuse(world, "a-gap", gap)
    # As it says: the dimension is made anew, and the day is mended by what was refused.
    world.sql(f"DROP TABLE lakehouse.{PEOPLE}")
    world.silver("a-gap", **days())
    world.check_silver(ROWS)


def refuse(world: World, run: str, said: str, spoil: Any = None, **changes: Any) -> None:
    """A run over the day does not pass its audit, and nothing but its report is left of it."""
    before, files = heads(world), [world.files(table) for table in (PURCHASES, QUARANTINE)]
    with pytest.MonkeyPatch.context() as patch:
        if spoil is not None:
            spoil(patch)
        with pytest.raises(BadData, match=f"the audit failed: .*{said}.* Nothing was published"):
            world.silver(run, **days(), **changes)
    assert heads(world) == before
    assert [world.files(table) for table in (PURCHASES, QUARANTINE)] == files
    assert not all(passed for passed, _ in audited(world, run).values())
    # What was staged is there to be looked at, until expiry takes it.
    assert f"{STAGED}_{run.replace('-', '_')}" in branches(world)


POINTS: list[tuple[Any, str, int, bool]] = [
    (Lakehouse, "_stage", 1, True),
    (Lakehouse, "stage", 2, True),
    (audits, "record", 1, True),
    (Lakehouse, "publish", 1, True),  # the quarantine's days are swapped
    (Lakehouse, "publish", 1, False),
    (Lakehouse, "publish", 1, True),  # and now the table's own
    (Lakehouse, "drop_staging", 2, False),
    (silver_dimensions, "update", 1, False),
    (releases, "release", 1, False),
    (Lakehouse, "tag", 2, True),
]


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(world: World) -> None:
    world.begin(*ROWS)
    late = [event(10, START + DAY, who="eve"), event(11, START + DAY, amount=-1)]
    world.arrive(*late)
    for owner, name, number, after in POINTS:
        with pytest.MonkeyPatch.context() as patch:
            kill(patch, owner, name, after=after, number=number)
            with pytest.raises(Killed):
                world.silver("mend", **days())
    world.silver("mend", **days())
    world.check_silver([*ROWS, *late])
    for table in (PURCHASES, QUARANTINE):
        assert [each.summary.get(commits.RUN) for each in world.history(table).ancestors()].count("mend") == 1
    assert branches(world) == []
    assert [world.history(table).tags["rel_mend"] for table in PLACES] == heads(world)
    world.silver()
    world.check_silver([*ROWS, *late])
