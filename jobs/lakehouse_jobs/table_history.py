"""What an Iceberg table's own metadata says: its snapshots, who wrote them, and how far it has come.

Pure: it reads the JSON of a metadata file (the Iceberg table spec's appendix C) and knows no engine.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse_contract import commits

KEEPS_ROWS = frozenset({"replace"})
"""Operations that rewrite files and leave the rows as they are: compaction."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit of a table."""

    id: int
    parent_id: int | None
    operation: str
    summary: Mapping[str, str]
    committed_at: int
    """In milliseconds since 1970."""

    @property
    def keeps_rows(self) -> bool:
        """Whether the rows are the same as before it."""
        return self.operation in KEEPS_ROWS

    @property
    def changes_rows(self) -> bool:
        """Whether some row may be another than before it: not for compaction, nor for a run that found nothing."""
        return not self.keeps_rows and self.touched_days != frozenset()

    @property
    def touched_days(self) -> frozenset[str] | None:
        """The event days that it says it touched; None when it does not say, or says that it may be any."""
        stamped = self.summary.get(commits.TOUCHED_DAYS)
        if stamped is None or stamped == commits.ALL_DAYS:
            return None
        return frozenset(day for day in stamped.split(",") if day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A branch or a tag. Iceberg counts the age of either from the commit of its snapshot, in milliseconds."""

    snapshot: int
    is_branch: bool
    max_age: int | None = None
    """Older than this, expiry takes it away."""
    has_own_retention: bool = False
    """Whether it says itself, as a branch can, which of its snapshots expiry keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A table as one metadata file describes it. `head` is main's snapshot; None for a table that was never written."""

    table: str
    head: int | None
    snapshots: Mapping[int, Snapshot]
    tags: Mapping[str, int]
    columns: Mapping[str, str]
    partitions: tuple[str, ...]
    refs: Mapping[str, Ref] = field(default_factory=dict)
    """All branches and tags, main among them."""

    def ancestors(self, of: int | None = None) -> Iterator[Snapshot]:
        """The snapshot `of` (main's, if none is given) and what it grew from, newest first, as far as it is kept."""
        at = self.head if of is None else of
        while at is not None and (snapshot := self.snapshots.get(at)):
            yield snapshot
            at = snapshot.parent_id

    def has_ancestor(self, snapshot: int) -> bool:
        """Whether a snapshot is main's or one that it grew from, as far as is kept."""
        return any(ancestor.id == snapshot for ancestor in self.ancestors())

    def between(self, after: int, upto: int) -> tuple[Snapshot, ...] | None:
        """The snapshots in `(after, upto]`, oldest first; None if `upto` did not grow from `after`.

        `after` itself may be expired: its child still names it.
        """
        if after == upto:
            return ()
        steps: list[Snapshot] = []
        for snapshot in self.ancestors(upto):
            steps.append(snapshot)
            if snapshot.parent_id == after:
                return tuple(reversed(steps))
        return None

    def shared_ancestor(self, one: int, other: int) -> int | None:
        """The newest snapshot from which both grew; None if it is not kept."""
        known = {snapshot.id for snapshot in self.ancestors(one)}
        return next((snapshot.id for snapshot in self.ancestors(other) if snapshot.id in known), None)

    def mark(self, source: str) -> int | None:
        """How far the table has come: the snapshot of `source` up to which everything is in it."""
        stamped = self.newest(commits.source(source))
        return None if stamped is None else int(stamped)

    def marks(self, source: str) -> frozenset[int]:
        """Every snapshot of `source` that the table has ever come to, as far as its history is kept."""
        stamps = (snapshot.summary.get(commits.source(source)) for snapshot in self.ancestors())
        return frozenset(int(stamp) for stamp in stamps if stamp is not None)

    def newest(self, key: str) -> str | None:
        """The value of a snapshot property in the newest ancestor that carries it."""
        return next((snapshot.summary[key] for snapshot in self.ancestors() if key in snapshot.summary), None)

    def rows(self) -> int:
        """How many rows the table holds, by its own count; deleted rows of a merge-on-read table still count."""
        if self.head is None:
            return 0
        return int(self.snapshots[self.head].summary.get("total-records", "0"))


def from_metadata(table: str, metadata: str) -> History:
    """Read the JSON of a table's metadata file."""
    raw = json.loads(metadata)
    snapshots = {entry["snapshot-id"]: _snapshot(entry) for entry in raw.get("snapshots", ())}
    refs = raw.get("refs", {})
    schema = next(entry for entry in raw["schemas"] if entry["schema-id"] == raw["current-schema-id"])
    spec = next(entry for entry in raw["partition-specs"] if entry["spec-id"] == raw["default-spec-id"])
    return History(
        table=table,
        head=refs["main"]["snapshot-id"] if "main" in refs else None,
        snapshots=snapshots,
        tags={name: ref["snapshot-id"] for name, ref in refs.items() if ref["type"] == "tag"},
        columns={each["name"]: _type(each["type"]) for each in schema["fields"]},
        partitions=tuple(each["name"] for each in spec["fields"]),
        refs={name: _ref(ref) for name, ref in refs.items()},
    )


def _ref(raw: Mapping[str, Any]) -> Ref:
    return Ref(
        snapshot=raw["snapshot-id"],
        is_branch=raw["type"] == "branch",
        max_age=raw.get("max-ref-age-ms"),
        has_own_retention="max-snapshot-age-ms" in raw or "min-snapshots-to-keep" in raw,
    )


def _snapshot(entry: Mapping[str, object]) -> Snapshot:
    summary = dict(entry.get("summary") or {})  # type: ignore[call-overload]
    parent = entry.get("parent-snapshot-id")
    return Snapshot(
        id=int(str(entry["snapshot-id"])),
        parent_id=None if parent is None else int(str(parent)),
        operation=summary.pop("operation", "append"),
        summary=summary,
        committed_at=int(str(entry["timestamp-ms"])),
    )


def _type(field_type: object) -> str:
    """An Iceberg type in the contract's spelling."""
    if isinstance(field_type, dict):
        return f"{field_type['type']}<{_type(field_type.get('element', '?'))}>"
    name = str(field_type).replace(" ", "")
    return {"timestamptz": "timestamp"}.get(name, name)
