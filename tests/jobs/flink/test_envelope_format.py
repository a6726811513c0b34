"""The format alone: which bytes can be placed, which id and time they have, and why the others can't be placed."""

import json
import random
import string
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.flink.bronze_world import settings_for
from jobs.flink.classifier import Placed, Refused, classify
from lakehouse_operator.planning.placement import dead_letter_type
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.traffic import Traffic

ID = '"event_id":"a"'
TIME = '"event_time":"2026-01-31T23:59:59Z"'


@pytest.fixture(scope="module")
def reader(jvm: Any) -> Any:
    return jvm.dev.lakehouse.envelope.EnvelopeReader("event_id", "event_time")


def read(reader: Any, value: bytes | None) -> Placed | Refused:
    envelope = reader.read(value)
    if (error := envelope.errorType()) is not None:
        assert 10 <= len(envelope.errorMessage()) <= 200
        assert envelope.eventMicros() == 0
        assert envelope.eventId() is None
        return Refused(error.name())
    assert envelope.errorMessage() is None
    return Placed(envelope.eventId().toString(), envelope.eventMicros())


def event(event_id: str = "a", event_time: str = "2026-01-31T23:59:59Z") -> bytes:
    return json.dumps({"event_id": event_id, "event_time": event_time}).encode()


@pytest.mark.parametrize(
    ("value", "error_type"),
    [
        (None, "NULL_PAYLOAD"),
        (b"", "INVALID_JSON"),
        (b"  \n", "INVALID_JSON"),
        (b"\xff", "INVALID_ENCODING"),
        (b'{"event_id":"\xc0\xaf"}', "INVALID_ENCODING"),  # overlong
        (b'{"event_id":"\xed\xa0\x80"}', "INVALID_ENCODING"),  # a surrogate
        (b'{"event_id":"\xf4\x90\x80\x80"}', "INVALID_ENCODING"),  # above U+10FFFF
        (b'{"event_id":"\xf0\x9f\x98', "INVALID_ENCODING"),  # cut inside a character
        (b"not json, and \xff", "INVALID_ENCODING"),
        ("\ufeff{}".encode(), "INVALID_JSON"),
        (b"null", "INVALID_JSON"),
        (b"42", "INVALID_JSON"),
        (b'"text"', "INVALID_JSON"),
        (f"[{{{ID},{TIME}}}]".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME}}} xyz".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME}}}{{}}".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME}}}\0".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME}".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME},}}".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME},x:1}}".encode(), "INVALID_JSON"),
        (f"{{{ID},{TIME},'x':1}}".encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":NaN}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":01}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":1.}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":.5}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":+1}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":1e}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":-}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":tru}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":"a\tb"}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":"\\x"}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":"\\u12g4"}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":[1,2}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":[1 2]}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":[1,]}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":{{"y":[}}]}}'.encode(), "INVALID_JSON"),
        (f'{{{ID},{TIME},"x":{{"y"}}}}'.encode(), "INVALID_JSON"),
        (b"{}", "MISSING_FIELD"),
        (f"{{{ID}}}".encode(), "MISSING_FIELD"),
        (f"{{{TIME}}}".encode(), "MISSING_FIELD"),
        (f'{{"event_id":null,{TIME}}}'.encode(), "MISSING_FIELD"),
        (f'{{{ID},"event_time":null}}'.encode(), "MISSING_FIELD"),
        (f'{{"x":{{{ID}}},{TIME}}}'.encode(), "MISSING_FIELD"),
        (f'{{"Event_Id":"a",{TIME}}}'.encode(), "MISSING_FIELD"),
        (b'{"event_id":7}', "MISSING_FIELD"),  # the time is missing: that comes before what is wrong with the id
        (f'{{"event_id":7,{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":true,{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":["a"],{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":{{}},{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":"",{TIME}}}'.encode(), "INVALID_FIELD"),
        (event("x" * 129), "INVALID_FIELD"),
        (f'{{"event_id":"\\ud800",{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":"\\udc00\\ud800",{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{{ID},"event_id":"b",{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{{ID},"event_id":null,{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":null,{ID},{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{"event_id":null,"event_id":null,{TIME}}}'.encode(), "MISSING_FIELD"),
        (f'{{"event_id":"1","event_id":1,{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{{ID},{TIME},"event_time":"2026-01-31T23:59:59.0Z"}}'.encode(), "INVALID_FIELD"),
        (f'{{{ID},"event\\u005fid":"b",{TIME}}}'.encode(), "INVALID_FIELD"),
        (f'{{{ID},"event_time":1767225599}}'.encode(), "INVALID_FIELD"),
    ],
)
def test_what_cannot_be_placed_is_named(reader: Any, value: bytes | None, error_type: str) -> None:
    assert read(reader, value) == Refused(error_type)
    assert classify(value) == Refused(error_type)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-00-10T00:00:00Z", "2026-13-10T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
        "2026-01-31T24:00:00Z", "2026-01-31T23:60:00Z", "2026-01-31T23:59:60Z", "2026-01-31T23:59:61Z",
        "2026-01-31", "2026-01-31T23:59:59", "2026-01-31T23:59Z", "2026-01-31 23:59:59Z", "2026-01-31T23:59:59 Z",
        "2026-01-31T23:59:59.Z", "2026-01-31T23:59:59.1234567890Z", "2026-01-31T23:59:59,5Z", "2026-1-31T23:59:59Z",
        "2026-01-31T23:59:59+2:00", "2026-01-31T23:59:59+0200", "2026-01-31T23:59:59+02", "2026-01-31T23:59:59+24:00",
        "2026-01-31T23:59:59+02:60", "2026-01-31T23:59:59UTC", "2026-01-31T23:59:59Zz", " 2026-01-31T23:59:59Z",
        "+2026-01-31T23:59:59Z", "-026-01-31T23:59:59Z", "0000-12-31T23:59:59Z", "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01", "2026-01-31T23:59:59\u0660Z", "\u0662026-01-31T23:59:59Z", "yesterday", "",
    ],
)  # fmt: skip
def test_an_impossible_or_unreadable_time_is_an_invalid_field(reader: Any, text: str) -> None:
    assert read(reader, event(event_time=text)) == Refused("INVALID_FIELD")
    assert classify(event(event_time=text)) == Refused("INVALID_FIELD")


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T00:00:00.1Z", 100_000),
        ("1970-01-01T00:00:00.123456Z", 123_456),
        ("1970-01-01T00:00:00.123456999Z", 123_456),
        ("2024-02-29T12:00:00Z", 1_709_208_000_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("2026-06-30T23:59:59.5+23:59", 1_782_777_659_500_000),
    ],
)
def test_a_time_is_read_to_the_microsecond_whatever_its_offset(reader: Any, text: str, micros: int) -> None:
    assert read(reader, event(event_time=text)) == Placed("a", micros)
    assert classify(event(event_time=text)) == Placed("a", micros)


def test_every_day_of_a_leap_cycle_is_where_the_calendar_has_it(reader: Any) -> None:
    for year in (*range(1996, 2005), 1, 4, 100, 400, 1600, 1900, 2100, 9999):
        for month in range(1, 13):
            for day in (1, 28, 29, 30, 31):
                value = event(event_time=f"{year:04}-{month:02}-{day:02}T00:00:00Z")
                assert read(reader, value) == classify(value), value


@pytest.mark.parametrize(
    "event_id",
    ["x", "x" * 128, "ü" * 128, "\U0001f600" * 128, "\0", " ", "a\"b\\c/d\n\t", "e\u0301", "\u2028", "\uffff"],
)  # fmt: skip
def test_an_id_is_any_text_of_1_to_128_characters(reader: Any, event_id: str) -> None:
    for ascii_only in (True, False):
        value = json.dumps({"event_time": "2026-01-31T23:59:59Z", "event_id": event_id}, ensure_ascii=ascii_only)
        assert read(reader, value.encode()) == Placed(event_id, 1_769_903_999_000_000)
    assert read(reader, event(event_id + "y" * 128)) == Refused("INVALID_FIELD")


def test_names_and_times_may_be_escaped_and_spaced(reader: Any) -> None:
    value = (
        b' \t\r\n{ "event\\u005fid" : "\\u0061\\/\\ud83d\\ude00" , "\\u0065vent_time":"1970-01-01T00\\u003a00:00Z" } \n'
    )
    assert read(reader, value) == Placed("a/\U0001f600", 0) == classify(value)


def test_a_field_that_is_there_twice_alike_is_as_good_as_once(reader: Any) -> None:
    value = f'{{{ID},{ID},"event\\u005fid":"\\u0061",{TIME},{TIME}}}'.encode()
    assert read(reader, value) == Placed("a", 1_769_903_999_000_000) == classify(value)


def test_the_names_of_both_fields_are_options(jvm: Any) -> None:
    reader = jvm.dev.lakehouse.envelope.EnvelopeReader("größe", "ts")
    value = '{"größe":"a","ts":"1970-01-01T00:00:00Z","event_id":7}'.encode()
    assert read(reader, value) == Placed("a", 0)
    assert read(reader, event()) == Refused("MISSING_FIELD")


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_of_any_depth_is_only_text(reader: Any, opening: str) -> None:
    depth = 100_000
    closing = "".join("]" if letter == "[" else "}" for letter in reversed(opening) if letter in "[{")
    nested = opening * depth + "1" + closing * depth
    assert read(reader, f'{{{ID},"x":{nested},{TIME}}}'.encode()) == Placed("a", 1_769_903_999_000_000)
    assert read(reader, f'{{{ID},"x":{nested[:-1]},{TIME}}}'.encode()) == Refused("INVALID_JSON")
    assert read(reader, (opening * depth).encode()) == Refused("INVALID_JSON")


def test_a_value_of_ten_megabytes_is_read(reader: Any) -> None:
    filler = "x" * 10_000_000
    assert read(reader, f'{{"x":"{filler}",{ID},{TIME}}}'.encode()) == Placed("a", 1_769_903_999_000_000)
    assert read(reader, f'{{"x":"{filler}'.encode()) == Refused("INVALID_JSON")
    assert read(reader, event(filler)) == Refused("INVALID_FIELD")
    assert read(reader, event(event_time=filler)) == Refused("INVALID_FIELD")


def test_random_bytes_and_spoiled_events_are_read_as_an_independent_reader_does(reader: Any) -> None:
    chance = random.Random(20260131)
    seen: Counter[str] = Counter()
    for _ in range(12_000):
        value = _random_value(chance)
        expected = classify(value)
        assert read(reader, value) == expected, value
        seen[expected.error_type if isinstance(expected, Refused) else "placed"] += 1
    # The comparison means nothing unless each outcome has come up often.
    outcomes = ("placed", "INVALID_ENCODING", "INVALID_JSON", "MISSING_FIELD", "INVALID_FIELD")
    assert min(seen[outcome] for outcome in outcomes) > 300


def test_verify_judges_which_records_are_dead_letters_as_the_format_does(reader: Any, tmp_path: Path) -> None:
    settings = replace(settings_for("p", tmp_path, "127.0.0.1:1"), too_late="keep", future_tolerance_seconds=10**12)
    chance = random.Random(20260201)
    seen: Counter[str | None] = Counter()
    values = [_random_value(chance) for _ in range(8_000)]
    values += [event(event_time=_random_time(chance)) for _ in range(4_000)]
    for value in values:
        error = reader.read(value).errorType()
        expected = None if error is None else error.name()
        assert dead_letter_type(value, 0, settings) == expected, value
        seen[expected] += 1
    assert min(seen[outcome] for outcome in (None, "INVALID_ENCODING", "INVALID_JSON", "INVALID_FIELD")) > 300


def test_the_reference_traffic_is_read_as_its_sender_meant_it(reader: Any) -> None:
    traffic = Traffic(end_ms=1_769_900_000_000, events=4_000, malformed=0.3, unusual=0.3)
    kinds: set[str] = set()
    for record in records(traffic):
        intent, found = record.intent, read(reader, record.value)
        kinds.add(intent.kind)
        if intent.flaw is not None and found == Refused(intent.flaw):
            continue
        # Nesting is no flaw here, nor is a repeat of a field that bronze does not read.
        assert intent.flaw is None or intent.also_event, intent.kind
        assert found == Placed(intent.event_id, intent.event_time_us), intent.kind
    assert len(kinds) > 100


def _random_value(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.05:
        return chance.randbytes(chance.randrange(40))
    if kind < 0.1:
        return "".join(chance.choices('{}[]":,0123456789.eE+-truefalsn \\u', k=chance.randrange(30))).encode()
    value = _random_event(chance)
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        value = _spoiled(chance, value)
    return value


def _random_event(chance: random.Random) -> bytes:
    members: list[tuple[str, Any]] = [
        (_random_text(chance), _random_json(chance, 3)) for _ in range(chance.randrange(4))
    ]
    if chance.random() < 0.93:
        members.append(("event_id", _random_text(chance) if chance.random() < 0.9 else _random_json(chance, 1)))
    if chance.random() < 0.93:
        members.append(("event_time", _random_time(chance) if chance.random() < 0.95 else _random_json(chance, 1)))
    if chance.random() < 0.03:
        members.append(chance.choice(members or [("event_id", "a")]))
    chance.shuffle(members)
    space = chance.choice(["", " ", "\n\t"])
    as_ascii = chance.random() < 0.5
    written = (
        f"{json.dumps(name, ensure_ascii=as_ascii)}{space}:{space}{json.dumps(value, ensure_ascii=as_ascii)}"
        for name, value in members
    )
    return f"{space}{{{','.join(written)}{space}}}{space}".encode("utf-8", errors="surrogatepass")


def _random_text(chance: random.Random) -> str:
    letters = chance.choice(
        [string.ascii_letters, string.printable, "üß€\U0001f600\u0000\u2028", "\ud83d\ude00\udfff a"]
    )
    return "".join(chance.choices(letters, k=chance.choice([0, 1, 5, 20, 127, 128, 129])))


def _random_json(chance: random.Random, depth: int) -> Any:
    kinds = [None, True, False, chance.randrange(-10, 10**12), chance.uniform(-1e9, 1e300), _random_text(chance)]
    if depth:
        kinds += [
            [_random_json(chance, depth - 1) for _ in range(chance.randrange(4))],
            {_random_text(chance)[:5]: _random_json(chance, depth - 1) for _ in range(chance.randrange(4))},
        ]
    return chance.choice(kinds)


def _random_time(chance: random.Random) -> str:
    fraction = chance.choice(["", "." + "".join(chance.choices(string.digits, k=chance.randrange(11)))])
    offset = chance.choice(["Z", "z", f"{chance.choice('+-')}{chance.randrange(26):02}:{chance.randrange(62):02}"])
    return (
        f"{chance.choice([chance.randrange(10_000), 2026, 2024]):04}"
        f"-{chance.randrange(14):02}-{chance.randrange(33):02}"
        f"{chance.choice('TTTTTTt ')}{chance.randrange(25):02}:{chance.randrange(61):02}:{chance.randrange(62):02}"
        f"{fraction}{offset}"
    )


def _spoiled(chance: random.Random, value: bytes) -> bytes:
    if not value:
        return value
    at = chance.randrange(len(value))
    how = chance.randrange(5)
    if how == 0:
        return value[:at]
    if how == 1:
        return value[:at] + value[at + 1 :]
    if how == 2:
        return value[:at] + bytes([chance.randrange(256)]) + value[at + 1 :]
    if how == 3:
        return value[:at] + bytes([chance.choice(b'"\\{}[],:0 \x00')]) + value[at:]
    return value[:at] + value[at : at + 10] + value[at:]
