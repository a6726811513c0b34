"""Plans and changes as sentences for people; and whole stories, as they were last looked at."""

import pytest

from lakehouse_operator.planning.explain import explain, explain_change
from lakehouse_operator.planning.plan import Plan
from planning.examples import valid
from planning.stream_scenes import at_rest, plan
from planning.transcripts import FOLDER, STORIES


def test_a_plan_without_actions_says_so():
    assert explain(plan(at_rest())) == ("Nothing to do.",)
    assert explain(Plan(wake_after=plan(at_rest()).wake_after)) == ("Nothing to do.",)


def test_a_change_is_shown_field_by_field_and_in_sum():
    changed = valid("roman-numerals", spec__bronze__watermarkDelay="7m", spec__silver__schedule="5 * * * *")
    assert explain_change(valid("roman-numerals"), changed) == (
        'spec.bronze.watermarkDelay: "5m" -> "7m" (restart)',
        'spec.silver.schedule: "0 * * * *" -> "5 * * * *" (hot)',
        "In all: restart; the stream is stopped with a savepoint and started again from it.",
    )


def test_a_changed_rule_says_what_a_backfill_would_renew():
    changed = valid("roman-numerals", spec__silver__tables__0__rules__8__severity="warn")
    assert explain_change(valid("roman-numerals"), changed)[-1] == (
        "Earlier results of silver and gold keep the old definition until a LakehouseBackfill renews them."
    )


def test_a_change_that_needs_new_state_says_that_it_is_refused():
    assert "refused" in explain_change(valid("minimal"), valid("minimal", spec__source__topic="x"))[-1]


def test_no_change_says_so():
    assert explain_change(valid("minimal"), valid("minimal")) == ("Nothing changes.",)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_goes_as_it_was_last_looked_at(name):
    """A difference that is meant: `python tests/planning/transcripts.py --write`, then look at it."""
    assert STORIES[name]() == (FOLDER / f"{name}.txt").read_text()


def test_every_story_on_file_is_told():
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(STORIES)
