"""Runs over whole event days."""

from typing import Any

import pytest

from jobs.spark.lakehouse_world import (
    BRONZE,
    DAY,
    HOUR,
    PURCHASES,
    QUARANTINE,
    START,
    TABLE,
    World,
    event,
)
from lakehouse_contract import commits
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs.quality import BadData

ROWS = [
    event(1, START, plan="free"),
    event(2, START + DAY, plan="pro"),
    event(3, START + DAY + HOUR, amount=-1),
    event(4, START + 2 * DAY, plan="free"),
    event(5, START + 2 * DAY + HOUR, amount=-1),
]


def days(first: str, last: str | None = None, **more: Any) -> dict[str, Any]:
    return {"run_more": {"days": {"first": first, "last": last or first, **more}}}


def test_a_day_is_computed_again_with_the_rules_of_today_and_nothing_else_is_touched(world: World) -> None:
    upto = world.begin(*ROWS)
    before = {table: world.files(table) for table in (PURCHASES, QUARANTINE)}
    lenient = {**TABLE, "rules": [{"name": "free_only", "expression": "plan = 'free'"}]}
    report = world.silver("again", tables=[lenient], **days("2026-01-31"))
    assert {key[0] for key in world.purchases()} == {"e00001", "e00003", "e00004"}
    assert {key[0]: rules for key, rules in world.quarantine().items()} == {
        "e00002": ["free_only"],
        "e00005": ["amount_not_negative"],
    }
    for table, files in before.items():
        now = world.files(table)
        assert {day: now[day] for day in now if day != "2026-01-31"} == {
            day: files[day] for day in files if day != "2026-01-31"
        }
        snapshot = world.history(table).snapshots[world.head(table)]
        assert snapshot.touched_days == {"2026-01-31"}
        assert world.history(table).mark(BRONZE) == upto
    assert report["tables"][0]["touchedDays"] == ["2026-01-31"]
    # The dimension follows: bob's version of that day is another one now.
    assert [version[1:4:2] for version in world.versions()] == [("free", START)]


def test_the_same_run_does_it_once(world: World) -> None:
    world.begin(*ROWS)
    world.silver("again", **days("2026-01-31"))
    head = world.head(PURCHASES)
    assert world.silver("again", **days("2026-01-31"))["tables"][0]["skipped"] == "already done"
    assert world.head(PURCHASES) == head
    world.check_silver(ROWS)


def test_a_day_may_become_empty(world: World) -> None:
    world.begin(*ROWS)
    none_of_it = {**TABLE, "where": "event_time < timestamp'2026-01-31'"}
    with pytest.raises(BadData, match=r"purchases, events_kept: 4 of 4 events that are there now would be gone"):
        world.silver("again", tables=[none_of_it], **days("2026-01-31", "2026-02-02"))
    meant = days("2026-01-31", "2026-02-02", audit={"maxEventsLost": 1})
    world.silver("again", tables=[none_of_it], **meant)
    assert {key[0] for key in world.purchases()} == {"e00001"}
    assert world.quarantine() == {}
    assert world.history(PURCHASES).snapshots[world.head(PURCHASES)].touched_days == {"2026-01-31", "2026-02-01"}
    assert [version[4] for version in world.versions()] == [None]
    world.silver("once-more", **days("2026-01-31", "2026-02-02"))
    world.check_silver(ROWS)


def test_what_has_not_been_taken_yet_is_taken_by_the_next_run_once(world: World) -> None:
    world.arrive(*ROWS[:3])
    world.silver()
    world.arrive(*ROWS[3:], event(6, START + DAY))
    world.silver("day", **days("2026-01-31"))  # reads event 6 before its time
    world.check_silver([*ROWS[:3], event(6, START + DAY)])
    report = world.silver()["tables"][0]
    assert (report["rowsRead"], report["rowsWritten"]) == (3, 1)
    world.check_silver([*ROWS, event(6, START + DAY)])


def test_an_old_snapshot_does_not_undo_what_came_since(world: World) -> None:
    old = world.arrive(*ROWS)
    late = event(6, START + DAY)
    world.arrive(late)
    world.silver()
    report = world.silver("again", **days("2026-01-31", atSnapshot=old))
    assert f"instead of {old}: the table holds what came in between" in report["tables"][0]["note"]
    world.check_silver([*ROWS, late])


def test_days_of_a_table_that_has_nothing_yet_do_not_hide_the_rest(world: World) -> None:
    world.arrive(*ROWS)
    world.silver("day", **days("2026-01-31"))
    assert world.history(PURCHASES).mark(BRONZE) is None
    world.check_silver(ROWS[1:3])
    world.silver()
    world.check_silver(ROWS)


def test_a_snapshot_that_is_no_more_is_refused(world: World) -> None:
    world.arrive(*ROWS)
    with pytest.raises(SettingsRefused, match=r"^run\.days\.atSnapshot: snapshot 17 is not in the history"):
        world.silver(**days("2026-01-31", atSnapshot=17))
    with pytest.raises(SettingsRefused, match=r"^run\.snapshots\.upto: snapshot 17 is not in the history"):
        world.silver(run_more={"snapshots": {"upto": 17}})


def test_the_commit_is_stamped_with_its_run(world: World) -> None:
    world.begin(*ROWS)
    world.silver("again", **days("2026-01-30"))
    for table in (PURCHASES, QUARANTINE):
        assert world.history(table).snapshots[world.head(table)].summary[commits.RUN] == "again"
