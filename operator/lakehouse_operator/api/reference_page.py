"""The reference page of the API, field by field, from the types."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lakehouse_operator.api import API_VERSION
from lakehouse_operator.api.backfill import LakehouseBackfill
from lakehouse_operator.api.parts import Part, Rolls, model_of, rolls_of
from lakehouse_operator.api.pipeline import LakehousePipeline
from lakehouse_operator.api.run import LakehouseRun

_HEAD = f"""\
<!-- Written by `python -m lakehouse_operator.api.crd --write` from operator/lakehouse_operator/api. Do not edit. -->
# The API, field by field

Group and version: `{API_VERSION}`. `kubectl explain lhp.spec.bronze --recursive` shows the same on a cluster.

What a change of a field does:

| change | what happens |
|---|---|
| none | nothing |
| hot | it counts from the next decision or the next run on; nothing is stopped |
| restart | the stream is stopped with a recovery point and started again from it |
| newState | refused: the stream's state belongs to the old value; a pipeline of another name can have the new one |

*renews silver* (or *gold*): days that were computed before keep the old definition until a backfill renews them; status
and `explain` say which.

Durations are written like `30s`, `5m`, `1h30m` or `7d`, memory like `1536Mi` or `4Gi`, CPUs as a number. A null is as
good as leaving a field out.
"""


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD]
    for kind in (LakehousePipeline, LakehouseRun, LakehouseBackfill):
        parts += [f"## {kind.__name__}", "", _doc(kind), ""]
        parts += _rules(kind)
        spec, status = kind.model_fields["spec"], kind.model_fields["status"]
        parts += list(_section(_model(spec), "spec", None, effects=kind is LakehousePipeline))
        parts += list(_section(_model(status), "status", None, effects=False))
    return "\n".join(parts).rstrip() + "\n"


def _model(info: FieldInfo) -> type[BaseModel]:
    found = model_of(info)
    if found is None:
        raise TypeError(info)
    return found


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _rules(model: type[BaseModel]) -> list[str]:
    rules = model.invariants if issubclass(model, Part) else ()
    return [*(f"- {rule.message}" for rule in rules), ""] if rules else []


def _section(model: type[BaseModel], path: str, above: Rolls | None, *, effects: bool) -> Iterator[str]:
    """A table of the fields of one object, then a section for each object below it."""
    yield from (f"### {path}", "", _doc(model), "")
    yield from _rules(model)
    yield "| field | type | default | change | meaning |" if effects else "| field | type | meaning |"
    yield "|---|---|---|---|---|" if effects else "|---|---|---|"
    rows = model.model_json_schema(by_alias=True)
    for name, info in model.model_fields.items():
        key = info.alias or name
        kind = _type(rows["properties"][key], rows.get("$defs", {}))
        cells = [f"`{key}`", kind, _meaning(info)]
        if effects:
            cells[2:2] = [_default(info), _effect(rolls_of(info) or above)]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for name, info in model.model_fields.items():
        below = model_of(info)
        if below is not None:
            suffix = "[]" if _is_list(info) else ""
            yield from _section(below, f"{path}.{info.alias or name}{suffix}", rolls_of(info) or above, effects=effects)


def _is_list(info: FieldInfo) -> bool:
    return "tuple[" in str(info.annotation)


def _meaning(info: FieldInfo) -> str:
    return " ".join((info.description or "").split())


def _effect(rolls: Rolls | None) -> str:
    if rolls is None:
        return ""
    return rolls.effect + (f", renews {' and '.join(rolls.renews)}" if rolls.renews else "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    default = info.get_default(call_default_factory=True, validated_data={})
    if default in (None, PydanticUndefined, (), {}) or isinstance(default, Part):
        return ""
    return f"`{json.dumps(default).strip(chr(34))}`"


def _type(node: dict[str, Any], shared: dict[str, Any]) -> str:
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        return _type(options[0], shared)
    if "$ref" in node:
        return "object"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        return f"list of {_type(node['items'], shared)}"
    if node.get("type") == "object":
        return "map of strings"
    return str(node.get("type", "object"))
