"""Strict JSON for frozen dataclasses: the one way settings travel from the operator to a job.

JSON says `camelCase`, Python says `snake_case`. A field that nobody declared, or that is missing, or has the wrong type
or value, is refused, and every problem is reported at once with the path of the field in the user's spelling.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Check = Callable[[Any], str | None]
"""Looks at a decoded value; answers what is wrong with it in a short clause, or None."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `path` names the field as the user wrote it, `message` says what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SettingsRefused(ValueError):
    """The settings can't be used; `problems` holds everything that is wrong with them, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


def checked(check: Check, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field whose decoded value must also pass `check`."""
    return dataclasses.field(default=default, metadata={"check": check})


def from_json(kind: type[T], text: str) -> T:
    """Read `text` as the dataclass `kind`.

    Raises:
        SettingsRefused: The text is not JSON, or not of that shape.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise SettingsRefused((Problem("", f"the settings are not JSON: {error}"),)) from None
    return decode(kind, raw)


def decode(kind: type[T], raw: object) -> T:
    """Read the parsed JSON value `raw` as the dataclass `kind`.

    Raises:
        SettingsRefused: A field is unknown, missing, or wrong.
    """
    problems: list[Problem] = []
    value = _decode(kind, raw, "", problems)
    if problems:
        raise SettingsRefused(tuple(problems))
    return typing.cast("T", value)


def to_json(value: object) -> str:
    """Write a dataclass as one line of JSON: keys sorted, fields that hold their default left out.

    Equal values give equal text, so the text can be hashed to tell whether a definition changed.
    """
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def encode(value: object) -> Any:
    """The JSON value of a dataclass, tuple, mapping or scalar; see `to_json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            camel(field.name): encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != _default(field)
        }
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return value


def _default(field: "dataclasses.Field[Any]") -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def camel(name: str) -> str:
    """`watermark_delay_seconds` -> `watermarkDelaySeconds`."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _decode(kind: Any, raw: object, path: str, problems: list[Problem]) -> object:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast("type", kind), raw, path, problems)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(kind, raw, path, problems)
    if origin is tuple:
        return _decode_list(typing.get_args(kind)[0], raw, path, problems)
    if origin in (dict, Mapping):
        return _decode_mapping(raw, path, problems)
    if origin is typing.Literal:
        return _decode_choice(typing.get_args(kind), raw, path, problems)
    return _decode_scalar(kind, raw, path, problems)


def _decode_dataclass(kind: type, raw: object, path: str, problems: list[Problem]) -> object:
    if not isinstance(raw, Mapping):
        return _refuse(problems, path, f"must be an object, not {_shown(raw)}")
    hints = typing.get_type_hints(kind)
    fields = {camel(field.name): field for field in dataclasses.fields(kind)}
    problems += [
        Problem(_join(path, str(key)), f"unknown field; known here: {', '.join(sorted(fields))}")
        for key in raw
        if key not in fields
    ]
    values: dict[str, object] = {}
    before = len(problems)
    for key, field in fields.items():
        where = _join(path, key)
        if key in raw:
            found = len(problems)
            values[field.name] = _decode(hints[field.name], raw[key], where, problems)
            check: Check | None = field.metadata.get("check")
            if len(problems) == found and check and (wrong := check(values[field.name])):
                problems.append(Problem(where, wrong))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(Problem(where, "is required"))
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except SettingsRefused as refused:  # what only the whole object can tell, from its __post_init__
        problems += [Problem(_join(path, problem.path), problem.message) for problem in refused.problems]
        return None


def _decode_optional(kind: Any, raw: object, path: str, problems: list[Problem]) -> object:
    kinds = [option for option in typing.get_args(kind) if option is not type(None)]
    if raw is None and len(kinds) < len(typing.get_args(kind)):
        return None
    return _decode(kinds[0], raw, path, problems)


def _decode_list(kind: Any, raw: object, path: str, problems: list[Problem]) -> object:
    if not isinstance(raw, (list, tuple)):
        return _refuse(problems, path, f"must be a list, not {_shown(raw)}")
    return tuple(_decode(kind, item, f"{path}[{index}]", problems) for index, item in enumerate(raw))


def _decode_mapping(raw: object, path: str, problems: list[Problem]) -> object:
    if not isinstance(raw, Mapping):
        return _refuse(problems, path, f"must be an object, not {_shown(raw)}")
    for key, value in raw.items():
        if not isinstance(value, str):
            _refuse(problems, _join(path, str(key)), f"must be a string, not {_shown(value)}")
    return types.MappingProxyType({str(key): str(value) for key, value in raw.items()})


def _decode_choice(allowed: tuple[str, ...], raw: object, path: str, problems: list[Problem]) -> object:
    if isinstance(raw, str) and raw in allowed:
        return raw
    return _refuse(problems, path, f"must be one of {', '.join(allowed)}, not {_shown(raw)}")


def _decode_scalar(kind: type, raw: object, path: str, problems: list[Problem]) -> object:
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    fits = isinstance(raw, kind) and not (kind is int and isinstance(raw, bool))
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    return raw if fits else _refuse(problems, path, f"must be {names[kind]}, not {_shown(raw)}")


def _refuse(problems: list[Problem], path: str, message: str) -> object:
    problems.append(Problem(path, message))
    return None


def _join(path: str, key: str) -> str:
    return ".".join(part for part in (path, key) if part)


def _shown(raw: object) -> str:
    text = json.dumps(raw, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def matches(pattern: str, meaning: str) -> Check:
    """A check: the whole string matches `pattern`; `meaning` says in words what is allowed."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str | None:
        if value is None or compiled.fullmatch(value):
            return None
        return f"{_shown(value)} is not {meaning}"

    return check


def at_least(low: int) -> Check:
    """A check: the number is not below `low`."""

    def check(value: Any) -> str | None:
        return None if value is None or value >= low else f"must be at least {low}, not {value}"

    return check


def not_empty(value: Any) -> str | None:
    """A check: the text or list has something in it."""
    return None if value else "must not be empty"
