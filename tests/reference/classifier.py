"""A slow, strict second opinion about a record, from its bytes alone: json, RFC 3339 by hand, JSON Schema."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import roman

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "examples" / "conversion-event.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
CUMULATED = [sum(DAYS[:month]) for month in range(12)]


@dataclass(frozen=True)
class Opinion:
    """`outcome`: `event` or an error type. `silver`: valid or quarantine, of events."""

    outcome: str
    late: bool = False
    silver: str | None = None
    event: dict[str, Any] | None = None


class Refused(Exception):
    pass


def classify(value: bytes | None, kafka_timestamp_ms: int) -> Opinion:  # noqa: PLR0911
    if value is None:
        return Opinion("NULL_PAYLOAD")
    try:
        text = value.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        return Opinion("INVALID_ENCODING")
    try:
        event = strict_json(text)
    except (ValueError, RecursionError, Refused):
        return Opinion("INVALID_JSON")
    if not isinstance(event, dict):
        return Opinion("INVALID_JSON")
    if event.get("event_id") is None or event.get("event_time") is None:
        return Opinion("MISSING_FIELD")
    if not isinstance(event["event_id"], str) or not 1 <= len(event["event_id"]) <= 128:
        return Opinion("INVALID_FIELD")
    try:
        happened = rfc3339_seconds(event["event_time"])
    except Refused:
        return Opinion("INVALID_FIELD")
    delay = Fraction(kafka_timestamp_ms, 1000) - happened
    if delay < -300:
        return Opinion("FUTURE_EVENT_TIME")
    if delay > 3900:
        return Opinion("TOO_LATE", late=True)
    return Opinion("event", delay > 300, "valid" if is_valid(event) else "quarantine", event)


def is_valid(event: dict[str, Any]) -> bool:
    if not VALIDATOR.is_valid(event):
        return False
    return bool(event["status"] != "OK" or roman.toRoman(int(event["input_number"])) == event["output_numeral"])


def strict_json(text: str) -> Any:
    def refuse(token: str) -> Any:
        raise Refused(token)

    def unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found and found[name] != value:
                raise Refused(f"two values of {name}")
            found[name] = value
        return found

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unlike, strict=True)


def rfc3339_seconds(text: Any) -> Fraction:
    """Seconds since 1970 of an RFC 3339 date-time, by its grammar and the calendar; no leap second is among them."""
    if not isinstance(text, str):
        raise Refused("not a string")
    digits = _Digits(text)
    year = digits.take(4)
    digits.expect("-")
    month = digits.take(2)
    digits.expect("-")
    day = digits.take(2)
    digits.expect("Tt")
    hour = digits.take(2)
    digits.expect(":")
    minute = digits.take(2)
    digits.expect(":")
    second = digits.take(2)
    fraction = Fraction(0)
    if digits.peek() == ".":
        digits.expect(".")
        run = digits.run()
        if not 1 <= len(run) <= 9:
            raise Refused("fraction")
        fraction = Fraction(int(run), 10 ** len(run))
    zone = digits.expect("Zz+-")
    offset = 0
    if zone in "+-":
        hours = digits.take(2)
        digits.expect(":")
        minutes = digits.take(2)
        if hours > 23 or minutes > 59:
            raise Refused("offset")
        offset = (hours * 60 + minutes) * (60 if zone == "+" else -60)
    if digits.peek():
        raise Refused("more")
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= DAYS[month - 1] + (leap and month == 2):
        raise Refused("no such day")
    if hour > 23 or minute > 59 or second > 59:
        raise Refused("no such time")
    before = year - 1
    days = (
        before * 365
        + before // 4
        - before // 100
        + before // 400
        + CUMULATED[month - 1]
        + (leap and month > 2)
        + day
        - 1
    )
    return ((days - 719_162) * 86_400 + hour * 3600 + minute * 60 + second - offset) + fraction


class _Digits:
    def __init__(self, text: str) -> None:
        self.text = text

    def peek(self) -> str:
        return self.text[:1]

    def expect(self, allowed: str) -> str:
        found, self.text = self.text[:1], self.text[1:]
        if not found or found not in allowed:
            raise Refused(f"{allowed} expected")
        return found

    def run(self) -> str:
        length = next((at for at, digit in enumerate(self.text) if digit not in "0123456789"), len(self.text))
        found, self.text = self.text[:length], self.text[length:]
        return found

    def take(self, count: int) -> int:
        found, self.text = self.text[:count], self.text[count:]
        if len(found) != count or any(digit not in "0123456789" for digit in found):
            raise Refused("digits expected")
        return int(found)
