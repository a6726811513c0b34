"""A pipeline as it is written, with the endpoints of this machine."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def localize(pipeline: Mapping[str, Any], *, bootstrap_servers: str, directory: Path) -> dict[str, Any]:
    """The same pipeline on local engines: only where things are changes, never what they mean.

    Kafka is the local broker, the catalog is a SQLite file, tables, checkpoints and savepoints are files. Secrets and
    client properties of the real endpoints are left out: the local ones know no users.

    Args:
        pipeline: A LakehousePipeline as it stands in a manifest; it is not changed.
        bootstrap_servers: The local broker.
        directory: Where the catalog, the tables, the checkpoints and the savepoints go.
    """
    local = copy.deepcopy(dict(pipeline))
    spec = local["spec"]
    source = spec["source"]
    source["bootstrapServers"] = bootstrap_servers
    for field in ("security", "properties"):
        source.pop(field, None)
    catalog = {
        "type": "jdbc",
        "uri": f"jdbc:sqlite:{directory / 'catalog.db'}",
        "warehouse": _uri(directory / "warehouse"),
    }
    if "name" in spec["catalog"]:
        catalog["name"] = spec["catalog"]["name"]
    spec["catalog"] = catalog
    spec.pop("storage", None)
    checkpoint = {
        **spec["bronze"].get("checkpoint", {}),
        "directory": _uri(directory / "checkpoints"),
        "savepointDirectory": _uri(directory / "savepoints"),
    }
    spec["bronze"]["checkpoint"] = checkpoint
    return local


def _uri(path: Path) -> str:
    """The form that all engines read. Nothing is escaped in it: they don't agree on that; see `engines.find`."""
    return f"file://{path.absolute()}"
