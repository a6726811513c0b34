"""Reading tables' histories from metadata alone: what was committed, by whom, and how far its rows had arrived.

A snapshot never changes, so each is read once: the cost of looking again follows the new commits.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import TimestamptzType

from lakehouse_operator.planning.observed import Commit, TableView

ARRIVAL_COLUMN, EVENT_COLUMN = "kafka_timestamp", "event_time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_COMMITS = 5_000
"""How many commits of a table are looked at, the newest ones: more than three days at one a minute.

Of those before them, only what is asked for.
"""


@dataclass(frozen=True, slots=True)
class Added:
    """What is known of the rows that a snapshot added: how far they had arrived, and their event days.

    The days are None where the files don't tell.
    """

    arrived: datetime | None
    days: tuple[str, ...] | None


class TableObserver:
    """Looks at the tables of one catalog, again and again."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._added: dict[int, Added] = {}

    def observe(
        self,
        tables: Iterable[str],
        *,
        known: Mapping[str, int] | None = None,
        asked: Mapping[str, tuple[int, ...]] | None = None,
    ) -> dict[str, TableView]:
        """Read the history of each table's main branch. A table that does not exist is left out.

        Args:
            tables: Their names, `namespace.table`.
            known: For a table, a snapshot from which back nobody needs to know how far rows had arrived.
            asked: For a table, snapshots that are looked for however long ago they were committed.
        """
        views = {}
        for name in tables:
            try:
                table = self._catalog.load_table(name)
            except (NoSuchTableError, NoSuchNamespaceError):
                continue
            views[name] = self._view(name, table, (known or {}).get(name), (asked or {}).get(name, ()))
        return views

    def _view(self, name: str, table: Table, known: int | None, asked: Iterable[int]) -> TableView:
        line = main_branch(table)
        newest = [*islice(line, MOST_COMMITS)]
        older = _found(line, {*asked} - {each.snapshot_id for each in newest})
        commits = [self._commit(table, snapshot, arrival=arrival) for snapshot, arrival in _newer(newest, known)]
        tags = {
            ref: each.snapshot_id for ref, each in table.refs().items() if each.snapshot_ref_type == SnapshotRefType.TAG
        }
        return TableView(
            name=name,
            commits=tuple(reversed(commits)),
            older=tuple(self._commit(table, snapshot, arrival=True) for snapshot in reversed(older)),
            tags=tags,
        )

    def _commit(self, table: Table, snapshot: Snapshot, *, arrival: bool) -> Commit:
        summary = snapshot.summary
        added = self._rows_of(table, snapshot) if arrival else Added(None, None)
        return Commit(
            id=snapshot.snapshot_id,
            parent=snapshot.parent_snapshot_id,
            committed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
            operation=summary.operation.value if summary else "append",
            properties=dict(summary.additional_properties) if summary else {},
            kafka_timestamp_max=added.arrived,
            event_days=added.days,
        )

    def _rows_of(self, table: Table, snapshot: Snapshot) -> Added:
        if snapshot.snapshot_id not in self._added:
            self._added[snapshot.snapshot_id] = added_rows(table, snapshot)
        return self._added[snapshot.snapshot_id]


def main_branch(table: Table) -> Iterator[Snapshot]:
    """The head of the main branch and its ancestors, newest first, as far as the metadata hold them."""
    # By a table of them: pyiceberg looks through all snapshots for each one.
    snapshots = {each.snapshot_id: each for each in table.metadata.snapshots}
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        snapshot = snapshots.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None


def _newer(line: Iterable[Snapshot], known: int | None) -> Iterator[tuple[Snapshot, bool]]:
    """Snapshots, newest first, and for each whether it is newer than the known one."""
    newer = True
    for snapshot in line:
        newer = newer and snapshot.snapshot_id != known
        yield snapshot, newer


def _found(line: Iterator[Snapshot], wanted: set[int]) -> list[Snapshot]:
    """Those of a line of snapshots that are looked for; it is followed no farther than to the last of them."""
    found: list[Snapshot] = []
    while len(found) < len(wanted) and (snapshot := next(line, None)) is not None:
        if snapshot.snapshot_id in wanted:
            found.append(snapshot)
    return found


def added_rows(table: Table, snapshot: Snapshot) -> Added:
    """What the column bounds of the files say that a snapshot added; a table without these columns says nothing."""
    try:
        arrival, event = (table.schema().find_field(name).field_id for name in (ARRIVAL_COLUMN, EVENT_COLUMN))
    except ValueError:
        return Added(None, None)
    newest: datetime | None = None
    days: set[str] | None = set()
    for file in _added_files(table, snapshot):
        arrived, first, last = (
            _moment((bounds or {}).get(field))
            for bounds, field in (
                (file.upper_bounds, arrival),
                (file.lower_bounds, event),
                (file.upper_bounds, event),
            )
        )
        newest = max((each for each in (newest, arrived) if each is not None), default=None)
        days = None if days is None or first is None or last is None else days | _days(first, last)
    return Added(newest, None if days is None else tuple(sorted(days)))


def _added_files(table: Table, snapshot: Snapshot) -> Iterable[DataFile]:
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id or not manifest.added_files_count:
            continue
        for entry in manifest.fetch_manifest_entry(table.io):
            if entry.status == ManifestEntryStatus.ADDED:
                yield entry.data_file


def _moment(bound: bytes | None) -> datetime | None:
    if bound is None:
        return None
    return _EPOCH + timedelta(microseconds=int(from_bytes(TimestamptzType(), bound)))


def _days(first: datetime, last: datetime) -> set[str]:
    """The days of a file's rows. Where the table is partitioned by day it is one."""
    return {
        (first.date() + timedelta(days=number)).isoformat() for number in range((last.date() - first.date()).days + 1)
    }
