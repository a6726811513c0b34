"""Events that are valid, written in ways that few producers use; and those that lie exactly on a boundary."""

import json
from collections.abc import Callable, Mapping

from lakehouse_operator.reference import instants
from lakehouse_operator.reference.kinds.draft import MINUTE_US, Draft, Kind
from lakehouse_operator.reference.record import OPEN

Change = Callable[[Draft], None]


def _time(digits: int, more: int = 0, **how: int | str) -> Change:
    """The same instant, or one a little earlier or later, with another number of digits or another zone."""

    def change(draft: Draft) -> None:
        instant_us = draft.arrival_ms * 1000 if draft.time_us is None else draft.time_us
        unit = 10 ** (6 - digits)
        time_us = (instant_us + draft.rng.randrange(1000)) // unit * unit
        beyond = "".join(str(draft.rng.randrange(10)) for _ in range(more))
        draft.happen(time_us, instants.text(time_us, digits, more=beyond, **how))  # type: ignore[arg-type]

    return change


def _small_letters(draft: Draft) -> None:
    _time(3)(draft)
    draft.put("event_time", (draft.time_text or "").lower())
    draft.time_text = (draft.time_text or "").lower()


def _delayed(delay_us: int) -> Change:
    """An event that happened `delay_us` before it arrived; negative: after."""
    return lambda draft: draft.happen(draft.arrival_ms * 1000 - delay_us)


TIMES: Mapping[str, Change] = {
    **{f"fraction_of_{digits}_digits": _time(min(digits, 6), max(0, digits - 6)) for digits in range(10)},
    "t_and_z_in_small_letters": _small_letters,
    "offset_plus_5_30": _time(3, offset_minutes=330),
    "offset_minus_8": _time(3, offset_minutes=-480),
    "offset_plus_14": _time(0, offset_minutes=840),
    "offset_minus_12": _time(6, offset_minutes=-720),
    "offset_zero": _time(3, zone="+00:00"),
    "offset_minus_zero": _time(3, zone="-00:00"),  # RFC 3339, section 4.3: the time in UTC is known
    "exactly_5_minutes_late": _delayed(5 * MINUTE_US),
    "a_millisecond_more_than_5_minutes_late": _delayed(5 * MINUTE_US + 1000),
    "exactly_65_minutes_late": _delayed(65 * MINUTE_US),
    "exactly_5_minutes_ahead": _delayed(-5 * MINUTE_US),
}


def _identified(write: Callable[[str], str], text: Callable[[str], str] | None = None) -> Change:
    """Another kind of id: `write` makes it from unique digits, `text` the JSON text of it."""

    def change(draft: Draft) -> None:
        event_id = write(draft.unique())
        draft.identify(event_id, text and text(event_id))

    return change


def _escaped(event_id: str) -> str:
    return '"' + "".join(f"\\u{ord(character):04x}" for character in event_id) + '"'


IDS: Mapping[str, Change] = {
    "id_not_a_uuid": _identified(lambda unique: f"conversion:{unique}"),
    "id_of_128_characters": _identified(lambda unique: unique * 8),
    "id_of_128_two_byte_characters": _identified(lambda unique: "é" * 112 + unique),
    "id_with_an_emoji": _identified(lambda unique: f"\U0001f3db-{unique}"),
    "id_with_quotes_and_backslashes": _identified(lambda unique: f'"{unique}\\"'),
    "id_like_sql": _identified(lambda unique: f"'; DROP TABLE bronze.events; -- {unique}"),
    "id_with_a_line_break": _identified(lambda unique: f"{unique}\n2"),
    "id_with_nul": _identified(lambda unique: f"{unique}\x00"),
    "id_with_blanks_around": _identified(lambda unique: f" {unique} "),
    "id_of_digits": _identified(lambda unique: str(int(unique, 16))),
    "id_with_a_slash_escaped": _identified(
        lambda unique: f"a/{unique}", lambda given: f'"{given}"'.replace("/", r"\/")
    ),
    "id_written_in_escapes": _identified(lambda unique: unique, _escaped),
}


def _put(name: str, value: object, text: str | None = None) -> Change:
    return lambda draft: draft.put(name, value, text)


def _number(number: int, numeral: str) -> Change:
    def change(draft: Draft) -> None:
        draft.put("input_number", number)
        draft.put("output_numeral", numeral)

    return change


def _refused(number: int) -> Change:
    """The service refused the number, and says so: a valid event."""

    def change(draft: Draft) -> None:
        draft.drop("output_numeral")
        draft.put("input_number", number)
        draft.put("status", "ERROR")
        draft.put("error_code", "OUT_OF_RANGE")

    return change


def _no_optional_fields(draft: Draft) -> None:
    draft.drop("channel", "client_version", "schema_version")
    draft.typed["schema_version"] = 1


def _null_optional_fields(draft: Draft) -> None:
    """Null says the same as leaving the field out. What is tracked of the user stays as it is."""
    for name in ("channel", "client_version", "user_country", "user_email_domain", "error_code"):
        if name in ("channel", "client_version") or name not in draft.fields:
            draft.put(name, None)


def _another_user(user_id: Callable[[str], str]) -> Change:
    def change(draft: Draft) -> None:
        draft.put("user_id", user_id(draft.unique()))
        draft.key = str(draft.typed["user_id"]).encode()

    return change


VALUES: Mapping[str, Change] = {
    "number_1": _number(1, "I"),
    "number_3999": _number(3999, "MMMCMXCIX"),
    "number_3888": _number(3888, "MMMDCCCLXXXVIII"),
    "refused_zero": _refused(0),
    "refused_negative": _refused(-(2**31) - 1),
    "refused_largest": _refused(2**63 - 1),
    "duration_zero": _put("duration_ms", 0.0, "0"),
    "duration_with_an_exponent": _put("duration_ms", 1250.0, "1.25E+3"),
    "duration_with_a_small_exponent": _put("duration_ms", 0.00125, "1.25e-3"),
    "duration_with_many_digits": _put("duration_ms", 12.345678901234567, "12.34567890123456700000"),
    "duration_of_a_day": _put("duration_ms", 86_400_000.0, "86400000"),
    "version_of_a_preview": _put("client_version", "2.0.0-rc.1+build.77"),
    "optional_fields_absent": _no_optional_fields,
    "optional_fields_null": _null_optional_fields,
    "user_of_one_character_pair": _another_user(lambda unique: f"ü{unique}"),
    "user_of_128_characters": _another_user(lambda unique: unique * 8),
}


def _more(name: str, text: str) -> Change:
    """An unknown field, written before all others: readers that search instead of parse find it first."""
    return lambda draft: draft.first(name, text)


NESTED_DEEP = "[" * 500 + "]" * 500

EXTRA: Mapping[str, Change] = {
    "unknown_field": _more("experiment", '"B"'),
    "unknown_null": _more("experiment", "null"),
    "unknown_object_with_an_id": _more(
        "parent", '{"event_id":"parent","event_time":"1999-12-31T23:59:59Z","status":7}'
    ),
    "unknown_array": _more("tags", '["a",1,null,true,{"event_id":"x"},[[]]]'),
    "unknown_text_that_looks_like_an_event": _more("raw", json.dumps('{"event_id":"raw","event_time":"never"}')),
    "unknown_field_with_a_dot": _more("user.plan", '"none"'),
    "unknown_field_like_a_path": _more("$.event_id", '"none"'),
    "unknown_field_without_name": _more("", '"none"'),
    "known_names_in_capitals": _more("STATUS", '"LOST","User_Id":5,"Input_Number":"none"'),
    "unknown_field_with_nul": _more("note", r'"a\u0000b"'),
    "unknown_field_with_emoji": _more("note", '"\U0001f3db\ufe0f"'),
    "unknown_field_with_escaped_emoji": _more("note", r'"\ud83c\udfdb"'),
    "unknown_field_with_all_escapes": _more("note", r'"\"\\\/\b\f\n\r\t\u00e9"'),
    "unknown_field_with_a_line_separator": _more("note", '"\u2028\u2029\ufeff\uffff"'),
    "unknown_large_number": _more("total", "1234567890123456789012345678901234567890"),
    "unknown_small_number": _more("total", "-1.5e-300"),
    "nested_50_deep": _more("deep", '{"a":' * 50 + "1" + "}" * 50),
    "nested_500_deep": _more("deep", NESTED_DEEP),
}


def _oversized(draft: Draft) -> None:
    draft.first("debug", '"' + "x" * draft.oversized_bytes + '"')


def _many_fields(draft: Draft) -> None:
    fields = ",".join(f'"field_{number}":{number}' for number in range(draft.oversized_bytes // 20))
    draft.value = b"{" + fields.encode() + b"," + draft.rendered()[1:]


def _reversed(draft: Draft) -> None:
    draft.fields = dict(reversed(draft.fields.items()))


def _shuffled(draft: Draft) -> None:
    items = list(draft.fields.items())
    draft.rng.shuffle(items)
    draft.fields = dict(items)


def _spaced(draft: Draft) -> None:
    draft.value = ("{ " + " , ".join(f'"{name}" :\t{text}' for name, text in draft.fields.items()) + " }").encode()


def _printed(draft: Draft) -> None:
    draft.value = (
        "{\r\n" + ",\r\n".join(f'  "{name}": {text}' for name, text in draft.fields.items()) + "\r\n}\r\n"
    ).encode()


def _blanks_around(draft: Draft) -> None:
    draft.value = b" \n\t" + draft.rendered() + b"\r\n \n"


def _escaped_names(draft: Draft) -> None:
    draft.value = draft.rendered().replace(b'"event_id"', rb'"event\u005fid"').replace(b'"status"', rb'"\u0073tatus"')


def _fields_repeated(draft: Draft) -> None:
    draft.value = draft.rendered()[:-1] + b"," + draft.rendered()[1:]


def _key_not_text(draft: Draft) -> None:
    draft.key = b"\xff\x00\xfe"


def _key_empty(draft: Draft) -> None:
    draft.key = b""


def _key_of_another(draft: Draft) -> None:
    draft.key = b"user-of-another-event"


FORMS: Mapping[str, Change] = {
    "oversized": _oversized,
    "thousands_of_fields": _many_fields,
    "fields_reversed": _reversed,
    "fields_shuffled": _shuffled,
    "blanks_between": _spaced,
    "printed_over_many_lines": _printed,
    "blanks_around": _blanks_around,
    "field_names_with_escapes": _escaped_names,
    "key_not_text": _key_not_text,
    "key_empty": _key_empty,
    "key_of_another_user": _key_of_another,
}


def _unchanged(_draft: Draft) -> None:
    """The plain event; its sibling makes the difference."""


KINDS: tuple[Kind, ...] = (
    *(Kind(name=name, change=change) for name, change in {**TIMES, **IDS, **VALUES, **EXTRA, **FORMS}.items()),
    Kind(name="same_instant_another_plan", change=_unchanged, sibling=True),
    # Names should be unique, but need not be: RFC 8259, section 4 leaves open what a reader makes of these.
    Kind(name="fields_repeated_alike", change=_fields_repeated, silver=OPEN),
    # A lone surrogate is JSON, but no text: section 8.2 leaves its meaning open.
    Kind(name="lone_surrogate", change=_more("note", r'"\ud800"'), silver=OPEN),
)
