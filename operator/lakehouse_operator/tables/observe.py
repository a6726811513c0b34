"""Reading tables' histories from metadata alone: what was committed, by whom, and how far its rows had arrived.

A snapshot never changes, so each is read once: the cost of looking again follows the new commits.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import TimestamptzType

from lakehouse_operator.planning.observed import Commit, TableView

ARRIVAL_COLUMN = "kafka_timestamp"
MOST_COMMITS = 5_000
"""How many commits of a table are looked at, the newest ones: more than three days at one a minute."""


class TableObserver:
    """Looks at the tables of one catalog, again and again."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._arrivals: dict[int, datetime | None] = {}

    def observe(self, tables: Iterable[str], *, known: Mapping[str, int] | None = None) -> dict[str, TableView]:
        """Read the history of each table's main branch. A table that does not exist is left out.

        Args:
            tables: Their names, `namespace.table`.
            known: For a table, a snapshot from which back nobody needs to know how far rows had arrived.
        """
        views = {}
        for name in tables:
            try:
                table = self._catalog.load_table(name)
            except (NoSuchTableError, NoSuchNamespaceError):
                continue
            views[name] = self._view(name, table, (known or {}).get(name))
        return views

    def _view(self, name: str, table: Table, known: int | None) -> TableView:
        commits = [self._commit(table, snapshot, arrival=arrival) for snapshot, arrival in _history(table, known)]
        tags = {
            ref: each.snapshot_id for ref, each in table.refs().items() if each.snapshot_ref_type == SnapshotRefType.TAG
        }
        return TableView(name=name, commits=tuple(reversed(commits)), tags=tags)

    def _commit(self, table: Table, snapshot: Snapshot, *, arrival: bool) -> Commit:
        summary = snapshot.summary
        return Commit(
            id=snapshot.snapshot_id,
            parent=snapshot.parent_snapshot_id,
            committed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
            operation=summary.operation.value if summary else "append",
            properties=dict(summary.additional_properties) if summary else {},
            kafka_timestamp_max=self._arrival(table, snapshot) if arrival else None,
        )

    def _arrival(self, table: Table, snapshot: Snapshot) -> datetime | None:
        if snapshot.snapshot_id not in self._arrivals:
            self._arrivals[snapshot.snapshot_id] = newest_arrival(table, snapshot)
        return self._arrivals[snapshot.snapshot_id]


def _history(table: Table, known: int | None) -> Iterable[tuple[Snapshot, bool]]:
    """The main branch, newest first, and for each snapshot whether it is newer than the known one."""
    snapshot, newer = table.current_snapshot(), True
    for _ in range(MOST_COMMITS):
        if snapshot is None:
            return
        newer = newer and snapshot.snapshot_id != known
        yield snapshot, newer
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None


def newest_arrival(table: Table, snapshot: Snapshot) -> datetime | None:
    """The newest Kafka timestamp among the rows that a snapshot added, from its files' column bounds.

    None where it added no rows, or the table has no such column.
    """
    try:
        field = table.schema().find_field(ARRIVAL_COLUMN)
    except ValueError:
        return None
    newest: int | None = None
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id or not manifest.added_files_count:
            continue
        for entry in manifest.fetch_manifest_entry(table.io):
            bound = (entry.data_file.upper_bounds or {}).get(field.field_id)
            if entry.status == ManifestEntryStatus.ADDED and bound is not None:
                micros = int(from_bytes(TimestamptzType(), bound))
                newest = micros if newest is None else max(newest, micros)
    return None if newest is None else datetime.fromtimestamp(newest / 1_000_000, UTC)
