"""Removing what nobody needs any more: expired snapshots with their files, and files that no snapshot knows."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException, PySparkException

from lakehouse_contract.names import quoted_name, spark_literal
from lakehouse_jobs.iceberg_commits import Conflict, Lakehouse, conflicts
from lakehouse_jobs.maintenance_retention import Retention

_VANISHED = "Error while running command to get file permissions"
_LISTING = "org.apache.iceberg.io.SupportsPrefixOperations"


def is_allowed(table: Any) -> bool:
    """Whether files of a table may be removed at all: `gc.enabled` says no where other tables share them."""
    return str(table.properties().getOrDefault("gc.enabled", "true")).lower() == "true"


def expire(lakehouse: Lakehouse, table: str, retention: Retention) -> dict[str, int]:
    """Remove the snapshots, then the files that only they knew; answer how many files.

    After a crash in between, these files are unknown to every snapshot and go as such.

    Raises:
        Conflict: Another run named one of the snapshots, or changed the table too often meanwhile. Nothing is removed.
    """
    _drop(lakehouse, table, retention.stale_refs)
    if not retention.expire:
        return {}
    jvm: Any = lakehouse.spark._jvm
    actions = jvm.org.apache.iceberg.spark.actions.SparkActions.get(lakehouse.spark._jsparkSession)
    action = actions.expireSnapshots(lakehouse.loaded(table)).expireOlderThan(0)  # those that are named, and no others
    for snapshot in retention.expire:
        action = action.expireSnapshotId(snapshot)
    try:
        with conflicts(table):
            result = action.execute()
    except IllegalArgumentException as named:  # Iceberg removes no snapshot that a branch or tag names by now
        raise Conflict(f"another run named a snapshot of {table} meanwhile: {named}") from None
    deletes = result.deletedPositionDeleteFilesCount() + result.deletedEqualityDeleteFilesCount()
    return {
        "dataFiles": int(result.deletedDataFilesCount()),
        "deleteFiles": int(deletes),
        "metadataFiles": int(result.deletedManifestsCount() + result.deletedManifestListsCount()),
    }


def _drop(lakehouse: Lakehouse, table: str, refs: Iterable[str]) -> None:
    for name in refs:
        loaded = lakehouse.loaded(table)
        ref = loaded.refs().get(name)
        if ref is not None:
            manage = loaded.manageSnapshots()
            with conflicts(table):
                (manage.removeBranch(name) if ref.isBranch() else manage.removeTag(name)).commit()


def remove_orphans(lakehouse: Lakehouse, table: str, before: int, *, dry_run: bool) -> int:
    """Remove the files in a table's folder that are older than `before` and that no snapshot knows; answer how many.

    Files whose path names the store in another way than the table does are left alone.

    Args:
        lakehouse: The tables.
        table: Which one.
        before: An instant in milliseconds since 1970, at least a day ago.
        dry_run: Whether they are only counted.
    """
    moment = datetime.fromtimestamp(before / 1000, tz=UTC)
    io = lakehouse.loaded(table).io()
    by_prefix = is_instance_of(lakehouse.spark.sparkContext._gateway, io, _LISTING)
    call = (
        f"CALL {quoted_name(lakehouse.catalog, 'system', 'remove_orphan_files')}("
        f"table => {spark_literal(lakehouse.identifier(table))}, "
        f"older_than => TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S} UTC', "
        f"prefix_mismatch_mode => 'IGNORE', prefix_listing => {str(by_prefix).lower()}, "
        f"dry_run => {str(dry_run).lower()})"
    )
    return _listed(table, lambda: int(lakehouse.spark.sql(call).count()))


def _listed(table: str, count: Callable[[], int]) -> int:
    """What a listing counts.

    Raises:
        Conflict: The stream removed old metadata meanwhile: of a local folder Hadoop asks for each file once more.
    """
    try:
        return count()
    except (Py4JJavaError, PySparkException) as error:
        if _VANISHED in str(error):
            message = f"files of {table} went away while they were listed; the next run removes what is left"
            raise Conflict(message) from None
        raise
