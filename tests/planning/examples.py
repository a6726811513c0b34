"""The pipelines of `examples/`, to be validated whole or with one thing changed."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from lakehouse_operator.documents import config_maps, load_documents
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import validate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@cache
def _documents(name: str) -> tuple[dict[str, Any], ...]:
    return load_documents(EXAMPLES / f"{name}.yaml")


def names() -> list[str]:
    """The examples, without their endings."""
    return sorted(file.stem for file in EXAMPLES.glob("*.yaml"))


def raw(name: str) -> dict[str, Any]:
    """A LakehousePipeline as it stands in its file, to do with as you like."""
    found = [document for document in _documents(name) if document["kind"] == "LakehousePipeline"]
    return copy.deepcopy(found[0])


def maps(name: str) -> dict[str, dict[str, str]]:
    """The ConfigMaps in the same file."""
    return config_maps(_documents(name))


def changed(name: str, /, **changes: Any) -> dict[str, Any]:
    """An example with some fields replaced: `spec__bronze__parallelism=2`. A value of `...` takes the field out."""
    pipeline = raw(name)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = pipeline
        for step in parents:
            node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
        key = int(last) if isinstance(node, list) else last
        if value is ...:
            del node[key]
        elif isinstance(node, list) and key == len(node):
            node.append(value)
        else:
            node[key] = value
    return pipeline


def valid(pipeline: dict[str, Any] | str, **changes: Any) -> ValidPipeline:
    """An example (by name, with changes) or a raw object, validated."""
    name = pipeline if isinstance(pipeline, str) else None
    read = validate(changed(name, **changes) if name else pipeline, maps(name) if name else {})
    assert isinstance(read, ValidPipeline), str(read)
    return read


def problems(pipeline: dict[str, Any], **known: Any) -> list[str]:
    """What is wrong with a raw object, one sentence each; it must be refused."""
    read = validate(pipeline, **known)
    assert isinstance(read, Problems), "it was accepted"
    return [str(problem) for problem in read.problems]
