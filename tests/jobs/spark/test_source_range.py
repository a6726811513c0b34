"""Which part of a source a target must read: every shape that a history can have."""

import pytest

from lakehouse_jobs.source_range import (
    Appended,
    Everything,
    NotInHistory,
    Rewritten,
    SourceRange,
    Unknown,
    UpToDate,
    decide,
    widest,
)
from lakehouse_jobs.table_history import History, Snapshot


def history(*chains: str, head: int, expired: tuple[int, ...] = ()) -> History:
    """A table of snapshots, from chains such as "1 2+ 3r 4o": r is a replace, o an overwrite, the rest are appends."""
    names = {"r": "replace", "o": "overwrite", "d": "delete"}
    snapshots: dict[int, Snapshot] = {}
    for chain in chains:
        parent = None
        for text in chain.split():
            number, operation = (int(text[:-1]), names[text[-1]]) if not text.isdigit() else (int(text), "append")
            snapshots.setdefault(
                number, Snapshot(id=number, parent_id=parent, operation=operation, summary={}, committed_at=number)
            )
            parent = number
    kept = {number: snapshot for number, snapshot in snapshots.items() if number not in expired}
    return History(table="bronze.x", head=head, snapshots=kept, tags={}, columns={}, partitions=())


STRAIGHT = history("1 2 3r 4 5", head=5)
CASES: dict[str, tuple[History, int | None, int, bool, SourceRange]] = {
    "a new target takes everything": (STRAIGHT, None, 4, False, Everything(4)),
    "what was appended since": (STRAIGHT, 2, 5, True, Appended(2, 5)),
    "it has just that": (STRAIGHT, 4, 4, True, UpToDate(4)),
    "it has more than that": (STRAIGHT, 5, 2, True, UpToDate(2)),
    "the mark is expired, its child is not": (
        history("1 2 3 4", head=4, expired=(1, 2)), 2, 4, True, Appended(2, 4),
    ),
    "the mark's child is expired too": (
        history("1 2 3 4", head=4, expired=(1, 2, 3)), 2, 4, True,
        Unknown(4, "snapshot 2 of bronze.x, up to which it had come, is gone"),
    ),
    "the mark is kept by a tag, what came after it is expired": (
        history("1 2 3 4", head=4, expired=(1, 3)), 2, 4, True,
        Unknown(4, "snapshot 2 of bronze.x, up to which it had come, is gone"),
    ),
    "rewound behind the mark": (
        history("1 2 3 4", "1 2 5 6", head=6), 4, 6, True,
        Appended(2, 6, "bronze.x was rewound: continued from snapshot 2, which both histories share"),
    ),
    "rewound behind the mark, nothing since": (history("1 2 3 4", head=2), 4, 2, True, UpToDate(2)),
    "rewound, and the discarded head is gone": (
        history("1 2 5 6", head=6), 4, 6, True,
        Unknown(6, "snapshot 4 of bronze.x, up to which it had come, is gone"),
    ),
    "an overwrite in between": (
        history("1 2 3o 4", head=4), 1, 4, True,
        Rewritten(1, 4, (2, 3, 4), "snapshot 3 of bronze.x is a overwrite, not an append"),
    ),
    "an overwrite before the mark": (history("1 2o 3", head=3), 2, 3, True, Appended(2, 3)),
    "rows, and no mark": (
        STRAIGHT, None, 5, True,
        Unknown(5, "it holds rows, but no commit says how far it has come in bronze.x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_range_follows_from_the_histories(name: str) -> None:
    source, mark, upto, has_rows, wanted = CASES[name]
    assert decide(source, mark, upto, has_rows=has_rows) == wanted


def test_a_run_pinned_to_what_is_no_more_is_refused() -> None:
    with pytest.raises(NotInHistory, match=r"snapshot 4 is not in the history of bronze\.x"):
        decide(history("1 2 3 4", "1 2 5", head=5), 2, 4, has_rows=True)


def test_a_table_and_its_quarantine_go_on_from_the_one_that_lags() -> None:
    ranges = [Appended(4, 5), Appended(2, 5), UpToDate(5)]
    assert widest(STRAIGHT, ranges) == Appended(2, 5)
    assert widest(STRAIGHT, [*ranges, Everything(5)]) == Everything(5)
    assert widest(STRAIGHT, [*ranges, Unknown(5, "")]) == Unknown(5, "")


def test_appends_of_many_snapshots_are_one_range() -> None:
    long = history(" ".join(map(str, range(1, 3000))), head=2999)
    assert decide(long, 1, 2999, has_rows=True) == Appended(1, 2999)
