"""Carries a schedule out: one fault after another, each at its point, until the stream is well again.

The points around a commit are not hit by chance. Whoever holds the catalog's lock lets writers write their files and
commit to Kafka, and keeps the table from moving; a kill then comes exactly in between.
"""

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from chaos.arena import BRONZE, NAME, Arena, Broken
from chaos.schedule import Disturb, Fault, Kill, Victim
from chaos.store import Mood
from lakehouse_operator.local.processes import Record
from lakehouse_operator.local.topics import LiveCount

_PROCESSES: dict[Victim, str] = {
    "taskManager": "flink-taskmanager", "jobManager": "flink-jobmanager", "broker": "kafka"
}  # fmt: skip
_POINT_SECONDS = 400.0
_LOOK_SECONDS = 0.005
_TRIES = 3
MOODS: Final[Sequence[Mood]] = ("unavailable", "broken", "forgetful", "silent", "moody")
OLDER_THAN_NEWEST = 2
"""How far back a rewind goes: to the newest proven point but so many, or the oldest there is."""


@dataclass(slots=True)
class Tally:
    """What was done.

    Attributes:
        kills: How many processes of each kind were killed.
        at: How often each fault came, by its name.
        missed: Faults whose point had passed before the kill came.
        seconds: From each fault until the stream was well again.
    """

    kills: Counter[Victim] = field(default_factory=Counter)
    at: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)


def carry_out(arena: Arena, faults: Sequence[Fault]) -> Tally:
    """Let the faults come. Events must be flowing.

    Raises:
        Broken: The stream did not become well after one of them.
    """
    tally = Tally()
    for number, fault in enumerate(faults, start=1):
        began = time.monotonic()
        killed = _kill(arena, fault, tally) if isinstance(fault, Kill) else _disturb(arena, fault)
        arena.until_well(*killed)
        took = time.monotonic() - began
        tally.at[fault.name] += 1
        tally.seconds.setdefault(fault.name, []).append(took)
        missed = f", missed {tally.missed[fault.name]} times" if tally.missed[fault.name] else ""
        arena.say(f"{number}/{len(faults)} {fault.name}: well again after {took:.1f} s{missed}")
    return tally


# --- kills ------------------------------------------------------------------------------------------------------------


def _kill(arena: Arena, fault: Kill, tally: Tally) -> tuple[int, ...]:
    for _ in range(_TRIES):
        with _at_point(arena, fault) as was_hit:
            killed = [_shoot(arena, victim) for victim in fault.victims]
            hit = was_hit()
        tally.kills.update(victim for victim, record in zip(fault.victims, killed, strict=True) if record)
        if hit and killed[0] is not None:
            return (*(record.process.pid for record in killed if record), *_kill_again(arena, fault, tally))
        tally.missed[fault.name] += 1
        arena.until_well(*(record.process.pid for record in killed if record))
    raise Broken(f"{fault.name} was never met in {_TRIES} tries")


def _kill_again(arena: Arena, fault: Kill, tally: Tally) -> Iterator[int]:
    """Kill what has been started again, as often as the fault says."""
    for pause in fault.again:
        for victim in fault.victims:
            _until_driver(arena) if victim == "sparkDriver" else _until_process(arena, victim)
        time.sleep(pause)
        for victim in fault.victims:
            if record := _shoot(arena, victim):
                tally.kills[victim] += 1
                yield record.process.pid


def _until_process(arena: Arena, victim: Victim) -> None:
    deadline = time.monotonic() + _POINT_SECONDS
    while arena.process(_PROCESSES[victim]) is None:
        if time.monotonic() > deadline:
            raise Broken(f"no {victim} was started again")
        time.sleep(0.05)


def _shoot(arena: Arena, victim: Victim) -> Record | None:
    """SIGKILL; None if the process has ended by itself."""
    record = arena.driver() if victim == "sparkDriver" else arena.process(_PROCESSES[victim])
    if record is None:
        return None
    try:
        os.kill(record.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return record


@contextmanager
def _at_point(arena: Arena, fault: Kill) -> Iterator[Callable[[], bool]]:
    """Come to a point, and stay there while the block runs. Gives a way to ask afterwards whether it was met."""
    if fault.victims[0] == "sparkDriver":
        _until_driver(arena)
    match fault.point:
        case "anytime":
            time.sleep(fault.seconds)
            yield lambda: True
        case "checkpoint":
            before = arena.completed_checkpoint()
            _spin(lambda: arena.completed_checkpoint() > before, "a checkpoint")
            yield lambda: True
        case "commit":
            location = arena.locations()[BRONZE]
            _spin(lambda: arena.locations()[BRONZE] != location, "a commit")
            yield lambda: True
        case "betweenCommits":
            with _between_commits(arena) as was_hit:
                yield was_hit
        case "beforeTables" | "betweenTables":
            with _amid_tables(arena, moved=fault.point == "betweenTables") as was_hit:
                yield was_hit


@contextmanager
def _between_commits(arena: Arena) -> Iterator[Callable[[], bool]]:
    """The dead letters of a checkpoint are committed, its rows are written, and the table can't move."""
    with closing(LiveCount(arena.world.bootstrap_servers, arena.pipeline.dead_letter_topic)) as letters:
        letters.now()
        moved = arena.locations()[BRONZE]
        _spin(lambda: arena.locations()[BRONZE] != moved, "a commit")
        # Right after one commit, so that the next checkpoint is the one that meets the lock.
        with locked(arena):
            location, checkpoint, known = arena.locations()[BRONZE], arena.completed_checkpoint(), letters.now()

            def is_between() -> bool:
                return (
                    bool(arena.unreferenced_metadata(BRONZE))
                    and letters.now() > known
                    and arena.completed_checkpoint() > checkpoint
                )

            _spin(is_between, "dead letters without their rows")
            yield lambda: arena.locations()[BRONZE] == location


@contextmanager
def _amid_tables(arena: Arena, *, moved: bool) -> Iterator[Callable[[], bool]]:
    """Of a silver run no table has moved, though its files are there; or the first one has and the others can't."""

    def now() -> dict[str, str]:
        return {table: location for table, location in arena.locations().items() if table.startswith("silver.")}

    def is_over() -> bool:
        return arena.driver() is None

    before, files = now(), arena.data_files("silver")
    if moved:
        _spin(lambda: _differs(before, now()) or is_over(), "a silver table moves")
        with locked(arena):
            after = now()
            yield lambda: 0 < len(_differs(before, after)) < len(after) and now() == after
        return
    _spin(lambda: arena.data_files("silver") > files or is_over(), "silver writes files")
    with locked(arena):
        after = now()
        _spin(lambda: any(map(arena.unreferenced_metadata, after)) or is_over() or not after, "silver wants to commit")
        yield lambda: after == before == now()


def _differs(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {table for table in after if before.get(table) != after[table]}


def _until_driver(arena: Arena) -> None:
    """Have a silver run whose driver lives; one that was killed is tried again by the operator."""
    if not arena.unfinished_runs():
        arena.run_silver()
    deadline = time.monotonic() + _POINT_SECONDS
    while arena.driver() is None:
        if not arena.unfinished_runs():
            arena.run_silver()
        if time.monotonic() > deadline:
            raise Broken(f"no driver of {NAME}'s silver came up\n{arena.status}")
        time.sleep(0.05)


def _spin(condition: Callable[[], object], what: str) -> None:
    """Wait as closely as can be."""
    deadline = time.monotonic() + _POINT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"not within {_POINT_SECONDS:g} s: {what}")
        time.sleep(_LOOK_SECONDS)


@contextmanager
def locked(arena: Arena) -> Iterator[None]:
    """Hold the catalog's lock: whoever wants to change a table waits, and gives up after `arena.BUSY_SECONDS`."""
    with closing(sqlite3.connect(arena.directory.catalog, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def kill_flink(arena: Arena) -> None:
    """Kill JobManager and TaskManager, and wait until the stream is well."""
    killed = [_shoot(arena, victim) for victim in ("jobManager", "taskManager")]
    arena.until_well(*(record.process.pid for record in killed if record))


# --- other faults -----------------------------------------------------------------------------------------------------


def _disturb(arena: Arena, fault: Disturb) -> tuple[int, ...]:
    match fault.what:
        case "catalogLock":
            lock_catalog(arena, fault.seconds)
        case "change":
            change(arena)
        case "rewind":
            rewind(arena)
        case "upkeep":
            arena.upkeep()
        case "storeFaults":
            upset_store(arena, fault.seconds)
    return ()


def lock_catalog(arena: Arena, seconds: float) -> None:
    """Let nobody write to the catalog for a while."""
    with locked(arena):
        time.sleep(seconds)


def upset_store(arena: Arena, seconds: float) -> None:
    """Let the store answer 5xx, hang and lose answers for a while, one after another, then all at once."""
    if arena.store is None:
        return
    for mood in MOODS:
        arena.store.be(mood)
        time.sleep(seconds)
    arena.store.be("well")


def change(arena: Arena) -> None:
    """Stop the stream with a savepoint and let it go on with other settings."""
    revision, job = arena.status["stream"]["revision"], arena.running_job()
    bronze = arena.spec["spec"]["bronze"]
    wider = bronze.get("parallelism", 1) == 1
    arena.apply(
        parallelism=2 if wider else 1, writeParallelism=2 if wider else 1,
        compression="zstd" if wider else "snappy", idleTimeout="5s" if wider else "30s",
    )  # fmt: skip
    arena.until(
        lambda: arena.status["stream"]["revision"] != revision and _is_another_job(arena, job),
        "the changed stream runs",
    )


def rewind(arena: Arena) -> str:
    """Go back to an older savepoint; answers its name."""
    proven = [point for point in arena.status.get("recoveryPoints", ()) if point.get("proven")]
    if not proven:
        change(arena)  # leaves a savepoint
        arena.until_well()
        return rewind(arena)
    point = proven[min(OLDER_THAN_NEWEST, len(proven)) - 1]
    before = arena.running_job()
    arena.restore(point["name"])
    arena.until(lambda: _is_another_job(arena, before), "the stream has gone back")
    return str(point["name"])


def snapshots(arena: Arena) -> set[int]:
    """The snapshots that bronze has."""
    with arena.bronze() as table:
        return {each.snapshot_id for each in table.snapshots()}


def _is_another_job(arena: Arena, before: str | None) -> bool:
    runs = arena.status["stream"]["state"] in ("Running", "Soaking")
    return runs and arena.running_job() not in (None, before)
