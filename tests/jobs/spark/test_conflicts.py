"""Two runs at once: at most one of them writes, nothing is doubled or lost. Runs over days are in `test_backfill`."""

from collections.abc import Callable

import pytest

from jobs.spark.lakehouse_world import DAY, HOUR, PEOPLE, PURCHASES, QUARANTINE, START, World, event
from lakehouse_jobs.iceberg_commits import STAGED, Conflict, Lakehouse

FIRST = [event(1, START), event(2, START + HOUR, amount=-1), event(3, START + DAY)]
SECOND = [event(4, START, who="bob"), event(5, START + HOUR, amount=-1), event(6, START + DAY, plan="pro")]
DISPLACING = [event(1, START, arrived=START - HOUR, amount=-1), event(2, START + HOUR, arrived=START - HOUR)]


def rival_before(monkeypatch: pytest.MonkeyPatch, method: str, table: str, rival: Callable[[], object]) -> None:
    """Let another run do its work just before this one's commit of that kind to that table."""
    original = getattr(Lakehouse, method)

    def commit(self: Lakehouse, rows: object, name: str, *arguments: object, **named: object) -> object:
        if name == table:
            monkeypatch.setattr(Lakehouse, method, original)
            rival()
        return original(self, rows, name, *arguments, **named)

    monkeypatch.setattr(Lakehouse, method, commit)


@pytest.mark.parametrize("table", [PURCHASES, QUARANTINE])
@pytest.mark.parametrize("batch", [SECOND, [*SECOND, *DISPLACING]], ids=["append", "displacing"])
def test_of_two_runs_over_the_same_rows_one_writes(
    world: World, monkeypatch: pytest.MonkeyPatch, table: str, batch: list
) -> None:
    world.begin(*FIRST)
    world.arrive(*batch)
    rival_before(monkeypatch, "replace", table, lambda: world.silver("rival"))
    with pytest.raises(Conflict, match=f"another run changed {table} meanwhile"):
        world.silver("late")
    world.silver("after")
    world.check_silver([*FIRST, *batch])
    assert "late" not in {row[0] for row in world.rows(table, "_audit_run_id")}


def test_two_first_runs_do_not_both_fill_a_new_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(*FIRST)
    rival_before(monkeypatch, "replace", PURCHASES, lambda: world.silver("rival"))
    with pytest.raises(Conflict):
        world.silver("late")
    world.silver("after")
    world.check_silver(FIRST)


def test_a_dimension_is_not_merged_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*FIRST)
    world.arrive(*SECOND)
    publish = Lakehouse._publish

    def after_a_rival(self: Lakehouse, table: str, branch: str) -> None:
        monkeypatch.setattr(Lakehouse, "_publish", publish)
        world.silver("rival")
        publish(self, table, branch)

    monkeypatch.setattr(Lakehouse, "_publish", after_a_rival)
    with pytest.raises(Conflict, match=r"another run changed silver\.dim_people meanwhile"):
        world.silver("late")
    assert "late" not in {row[0] for row in world.rows(PEOPLE, "_audit_run_id")}
    world.check_silver([*FIRST, *SECOND])
    assert world.rows(PEOPLE, "_audit_run_id").count(("rival",)) > 0
    left = [row["name"] for row in world.sql(f"SELECT name FROM lakehouse.{PEOPLE}.refs").collect()]
    assert sorted(left) == [f"{STAGED}_late", "main"]  # with an age, after which expiry takes it away


def test_compaction_meanwhile_is_no_conflict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*FIRST)
    world.arrive(event(4, START, who="bob"))

    def compact() -> None:
        options = "map('min-input-files', '1', 'rewrite-all', 'true')"
        world.sql(f"CALL lakehouse.system.rewrite_data_files(table => '{PURCHASES}', options => {options})")

    rival_before(monkeypatch, "replace", PURCHASES, compact)
    world.silver()
    world.check_silver([*FIRST, event(4, START, who="bob")])


def test_a_gold_table_is_not_written_over_by_a_run_that_started_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin(*FIRST, gold=True)
    world.arrive(*SECOND)
    world.silver()
    rival_before(monkeypatch, "replace", "gold.fact", lambda: world.gold("rival"))
    with pytest.raises(Conflict, match=r"another run changed gold\.fact meanwhile"):
        world.gold("late")
    world.gold("after")
    world.check_gold(world.check_silver([*FIRST, *SECOND]))
