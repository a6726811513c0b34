"""When runs are due, and what they are for."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_operator.planning.schedule import days, due_intervals, instant, last_tick, next_tick, parse_instant
from planning.batch_builders import at

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_tick_counts_from_the_very_moment_it_comes() -> None:
    assert last_tick("0 * * * *", "UTC", now=at("03-10 05:00")) == at("03-10 05:00")
    assert next_tick("0 * * * *", "UTC", now=at("03-10 05:00")) == at("03-10 06:00")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("03-28 12:00", "03-29 01:00"),  # 02:30 does not exist in Berlin on 29 March: right after the gap, 03:00 there
        ("03-29 12:00", "03-30 00:30"),
        ("10-24 12:00", "10-25 00:30"),  # 02:30 comes twice on 25 October: the first one only
        ("10-25 00:30", "10-26 01:30"),
    ],
)
def test_a_nightly_schedule_runs_once_a_day_through_daylight_saving(now: str, expected: str) -> None:
    assert next_tick("30 2 * * *", "Europe/Berlin", now=at(now)) == at(expected)


def test_a_time_zone_moves_the_trigger_and_not_the_interval() -> None:
    tick = last_tick("30 1 * * *", "Asia/Kolkata", now=at("03-10 12:00"))
    assert tick == at("03-09 20:00")
    assert [str(i) for i in due_intervals(DAY, through=at("03-08 00:00"), tick=tick)] == [
        "2026-03-08T00:00:00Z/2026-03-09T00:00:00Z"
    ]


def test_five_hours_away_leave_five_intervals() -> None:
    due = due_intervals(HOUR, through=at("03-10 03:00"), tick=at("03-10 08:00"))
    assert [interval.start.hour for interval in due] == [3, 4, 5, 6, 7]


def test_an_interval_that_has_not_ended_is_not_due() -> None:
    assert due_intervals(HOUR, through=at("03-10 03:00"), tick=at("03-10 03:59")) == ()


def test_a_changed_length_cuts_the_first_interval_and_leaves_no_gap() -> None:
    due = due_intervals(timedelta(hours=4), through=at("03-10 03:00"), tick=at("03-10 09:00"))
    assert [(i.start.hour, i.end.hour) for i in due] == [(3, 4), (4, 8)]


@given(
    start=st.integers(0, 365 * 86_400).map(lambda s: at("01-01 00:00") + timedelta(seconds=s)),
    span=st.timedeltas(timedelta(0), timedelta(days=3)),
    length=st.sampled_from([timedelta(minutes=15), HOUR, timedelta(hours=6), DAY]),
)
def test_intervals_lie_edge_to_edge_and_none_ends_after_the_tick(
    start: datetime, span: timedelta, length: timedelta
) -> None:
    due = due_intervals(length, through=start, tick=start + span)
    edges = [start, *(interval.end for interval in due)]
    assert [interval.start for interval in due] == edges[:-1]
    assert all(interval.end - interval.start <= length for interval in due)
    assert edges[-1] <= start + span < edges[-1] + length


def test_instants_survive_being_written() -> None:
    assert parse_instant(instant(at("03-10 05:00"))) == at("03-10 05:00")


def test_days_include_both_ends() -> None:
    assert days("2026-02-27", "2026-03-01") == ("2026-02-27", "2026-02-28", "2026-03-01")
