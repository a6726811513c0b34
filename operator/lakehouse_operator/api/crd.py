"""From the types to the CustomResourceDefinitions in `crds/` and the reference page.

python -m lakehouse_operator.api.crd --write     # after a change of the types
python -m lakehouse_operator.api.crd --check     # are the files what the types say?
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakehouse_operator.api import GROUP, VERSION
from lakehouse_operator.api.backfill import LakehouseBackfill
from lakehouse_operator.api.parts import Part
from lakehouse_operator.api.pipeline import LakehousePipeline
from lakehouse_operator.api.reference_page import page
from lakehouse_operator.api.run import LakehouseRun

_WRITTEN = (
    "# Written by `python -m lakehouse_operator.api.crd --write` from operator/lakehouse_operator/api. Do not edit.\n"
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; with `wide` only in `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def as_json(self) -> dict[str, Any]:
        """The column as it stands in a CRD."""
        priority = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, **priority}


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind and how it is shown."""

    model: type[Part]
    plural: str
    short: str
    columns: tuple[Column, ...]

    @property
    def kind(self) -> str:
        """The kind's name."""
        return self.model.__name__

    @property
    def file(self) -> str:
        """The file that the CRD is kept in."""
        return f"{self.plural}.{GROUP}.yaml"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


RESOURCES = (
    Resource(
        LakehousePipeline,
        "lakehousepipelines",
        "lhp",
        (
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            Column("Stream", ".status.stream.state"),
            Column("Silver through", ".status.layers.silver.completedThrough"),
            Column("Gold through", ".status.layers.gold.completedThrough"),
            Column("Image", ".status.stream.image", wide=True),
            Column("Revision", ".status.stream.revision", wide=True),
            Column("Message", _condition("Ready", "message"), wide=True),
            _AGE,
        ),
    ),
    Resource(
        LakehouseRun,
        "lakehouseruns",
        "lhr",
        (
            Column("Pipeline", ".spec.pipelineRef.name"),
            Column("Stage", ".spec.stage"),
            Column("Interval", ".spec.dataInterval.start"),
            Column("Day", ".spec.days.first"),
            Column("Phase", ".status.phase"),
            Column("Reason", ".spec.reason", wide=True),
            Column("Started because", ".status.startedBecause", wide=True),
            Column("Revision", ".spec.revision", wide=True),
            Column("Finished", ".status.finishedAt", "date"),
            _AGE,
        ),
    ),
    Resource(
        LakehouseBackfill,
        "lakehousebackfills",
        "lhb",
        (
            Column("Pipeline", ".spec.pipelineRef.name"),
            Column("First", ".spec.range.first"),
            Column("Last", ".spec.range.last"),
            Column("Phase", ".status.phase"),
            Column("Done", ".status.counts.succeeded", "integer"),
            Column("Failed", ".status.counts.failed", "integer"),
            Column("Runs", ".status.counts.total", "integer"),
            Column("Message", ".status.message", wide=True),
            _AGE,
        ),
    ),
)


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition of a resource."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short],
                "categories": ["lakehouse"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema(resource.model)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.as_json() for column in resource.columns],
                }
            ],
        },
    }


def schema(model: type[Part]) -> dict[str, Any]:
    """The structural schema of a whole object. What Kubernetes itself says about the head is left to it."""
    raw = model.model_json_schema(by_alias=True)
    whole = _structural(raw, raw.get("$defs", {}))
    for name in ("apiVersion", "kind"):
        whole["properties"][name] = {"type": "string"}
    whole["properties"]["metadata"] = {"type": "object", "properties": {"name": {"type": "string"}}}
    whole["required"] = ["spec"]
    # With defaults the server would store another status than was written, and it would be written again and again.
    whole["properties"]["status"] = _without_defaults(whole["properties"]["status"])
    return whole


def _without_defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in node.items() if name != "default"}
    if "properties" in node:
        found["properties"] = {name: _without_defaults(child) for name, child in node["properties"].items()}
    if "items" in node:
        found["items"] = _without_defaults(node["items"])
    return found


_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
# additionalProperties: false is what structural schemas mean anyway: the server drops or refuses what is not named.
_DROPPED = frozenset({"title", "additionalProperties", "$defs"})


def _structural(node: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema node without references, unions, titles and constants, as a structural schema wants it.

    Raises:
        ValueError: It holds something that a structural schema can't say, or that this function does not know.
    """
    node = _merged(node, shared)
    if unknown := set(node) - {*_KEPT, *_DROPPED, "properties", "items", "default", "const"}:
        raise ValueError(f"a structural schema can't say {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {name: node[name] for name in _KEPT if name in node}
    if "const" in node:
        found["enum"] = [node["const"]]
    if "properties" in node:
        found["properties"] = {name: _structural(child, shared) for name, child in node["properties"].items()}
    if "items" in node:
        found["items"] = _structural(node["items"], shared)
    extra = node.get("additionalProperties")
    if isinstance(extra, Mapping):
        found["additionalProperties"] = _structural(extra, shared)
    if found.get("type") == "integer":
        found["format"] = "int64"
    return {**found, **_default(node, found)}


def _merged(node: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The node with its reference, or the one option besides null, in its place. What stands beside it wins."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        inner = options[0]
    elif "$ref" in node:
        inner = shared[node["$ref"].rpartition("/")[2]]
    else:
        return dict(node)
    outside = {name: value for name, value in node.items() if name not in ("anyOf", "$ref")}
    inside = _merged(inner, shared)
    rules = [*inside.get("x-kubernetes-validations", ()), *outside.get("x-kubernetes-validations", ())]
    return {**inside, **outside, **({"x-kubernetes-validations": rules} if rules else {})}


def _default(node: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The default. A group whose fields all have one defaults to {}, and the server fills in the rest."""
    default = node.get("default")
    if default is None or default == []:
        return {}
    return {"default": {} if "properties" in found else default}


def text(resource: Resource) -> str:
    """The CRD as it is kept in `crds/`."""
    return _WRITTEN + yaml.safe_dump(definition(resource), sort_keys=False, width=120, allow_unicode=True)


def files() -> dict[str, str]:
    """Everything that is generated: path from the repository's root -> text."""
    crds = {f"crds/{resource.file}": text(resource) for resource in RESOURCES}
    return {**crds, "docs/reference/api.md": page()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or tell which of them are not what the types say. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse_operator.api.crd", description=__doc__)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--write", action="store_true", help="write the files")
    wanted.add_argument("--check", action="store_true", help="compare the files")
    parser.add_argument("--root", type=Path, default=Path(), help="the root of the repository")
    options = parser.parse_args(arguments)
    if options.write:
        for path, content in files().items():
            target = options.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        return 0
    stale = [path for path, content in files().items() if not _is(options.root / path, content)]
    for path in stale:
        print(f"{path} is not what the types say; run: python -m lakehouse_operator.api.crd --write", file=sys.stderr)
    return 1 if stale else 0


def _is(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == content


if __name__ == "__main__":
    sys.exit(main())
