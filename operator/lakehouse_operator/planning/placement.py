"""The id that bronze reads out of a payload, by the rules of its own format (`jobs/envelope-format`).

Only for telling what a record is that bronze does not hold: a repeat has an id. What is too late or lies in the future
is not asked here, because the settings that decide it may have been others when the record came.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from lakehouse_contract.settings import EventSettings

_LONGEST_ID = 128
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\r\n"{}\[\],:]+)', re.DOTALL)
_ABSENT, _CONTRADICTORY = object(), object()


def event_id(payload: bytes | None, event: EventSettings) -> str | None:
    """The id of a record that can be placed; None where there is no id, or no time beside it, that can be read."""
    if payload is None:
        return None
    try:
        found, time = _members(payload.decode(), (event.id_field, event.time_field))
    except ValueError:  # also what is not UTF-8
        return None
    usable = isinstance(found, str) and 1 <= len(found) <= _LONGEST_ID and not _SURROGATE.search(found)
    return found if usable and isinstance(time, str) else None


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
