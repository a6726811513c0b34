"""Kills, older savepoints and other people's mistakes, on real engines under way: each offset is there exactly once.

`benchmarks/chaos` does the same with hundreds of kills.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from chaos import faults, schedule
from chaos.arena import BRONZE, BUSY_SECONDS, Arena, prove
from lakehouse_contract.commits import FLINK_JOB_ID, RECOVERY_TAG
from lakehouse_operator.local.flink_rest import FlinkRest

SEED = 20
KILLS = 30
SPARE = 5
"""So many more are planned: some of them meet a process that is still down from the one before."""
GROUPS = 3
"""The oracle is asked after each third of the kills."""
DEADLINE_SECONDS = 1800


@pytest.fixture
def under_fire(arena: Arena) -> Iterator[Arena]:
    """The arena with events flowing."""
    arena.begin()
    arena.until_well()
    yield arena
    if arena.events is not None:
        arena.events.finish()
        arena.events = None


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_kills_at_every_point_lose_nothing_and_double_nothing(under_fire: Arena) -> None:
    plan = schedule.make(SEED, KILLS + SPARE, ())
    kills: Counter[schedule.Victim] = Counter()
    for number in range(GROUPS):
        kills += faults.carry_out(under_fire, plan[number::GROUPS]).kills
        faults.lock_catalog(under_fire, 2 * BUSY_SECONDS)  # commits fail, and the job with them
        under_fire.until_well()
        prove(under_fire, with_silver=not under_fire.rewound)
        under_fire.begin()
        under_fire.until_well()
    assert kills.total() >= KILLS, kills
    assert set(kills) == set(schedule.VICTIMS)


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_iceberg_5846_and_10892_expiry_keeps_what_restarts_and_rewinds_need_and_bronze_goes_back_with_the_stream(
    under_fire: Arena,
) -> None:
    faults.change(under_fire)  # goes on with other settings, and leaves a savepoint
    under_fire.until_well()
    faults.change(under_fire)
    under_fire.until_well()

    under_fire.catch_up_silver()  # what silver has not read stays
    before = faults.snapshots(under_fire)
    result = under_fire.upkeep()
    [bronze] = [each for each in result["tables"] if each["table"] == BRONZE]
    assert bronze["expired"]["snapshots"] > 0
    assert before - faults.snapshots(under_fire)
    with under_fire.bronze() as table:
        points = {ref.snapshot_id for tag, ref in table.refs().items() if tag.startswith(RECOVERY_TAG)}
        line = list(ancestors(table))
        assert points
        assert points <= {snapshot.snapshot_id for snapshot in line}, "the way back to each point is unbroken"
        assert any(FLINK_JOB_ID in snapshot.summary.additional_properties for snapshot in line if snapshot.summary)
    faults.kill_flink(under_fire)  # what is restored now looks for its last commit in the table

    name = faults.rewind(under_fire)
    under_fire.until_well()
    point = next(each for each in under_fire.status["recoveryPoints"] if each["name"] == name)
    assert restored_from(under_fire) == point["path"]
    with under_fire.bronze() as table:
        line = [snapshot.snapshot_id for snapshot in ancestors(table)]
        discarded = {ref.snapshot_id for tag, ref in table.refs().items() if tag.startswith("discarded-")}
        assert int(point["bronzeSnapshot"]) in line
        assert discarded
        assert not discarded & set(line)
    prove(under_fire)


def ancestors(table):  # type: ignore[no-untyped-def]
    """The snapshots of main, newest first."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None


def restored_from(arena: Arena) -> str | None:
    """The path that the running job was started from."""
    rest: FlinkRest = arena.rest
    restored = rest.get(f"/jobs/{arena.running_job()}/checkpoints")["latest"]["restored"]
    return str(restored["external_path"]) if restored else None
