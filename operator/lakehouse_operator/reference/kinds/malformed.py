"""Records that bronze can't place: they belong to the dead letters, each with the error type that it deserves."""

import json
from collections.abc import Callable, Mapping

from lakehouse_operator.reference import instants
from lakehouse_operator.reference.kinds.draft import MINUTE_US, Draft, Kind
from lakehouse_operator.reference.record import (
    INVALID_ENCODING,
    INVALID_FIELD,
    INVALID_JSON,
    MISSING_FIELD,
    NULL_PAYLOAD,
    OPEN,
    QUARANTINE,
)

HOUR_US = 60 * MINUTE_US
DEEPER_THAN_PARSERS_GO = 5_000


def _null(draft: Draft) -> None:
    draft.is_null = True
    _forget(draft)


def _forget(draft: Draft) -> None:
    """Nothing can be read out of such a record."""
    draft.event_id = draft.time_us = draft.time_text = None


def _rewritten(name: str, flaw: str, write: Callable[[bytes], bytes], *, silver: str | None = None) -> Kind:
    """A kind whose bytes are made from those of a good event. With `silver`, bronze may take it as an event."""

    def change(draft: Draft) -> None:
        draft.value = write(draft.rendered())
        if silver is None:
            _forget(draft)

    return Kind(name=name, change=change, flaw=flaw, also_event=silver is not None, silver=silver)


def _with_text(bad: bytes) -> Callable[[bytes], bytes]:
    """Bytes inside a string of an unknown field, so that nothing but them is wrong."""
    return lambda good: b'{"note":"caf' + bad + b'",' + good[1:]


ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "latin_1_byte": _with_text(b"\xe9"),
    "lone_continuation_byte": _with_text(b"\x80"),
    "overlong_slash": _with_text(b"\xc0\xaf"),
    "overlong_nul": _with_text(b"\xc0\x80"),
    "surrogate_in_utf_8": _with_text(b"\xed\xa0\x80"),
    "character_cut_in_half": _with_text(b"\xe2\x82"),
    "beyond_unicode": _with_text(b"\xf4\x90\x80\x80"),
    "five_byte_sequence": _with_text(b"\xf8\x88\x80\x80\x80"),
    "byte_ff": _with_text(b"\xff"),
    "bad_byte_in_a_key": lambda good: b'{"not\xe9":1,' + good[1:],
    "bad_byte_in_the_event_id": lambda good: good.replace(b'"event_id":"', b'"event_id":"\xfe', 1),
    "bad_byte_after_the_end": lambda good: good + b"\xff",
    "utf_16_with_byte_order_mark": lambda good: b"\xff\xfe" + good.decode().encode("utf-16-le"),
    "compressed": lambda good: b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + good,
}


def _swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda good: good.replace(old, new, 1)


def _duration(text: bytes) -> Callable[[bytes], bytes]:
    """An unknown number written before all fields, the way numbers are not written in JSON."""
    return lambda good: b'{"retry_after":' + text + b"," + good[1:]


NOT_JSON: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \r\n\t",
    "brace_alone": lambda _: b"{",
    "without_the_last_brace": lambda good: good[:-1],
    "array_of_events": lambda good: b"[" + good + b"]",
    "empty_array": lambda _: b"[]",
    "number": lambda _: b"42",
    "string": lambda _: b'"XLII"',
    "null_text": lambda _: b"null",
    "true_text": lambda _: b"true",
    "json_in_a_string": lambda good: json.dumps(good.decode()).encode(),
    "plain_text": lambda _: b"user-000001 converted 42 to XLII",
    "xml": lambda _: b"<conversion><event_id>1</event_id></conversion>",
    "avro_with_schema_id": lambda good: b"\x00\x00\x00\x00\x07" + good,
    "utf_16_without_mark": lambda good: good.decode().encode("utf-16-le"),
    "trailing_comma": lambda good: good[:-1] + b",}",
    "leading_comma": lambda good: b"{," + good[1:],
    "single_quotes": lambda good: good.replace(b'"', b"'"),
    "unquoted_key": _swapped(b'"event_type"', b"event_type"),
    "missing_colon": _swapped(b'"event_type":', b'"event_type"'),
    "missing_comma": _swapped(b',"event_type"', b'"event_type"'),
    "equals_sign": _swapped(b'"event_type":', b'"event_type"='),
    "unclosed_string": _swapped(b'"CONVERSION"', b'"CONVERSION'),
    "unclosed_array": lambda good: b'{"tags":["a","b",' + good[1:],
    "block_comment": lambda good: b"{/* v2 */" + good[1:],
    "line_comment": lambda good: b"{// v2\n" + good[1:],
    "hash_comment": lambda good: b"{# v2\n" + good[1:],
    "line_break_in_a_string": _with_text(b"\n"),
    "tab_in_a_string": _with_text(b"\t"),
    "nul_in_a_string": _with_text(b"\x00"),
    "unknown_escape": _with_text(b"\\x41"),
    "half_an_escape": _with_text(b"\\u12"),
    "no_break_space_between_fields": lambda good: b"{\xc2\xa0" + good[1:],
    "form_feed_between_fields": lambda good: b"{\x0c" + good[1:],
    "leading_zero": _duration(b"007"),
    "plus_sign": _duration(b"+7"),
    "point_without_digits": _duration(b"7."),
    "point_first": _duration(b".7"),
    "exponent_without_digits": _duration(b"7e"),
    "hexadecimal_number": _duration(b"0x1F"),
    "minus_alone": _duration(b"-"),
    "capital_true": _duration(b"True"),
    "undefined": _duration(b"undefined"),
}

LEFT_TO_STRICT_PARSERS: Mapping[str, Callable[[bytes], bytes]] = {
    "text_after_the_end": lambda good: good + b" and more",
    "second_object_after_the_end": lambda good: good + good,
    "brace_after_the_end": lambda good: good + b"}",
    "nul_after_the_end": lambda good: good + b"\x00",
    "not_a_number": _duration(b"NaN"),
    "infinity": _duration(b"-Infinity"),
}
"""Not JSON, but the event format allows bronze to take them if silver sets them aside."""

LEFT_OPEN: Mapping[str, Callable[[bytes], bytes]] = {
    "byte_order_mark": lambda good: b"\xef\xbb\xbf" + good,  # RFC 8259, section 8.1: a parser may ignore it
    "nested_deeper_than_parsers_go": lambda good: (
        b'{"deep":' + b"[" * DEEPER_THAN_PARSERS_GO + b"]" * DEEPER_THAN_PARSERS_GO + b"," + good[1:]
    ),
    "two_values_of_a_field": lambda good: good[:-1] + b',"channel":"api","channel":"web"}',
}
"""What parsers may see differently: such a record must only be in exactly one place, with its bytes."""


def _two_ids(draft: Draft) -> None:
    draft.value = b'{"event_id":"first-' + draft.unique().encode() + b'",' + draft.rendered()[1:]
    draft.event_id = None


def _two_times(draft: Draft) -> None:
    time_us = (draft.arrival_ms - 1000) * 1000
    draft.value = f'{{"event_time":"{instants.text(time_us)}",'.encode() + draft.rendered()[1:]
    draft.time_us = draft.time_text = None


def _truncated(draft: Draft) -> None:
    good = draft.rendered()
    draft.value = good[: draft.rng.randrange(1, len(good))]
    _forget(draft)


def _without(name: str) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.drop(name)
        _unread(draft, name)

    return change


def _unread(draft: Draft, name: str) -> None:
    if name == "event_id":
        draft.event_id = None
    else:
        draft.time_us = draft.time_text = None


def _field(name: str, text: str) -> Callable[[Draft], None]:
    """Write a field as the JSON text `text`."""

    def change(draft: Draft) -> None:
        draft.fields[name] = text
        _unread(draft, name)

    return change


def _renamed(name: str, other: str) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.fields = {other if key == name else key: text for key, text in draft.fields.items()}
        _unread(draft, name)

    return change


def _nested(name: str) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.first("meta", f'{{"{name}":{draft.fields.pop(name)}}}')
        _unread(draft, name)

    return change


def _enveloped(draft: Draft) -> None:
    draft.value = b'{"data":' + draft.rendered() + b"}"
    _forget(draft)


def _emptied(draft: Draft) -> None:
    draft.value = b"{}"
    _forget(draft)


MISSING: Mapping[str, Callable[[Draft], None]] = {
    "no_event_id": _without("event_id"),
    "null_event_id": _field("event_id", "null"),
    "event_id_in_capitals": _renamed("event_id", "EVENT_ID"),
    "event_id_one_level_down": _nested("event_id"),
    "no_event_time": _without("event_time"),
    "null_event_time": _field("event_time", "null"),
    "event_time_in_camel_case": _renamed("event_time", "eventTime"),
    "event_time_one_level_down": _nested("event_time"),
    "event_in_an_envelope": _enveloped,
    "empty_object": _emptied,
}

BAD_IDS: Mapping[str, str] = {
    "event_id_empty": '""',
    "event_id_of_129_characters": '"' + "a" * 129 + '"',
    "event_id_of_129_two_byte_characters": '"' + "é" * 129 + '"',
    "event_id_a_number": "12345",
    "event_id_a_fraction": "1.5",
    "event_id_true": "true",
    "event_id_an_object": '{"id":"1"}',
    "event_id_an_array": '["1"]',
}

BAD_TIME_VALUES: Mapping[str, str] = {
    "event_time_epoch_milliseconds": "1767225600000",
    "event_time_true": "true",
    "event_time_an_object": '{"seconds":1767225600}',
    "event_time_an_array": '["2026-01-01T00:00:00Z"]',
}

BAD_TIMES: Mapping[str, str] = {
    "event_time_empty": "",
    "event_time_a_word": "yesterday",
    "event_time_epoch_in_a_string": "1767225600000",
    "february_30": "{year}-02-30T12:00:00Z",
    "april_31": "{year}-04-31T12:00:00Z",
    "february_29_in_a_common_year": "2023-02-29T12:00:00Z",
    "february_29_in_1900": "1900-02-29T12:00:00Z",
    "month_13": "{year}-13-01T12:00:00Z",
    "month_0": "{year}-00-10T12:00:00Z",
    "day_0": "{year}-01-00T12:00:00Z",
    "hour_24": "{date}T24:00:00Z",
    "minute_60": "{date}T12:60:00Z",
    "leap_second_that_never_was": "{date}T23:59:60Z",
    "second_61": "{date}T12:00:61Z",
    "blank_instead_of_t": "{date} 12:00:00Z",
    "underscore_instead_of_t": "{date}_12:00:00Z",
    "no_zone": "{date}T12:00:00",
    "no_time": "{date}",
    "no_seconds": "{date}T12:00Z",
    "no_dashes": "{year}0102T120000Z",
    "slashes": "{year}/01/02T12:00:00Z",
    "one_digit_hour": "{date}T9:00:00Z",
    "two_digit_year": "26-01-02T12:00:00Z",
    "five_digit_year": "+12026-01-02T12:00:00Z",
    "week_date": "{year}-W05-1T12:00:00Z",
    "offset_without_colon": "{date}T12:00:00+0530",
    "offset_of_hours_only": "{date}T12:00:00+05",
    "offset_of_24_hours": "{date}T12:00:00+24:00",
    "offset_of_60_minutes": "{date}T12:00:00+05:60",
    "offset_with_a_true_minus": "{date}T12:00:00\u221208:00",
    "zone_by_name": "{date}T12:00:00[Europe/Rome]",
    "zone_twice": "{date}T12:00:00Z+00:00",
    "comma_fraction": "{date}T12:00:00,123Z",
    "fraction_without_digits": "{date}T12:00:00.Z",
    "fraction_of_10_digits": "{date}T12:00:00.1234567890Z",
    "blank_before": " {date}T12:00:00Z",
    "blank_after": "{date}T12:00:00Z ",
    "line_break_after": "{date}T12:00:00Z\n",
    "digits_of_another_script": "{year}-01-02T\u0661\u0662:00:00Z",
    "mail_date": "Thu, 01 Jan {year} 12:00:00 GMT",
}


def _bad_time(pattern: str) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        date = instants.text(draft.arrival_ms * 1000)[:10]
        text = pattern.format(date=date, year=date[:4])
        draft.put("event_time", text)
        draft.time_us, draft.time_text = None, text

    return change


def _ahead(delay_us: int) -> Callable[[Draft], None]:
    """An event that happened `delay_us` before it arrived; negative: after."""
    return lambda draft: draft.happen(draft.arrival_ms * 1000 - delay_us)


def _fixed(epoch_us: int, text: str) -> Callable[[Draft], None]:
    return lambda draft: draft.happen(epoch_us, text)


WRONG_TIMES: Mapping[str, Callable[[Draft], None]] = {
    "ahead_by_5_minutes_and_a_millisecond": _ahead(-5 * MINUTE_US - 1000),
    "ahead_by_an_hour": _ahead(-HOUR_US),
    "ahead_by_a_year": _ahead(-365 * 24 * HOUR_US),
    "year_9999": _fixed(253_402_300_799_000_000, "9999-12-31T23:59:59Z"),
    "late_by_65_minutes_and_a_millisecond": _ahead(65 * MINUTE_US + 1000),
    "the_first_second_of_1970": _fixed(0, "1970-01-01T00:00:00Z"),
    "before_1970": _fixed(-1, "1969-12-31T23:59:59.999999Z"),
    "year_1": _fixed(-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
}
"""Events that could be read, but not placed: their error type follows from time and arrival."""


KINDS: tuple[Kind, ...] = (
    Kind(name="null_payload", change=_null, flaw=NULL_PAYLOAD, silver=None),
    *(_rewritten(name, INVALID_ENCODING, write) for name, write in ENCODINGS.items()),
    Kind(name="truncated", change=_truncated, flaw=INVALID_JSON, silver=None),
    *(_rewritten(name, INVALID_JSON, write) for name, write in NOT_JSON.items()),
    *(_rewritten(name, INVALID_JSON, write, silver=QUARANTINE) for name, write in LEFT_TO_STRICT_PARSERS.items()),
    *(_rewritten(name, INVALID_JSON, write, silver=OPEN) for name, write in LEFT_OPEN.items()),
    Kind(name="two_event_ids", change=_two_ids, flaw=INVALID_FIELD, also_event=True, silver=OPEN),
    Kind(name="two_event_times", change=_two_times, flaw=INVALID_FIELD, also_event=True, silver=OPEN),
    *(Kind(name=name, change=change, flaw=MISSING_FIELD, silver=None) for name, change in MISSING.items()),
    *(
        Kind(name=name, change=_field("event_id", text), flaw=INVALID_FIELD, silver=None)
        for name, text in BAD_IDS.items()
    ),
    *(
        Kind(name=name, change=_field("event_time", text), flaw=INVALID_FIELD, silver=None)
        for name, text in BAD_TIME_VALUES.items()
    ),
    *(Kind(name=name, change=_bad_time(text), flaw=INVALID_FIELD, silver=None) for name, text in BAD_TIMES.items()),
    *(Kind(name=name, change=change) for name, change in WRONG_TIMES.items()),
)
