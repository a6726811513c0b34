"""What an Iceberg table of the benchmark's own SQLite catalog holds, read from its metadata, without an engine."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ADDED = 1
"""The status of a file that a manifest's own snapshot added."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of the catalog in a directory."""

    directory: Path

    def metadata_location(self, table: str) -> str | None:
        """Where the table's current metadata lies; None if there is no such table."""
        namespace, _, name = table.partition(".")
        uri = f"file:{self.directory / 'catalog.db'}?mode=ro"
        with sqlite3.connect(uri, uri=True, timeout=30) as connection:
            found = connection.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?",
                (namespace, name),
            ).fetchone()
        connection.close()
        return None if found is None else str(found[0])

    def rows(self, table: str) -> int:
        """How many rows its current snapshot has, as that says itself."""
        metadata = self._metadata(table)
        snapshot = None if metadata is None else current_snapshot(metadata)
        return 0 if snapshot is None else int(snapshot["summary"]["total-records"])

    def snapshots(self, table: str) -> list[dict[str, Any]]:
        """All its snapshots, the oldest first, as the metadata have them."""
        metadata = self._metadata(table) or {}
        return sorted(metadata.get("snapshots", ()), key=lambda each: int(each["sequence-number"]))

    def _metadata(self, table: str) -> dict[str, Any] | None:
        location = self.metadata_location(table)
        return None if location is None else read_metadata(location)


def read_metadata(location: str) -> dict[str, Any]:
    """The content of a metadata file."""
    content: dict[str, Any] = json.loads(path_of(location).read_text())
    return content


def path_of(location: str) -> Path:
    """The file that Iceberg calls so; engines differ in how many slashes they write."""
    return Path("/" + location.removeprefix("file:").lstrip("/"))


def current_snapshot(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The current snapshot of a table, by its metadata."""
    current = metadata.get("current-snapshot-id")
    return next((each for each in metadata.get("snapshots", ()) if each["snapshot-id"] == current), None)


def added_files(snapshot: dict[str, Any]) -> list[Path]:
    """The data files that a snapshot added, from its manifests."""
    added = []
    for manifest in _avro(snapshot["manifest-list"]):
        if manifest["added_snapshot_id"] == snapshot["snapshot-id"]:
            entries = _avro(manifest["manifest_path"])
            added += [path_of(each["data_file"]["file_path"]) for each in entries if each["status"] == _ADDED]
    return added


def _avro(location: str) -> list[dict[str, Any]]:
    import fastavro  # noqa: PLC0415 - it comes with PyFlink; only what reads manifests needs it

    with path_of(location).open("rb") as file:
        return list(fastavro.reader(file))
