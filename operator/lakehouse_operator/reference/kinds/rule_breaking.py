"""Events that bronze takes and silver sets aside, each with the rules of the reference pipeline that it breaks.

A row says all the rules that it breaks: a missing value breaks `<name>_required`, a value of another JSON type breaks
`<name>_type`, and what is then missing breaks the rules that need it.
"""

from collections.abc import Callable, Mapping

from lakehouse_operator.reference.kinds.draft import Draft, Kind
from lakehouse_operator.reference.numerals import NUMERALS
from lakehouse_operator.reference.record import OPEN, QUARANTINE

_NO_NUMBER = ("input_number_type", "number_in_range", "numeral_matches_number")

Changes = Mapping[str, str | None]
"""The JSON text of each changed field; None leaves the field out."""

BREAKS: Mapping[str, tuple[Changes, tuple[str, ...]]] = {
    "unknown_type": ({"event_type": '"REFUND"'}, ("known_type",)),
    "type_in_small_letters": ({"event_type": '"conversion"'}, ("known_type",)),
    "type_empty": ({"event_type": '""'}, ("known_type",)),
    "no_type": ({"event_type": None}, ("event_type_required", "known_type")),
    "null_type": ({"event_type": "null"}, ("event_type_required", "known_type")),
    "type_a_number": ({"event_type": "1"}, ("event_type_type", "known_type")),
    "no_user": ({"user_id": None}, ("user_id_required", "user_id_length")),
    "null_user": ({"user_id": "null"}, ("user_id_required", "user_id_length")),
    "user_empty": ({"user_id": '""'}, ("user_id_length",)),
    "user_of_129_characters": ({"user_id": '"' + "u" * 129 + '"'}, ("user_id_length",)),
    "user_a_number": ({"user_id": "17"}, ("user_id_type", "user_id_length")),
    "user_an_object": ({"user_id": '{"id":"user-000001"}'}, ("user_id_type", "user_id_length")),
    "no_plan": ({"user_plan": None}, ("user_plan_required", "known_plan")),
    "unknown_plan": ({"user_plan": '"platinum"'}, ("known_plan",)),
    "plan_in_capitals": ({"user_plan": '"PRO"'}, ("known_plan",)),
    "plan_true": ({"user_plan": "true"}, ("user_plan_type", "known_plan")),
    "country_by_name": ({"user_country": '"Germany"'}, ("country_code",)),
    "country_in_small_letters": ({"user_country": '"de"'}, ("country_code",)),
    "country_with_a_digit": ({"user_country": '"D1"'}, ("country_code",)),
    "country_empty": ({"user_country": '""'}, ("country_code",)),
    "country_with_line_break": ({"user_country": r'"DE\n"'}, ("country_code",)),
    "country_a_number": ({"user_country": "49"}, ("user_country_type",)),
    "domain_a_number": ({"user_email_domain": "127.1"}, ("user_email_domain_type",)),
    "domain_an_array": ({"user_email_domain": '["example.com"]'}, ("user_email_domain_type",)),
    "no_number": ({"input_number": None}, ("input_number_required", *_NO_NUMBER[1:])),
    "null_number": ({"input_number": "null"}, ("input_number_required", *_NO_NUMBER[1:])),
    "number_in_a_string": ({"input_number": '"42"', "output_numeral": '"XLII"'}, _NO_NUMBER),
    "number_a_fraction": ({"input_number": "42.5", "output_numeral": '"XLII"'}, _NO_NUMBER),
    "number_true": ({"input_number": "true", "output_numeral": '"I"'}, _NO_NUMBER),
    "number_zero": ({"input_number": "0", "output_numeral": '"N"'}, ("number_in_range",)),
    "number_negative": ({"input_number": "-42", "output_numeral": '"-XLII"'}, ("number_in_range",)),
    "number_4000": ({"input_number": "4000", "output_numeral": '"MMMM"'}, ("number_in_range",)),
    "number_beyond_32_bits": ({"input_number": "4294967338", "output_numeral": '"XLII"'}, ("number_in_range",)),
    "no_numeral": ({"output_numeral": None}, ("ok_has_numeral",)),
    "null_numeral": ({"output_numeral": "null"}, ("ok_has_numeral",)),
    "numeral_a_number": ({"output_numeral": "42"}, ("output_numeral_type", "ok_has_numeral")),
    "numeral_empty": ({"output_numeral": '""'}, ("numeral_matches_number",)),
    "numeral_of_four_strokes": (
        {"input_number": "4", "output_numeral": '"IIII"'},
        ("numeral_matches_number",),
    ),
    "numeral_in_small_letters": (
        {"input_number": "42", "output_numeral": '"xlii"'},
        ("numeral_matches_number",),
    ),
    "numeral_with_a_blank": (
        {"input_number": "42", "output_numeral": '"XLII "'},
        ("numeral_matches_number",),
    ),
    "numeral_in_unicode_numerals": (
        {"input_number": "9", "output_numeral": '"\u2168"'},
        ("numeral_matches_number",),
    ),
    "no_status": ({"status": None}, ("status_required", "known_status")),
    "unknown_status": ({"status": '"MAYBE"'}, ("known_status",)),
    "status_in_small_letters": ({"status": '"ok"'}, ("known_status",)),
    "status_true": ({"status": "true"}, ("status_type", "known_status")),
    "error_without_code": ({"status": '"ERROR"', "output_numeral": None}, ("error_has_code",)),
    "error_code_null": ({"status": '"ERROR"', "output_numeral": None, "error_code": "null"}, ("error_has_code",)),
    "error_code_a_number": (
        {"status": '"ERROR"', "output_numeral": None, "error_code": "500"},
        ("error_code_type", "error_has_code"),
    ),
    "no_duration": ({"duration_ms": None}, ("duration_ms_required", "duration_not_negative")),
    "duration_in_a_string": ({"duration_ms": '"12.5"'}, ("duration_ms_type", "duration_not_negative")),
    "duration_false": ({"duration_ms": "false"}, ("duration_ms_type", "duration_not_negative")),
    "duration_negative": ({"duration_ms": "-12.5"}, ("duration_not_negative",)),
    "duration_barely_negative": ({"duration_ms": "-0.001"}, ("duration_not_negative",)),
    "duration_minus_one": ({"duration_ms": "-1"}, ("duration_not_negative",)),
    "unknown_channel": ({"channel": '"fax"'}, ("known_channel",)),
    "channel_empty": ({"channel": '""'}, ("known_channel",)),
    "channel_a_number": ({"channel": "7"}, ("channel_type",)),
    "client_version_of_two_parts": ({"client_version": '"1.2"'}, ("client_version_semantic",)),
    "client_version_with_a_v": ({"client_version": '"v1.2.3"'}, ("client_version_semantic",)),
    "client_version_with_leading_zero": ({"client_version": '"1.02.3"'}, ("client_version_semantic",)),
    "client_version_latest": ({"client_version": '"latest"'}, ("client_version_semantic",)),
    "client_version_with_nul": ({"client_version": r'"1.2.3\u0000"'}, ("client_version_semantic",)),
    "client_version_with_line_break": ({"client_version": r'"1.2.3\n"'}, ("client_version_semantic",)),
    "client_version_with_empty_part": ({"client_version": '"1.0.0-a..b"'}, ("client_version_semantic",)),
    "client_version_a_number": ({"client_version": "1.2"}, ("client_version_type",)),
    "schema_version_2": ({"schema_version": "2"}, ("known_schema_version",)),
    "schema_version_0": ({"schema_version": "0"}, ("known_schema_version",)),
    "schema_version_in_a_string": ({"schema_version": '"1"'}, ("schema_version_type",)),
    "schema_version_a_fraction": ({"schema_version": "1.5"}, ("schema_version_type",)),
    "three_faults": (
        {"event_type": '"REFUND"', "user_plan": '"gold"', "duration_ms": "-3"},
        ("known_type", "known_plan", "duration_not_negative"),
    ),
    "wrong_types_everywhere": (
        {
            "event_type": "[]", "user_id": "{}", "user_plan": "1", "user_country": "false", "user_email_domain": "0",
            "input_number": '"1"', "output_numeral": "{}", "status": "[1]", "error_code": "[]", "duration_ms": "{}",
            "channel": "1.5", "client_version": "[]", "schema_version": '"one"',
        },
        (
            "event_type_type", "user_id_type", "user_plan_type", "user_country_type", "user_email_domain_type",
            "input_number_type", "output_numeral_type", "status_type", "error_code_type", "duration_ms_type",
            "channel_type", "client_version_type", "schema_version_type", "known_type", "user_id_length", "known_plan",
            "known_status", "duration_not_negative",
        ),
    ),
}  # fmt: skip


def _changed(changes: Changes) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        for name, text in changes.items():
            if text is None:
                draft.drop(name)
            else:
                draft.fields[name] = text

    return change


def _nothing_but_id_and_time(draft: Draft) -> None:
    draft.drop(*(name for name in draft.fields if name not in ("event_id", "event_time")))


def _numeral_of_another_number(draft: Draft) -> None:
    other = draft.rng.choice([number for number in (1, 4, 1999, 3999) if number != draft.typed["input_number"]])
    draft.put("output_numeral", NUMERALS[other])


def _kind(name: str, change: Callable[[Draft], None], *broken: str) -> Kind:
    return Kind(name=name, change=change, silver=QUARANTINE, broken=tuple(sorted(broken)))


def _any_rule(name: str, changes: Changes, silver: str) -> Kind:
    """A kind for which the event format does not say which rule is broken, or whether one is."""
    return Kind(name=name, change=_changed(changes), silver=silver)


KINDS: tuple[Kind, ...] = (
    *(_kind(name, _changed(changes), *broken) for name, (changes, broken) in BREAKS.items()),
    _kind("numeral_of_another_number", _numeral_of_another_number, "numeral_matches_number"),
    _kind(
        "nothing_but_id_and_time",
        _nothing_but_id_and_time,
        *(f"{name}_required" for name in ("event_type", "user_id", "user_plan", "input_number", "status")),
        *("duration_ms_required", "known_type", "user_id_length", "known_plan", "known_status"),
        "duration_not_negative",
    ),
    _any_rule("number_beyond_64_bits", {"input_number": "99999999999999999999"}, QUARANTINE),
    _any_rule("number_with_a_point", {"input_number": "42.0", "output_numeral": '"XLII"'}, OPEN),
    _any_rule("number_with_an_exponent", {"input_number": "4.2e1", "output_numeral": '"XLII"'}, OPEN),
    _any_rule("duration_beyond_double", {"duration_ms": "1e999"}, OPEN),
)
