"""Of several copies of an event the first one stays, whichever came to silver first."""

from datetime import timedelta

from jobs.spark.lakehouse_world import DAY, HOUR, PURCHASES, QUARANTINE, START, Event, World, event

SECOND = timedelta(seconds=1)


def copy(number: int, offset: int, after: int, **values: object) -> Event:
    """A copy of event `number` that arrived so many seconds after the hour."""
    at = START + number * HOUR
    return Event(id=f"e{number}", at=at, offset=offset, arrived=at + after * SECOND, **values)  # type: ignore[arg-type]


def test_of_the_copies_in_one_batch_the_first_by_kafka_stays(world: World) -> None:
    rows = [
        copy(1, 11, 5, amount=2),
        copy(1, 10, 5, amount=1),
        copy(1, 9, 6, amount=3),
        # Of one timestamp the lower partition counts before the lower offset.
        copy(2, 1, 5, amount=4, partition=1),
        copy(2, 2, 5, amount=5, partition=0),
        # The first copy breaks a rule: the good one behind it is a repeat all the same.
        copy(3, 20, 5, amount=-1),
        copy(3, 21, 6, amount=7),
        copy(4, 31, 6, amount=-1),
        copy(4, 30, 5, amount=8),
    ]
    world.arrive(*rows)
    report = world.silver()
    world.check_silver(rows)
    assert {key: values[3] for key, values in world.purchases().items()} == {
        ("e1", "2026-01-30"): 1,
        ("e2", "2026-01-30"): 5,
        ("e4", "2026-01-30"): 8,
    }
    assert [report["tables"][0][key] for key in ("rowsRead", "rowsWritten", "rowsQuarantined")] == [9, 3, 1]


def test_a_later_copy_in_a_later_batch_changes_nothing_and_costs_an_append_at_most(world: World) -> None:
    first = [copy(1, 1, 5), copy(2, 2, 5, amount=-1)]
    world.arrive(*first)
    world.silver()
    files = world.files(PURCHASES)
    repeats = [copy(1, 3, 6, amount=-1), copy(2, 4, 6), copy(1, 5, 7, amount=9)]
    world.arrive(*repeats)
    report = world.silver()
    world.check_silver([*first, *repeats])
    assert world.files(PURCHASES) == files
    assert [report["tables"][0][key] for key in ("rowsRead", "rowsWritten", "rowsQuarantined")] == [3, 0, 0]
    assert report["dimensions"][0]["skipped"] == "already done"


def test_an_earlier_copy_in_a_later_batch_takes_the_place_of_the_other(world: World) -> None:
    """In all four ways: between the table and its quarantine, and within each of them."""
    first = [
        copy(1, 100, 50, amount=1),
        copy(2, 101, 50, amount=-2),
        copy(3, 102, 50, amount=3),
        copy(4, 103, 50, amount=-4),
        event(90, START + 20 * HOUR),
        event(91, START + DAY),
    ]
    world.arrive(*first)
    world.silver()
    other_days = world.files(PURCHASES)["2026-01-31"]
    untouched = world.rows(PURCHASES, "event_id", "_audit_run_id")
    earlier = [
        copy(1, 1, 5, amount=11),
        copy(2, 2, 5, amount=-12),
        copy(3, 3, 5, amount=-13),
        copy(4, 4, 5, amount=14),
        event(92, START + 21 * HOUR),
    ]
    world.arrive(*earlier)
    report = world.silver("second")
    world.check_silver([*first, *earlier])
    assert report["tables"][0]["rowsDisplaced"] == 4
    assert world.files(PURCHASES)["2026-01-31"] == other_days
    rows = dict(world.rows(PURCHASES, "event_id", "_audit_run_id"))
    assert {id_ for id_, run in rows.items() if run == "second"} == {"e1", "e4", "e00092"}
    assert {(id_, run) for id_, run in rows.items() if run != "second"} < set(untouched)


def test_the_normal_run_is_an_append_that_touches_no_file_that_is_there(world: World) -> None:
    world.arrive(event(1, START), event(2, START + DAY, amount=-1))
    world.silver()
    before = {table: world.files(table) for table in (PURCHASES, QUARANTINE)}
    world.arrive(event(3, START + HOUR), event(4, START + DAY, amount=-1))
    world.silver()
    for table, files in before.items():
        assert world.history(table).snapshots[world.head(table)].operation == "append"
        assert all(files[day] <= now for day, now in world.files(table).items())


def test_an_id_that_comes_back_on_another_day_is_another_event(world: World) -> None:
    """A repeat carries the same event time; what does not is no repeat, in whatever batches it comes."""
    rows = [event(1, START), event(1, START + DAY, amount=5), event(2, START), event(2, START + HOUR, amount=-1)]
    world.arrive(rows[0], rows[3])
    world.silver()
    world.arrive(rows[1], rows[2])
    world.silver()
    world.check_silver(rows)
    assert ("e00001", "2026-01-31") in world.purchases()
