"""Which snapshots maintenance may remove: every reason to keep one, and which days are worth rewriting."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from lakehouse_contract import commits
from lakehouse_contract.settings import CompactionSettings
from lakehouse_jobs.maintenance_compaction import Part, choose
from lakehouse_jobs.maintenance_retention import Limits, Need, Retention, decide, needs, orphans_before
from lakehouse_jobs.table_history import History, Ref, Snapshot

BRONZE, SILVER = "bronze.x", "silver.x"
DAY = 86_400_000
NOTHING_IS_YOUNG = Limits(now=1000, age=0, count=1)


def history(
    *chains: str, head: int, table: str = BRONZE, stamps: Mapping[int, Mapping[str, str]] | None = None, **refs: Any
) -> History:
    """A table of snapshots, from chains such as "1 2 3", each committed at its own number, with its refs."""
    snapshots: dict[int, Snapshot] = {}
    for chain in chains:
        parent = None
        for number in map(int, chain.split()):
            summary = (stamps or {}).get(number, {})
            snapshots.setdefault(
                number, Snapshot(id=number, parent_id=parent, operation="append", summary=summary, committed_at=number)
            )
            parent = number
    known = {name.replace("_", "-"): ref if isinstance(ref, Ref) else tag(ref) for name, ref in refs.items()}
    return History(
        table=table,
        head=head,
        snapshots=snapshots,
        tags={name: ref.snapshot for name, ref in known.items() if not ref.is_branch},
        columns={},
        partitions=(),
        refs={"main": Ref(snapshot=head, is_branch=True), **known},
    )


def tag(snapshot: int, max_age: int | None = None) -> Ref:
    return Ref(snapshot=snapshot, is_branch=False, max_age=max_age)


def branch(snapshot: int) -> Ref:
    return Ref(snapshot=snapshot, is_branch=True)


def reader(mark: int, table: str = SILVER) -> History:
    return history("1", head=1, table=table, stamps={1: {commits.source(BRONZE): str(mark)}})


def flink(checkpoint: int, job: str = "a") -> dict[str, str]:
    return {commits.FLINK_JOB_ID: job, commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: str(checkpoint)}


def kept(of: History, *readers: History, awaited: tuple[str, ...] = (), limits: Limits = NOTHING_IS_YOUNG) -> set[int]:
    gone = decide(of, needs(of, readers, awaited), limits).expire
    return set(of.snapshots) - set(gone)


def test_without_any_need_the_limits_alone_decide() -> None:
    table = history("1 2 3 4 5", head=5)
    assert kept(table) == {5}
    assert kept(table, limits=replace(NOTHING_IS_YOUNG, count=3)) == {3, 4, 5}
    assert kept(table, limits=Limits(now=10, age=6, count=1)) == {4, 5}


def test_main_stays_unbroken_back_to_where_a_reader_has_come() -> None:
    table = history("1 2 3 4 5", head=5)
    assert kept(table, reader(3)) == {3, 4, 5}
    assert kept(table, reader(3), reader(4, "silver.y")) == {3, 4, 5}
    found = decide(table, needs(table, [reader(3)]), NOTHING_IS_YOUNG)
    assert found.kept == ("all snapshots since snapshot 3 of 1970-01-01T00:00:00Z: silver.x has read up to there",)


def test_until_a_reader_has_read_anything_everything_stays() -> None:
    assert kept(history("1 2 3", head=3), awaited=(SILVER,)) == {1, 2, 3}


def test_a_mark_on_a_discarded_line_keeps_it_back_to_the_snapshot_that_both_share() -> None:
    table = history("1 2 3 4", "1 2 5 6", head=6, discarded_x=4)
    assert kept(table, reader(3)) == {2, 3, 4, 5, 6}
    assert kept(table) == {4, 6}


def test_a_mark_that_is_gone_already_keeps_nothing() -> None:
    assert kept(history("5 6", head=6), reader(3)) == {6}


def test_the_way_back_to_a_recovery_point_stays_and_a_tag_keeps_its_own_snapshot() -> None:
    assert kept(history("1 2 3 4", head=4, recovery_a=2)) == {2, 3, 4}
    assert kept(history("1 2 3 4", head=4, rel_a=2)) == {2, 4}


def test_flinks_last_commit_stays_reachable_behind_compaction() -> None:
    stamps = {1: flink(1), 2: flink(2), 3: flink(3, job="b"), 4: {commits.STAGE: "maintenance", commits.RUN: "m"}}
    assert kept(history("1 2 3 4 5", head=5, stamps=stamps)) == {3, 4, 5}


@pytest.mark.parametrize("key", [commits.RUN, commits.INTERVAL, commits.MODEL, commits.source(BRONZE)])
def test_what_a_table_says_about_itself_stays_readable(key: str) -> None:
    stamps = {1: {key: "1"}, 2: {key: "1"}, 3: {commits.STAGE: "maintenance", commits.RUN: "m"}}
    assert kept(history("1 2 3 4", head=4, table=SILVER, stamps=stamps)) == {2, 3, 4}


def test_a_source_that_a_model_no_longer_reads_keeps_nothing() -> None:
    stamps = {1: {commits.source("silver.old"): "1"}, 3: {commits.source("silver.new"): "1"}}
    assert kept(history("1 2 3 4", head=4, table="gold.x", stamps=stamps)) == {3, 4}


def test_a_branch_keeps_its_way_to_main() -> None:
    assert kept(history("1 2 3 4", "1 2 5 6", head=4, work=branch(6))) == {4, 5, 6}


def test_tags_and_branches_beyond_their_age_go_with_their_snapshots() -> None:
    table = history("1 2 3", "1 4", head=3, old=tag(2, max_age=100), new=tag(1, max_age=5000), staged=branch(4))
    found = decide(table, (), NOTHING_IS_YOUNG)
    assert (found.stale_refs, found.expire) == (("old",), (2,))


def test_a_snapshot_that_nothing_names_is_kept_while_it_is_young() -> None:
    table = history("1 2", "1 3", head=2)
    assert kept(table, limits=Limits(now=10, age=7, count=1)) == {2, 3}
    assert kept(table) == {2}


def test_a_table_that_was_never_written_or_that_keeps_its_own_rules_is_left_alone() -> None:
    assert decide(replace(history("1", head=1), head=None), (), NOTHING_IS_YOUNG) == Retention()
    own = history("1 2 3", head=3)
    own = replace(own, refs={"main": Ref(snapshot=3, is_branch=True, has_own_retention=True)})
    assert decide(own, (Need(3, "x"),), NOTHING_IS_YOUNG).expire == ()


# --- files that no snapshot knows


def test_unknown_files_are_removed_by_their_age() -> None:
    recent = history("1", head=1)
    assert orphans_before(recent, Limits(now=30 * DAY, age=7 * DAY, count=0)) == (23 * DAY, None)


def test_unknown_files_of_a_resting_stream_or_since_a_recovery_point_are_kept() -> None:
    limits = Limits(now=30 * DAY, age=7 * DAY, count=0)
    at = {1: 5 * DAY, 2: 10 * DAY, 3: 29 * DAY}

    def timed(table: History) -> History:
        moved = {number: replace(each, committed_at=at[number]) for number, each in table.snapshots.items()}
        return replace(table, snapshots=moved)

    resting = timed(history("1 2", head=2, stamps={1: flink(1), 2: flink(2)}))
    assert orphans_before(resting, limits)[0] == 9 * DAY
    point = timed(history("1 2 3", head=3, stamps={3: flink(3)}, recovery_a=1))
    assert orphans_before(point, limits)[0] == 4 * DAY
    flowing = timed(history("1 2 3", head=3, stamps={3: flink(3)}))
    assert orphans_before(flowing, limits) == (23 * DAY, None)


# --- which days are rewritten


def part(day: int, *, small: int = 9, deletes: int = 0, size: int = 10, busy: bool = False) -> Part:
    return Part(day=date(2026, 1, day), small=small, deletes=deletes, bytes=size, is_busy=busy)


def test_days_with_many_small_files_or_deletes_are_rewritten_the_newest_first() -> None:
    settings = CompactionSettings(min_input_files=5)
    parts = [part(1), part(2, small=4), part(3, small=0, deletes=5), part(4)]
    assert [each.day.day for each in choose(parts, settings).parts if each.day] == [4, 3, 1]


def test_a_day_that_just_got_rows_waits() -> None:
    choice = choose([part(1), part(2, busy=True), part(3, small=1, busy=True)], CompactionSettings())
    assert [each.day.day for each in choice.parts if each.day] == [1]
    assert choice.left == ("the files of 2026-01-02: got rows in the last 7200 s",)


def test_one_run_rewrites_so_much_and_at_least_one_day() -> None:
    choice = choose([part(1), part(2), part(3)], CompactionSettings(max_bytes=25))
    assert [each.day.day for each in choice.parts if each.day] == [3, 2]
    assert choice.left == ("the files of 1 more days: the next run goes on, as this one has rewritten its most",)
    assert len(choose([part(1, size=99)], CompactionSettings(max_bytes=1)).parts) == 1


def test_large_days_are_rewritten_in_a_commit_of_their_own() -> None:
    gibibyte = 1024**3
    choice = choose([part(day, size=3 * gibibyte) for day in (1, 2)] + [part(3, size=1)], CompactionSettings())
    assert [[each.day.day for each in batch if each.day] for batch in choice.batches()] == [[3, 2], [1]]
