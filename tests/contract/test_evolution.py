"""Which columns of a table may become which, and what is said where they may not."""

import pytest

from lakehouse_contract.evolution import refusals
from lakehouse_contract.tables import widens

OLD = {"a": "int", "b": "string"}


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("int", "long", True),
        ("long", "int", False),
        ("int", "double", False),
        ("int", "string", False),
        ("decimal(9,2)", "decimal(12,2)", True),
        ("decimal(12,2)", "decimal(9,2)", False),
        ("decimal(9,2)", "decimal(12,3)", False),
        ("decimal(9,2)", "decimal(9,2)", False),
        ("date", "timestamp", False),
    ],
)
def test_a_type_may_only_get_wider(old: str, new: str, may: bool) -> None:
    assert widens(old, new) is may


@pytest.mark.parametrize("new", [OLD, {**OLD, "c": "date"}, {**OLD, "a": "long"}, {"b": "string", "a": "int"}])
def test_what_a_table_can_follow_is_not_refused(new: dict[str, str]) -> None:
    assert list(refusals("silver.t", OLD, new)) == []


def test_what_it_can_not_follow_is_refused_with_a_plan() -> None:
    found = list(refusals("silver.t", OLD, {"a": "string", "c": "string"}))
    assert [each.column for each in found] == ["a", "b"]
    assert found[0].message.startswith("silver.t has the column a as int, which can't become string: ")
    assert "Add a column of another name with the type string, backfill it" in found[0].message
    assert found[1].message.startswith("silver.t has the column b, which can't be dropped or renamed: ")
