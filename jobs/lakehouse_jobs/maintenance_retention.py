"""Which snapshots of a table may go, and what keeps the others. Pure.

Main keeps an unbroken line from its head back to the oldest snapshot that somebody needs, because everybody who needs
one walks there from the head: silver and gold to where they have come (`table_history.mark`), Flink to its last commit
(apache/iceberg #5846), a rewind to its recovery point. A tag alone would keep the snapshot and lose the way to it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse_contract import commits
from lakehouse_jobs.table_history import History, Snapshot

MAIN = "main"
_MAINTENANCE = "maintenance"
_ORPHAN_MARGIN = 86_400_000
"""How long before its commit the stream may have written a file, in milliseconds: far more than a checkpoint takes."""


@dataclass(frozen=True, slots=True)
class Need:
    """A snapshot that must stay readable, with the line to it."""

    snapshot: int
    because: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How long snapshots are kept at any rate: up to an age in milliseconds, and so many of main's newest."""

    now: int
    """In milliseconds since 1970."""
    age: int
    count: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What expiry does to a table. `kept` says what stays beyond the limits, and why."""

    expire: tuple[int, ...] = ()
    stale_refs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def needs(history: History, readers: Iterable[History], awaited: Iterable[str] = ()) -> Iterator[Need]:
    """Everything that must stay readable in a table.

    Args:
        history: The table.
        readers: The pipeline's tables; those whose commits say how far they have come in this one count.
        awaited: Tables that will read this one from its first commit on, because they have not said that yet.
    """
    line = list(history.ancestors())
    if line:
        yield from (Need(line[-1].id, f"{name} has not read it yet") for name in awaited)
    for reader in readers:
        mark = reader.mark(history.table)
        if mark is not None:
            yield Need(mark, f"{reader.table} has read up to there")
    for name, snapshot in sorted(history.tags.items()):
        if name.startswith(commits.RECOVERY_TAG):
            yield Need(snapshot, f"a rewind may go back to {name}")
    flink = _flink_commit(line)
    if flink is not None:
        yield Need(flink.id, f"it is the last commit of Flink's job {flink.summary.get(commits.FLINK_JOB_ID, '?')}")
    yield from (Need(snapshot, "its properties say how far this table has come") for snapshot in _stamped(line))


def _flink_commit(line: Sequence[Snapshot]) -> Snapshot | None:
    return next((each for each in line if commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID in each.summary), None)


def _stamped(line: Sequence[Snapshot]) -> frozenset[int]:
    """The newest commits of a run that say what the next run, or the ledger, wants to know."""
    wanted = (commits.RUN, commits.INTERVAL, commits.MODEL, commits.source(""))
    runs = [snapshot for snapshot in line if snapshot.summary.get(commits.STAGE) != _MAINTENANCE]
    newest = (next((each.id for each in runs if any(_is(name, key) for name in each.summary)), None) for key in wanted)
    return frozenset(snapshot for snapshot in newest if snapshot is not None)


def _is(name: str, key: str) -> bool:
    return name.startswith(key) if key.endswith(".") else name == key


def decide(history: History, wanted: Iterable[Need], limits: Limits) -> Retention:
    """Decide which snapshots go. What the limits, a branch or tag, or a need keeps, stays."""
    main = history.refs.get(MAIN)
    if history.head is None or main is None:
        return Retention()
    if main.has_own_retention:
        return Retention(
            kept=("every snapshot: the branch main has a retention of its own; remove it, so that this one can hold",)
        )
    line = list(history.ancestors())
    place = {snapshot.id: number for number, snapshot in enumerate(line)}
    enough = max(number for number, each in enumerate(line) if number < limits.count or _is_young(each, limits))
    reach, reasons = enough, dict[int, list[str]]()
    beside = {snapshot.id for snapshot in history.snapshots.values() if _is_young(snapshot, limits)}
    for need in wanted:
        path, joint = _way_to_main(history, need.snapshot, place)
        if joint is None:
            continue
        if joint > enough:
            reasons.setdefault(joint, []).append(need.because)
        reach = max(reach, joint)
        beside |= path
    stale = frozenset(_stale(history, limits))
    beside |= _named(history, history.refs.keys() - stale, place)
    kept = beside | {snapshot.id for snapshot in line[: reach + 1]}
    said = [_since(line[at], why) for at, why in sorted(reasons.items(), reverse=True)]
    held = sorted(name for name in history.refs.keys() - stale if _holds_back(history, name, limits))
    if held:
        said.append(f"the snapshots of {', '.join(held)}: named by a branch or tag")
    return Retention(tuple(sorted(history.snapshots.keys() - kept)), tuple(sorted(stale)), tuple(said))


def _since(snapshot: Snapshot, reasons: Sequence[str]) -> str:
    return f"all snapshots since {_shown(snapshot)}: {'; '.join(reasons)}"


def _named(history: History, names: Iterable[str], place: Mapping[int, int]) -> set[int]:
    """The snapshots of branches and tags, and those of a branch on its way to main."""
    found: set[int] = set()
    for ref in (history.refs[name] for name in names):
        found.add(ref.snapshot)
        found |= _way_to_main(history, ref.snapshot, place)[0] if ref.is_branch else set()
    return found


def _is_young(snapshot: Snapshot, limits: Limits) -> bool:
    return limits.now - snapshot.committed_at <= limits.age


def _holds_back(history: History, name: str, limits: Limits) -> bool:
    snapshot = history.snapshots.get(history.refs[name].snapshot)
    return name != MAIN and snapshot is not None and not _is_young(snapshot, limits)


def _stale(history: History, limits: Limits) -> Iterator[str]:
    """The branches and tags that are older than they are to become."""
    for name, ref in history.refs.items():
        snapshot = history.snapshots.get(ref.snapshot)
        if name != MAIN and ref.max_age is not None and snapshot and limits.now - snapshot.committed_at > ref.max_age:
            yield name


def _way_to_main(history: History, snapshot: int, place: Mapping[int, int]) -> tuple[set[int], int | None]:
    """The snapshots from one of them back to main, without main's, and where on main they arrive; None if nowhere."""
    path: set[int] = set()
    for ancestor in history.ancestors(snapshot):
        if ancestor.id in place:
            return path, place[ancestor.id]
        path.add(ancestor.id)
    return path, None


def orphans_before(history: History, limits: Limits) -> tuple[int, str | None]:
    """How old a file must be that no snapshot knows, as an instant in milliseconds, and what puts it off.

    A stream that stands still, or that goes back to a recovery point, commits files then that it wrote before.
    """
    flink = _flink_commit(list(history.ancestors()))
    points = (snapshot for name, snapshot in history.tags.items() if name.startswith(commits.RECOVERY_TAG))
    held = [history.snapshots[snapshot] for snapshot in points if snapshot in history.snapshots]
    oldest = min([*held, *([flink] if flink else [])], key=lambda each: each.committed_at, default=None)
    before = limits.now - limits.age
    if oldest is None or oldest.committed_at - _ORPHAN_MARGIN >= before:
        return before, None
    why = f"unknown files since the day before {_shown(oldest)}: a stream that comes back to it may yet commit them"
    return oldest.committed_at - _ORPHAN_MARGIN, why


def _shown(snapshot: Snapshot) -> str:
    moment = datetime.fromtimestamp(snapshot.committed_at / 1000, tz=UTC)
    return f"snapshot {snapshot.id} of {moment:%Y-%m-%dT%H:%M:%SZ}"
