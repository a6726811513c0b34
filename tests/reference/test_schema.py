"""`examples/conversion-event.schema.json` says what the event format says."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.kinds import RULE_BREAKING
from lakehouse_operator.reference.kinds.malformed import BAD_IDS, BAD_TIME_VALUES, BAD_TIMES, MISSING
from lakehouse_operator.reference.record import QUARANTINE, VALID, Intent
from lakehouse_operator.reference.traffic import Traffic
from reference.classifier import SCHEMA, VALIDATOR, Refused, strict_json

TRAFFIC = Traffic(
    end_ms=1_780_000_000_000, events=4_000, users=50, malformed=0.2, rule_breaking=0.2, unusual=0.2, oversized_bytes=500
)
BEYOND_A_SCHEMA = {
    "numeral_of_another_number", "numeral_of_four_strokes", "numeral_in_small_letters", "numeral_with_a_blank",
    "numeral_in_unicode_numerals", "numeral_empty",  # a schema can't compute a numeral
    "february_29_in_a_common_year", "february_29_in_1900",  # nor a leap year
}  # fmt: skip


def _objects() -> Iterator[tuple[Intent, Any]]:
    for record in records(TRAFFIC):
        try:
            yield record.intent, strict_json((record.value or b"").decode())
        except (ValueError, RecursionError, Refused):
            continue


@pytest.fixture(scope="module")
def events() -> list[tuple[Intent, Any]]:
    return list(_objects())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_field_is_described() -> None:
    assert all(field.get("description") for field in SCHEMA["properties"].values())


def test_every_valid_event_is_accepted(events: list[tuple[Intent, Any]]) -> None:
    valid = [(intent.kind, event) for intent, event in events if intent.silver == VALID]
    assert [(kind, event) for kind, event in valid if not VALIDATOR.is_valid(event)] == []
    assert len(valid) > 2_000


def test_what_breaks_a_rule_is_refused(events: list[tuple[Intent, Any]]) -> None:
    refused: dict[str, list[bool]] = {kind.name: [] for kind in RULE_BREAKING if kind.silver == QUARANTINE}
    for intent, event in events:
        if intent.kind in refused:
            refused[intent.kind].append(not VALIDATOR.is_valid(event))
    # A number beyond 64 bits is an integer to a schema; only out of range, as its status is OK.
    assert all(refused.values())
    assert {kind for kind, answers in refused.items() if not all(answers)} == BEYOND_A_SCHEMA & refused.keys()


def test_what_cannot_be_placed_is_refused(events: list[tuple[Intent, Any]]) -> None:
    kinds = {*MISSING, *BAD_IDS, *BAD_TIMES, *BAD_TIME_VALUES}
    accepted = {intent.kind for intent, event in events if intent.kind in kinds and VALIDATOR.is_valid(event)}
    assert accepted == BEYOND_A_SCHEMA & kinds
    assert kinds <= {intent.kind for intent, _ in events}


def test_unknown_fields_are_allowed(events: list[tuple[Intent, Any]]) -> None:
    event = next(event for intent, event in events if intent.kind == "plain")
    assert VALIDATOR.is_valid(event | {"experiment": {"event_id": 7}})


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_a_missing_required_field_is_refused(events: list[tuple[Intent, Any]], name: str) -> None:
    event = next(event for intent, event in events if intent.kind == "plain")
    assert VALIDATOR.is_valid(event)
    assert not VALIDATOR.is_valid({key: value for key, value in event.items() if key != name})
    assert not VALIDATOR.is_valid(event | {name: None})


def test_the_schema_is_written_in_json_alone() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert replace(TRAFFIC) == TRAFFIC
