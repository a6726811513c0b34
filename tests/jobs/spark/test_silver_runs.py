"""What a silver run does, and what a second one does not."""

from datetime import timedelta

import pytest

from jobs.spark.lakehouse_world import BRONZE, DAY, HOUR, NOW, PEOPLE, PURCHASES, QUARANTINE, START, World, event
from lakehouse_contract import commits
from lakehouse_jobs import silver
from lakehouse_jobs.iceberg_commits import Lakehouse

FIRST = [
    event(1, START + HOUR),
    event(2, START + 2 * HOUR, plan="pro", city="Riga"),
    event(3, START + DAY, who="bob", amount=-5),
    event(4, START + DAY + HOUR, who="bob", plan="gold", amount="7"),
    event(5, START + DAY + 2 * HOUR, who=None),
    event(6, START + DAY + 3 * HOUR, who="cy", amount=None),
]
SECOND = [
    event(7, START + DAY + 4 * HOUR, plan="free"),
    event(8, START + 90 * timedelta(minutes=1), plan="free", city="Oslo"),
]


def test_a_run_takes_what_is_new_and_the_next_one_takes_the_rest(world: World) -> None:
    upto = world.arrive(*FIRST)
    report = world.silver("one")
    assert report["tables"][0] | {"snapshot": 0, "quarantineSnapshot": 0} == {
        "table": PURCHASES,
        "after": None,
        "upto": upto,
        "rowsRead": 6,
        "rowsWritten": 3,
        "rowsQuarantined": 3,
        "rowsDisplaced": 0,
        "touchedDays": ["2026-01-30", "2026-01-31"],
        "snapshot": 0,
        "quarantineSnapshot": 0,
    }
    world.check_silver(FIRST)
    world.arrive(*SECOND)
    report = world.silver("two")
    assert (report["tables"][0]["after"], report["tables"][0]["rowsRead"]) == (upto, 2)
    world.check_silver([*FIRST, *SECOND])


def test_every_commit_says_who_made_it_from_what_and_for_which_days(world: World) -> None:
    upto = world.arrive(*FIRST)
    interval = {"intervalStart": "2026-01-30T00:00:00Z", "intervalEnd": "2026-01-30T01:00:00Z", "revision": "abc"}
    world.silver("hourly-1", run_more=interval)
    stamped = {commits.RUN: "hourly-1", commits.STAGE: "silver", commits.REVISION: "abc"}
    stamped[commits.INTERVAL] = "2026-01-30T00:00:00Z/2026-01-30T01:00:00Z"
    days = {PURCHASES: "2026-01-30,2026-01-31", QUARANTINE: "2026-01-31", PEOPLE: "2026-01-30,2026-01-31"}
    sources = {PURCHASES: (BRONZE, upto), QUARANTINE: (BRONZE, upto), PEOPLE: (PURCHASES, world.head(PURCHASES))}
    for table, (source, snapshot) in sources.items():
        summary = world.history(table).snapshots[world.head(table)].summary
        wanted = {**stamped, commits.TOUCHED_DAYS: days[table], commits.source(source): str(snapshot)}
        assert {key: value for key, value in summary.items() if key.startswith("lakehouse.")} == wanted
    audit = ("_audit_run_id", "_audit_revision", "_audit_source_snapshot", "_audit_loaded_at")
    assert set(world.rows(PURCHASES, *audit)) == {("hourly-1", "abc", upto, NOW)}
    assert set(world.rows(PEOPLE, *audit)) == {("hourly-1", "abc", world.head(PURCHASES), NOW)}


def test_a_run_with_nothing_new_changes_nothing(world: World) -> None:
    world.begin(*FIRST)
    before = {table: world.head(table) for table in (PURCHASES, QUARANTINE, PEOPLE, "silver.quality_results")}
    report = world.silver()
    assert report["tables"][0]["skipped"] == report["dimensions"][0]["skipped"] == "already done"
    assert {table: world.head(table) for table in before} == before


def test_a_pinned_run_takes_no_more_than_it_was_told_and_leaves_no_gap(world: World) -> None:
    first, second = world.arrive(*FIRST), world.arrive(*SECOND)
    third = world.arrive(event(9, START + 2 * DAY))
    world.silver(run_more={"snapshots": {"upto": first}})
    world.check_silver(FIRST)
    # The range says "after the second", but the table has only come to the first: it goes on from there.
    world.silver(run_more={"snapshots": {"after": second, "upto": third}})
    world.check_silver([*FIRST, *SECOND, event(9, START + 2 * DAY)])
    report = world.silver(run_more={"snapshots": {"after": first, "upto": second}})
    assert report["tables"][0]["skipped"] == "already done"


def test_a_run_over_no_rows_is_recorded(world: World) -> None:
    world.begin(*FIRST)
    world.sql(f"INSERT INTO lakehouse.{BRONZE} SELECT * FROM lakehouse.{BRONZE} WHERE false")
    upto = world.head(BRONZE)
    report = world.silver("quiet")
    assert (report["tables"][0]["upto"], report["tables"][0]["rowsRead"]) == (upto, 0)
    for table in (PURCHASES, QUARANTINE):
        snapshot = world.history(table).snapshots[world.head(table)]
        assert (snapshot.summary[commits.RUN], snapshot.touched_days) == ("quiet", frozenset())
        assert world.history(table).mark(BRONZE) == upto
    world.check_silver(FIRST)


def test_an_empty_bronze_is_no_failure(world: World) -> None:
    assert world.silver()["tables"][0]["skipped"] == "bronze.purchases is empty"


class Crash(Exception):
    pass


@pytest.mark.parametrize("commit", range(1, 5))
def test_a_run_that_crashed_at_any_commit_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, commit: int
) -> None:
    """The commits of the second run: results of the rules, quarantine, table, dimension."""
    world.begin(*FIRST)
    # A copy that came earlier: what was good is now bad, what was bad is now good. Rows leave both tables.
    worse = event(1, START + HOUR, amount=-1, partition=0, arrived=START)
    better = event(3, START + DAY, who="bob", arrived=START)
    world.arrive(*SECOND, worse, better)
    settings = world.silver_settings("crashing")
    left = [commit]
    for name in ("append", "replace", "merge", "upsert", "stamp"):
        monkeypatch.setattr(Lakehouse, name, _crashing(getattr(Lakehouse, name), left))
    with pytest.raises(Crash):
        silver.run(world.spark, settings, NOW)
    monkeypatch.undo()
    silver.run(world.spark, settings, NOW)
    world.check_silver([*FIRST, *SECOND, worse, better])
    checked = world.rows("silver.quality_results", "_audit_run_id", "rule", "rows_checked", "rows_broken")
    assert ("crashing", "amount_not_negative", 4, 1) in checked
    assert len([row for row in checked if row[0] == "crashing"]) == len(
        {row[:2] for row in checked if row[0] == "crashing"}
    )


def _crashing(method, left):  # type: ignore[no-untyped-def]
    """Let the commit happen or not: the last one allowed crashes before it."""

    def commit(self, *arguments, **named):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        # `append` is a `replace`: count it once.
        left[0] += 1 if method.__name__ == "append" else 0
        return method(self, *arguments, **named)

    return commit
