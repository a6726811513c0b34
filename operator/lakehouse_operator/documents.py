"""YAML files as the API server would read them: JSON's types only, nothing said twice."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class DocumentsRefused(ValueError):
    """The text is not YAML, says something twice, or holds something that is not a Kubernetes object."""


class _JsonTypes(yaml.SafeLoader):
    """YAML with JSON's types: a day stays a string, as it does in kubectl."""


_JsonTypes.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _JsonTypes, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not a string", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_JsonTypes.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_documents(source: Path | str) -> tuple[dict[str, Any], ...]:
    """All objects of a file (a `Path`) or of a text (a `str`), in order. Empty documents are left out.

    Raises:
        DocumentsRefused: It can't be read as Kubernetes objects; the message says where.
    """
    where = f"{source}: " if isinstance(source, Path) else ""
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        found = [document for document in yaml.load_all(text, _JsonTypes) if document is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DocumentsRefused(f"{where}{error}") from None
    for number, document in enumerate(found, start=1):
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise DocumentsRefused(f"{where}document {number} is not a Kubernetes object: it has no kind")
    return tuple(found)


def config_maps(documents: tuple[dict[str, Any], ...]) -> dict[str, dict[str, str]]:
    """The ConfigMaps among the documents: name -> data. What `sqlFrom` refers to can stand in the same file."""
    return {
        str(document.get("metadata", {}).get("name")): dict(document.get("data") or {})
        for document in documents
        if document["kind"] == "ConfigMap"
    }
