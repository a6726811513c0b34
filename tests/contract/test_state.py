"""What savepoints are made of is not changed by accident."""

from lakehouse_contract import state


def test_another_list_of_parts_needs_another_version() -> None:
    """Streams that run have state of this shape. If it must change, `VERSION` grows, and the new shape stands here."""
    shapes = {
        1: (
            (1, "stream-exec-table-source-scan", None),
            (2, "stream-exec-deduplicate", None),
            (3, "stream-exec-sink", "dead_letters"),
            (4, "stream-exec-sink", "bronze"),
            "bronze",
            "<id>_<transformation>",
            720,
        )
    }
    parts = tuple((part.id, part.node, part.table) for part in state.PARTS)
    assert shapes[state.VERSION] == (*parts, state.SINK_UID_SUFFIX, state.UID_FORMAT, state.MAX_PARALLELISM)


def test_the_ids_are_unique_and_leave_room_for_the_others() -> None:
    ids = [part.id for part in state.PARTS]
    assert len({*ids}) == len(ids)
    assert max(ids) < state.FIRST_FREE_ID
