"""What the tables of a world hold, read through its catalog."""

from collections.abc import Mapping
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from lakehouse_contract.commits import FLINK_MAX_COMMITTED_CHECKPOINT_ID
from lakehouse_operator.local.directory import WorldDirectory


class LocalCatalog:
    """The Iceberg catalog of a world. Everything is read afresh: engines write at the same time."""

    def __init__(self, directory: WorldDirectory, name: str) -> None:
        self.name = name
        self.uri = f"sqlite:///{directory.catalog}"
        self.warehouse = directory.warehouse.as_uri()
        # The engines make the catalog's tables: to read, nothing needs to be written.
        self._catalog = SqlCatalog(name, uri=self.uri, warehouse=self.warehouse, init_catalog_tables="false")

    def find(self, table: str) -> Table | None:
        """A table as it is now; None if it is not there (yet)."""
        try:
            return self._catalog.load_table(table)
        except (NoSuchTableError, NoSuchNamespaceError, OperationalError):
            return None

    def rows_of_summary(self, table: str) -> int:
        """How many rows a table's newest commit says that it holds: quick, and exact where no delete files are used."""
        return int(self._summary(table).get("total-records", 0))

    def committed_checkpoint(self, table: str) -> int:
        """The newest checkpoint of Flink whose data are in the table; 0 before the first."""
        return int(self._summary(table).get(FLINK_MAX_COMMITTED_CHECKPOINT_ID, 0))

    def head(self, table: str) -> int | None:
        """The current snapshot of a table; None before the first."""
        found = self.find(table)
        snapshot = found.current_snapshot() if found else None
        return snapshot.snapshot_id if snapshot else None

    def _summary(self, table: str) -> Mapping[str, Any]:
        found = self.find(table)
        snapshot = found.current_snapshot() if found else None
        summary = snapshot.summary if snapshot else None
        return {} if summary is None else summary.additional_properties

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        return sorted(
            ".".join(table)
            for namespace in self._catalog.list_namespaces()
            for table in self._catalog.list_tables(namespace)
        )

    def count(self, table: str) -> int:
        """How many rows a table holds."""
        found = self.find(table)
        return 0 if found is None else found.scan().count()

    def arrow(self, table: str) -> Any:
        """All rows of a table as an Arrow table.

        Raises:
            NoSuchTableError: There is no such table.
        """
        return self._catalog.load_table(table).scan().to_arrow()

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        """The rows of a small table; all columns unless some are named."""
        found = self.find(table)
        if found is None:
            return []
        rows: list[dict[str, Any]] = found.scan(selected_fields=columns or ("*",)).to_arrow().to_pylist()
        return rows

    def close(self) -> None:
        """Close the catalog's file."""
        self._catalog.engine.dispose()
