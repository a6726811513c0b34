"""What all types of the API are made of: the frozen base, rules in CEL and in Python, and the effect of a change."""

import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import override

Effect = Literal["none", "hot", "restart", "newState"]
"""What a change of a field does to what runs.

`none`: nothing. `hot`: it counts from the next decision or the next run on, and nothing is stopped. `restart`: the
stream is stopped with a recovery point and started again from it. `newState`: the stream's state belongs to the old
value, so the change is refused; a pipeline of another name can have the new one.
"""


@dataclass(frozen=True, slots=True)
class Rolls:
    """The effect of a change, and the stages whose earlier results keep the old definition until a backfill."""

    effect: Effect
    renews: tuple[Literal["silver", "gold"], ...] = ()


def rolls(effect: Effect, *renews: Literal["silver", "gold"]) -> Rolls:
    """Say in a field's annotation what its change does. Fields below it inherit this until they say otherwise."""
    return Rolls(effect, renews)


def rolls_of(info: FieldInfo) -> Rolls | None:
    """What a field itself says about its change."""
    return next((item for item in info.metadata if isinstance(item, Rolls)), None)


@dataclass(frozen=True, slots=True)
class Cel:
    """A rule that the API server checks, and `holds`, the same rule in Python, for where there is no server.

    A transition rule (one with `oldSelf`) has no `holds`: only the server knows the old object. `path` is where the
    problem is shown, relative to the type that carries the rule; `holds` sees the typed value.
    """

    rule: str
    message: str
    holds: Callable[[Any], bool] | None = None
    path: str = ""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _with_rules(handler(schema), (self,))

    def as_json(self) -> dict[str, str]:
        """The rule as it stands in a CRD."""
        field = {"fieldPath": f".{self.path}"} if self.path else {}
        return {"rule": self.rule, "message": self.message, **field}


def _with_rules(schema: JsonSchemaValue, rules: tuple[Cel, ...]) -> JsonSchemaValue:
    if not rules:
        return schema
    known = schema.get("x-kubernetes-validations", [])
    return {**schema, "x-kubernetes-validations": [*known, *(rule.as_json() for rule in rules)]}


@dataclass(frozen=True, slots=True)
class KeyedBy:
    """Marks a list whose items are told apart by a field: the API server refuses doubles and merges by it."""

    key: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}


class Part(BaseModel):
    """A frozen object of the API. JSON says `camelCase`, Python says `snake_case`; an unknown field is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )

    invariants: ClassVar[tuple[Cel, ...]] = ()
    """Rules that the object must keep as a whole."""

    @classmethod
    @override
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        target = handler.resolve_ref_schema(shown)
        target.update(_with_rules(dict(target), cls.invariants))
        return shown

    @classmethod
    def from_raw(cls, raw: object) -> Self:
        """Read a parsed JSON value as strictly as the API server does: no snake_case, no conversions.

        Raises:
            pydantic.ValidationError: It is not of that shape.
        """
        return cls.model_validate_json(json.dumps(raw, default=dict), strict=True, by_alias=True, by_name=False)

    def to_raw(self) -> dict[str, Any]:
        """The parsed JSON value: camelCase, without fields that are not set and without empty lists."""
        raw: dict[str, Any] = _without_empty_lists(self.model_dump(mode="json", by_alias=True, exclude_none=True))
        return raw


def _without_empty_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty_lists(item) for key, item in value.items() if item != []}
    if isinstance(value, list):
        return [_without_empty_lists(item) for item in value]
    return value


def model_of(info: FieldInfo) -> type[BaseModel] | None:
    """The type of the object, or of the list's objects, that a field holds."""
    return _model_in(info.annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


class StatusPart(Part):
    """A frozen object of a status. A field that only a newer operator knows is ignored."""

    model_config = ConfigDict(extra="ignore")


def broken_rules(part: BaseModel, path: str = "") -> Iterator[tuple[str, Cel]]:
    """Every rule that does not hold in `part` or below it, with the path of where it is shown."""
    for rule in getattr(part, "invariants", ()):
        if rule.holds is not None and not rule.holds(part):
            yield _join(path, rule.path), rule
    for name, info in type(part).model_fields.items():
        where = _join(path, info.alias or name)
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield from broken_rules(value, where)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from broken_rules(item, f"{where}[{index}]")


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)
