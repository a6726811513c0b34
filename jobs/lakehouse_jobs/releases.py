"""Releases: one tag of one name on every table of a layer, because no commit spans tables."""

from collections.abc import Sequence

from lakehouse_jobs.iceberg_commits import Lakehouse

PREFIX = "rel_"
KEEP_DAYS = 30


def release(lakehouse: Lakehouse, tables: Sequence[str], run: str) -> str | None:
    """Tag the tables as they are, unless a release names just this state already; answer the tag.

    So the state is released once, by the run that made it or, if that one crashed before, by the next.
    """
    histories = [lakehouse.history(table) for table in tables]
    released = [
        {name for name, snapshot in history.tags.items() if name.startswith(PREFIX) and snapshot == history.head}
        for history in histories
    ]
    if set.intersection(*released):
        return None
    tag = PREFIX + run
    for history in histories:
        if history.head is not None and history.tags.get(tag) != history.head:
            lakehouse.tag(history.table, tag, history.head, KEEP_DAYS)
    return tag
