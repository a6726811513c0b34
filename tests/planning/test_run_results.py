"""What a run did and found stands in its status, as the tables' own commits say it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lakehouse_contract import commits
from lakehouse_operator.planning.batch import decide
from lakehouse_operator.planning.observed import Observation, TableView
from planning.batch_builders import REVISION, at, commit, run, seen
from planning.examples import valid

NOW = at("03-10 08:10")
BROKEN = {"table": "silver.conversions", "rule": "fresh", "severity": "fail", "rows": 1, "of": 1, "detail": "too old"}


def status_after(*told: str, phase: str = "Failed") -> dict[str, Any]:
    """The status of a run that committed these summaries to the quality results, one after the other."""
    one = run(at("03-10 07:00"), phase, finishedAt="2026-03-10T08:05:00Z", attempts=[], revision=REVISION)
    made = [
        replace(commit(number, at(f"03-10 08:0{number}")), properties={commits.RUN: one.name, commits.QUALITY: text})
        for number, text in enumerate(told, start=1)
    ]
    name = "silver.quality_results"
    observation = Observation(tables={name: TableView(name=name, commits=tuple(made))} if made else {})
    world = seen(NOW, runs=(one,), observation=observation)
    decision = decide(valid("roman-numerals"), world, definition="d", paused=None, definitions={})
    (status,) = [each.status for each in decision.statuses if each.name == one.name]
    return dict(status)


def test_broken_rules_are_told_also_of_a_run_that_they_stopped() -> None:
    summary = json.dumps({"rules": 12, "broken": [BROKEN]})
    status = status_after(summary)
    assert status["quality"] == {"rules": 12, "broken": [BROKEN]}
    assert status["phase"] == "Failed", "a commit of results is no success of the run"


def test_a_retry_says_it_again_and_nothing_is_counted_twice() -> None:
    first, second = ({"rules": 12, "broken": [{**BROKEN, "rows": rows}]} for rows in (1, 2))
    assert status_after(json.dumps(first), json.dumps(second))["quality"] == second


@pytest.mark.parametrize("told", [(), ("",), ("[]",), ('{"rules": 1}',), ('{"rules": 1, "broken": [{"rows": "x"}]}',)])
def test_what_can_not_be_read_is_left_out(told: tuple[str, ...]) -> None:
    assert "quality" not in status_after(*told)
