"""Moving Iceberg metadata: tags, and going back to an earlier snapshot. Every call can be repeated."""

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakehouse_operator.tables.observe import main_branch


class MoveRefused(Exception):
    """The table is not as it was expected to be, so nothing was changed."""


def tag_snapshot(catalog: Catalog, name: str, tag: str, snapshot: int) -> bool:
    """Tag a snapshot, so that no expiry removes it. Says whether anything had to be done.

    Raises:
        MoveRefused: The snapshot is not there any more.
    """
    table = catalog.load_table(name)
    found = table.refs().get(tag)
    if found is not None and found.snapshot_id == snapshot:
        return False
    if table.snapshot_by_id(snapshot) is None:
        raise MoveRefused(f"{name} has no snapshot {snapshot} any more")
    table.manage_snapshots().create_tag(snapshot, tag).commit()
    return True


def drop_tag(catalog: Catalog, name: str, tag: str) -> bool:
    """Remove a tag. Says whether there was one."""
    table = catalog.load_table(name)
    if tag not in table.refs():
        return False
    table.manage_snapshots().remove_tag(tag).commit()
    return True


def roll_back(catalog: Catalog, name: str, *, to: int, expected_head: int, discarded_tag: str) -> bool:
    """Make an earlier snapshot the head again, and keep the discarded head under a tag.

    Says whether anything had to be done: a table that was rolled back already, and not written since, stays as it is.

    Raises:
        MoveRefused: Somebody committed in between, or `to` is no ancestor of the head.
    """
    table = catalog.load_table(name)
    head = table.current_snapshot()
    kept = table.refs().get(discarded_tag)
    if head is not None and head.snapshot_id == to and kept is not None and kept.snapshot_id == expected_head:
        return False
    if head is None or head.snapshot_id != expected_head:
        shown = head.snapshot_id if head else "none"
        raise MoveRefused(f"{name} was expected to have the head {expected_head}, but has {shown}")
    if not is_ancestor(table, to):
        raise MoveRefused(f"{to} is no ancestor of the head {expected_head} of {name}")
    try:
        # One transaction: the catalog accepts both or none, and only while the head is still the expected one. The
        # head comes first, because pyiceberg 0.12 sends one requirement of each type (`Transaction._stage`), and it is
        # the head's that protects.
        table.manage_snapshots().rollback_to_snapshot(to).create_tag(expected_head, discarded_tag).commit()
    except CommitFailedException as error:
        raise MoveRefused(f"{name} was written while it was rolled back: {error}") from error
    return True


def is_ancestor(table: Table, snapshot: int) -> bool:
    """Whether a snapshot is the head of the main branch or one of its ancestors."""
    return any(each.snapshot_id == snapshot for each in main_branch(table))
