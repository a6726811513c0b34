"""What bronze makes of a payload, by the rules of its own format (`jobs/envelope-format`).

Only for telling what a record is that bronze does not hold. A repeat has an id: there nobody asks whether the record is
too late or lies in the future, because the settings that decide it may have been others when it came. Whether it should
have been a dead letter is judged by the settings of today.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from lakehouse_contract.settings import BronzeSettings, EventSettings

_LONGEST_ID = 128
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\r\n"{}\[\],:]+)', re.DOTALL)
_ABSENT, _CONTRADICTORY = object(), object()
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_id(payload: bytes | None, event: EventSettings) -> str | None:
    """The id of a record that can be placed; None where there is no id, or no time beside it, that can be read."""
    if payload is None:
        return None
    try:
        found, time = _members(payload.decode(), (event.id_field, event.time_field))
    except ValueError:  # also what is not UTF-8
        return None
    return found if isinstance(found, str) and _is_id(found) and isinstance(time, str) else None


def dead_letter_type(payload: bytes | None, arrived_ms: int, settings: BronzeSettings) -> str | None:
    """Why bronze sends a record to the dead letters; None if it belongs into the table.

    Args:
        payload: The record's value.
        arrived_ms: Its Kafka timestamp.
        settings: By which it is judged.
    """
    if payload is None:
        return "NULL_PAYLOAD"
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return "INVALID_ENCODING"
    try:
        found, time = _members(text, (settings.event.id_field, settings.event.time_field))
    except ValueError:
        return "INVALID_JSON"
    if any(member is _ABSENT or member is None for member in (found, time)):
        return "MISSING_FIELD"
    happened = _micros(time) if isinstance(time, str) else None
    if not isinstance(found, str) or not _is_id(found) or happened is None:
        return "INVALID_FIELD"
    return _by_time(happened, 1000 * arrived_ms, settings)


def _by_time(happened: int, arrived: int, settings: BronzeSettings) -> str | None:
    if happened - 1_000_000 * settings.future_tolerance_seconds > arrived:
        return "FUTURE_EVENT_TIME"
    latest = happened + 1_000_000 * (settings.watermark_delay_seconds + settings.allowed_lateness_seconds)
    return "TOO_LATE" if settings.too_late == "deadLetter" and arrived > latest else None


def _is_id(text: str) -> bool:
    return 1 <= len(text) <= _LONGEST_ID and not _SURROGATE.search(text)


def _micros(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time; None for one that can't be read or lies outside the years 1-9999."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    offset = match["offset"]
    hours, minutes = (int(offset[1:3]), int(offset[4:])) if len(offset) > 1 else (0, 0)
    if hours > 23 or minutes > 59:
        return None
    ahead = timedelta(hours=hours, minutes=minutes)
    try:
        local = datetime.fromisoformat(f"{match['day']}T{match['time']}")
        moment = local.replace(tzinfo=timezone(-ahead if offset[0] == "-" else ahead)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) + int((match["fraction"] or "").ljust(6, "0")[:6])


def _members(text: str, names: tuple[str, ...]) -> Iterable[Any]:
    """The values of members at the top.

    Raises:
        ValueError: It is not one JSON object.
    """
    try:
        read = json.loads(text, object_pairs_hook=_Pairs, parse_int=float, parse_constant=_refuse)
    except RecursionError:  # bronze takes any depth
        read = _shallow(text)
    if not isinstance(read, _Pairs):
        raise ValueError("not an object")
    return [_only(read, name) for name in names]


class _Pairs(list[tuple[str, Any]]):
    """An object's members, with those that are there twice."""


def _only(pairs: _Pairs, name: str) -> object:
    """A member that is there twice counts if it says the same both times."""
    values = [value for key, value in pairs if key == name]
    return (values[0] if all(value == values[0] for value in values) else _CONTRADICTORY) if values else _ABSENT


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _shallow(text: str) -> _Pairs:
    """The members at the top whose values are strings, of an object of any depth; what lies deeper is not checked."""
    pairs, depth, before = _Pairs(), 0, ("", "")
    for match in _TOKEN.finditer(text):
        part = match[1]
        depth += (part in "{[") - (part in "}]")
        if depth == 1 and part[0] == '"' and before[1] == ":":
            pairs.append((json.loads(before[0]), json.loads(part)))
        before = (before[1], part)
    return pairs
