"""Which rows of a source table a target has not seen yet, decided from both tables' own commits. Pure.

A target says in its commits how far it has come (`commits.source`). It always goes on from there: never with a gap, and
never a second time. Where that snapshot is gone, it says so and reads again what could be missing; the rows that it has
already are recognised and change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse_jobs.table_history import History


class NotInHistory(ValueError):
    """A snapshot that a run was pinned to is not part of the source's history: it was rewound or expired."""


@dataclass(frozen=True, slots=True)
class UpToDate:
    """The target has everything up to there."""

    upto: int


@dataclass(frozen=True, slots=True)
class Everything:
    """The target is new: all rows at `upto`."""

    upto: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The rows that appends added in `(after, upto]`. `note` says what is unusual about it."""

    after: int
    upto: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Files were overwritten in `(after, upto]`, in the snapshots `written`: every row that is in a file of theirs."""

    after: int
    upto: int
    written: tuple[int, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Only the target's own rows tell what may be missing: see `bronze_rows`."""

    upto: int
    note: str


SourceRange = UpToDate | Everything | Appended | Rewritten | Unknown


def decide(source: History, mark: int | None, upto: int, *, has_rows: bool) -> SourceRange:
    """Decide what a target with that mark must read to hold everything up to `upto`.

    Args:
        source: The source table.
        mark: The source snapshot that the target has come to; None if it never said.
        upto: The source snapshot to come to.
        has_rows: Whether the target holds rows.

    Raises:
        NotInHistory: `upto` is not main's snapshot nor an ancestor of it.
    """
    if not source.has_ancestor(upto):
        raise NotInHistory(
            f"snapshot {upto} is not in the history of {source.table}: it was rewound or expired; plan the run again"
        )
    if mark is None:
        unknown = Unknown(upto, f"it holds rows, but no commit says how far it has come in {source.table}")
        return unknown if has_rows else Everything(upto)
    if source.between(upto, mark) is not None:
        return UpToDate(upto)
    after = mark if source.between(mark, upto) is not None else source.shared_ancestor(mark, upto)
    if after is None:
        return Unknown(upto, f"snapshot {mark} of {source.table}, up to which it had come, is gone")
    rewound = f"{source.table} was rewound: continued from snapshot {after}, which both histories share"
    return _since(source, after, upto, None if after == mark else rewound)


def _since(source: History, after: int, upto: int, note: str | None) -> SourceRange:
    steps = source.between(after, upto) or ()
    if not steps:
        return UpToDate(upto)
    overwritten = next((step for step in steps if step.operation not in {"append", "replace"}), None)
    if overwritten is None:
        return Appended(after, upto, note)
    said = f"snapshot {overwritten.id} of {source.table} is a {overwritten.operation}, not an append"
    return Rewritten(after, upto, tuple(step.id for step in steps), said if note is None else f"{note}; {said}")


def widest(source: History, ranges: Sequence[SourceRange]) -> SourceRange:
    """The one of several ranges up to the same snapshot that reaches back the farthest."""

    def reach(one: SourceRange) -> tuple[int, int]:
        if isinstance(one, Unknown):
            return (3, 0)
        if isinstance(one, Everything):
            return (2, 0)
        if isinstance(one, UpToDate):
            return (0, 0)
        return (1, len(source.between(one.after, one.upto) or ()))

    return max(ranges, key=reach)
