"""When bronze's history is not what it was: expired, rewound, overwritten, compacted. Never a gap, never a double."""

from typing import Any

import pytest
from pyspark.sql import DataFrame

from jobs.spark.lakehouse_world import BRONZE, DAY, HOUR, PEOPLE, PURCHASES, QUARANTINE, START, World, event
from lakehouse_jobs.iceberg_commits import Lakehouse

FIRST = [event(1, START), event(2, START + HOUR, plan="pro"), event(3, START + HOUR, amount=-1, partition=1)]
SECOND = [event(4, START + 2 * HOUR), event(5, START + DAY, plan="pro", partition=1)]
THIRD = [event(6, START + DAY + HOUR), event(7, START + 3 * HOUR, amount=-1), event(8, START, partition=2)]


def expire(world: World, table: str, keep: int) -> None:
    """Expire all but the newest snapshots."""
    world.sql(
        f"CALL lakehouse.system.expire_snapshots(table => '{table}', retain_last => {keep}, "
        "older_than => TIMESTAMP '2100-01-01 00:00:00')"
    )


def compact(world: World, table: str) -> None:
    world.sql(
        f"CALL lakehouse.system.rewrite_data_files(table => '{table}', options => map('min-input-files', '1', "
        "'rewrite-all', 'true'))"
    )


def test_a_mark_that_expired_is_followed_through_its_child(world: World) -> None:
    mark = world.arrive(*FIRST)
    world.silver()
    world.arrive(*SECOND)
    world.arrive(*THIRD)
    expire(world, BRONZE, keep=2)
    assert mark not in world.history(BRONZE).snapshots
    report = world.silver()["tables"][0]
    assert (report["after"], report["rowsRead"], report.get("note")) == (mark, 5, None)
    world.check_silver([*FIRST, *SECOND, *THIRD])


def test_where_the_mark_is_gone_for_good_what_could_be_missing_is_read_again(world: World) -> None:
    mark = world.arrive(*FIRST)
    world.silver()
    world.arrive(*SECOND)
    # Later than all that is held, though its clock says otherwise: producers may set the timestamps.
    odd = event(90, START + HOUR, arrived=START - DAY)
    world.arrive(*THIRD, odd)
    expire(world, BRONZE, keep=1)
    report = world.silver()["tables"][0]
    assert report["note"] == f"snapshot {mark} of bronze.purchases, up to which it had come, is gone"
    # Everything but the first row: the newest of each partition is read again, and recognised.
    assert (report["rowsRead"], report["rowsWritten"], report["rowsQuarantined"]) == (8, 5, 1)
    world.check_silver([*FIRST, *SECOND, *THIRD, odd])
    assert world.silver()["tables"][0]["skipped"] == "already done"


def test_rows_that_a_run_over_days_took_ahead_do_not_hide_what_is_missing(world: World) -> None:
    world.arrive(*FIRST)
    world.silver()
    missing = event(40, START + HOUR, arrived=START + 2 * DAY)
    ahead = event(41, START + DAY, arrived=START + 3 * DAY)
    world.arrive(missing, ahead)
    world.silver("day", run_more={"days": {"first": "2026-01-31", "last": "2026-01-31"}})
    world.check_silver([*FIRST, ahead])
    world.arrive(event(42, START + DAY, arrived=START + 4 * DAY))
    expire(world, BRONZE, keep=1)
    assert world.silver()["tables"][0]["note"].endswith("is gone")
    world.check_silver([*FIRST, missing, ahead, event(42, START + DAY, arrived=START + 4 * DAY)])


def test_a_quarantine_that_got_farther_than_its_table_does_not_hide_what_is_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.arrive(*FIRST)
    world.silver()
    good = event(40, START + HOUR, arrived=START + 2 * DAY)
    bad = event(41, START + HOUR, amount=-1, arrived=START + 3 * DAY)
    world.arrive(good, bad)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    into_quarantine = Lakehouse.replace

    def replace(self: Lakehouse, rows: DataFrame, table: str, *rest: Any) -> None:
        (into_quarantine if table == QUARANTINE else crash)(self, rows, table, *rest)

    monkeypatch.setattr(Lakehouse, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        world.silver("crashing")
    monkeypatch.undo()
    world.arrive(event(42, START + HOUR, arrived=START + 4 * DAY))
    expire(world, BRONZE, keep=1)
    assert world.silver()["tables"][0]["note"].endswith("is gone")
    world.check_silver([*FIRST, good, bad, event(42, START + HOUR, arrived=START + 4 * DAY)])


def test_a_topic_that_was_made_anew_counts_from_zero_again(world: World) -> None:
    world.arrive(event(1000, START), event(1001, START + HOUR))
    world.silver()
    again = [event(1, START + 2 * HOUR), event(2, START + 3 * HOUR)]
    world.arrive(*again)
    world.arrive(event(3, START + 4 * HOUR))
    expire(world, BRONZE, keep=1)
    world.silver()
    world.check_silver([event(1000, START), event(1001, START + HOUR), *again, event(3, START + 4 * HOUR)])


def test_a_bronze_that_was_rewound_is_followed_from_where_both_histories_part(world: World) -> None:
    shared = world.arrive(*FIRST)
    discarded = world.arrive(*SECOND)
    world.silver()
    world.sql(f"ALTER TABLE lakehouse.{BRONZE} CREATE TAG discarded AS OF VERSION {discarded}")
    world.sql(f"CALL lakehouse.system.rollback_to_snapshot('{BRONZE}', {shared})")
    # What Flink reads again comes in other commits, with what is new behind it.
    world.arrive(SECOND[0])
    world.arrive(SECOND[1], *THIRD)
    files = world.files(PURCHASES)
    report = world.silver()["tables"][0]
    assert report["after"] == shared
    assert report["note"].startswith("bronze.purchases was rewound")
    world.check_silver([*FIRST, *SECOND, *THIRD])
    assert all(before <= world.files(PURCHASES)[day] for day, before in files.items())


def test_compaction_of_any_table_in_between_makes_no_difference(world: World) -> None:
    world.arrive(*FIRST)
    world.arrive(*SECOND)
    world.silver()
    for table in (BRONZE, PURCHASES, QUARANTINE, PEOPLE):
        compact(world, table)
    assert world.history(PURCHASES).snapshots[world.head(PURCHASES)].operation == "replace"
    heads = {table: world.head(table) for table in (PURCHASES, QUARANTINE, PEOPLE)}
    report = world.silver()
    assert report["dimensions"][0]["skipped"] == "already done"
    assert world.head(PEOPLE) == heads[PEOPLE]
    world.arrive(*THIRD)
    compact(world, BRONZE)
    report = world.silver()
    assert report["tables"][0]["rowsRead"] == 3
    world.check_silver([*FIRST, *SECOND, *THIRD])


def test_rows_that_came_with_an_overwrite_of_bronze_are_not_missed(world: World) -> None:
    world.begin(*FIRST)
    # A repair of bronze: the first day again, with a row that was missing.
    missing = event(70, START + HOUR, amount=70)
    world.arrive(missing)
    world.sql(f"INSERT OVERWRITE lakehouse.{BRONZE} SELECT * FROM lakehouse.{BRONZE}")
    world.arrive(*SECOND)
    operations = [world.history(BRONZE).snapshots[snapshot].operation for snapshot in world.snapshots(BRONZE)]
    assert operations == ["append", "append", "overwrite", "append"]
    report = world.silver()["tables"][0]
    assert report["note"].endswith("is a overwrite, not an append")
    assert (report["rowsWritten"], report["rowsDisplaced"]) == (3, 0)
    world.check_silver([*FIRST, *SECOND, missing])


def test_a_silver_table_that_lost_its_mark_is_not_filled_twice(world: World) -> None:
    world.arrive(*FIRST)
    world.silver()
    world.arrive(*SECOND)
    for table in (PURCHASES, QUARANTINE):
        compact(world, table)
        expire(world, table, keep=1)
        assert world.history(table).mark(BRONZE) is None
    report = world.silver()["tables"][0]
    assert report["note"] == "it holds rows, but no commit says how far it has come in bronze.purchases"
    world.check_silver([*FIRST, *SECOND])


def test_a_dimension_whose_mark_is_gone_is_computed_anew(world: World) -> None:
    world.arrive(*FIRST)
    world.silver(dimensions=[])
    world.silver()
    for batch in (SECOND, THIRD):
        world.arrive(*batch)
        world.silver(dimensions=[])
    expire(world, PURCHASES, keep=1)
    report = world.silver()["dimensions"][0]
    assert report["note"].endswith("is gone: computed anew")
    world.check_silver([*FIRST, *SECOND, *THIRD])
