"""Is it an object of the API at all? Every problem with its path, in the user's words; nothing about what it means."""

import difflib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lakehouse_contract.decoding import Problem
from lakehouse_operator.api.parts import Part, broken_rules, model_of
from lakehouse_operator.planning.pipeline import Problems

P = TypeVar("P", bound=Part)

_TYPES: Mapping[str, str] = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "an object",
    "mapping_type": "an object",
    "dict_type": "an object",
}


def read(kind: type[P], raw: object) -> P | Problems:
    """Read a parsed JSON value as an object of the API, as strictly as the API server does.

    As on the server, a null is as good as leaving the field out. Rules over several fields are looked at when each
    field is sound.
    """
    pruned = _without_nulls(raw)
    try:
        part = kind.from_raw(pruned)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        return Problems(tuple(_problem(kind, detail) for detail in details if not _follows(detail, details)))
    broken = tuple(Problem(path, rule.message) for path, rule in broken_rules(part))
    return Problems(broken) if broken else part


def _without_nulls(raw: object) -> object:
    if isinstance(raw, Mapping):
        return {key: _without_nulls(value) for key, value in raw.items() if value is not None}
    if isinstance(raw, (list, tuple)):
        return [_without_nulls(item) for item in raw]
    return raw


def _follows(detail: ErrorDetails, others: list[ErrorDetails]) -> bool:
    """Whether a list is called too short only because an item of it is wrong."""
    length = len(detail["loc"])
    below = (other for other in others if len(other["loc"]) > length)
    return detail["type"] == "too_short" and any(other["loc"][:length] == detail["loc"] for other in below)


def _problem(kind: type[BaseModel], detail: ErrorDetails) -> Problem:
    error, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    messages: Mapping[str, Callable[[], str]] = {
        "missing": lambda: "is required",
        "extra_forbidden": lambda: _unknown_field(kind, detail["loc"]),
        "literal_error": lambda: f"must be one of {_choices(context['expected'])}, not {_shown(given)}",
        "greater_than_equal": lambda: f"must be at least {context['ge']:g}, not {given}",
        "less_than_equal": lambda: f"must be at most {context['le']:g}, not {given}",
        "too_short": lambda: f"must have at least {context['min_length']} items",
        "too_long": lambda: f"must have at most {context['max_length']} items, not {context['actual_length']}",
    }
    if error in messages:
        message = messages[error]()
    elif error in _TYPES:
        message = f"must be {_TYPES[error]}, not {_shown(given)}"
    else:
        message = detail["msg"]
    return Problem(_path(detail["loc"]), message)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if step == "[key]":
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _choices(expected: str) -> str:
    return expected.replace("'", "").replace(" or ", ", ")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_field(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    parent: type[BaseModel] | None = kind
    for step in location[:-1]:
        parent = _model_below(parent, step) if parent else None
    if parent is None:
        return "unknown field"
    known = [info.alias or name for name, info in parent.model_fields.items()]
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.75)
    return f"unknown field; did you mean {near[0]}?" if near else f"unknown field; known here: {', '.join(known)}"


def _model_below(parent: type[BaseModel], step: int | str) -> type[BaseModel] | None:
    if isinstance(step, int):
        return parent  # an item of a list: the list's field already led to the item's type
    info = next((info for name, info in parent.model_fields.items() if step == (info.alias or name)), None)
    return model_of(info) if info else None
