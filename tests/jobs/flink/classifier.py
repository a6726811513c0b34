"""An independent reading of the event format: which bytes can be placed, and why others can't.

It shares nothing with the job: Python's own JSON reader, a regular expression for RFC 3339, and Python's calendar.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Placed:
    event_id: str
    micros: int


@dataclass(frozen=True)
class Refused:
    error_type: str


class _Members(list):
    """The members of an object, in order, repeats included."""


def classify(value: bytes | None, id_field: str = "event_id", time_field: str = "event_time") -> Placed | Refused:  # noqa: PLR0911
    if value is None:
        return Refused("NULL_PAYLOAD")
    try:
        text = value.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        return Refused("INVALID_ENCODING")
    try:
        document = json.loads(
            text, object_pairs_hook=_Members, parse_constant=_refuse, parse_int=_Number, parse_float=_Number
        )
    except ValueError:
        return Refused("INVALID_JSON")
    if not isinstance(document, _Members):
        return Refused("INVALID_JSON")
    found = [_distinct(value for name, value in document if name == field) for field in (id_field, time_field)]
    if any(values in ([], [None]) for values in found):
        return Refused("MISSING_FIELD")
    (event_id, *more_ids), (event_time, *more_times) = found
    if more_ids or more_times or type(event_id) is not str or type(event_time) is not str:
        return Refused("INVALID_FIELD")
    micros = _micros(event_time)
    if not 1 <= len(event_id) <= 128 or re.search("[\ud800-\udfff]", event_id) or micros is None:
        return Refused("INVALID_FIELD")
    return Placed(event_id, micros)


class _Number(str):
    """A number as it is written: Python's own would be cut, or refused for its length."""

    __slots__ = ()


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repeats; a number is never the same as a string."""
    found: list[Any] = []
    for value in values:
        if not any(type(value) is type(other) and value == other for other in found):
            found.append(value)
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _micros(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    *numbers, fraction, _, sign, hours, minutes = match.groups()
    micro = int(((fraction or "") + "000000")[:6])
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(hours=24) or int(minutes or 0) > 59:
        return None
    try:
        zone = timezone(-offset if sign == "-" else offset)
        instant = datetime(*map(int, numbers), micro, tzinfo=zone)  # type: ignore[arg-type]
        return (instant.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
