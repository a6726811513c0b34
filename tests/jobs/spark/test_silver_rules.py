"""Rules: what breaks them, what that does, and what is reported."""

from typing import Any

import pytest

from jobs.spark.lakehouse_world import COLUMNS, DAY, HOUR, PURCHASES, QUARANTINE, START, TABLE, World, event
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs.quality import BadData

ROWS = [
    event(1, START, amount=0),
    event(2, START + HOUR, amount=10, plan="pro"),
    event(3, START + DAY, amount=-10),
    event(4, START + DAY, amount=2**40),
    event(5, START + DAY, who=None),
    event(6, START + DAY, text="not json"),
    event(7, START + DAY, more={"kind": "refund"}),
]
KIND = {"name": "kind", "type": "string", "path": "$.kind"}


def table(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**TABLE, "rules": list(rules), **changes}


def rule(name: str, expression: str, severity: str = "quarantine") -> dict[str, str]:
    return {"name": name, "expression": expression, "severity": severity}


def found(world: World) -> dict[tuple[str, str], tuple[int, int]]:
    columns = ("table_name", "rule", "severity", "rows_checked", "rows_broken")
    rows = world.rows("silver.quality_results", *columns)
    assert len({row[:2] for row in rows}) == len(rows)
    return {(row[1], row[2]): row[3:] for row in rows if row[4] or row[1].startswith("my_")}


def test_each_severity_does_what_it_says(world: World) -> None:
    world.arrive(*ROWS)
    mine = [
        rule("my_warning", "amount < 5", "warn"),
        rule("my_limit", "amount >= 0"),
        rule("my_stop", "amount is null or amount < 2000000000000", "fail"),
    ]
    world.silver(tables=[table(*mine)], dimensions=[])
    assert {key[0] for key in world.purchases()} == {"e00001", "e00002", "e00004", "e00007"}
    assert {key[0]: rules for key, rules in world.quarantine().items()} == {
        "e00003": ["my_limit"],
        "e00005": ["who_required"],
        "e00006": ["payload_json"],
    }
    assert found(world) == {
        ("my_warning", "warn"): (7, 2),
        ("my_limit", "quarantine"): (7, 1),
        ("my_stop", "fail"): (7, 0),
        ("payload_json", "quarantine"): (7, 1),
        ("who_required", "quarantine"): (7, 1),
    }


def test_a_rule_that_fails_stops_the_run_before_anything_is_written(world: World) -> None:
    world.arrive(*ROWS)
    tables = [table(), {**table(rule("no_debts", "amount >= 0", "fail")), "name": "silver.other"}]
    with pytest.raises(BadData, match=r"1 of 7 rows of silver\.other break the rule no_debts\. No table was changed"):
        world.silver(tables=tables, dimensions=[])
    assert [world.history(name).head for name in (PURCHASES, QUARANTINE, "silver.other")] == [None, None, None]
    # What it found can be read all the same.
    assert found(world)["no_debts", "fail"] == (7, 1)
    # Once the rule is mended, nothing is missing.
    world.silver(tables=[table(), {**table(rule("no_debts", "amount >= 0")), "name": "silver.other"}], dimensions=[])
    assert {key[0] for key in world.purchases()} == {"e00001", "e00002", "e00003", "e00004", "e00007"}


def test_an_expression_that_fails_for_a_row_costs_that_row_only(world: World) -> None:
    """Also where another expression has a part in common with it."""
    world.arrive(*ROWS[:4], event(8, START, plan="12"))
    columns = [
        {"name": "who", "type": "string", "expression": "who"},
        {"name": "amount", "type": "int", "expression": "amount"},
        {"name": "share", "type": "long", "expression": "100 div amount"},
        {"name": "number", "type": "long", "expression": "if(event_id = 'e00008', cast(plan as long) + 1, 0)"},
    ]
    rules = [
        rule("share_small", "100 div amount < 1000"),
        rule("third", "element_at(array(1, 2, 3), cast(amount as int)) > 0"),
    ]
    world.silver(tables=[table(*rules, columns=columns)], dimensions=[])
    assert world.rows(PURCHASES, "event_id", "amount", "share", "number") == [("e00008", 1, 100, 13)]
    assert {key[0]: broken for key, broken in world.quarantine().items()} == {
        "e00001": ["share_computable", "share_small", "third"],
        "e00002": ["third"],
        "e00003": ["third"],
        "e00004": ["amount_computable", "third"],
    }


def test_where_says_which_events_belong_to_a_table(world: World) -> None:
    refunds = {**table(), "name": "silver.refunds", "where": "kind = 'refund'"}
    others = {**table(), "where": "kind is null or kind <> 'refund'"}
    broken = {**table(), "name": "silver.broken", "where": "1 div amount > 0"}
    columns = [*COLUMNS, KIND]
    # A copy that does not belong to a table is no copy as far as that table is concerned.
    rows = [*ROWS, event(7, START + DAY, arrived=START, amount=77), event(9, START, amount=0)]
    world.arrive(*rows)
    world.silver(columns=columns, tables=[refunds, others, broken], dimensions=[])
    assert world.rows("silver.refunds", "event_id", "amount") == [("e00007", 1)]
    assert ("e00007", "2026-01-31", 77) in [(*key, values[3]) for key, values in world.purchases().items()]
    # An unreadable payload can't tell where it belongs, so no table loses it.
    unreadable = [row[0] for row in world.rows("silver.refunds_quarantine", "event_id", "broken_rules")]
    assert unreadable == ["e00006"]
    # Where the condition can't be computed, the row is set aside; where it is false, it is another table's.
    quarantined = dict(world.rows("silver.broken_quarantine", "event_id", "broken_rules"))
    assert quarantined["e00009"] == ["where_computable"]
    assert "e00002" not in quarantined
    assert world.rows("silver.broken", "event_id") == [("e00007",)]


REFUSED = {
    "a column that is not there": ("nope = 1", "expression: .*nope.* cannot be resolved"),
    "no expression": ("amount >", "expression: .*[Ss]yntax error"),
    "no condition": ("amount", "expression: is of type bigint, not boolean"),
    "an aggregate": ("sum(amount) > 1", "expression: must be computed from one row"),
    "a window": ("row_number() over (order by who) = 1", "expression: must be computed from one row"),
    "a generator": ("explode(array(true))", "expression: .*generator"),
    "another table": ("amount in (select 1)", "expression: must be computed from one row: no subquery"),
    "chance": ("rand() > 0.5", "expression: must give the same value every time"),
    "the clock": ("event_time < now()", "expression: must give the same value every time"),
    "java": ("reflect('java.lang.System', 'getenv', 'PATH') is null", "expression: must give the same value"),
    "a statement": ("true; drop table x", "expression: .*[Ss]yntax error"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_expression_that_can_not_be_used_is_refused_by_its_path(world: World, name: str) -> None:
    expression, said = REFUSED[name]
    with pytest.raises(SettingsRefused, match=rf"^tables\[0\]\.rules\[1\]\.{said}"):
        world.silver(tables=[table(rule("fine", "true"), rule("wrong", expression))])
    assert world.lakehouse.find(PURCHASES) is None


def test_every_refused_expression_is_named_at_once(world: World) -> None:
    columns = [
        {"name": "who", "type": "date", "expression": "amount"},
        {"name": "x", "type": "long", "expression": "y"},
    ]
    with pytest.raises(SettingsRefused) as refused:
        world.silver(tables=[table(rule("r", "z"), columns=columns, where="1")], dimensions=[])
    assert [problem.path for problem in refused.value.problems] == [
        "tables[0].columns[0].expression",
        "tables[0].columns[1].expression",
        "tables[0].rules[0].expression",
        "tables[0].where",
    ]
