"""Rules that need no SQL: what each kind takes for a good row, and for a good table."""

from datetime import timedelta
from typing import Any

import pytest

from jobs.spark.lakehouse_world import COLUMNS, DAY, HOUR, PURCHASES, START, TABLE, World, event
from lakehouse_contract import commits
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs.quality import BadData

MORE = [
    {"name": "price", "type": "decimal(12,2)", "path": "$.price"},
    {"name": "rate", "type": "double", "path": "$.rate"},
    {"name": "code", "type": "string", "path": "$.code"},
    {"name": "gift", "type": "boolean", "path": "$.gift"},
]
RULES: list[dict[str, Any]] = [
    {"name": "has_plan", "notNull": {"column": "plan"}},
    {"name": "price_bounds", "range": {"column": "price", "min": 0.1, "max": 10}},
    {"name": "rate_positive", "range": {"column": "rate", "min": 0}},
    {"name": "code_shape", "pattern": {"column": "code", "regex": "a|ab|[0-9]{2}"}},
    {"name": "amount_known", "acceptedValues": {"column": "amount", "values": ["1", "7"]}},
    {"name": "gift_only", "acceptedValues": {"column": "gift", "values": ["true"]}},
    {"name": "plan_known", "severity": "warn", "acceptedValues": {"column": "plan", "values": ["pro", "it's"]}},
]


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    return {"tables": [{**TABLE, "rules": list(given)}], "dimensions": []}


def with_run(end: str, name: str = "hourly") -> dict[str, Any]:
    return {"run": name, "run_more": {"intervalStart": "2026-01-30T00:00:00Z", "intervalEnd": end}}


def results(world: World, run: str | None = None) -> dict[str, tuple[Any, ...]]:
    """Of each rule that was not kept: rows looked at, rows that broke it, and its kind."""
    rows = world.rows(
        "silver.quality_results", "_audit_run_id", "rule", "rows_checked", "rows_broken", "kind", "detail"
    )
    assert len({row[:2] for row in rows}) == len(rows)
    return {row[1]: row[2:] for row in rows if row[3] and run in (None, row[0])}


def test_each_kind_of_rule_over_rows_says_what_it_says(world: World) -> None:
    good = {"price": 0.1, "rate": 0, "code": "ab", "gift": True}
    broken = {
        "has_plan": {"plan": None},
        "price_bounds": {"more": {**good, "price": 0.09}},
        "rate_positive": {"more": {**good, "rate": -1e-9}},
        "code_shape": {"more": {**good, "code": "abc"}},
        "amount_known": {"amount": 17},
        "gift_only": {"more": {**good, "gift": False}},
    }
    rows = [event(number, START, **values) for number, values in enumerate(broken.values())]
    rows += [
        event(10, START, more=good),
        event(11, START, amount=None),  # a missing value is notNull's business
        event(12, START, more={**good, "price": 10, "code": "42"}, amount=7),
        event(13, START, more={**good, "price": 10.01}),
        event(14, START, more={**good, "code": "42\n"}),
        event(15, START, plan="it's"),
    ]
    world.arrive(*rows)
    world.silver(columns=[*COLUMNS, *MORE], **rules(*RULES))
    quarantine = {key[0]: names for key, names in world.quarantine().items()}
    assert quarantine == {
        **{f"e{number:05d}": sorted([name, "plan_known"]) for number, name in enumerate(broken) if name != "has_plan"},
        "e00000": ["has_plan"],
        "e00013": ["plan_known", "price_bounds"],
        "e00014": ["code_shape", "plan_known"],
    }
    assert {key[0] for key in world.purchases()} == {"e00010", "e00011", "e00012", "e00015"}
    assert results(world)["price_bounds"] == (12, 2, "range", None)
    assert results(world)["plan_known"][:2] == (12, 10)


def test_a_table_is_judged_as_it_will_be_after_the_run(world: World) -> None:
    unique = {"name": "one_a_day", "severity": "warn", "unique": {"columns": ["who", "city"]}}
    crowd = {"name": "not_too_many", "severity": "fail", "rowCount": {"per": "day", "max": 3}}
    few = {"name": "enough", "severity": "warn", "rowCount": {"per": "day", "min": 2}}
    batch = {"name": "batch", "severity": "warn", "rowCount": {"min": 3}}
    fresh = {"name": "fresh", "severity": "warn", "freshness": {"maxAgeSeconds": 3600}}
    asked = rules(unique, crowd, few, batch, fresh)
    world.arrive(
        event(1, START, city="x"), event(2, START + HOUR, city="x"), event(3, START + DAY, city="x"),
        event(4, START + DAY, amount="bad", city="x"), event(5, START, who="bob"), event(6, START, who="bob"),
    )  # fmt: skip
    with pytest.raises(BadData, match=r"breaks the rule not_too_many: 2026-01-30 has 4 rows, more than 3\. No table"):
        world.silver(**with_run("2026-01-31T01:00:00Z"), **asked)
    # Two on one day; the row set aside does not count, nor do rows without a city; the second day is not over yet.
    assert results(world, "hourly") == {
        "one_a_day": (3, 2, "unique", "2 rows share who, city with another row of their day"),
        "not_too_many": (5, 1, "rowCount", "2026-01-30 has 4 rows, more than 3"),
        "amount_type": (6, 1, "builtIn", None),
    }
    assert world.history(PURCHASES).head is None


def test_a_run_that_brings_nothing_is_judged_all_the_same_and_only_once(world: World) -> None:
    fresh = {"name": "fresh", "severity": "fail", "freshness": {"maxAgeSeconds": 3600}}
    batch = {"name": "batch", "severity": "warn", "rowCount": {"min": 1}}
    few = {"name": "enough", "severity": "warn", "rowCount": {"per": "day", "min": 2}}
    asked = rules(fresh, batch, few)
    world.arrive(event(1, START), event(2, START + HOUR, amount="bad"))
    world.silver(**with_run("2026-01-30T01:00:00Z", "first"), **asked)
    assert "fresh" not in results(world, "first")
    assert "enough" not in results(world, "first")
    head = world.head(PURCHASES)
    with pytest.raises(BadData, match=r"breaks the rule fresh: the newest event is of 2026-01-30T00:00:00Z, more than"):
        world.silver(**with_run("2026-01-31T02:00:01Z", "second"), **asked)
    assert world.head(PURCHASES) == head
    assert results(world, "second")["batch"] == (0, 1, "rowCount", "the run brings 0 rows, less than 1")
    # The commit tells the operator.
    told = world.history("silver.quality_results").newest(commits.QUALITY)
    assert told is not None
    assert '"rule":"fresh","severity":"fail","rows":1' in told
    # The first run once more: what it brought is in, and that is no fault.
    world.silver(**with_run("2026-01-30T01:00:00Z", "first"), **asked)
    assert "batch" not in results(world, "first")
    # Days are not judged by their age, and a day that is over is held against its minimum.
    world.silver("days", run_more={"days": {"first": "2026-01-30", "last": "2026-01-31"}}, **asked)
    assert results(world, "days") == {
        "enough": (1, 2, "rowCount", "2026-01-30 has 1 rows, less than 2; 2026-01-31 has 0 rows, less than 2"),
        "amount_type": (2, 1, "builtIn", None),
    }


def test_stored_rows_and_new_rows_are_seen_together(world: World) -> None:
    unique = {"name": "one_a_day", "severity": "fail", "unique": {"columns": ["who"]}}
    world.arrive(event(1, START), event(2, START + DAY))
    world.silver(**rules(unique))
    world.arrive(event(3, START + timedelta(hours=2)))
    with pytest.raises(BadData, match="2 rows share who with another row of their day"):
        world.silver(**rules(unique))
    # A copy that came earlier takes its event's place: that is no second row.
    world.arrive(event(3, START + timedelta(hours=2), amount=-1, arrived=START), event(1, START, arrived=START))
    negative = {"name": "positive", "range": {"column": "amount", "min": 0}}
    world.silver(**rules(unique, negative))
    assert {key[0] for key in world.purchases()} == {"e00001", "e00002"}


@pytest.mark.parametrize("regex", ["a)|(b", "[a", "(?x)a # b", "\\Qa"])
def test_a_regular_expression_that_java_refuses_is_named_by_its_path(world: World, regex: str) -> None:
    world.arrive(event(1, START))
    wrong = {"name": "r", "pattern": {"column": "plan", "regex": regex}}
    with pytest.raises(SettingsRefused, match=r"^tables\[0\]\.rules\[0\]\.pattern\.regex: is no regular expression"):
        world.silver(**rules(wrong))
