"""Which run is due, what it waits for, and over which commits."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from lakehouse_operator.planning.due import StageDecision, boundaries, decide_stage, forgettable
from lakehouse_operator.planning.ledger import completed_through, entries
from lakehouse_operator.planning.observed import Observation, Observed, RunObject
from planning.batch_builders import OLDER, at, bronze, commit, partition, policy, run, seen

NOW = at("03-10 08:10")
DONE = tuple(run(at(f"03-10 0{hour}:00"), "Succeeded") for hour in range(7))


def decide(world: Observed, **changes: Any) -> StageDecision:
    return decide_stage(policy(**changes), world, entries(world), paused=None)


def started(decision: StageDecision) -> list[str]:
    return [f"{new.interval.start:%H:%M}" for new in decision.start if new.interval]


def reason(decision: StageDecision) -> str | None:
    return decision.hold.reason if decision.hold else None


def test_the_next_interval_begins_where_the_last_one_ended() -> None:
    assert started(decide(seen(NOW, runs=DONE))) == ["07:00"]


def test_after_downtime_the_missed_intervals_come_one_after_the_other() -> None:
    assert started(decide(seen(NOW, runs=DONE[:3]))) == ["03:00"]
    assert started(decide(seen(NOW, runs=DONE[:4]))) == ["04:00"]


def test_catching_up_with_the_latest_leaves_the_others_to_it() -> None:
    assert started(decide(seen(NOW, runs=DONE[:3]), catch_up="latest")) == ["07:00"]


def test_a_catch_up_limit_keeps_the_newest() -> None:
    assert started(decide(seen(NOW, runs=DONE[:1]), catch_up_limit=2)) == ["06:00"]


def test_without_catching_up_an_interval_is_left_to_the_next_one_once_its_length_and_deadline_have_passed() -> None:
    daily = {"schedule": "0 0 * * *", "catch_up": "none"}
    assert started(decide(seen(at("03-10 02:59")), **daily)) == ["23:00"]
    assert started(decide(seen(at("03-10 03:01")), **daily)) == []
    assert started(decide(seen(at("03-11 00:01")), **daily)) == ["23:00"]
    assert started(decide(seen(at("03-10 03:01")), **{**daily, "catch_up": "latest"})) == ["23:00"]


def test_nothing_of_before_the_pipeline_was_seen_is_caught_up() -> None:
    world = seen(NOW, status={"layers": {"silver": {"since": "2026-03-10T07:40:00Z"}}})
    assert started(decide(world)) == ["07:00"]
    assert started(decide(seen(NOW, status={}))) == []


def test_one_run_of_a_stage_is_in_flight_at_a_time() -> None:
    world = seen(NOW, runs=(*DONE[:6], run(at("03-10 06:00"), "Running")))
    assert (started(decide(world)), reason(decide(world))) == ([], "RunInFlight")


def test_replace_cancels_the_one_in_flight() -> None:
    busy = run(at("03-10 06:00"), "Running")
    decision = decide(seen(NOW, runs=(*DONE[:6], busy)), concurrency="Replace")
    assert (started(decision), decision.replace) == (["07:00"], (busy,))


def test_a_failed_run_holds_what_follows() -> None:
    world = seen(NOW, runs=(*DONE[:6], run(at("03-10 06:00"), "Failed")))
    assert (started(decide(world)), reason(decide(world))) == ([], "RunFailed")


def test_a_failure_is_known_at_once_and_not_only_when_the_next_run_is_due() -> None:
    failure = run(at("03-10 07:00"), "Failed")
    decision = decide(seen(NOW, runs=(*DONE, failure)))
    assert (decision.hold, decision.failed is not None and decision.failed.reason) == (None, "RunFailed")
    retrying = run(at("03-10 07:00"), "Running", name="by-hand", reason="manual")
    assert decide(seen(NOW, runs=(*DONE, failure, retrying))).failed is not None
    mended = replace(retrying, status={"phase": "Succeeded"})
    assert decide(seen(NOW, runs=(*DONE, failure, mended))).failed is None


def test_a_changed_definition_runs_the_failed_interval_again() -> None:
    world = seen(NOW, runs=(*DONE[:6], run(at("03-10 06:00"), "Failed", revision=OLDER)))
    assert started(decide(world)) == ["06:00"]


def test_a_repetition_by_hand_that_succeeds_lifts_the_hold() -> None:
    mended = run(at("03-10 06:00"), "Succeeded", name="by-hand", reason="manual")
    world = seen(NOW, runs=(*DONE[:6], run(at("03-10 06:00"), "Failed"), mended))
    assert started(decide(world)) == ["07:00"]


def test_a_pruned_run_is_known_from_its_commit() -> None:
    stamped = commit(
        9,
        at("03-10 07:05"),
        lakehouse_run="numerals-silver-20260310t0600",
        lakehouse_stage="silver",
        lakehouse_revision="aaaaaaaaaaaa",
        lakehouse_interval="2026-03-10T06:00:00Z/2026-03-10T07:00:00Z",
    )
    assert started(decide(seen(NOW, runs=DONE[:3], observation=bronze(stamped)))) == ["07:00"]


# --- data-complete triggering

EDGE = at("03-10 08:05")  # 08:00 and the watermark delay


def observed(committed: int, *, at_edge: int = 50, committed_at: str = "03-10 08:09") -> Observation:
    return bronze(
        commit(1, at("03-10 07:00"), at("03-10 06:59")),
        commit(2, at(committed_at), at("03-10 08:04")),
        kafka=(partition(0, committed, {EDGE: at_edge}), partition(1, 0, {EDGE: 0})),
    )


def complete(committed: int, now: Any = NOW, status: Any = None, **changes: Any) -> StageDecision:
    world = seen(now, runs=DONE, observation=observed(committed, **changes), status=status)
    return decide(world, trigger="dataComplete")


def test_the_decision_asks_kafka_for_the_interval_s_end_and_the_watermark_delay() -> None:
    world = seen(NOW, runs=DONE)
    assert boundaries(policy(trigger="dataComplete"), world, entries(world)) == (EDGE,)


def test_bronze_that_lags_holds_the_run() -> None:
    decision = complete(49)
    assert (started(decision), reason(decision)) == ([], "WaitingForBronze")


def test_what_does_not_answer_is_waited_for_until_the_deadline() -> None:
    away = Observation(problem="Kafka did not answer", interrupted=True)
    held = decide(seen(NOW, runs=DONE, observation=away), trigger="dataComplete")
    assert (started(held), reason(held)) == ([], "NoAnswer")
    late = decide(seen(at("03-10 10:00"), runs=DONE, observation=away), trigger="dataComplete")
    assert [new.because for new in late.start] == ["Deadline"]


def test_committed_offsets_wait_for_their_iceberg_commit() -> None:
    decision = complete(50)
    assert (started(decision), reason(decision)) == ([], "WaitingForCommit")
    assert decision.layer.offsets_committed is not None


def test_the_iceberg_commit_after_the_offsets_starts_the_run() -> None:
    before = complete(50)
    layer = before.layer.to_raw() | {"since": "2026-03-01T00:00:00Z"}
    decision = complete(50, now=at("03-10 08:11"), status={"layers": {"silver": layer}}, committed_at="03-10 08:10")
    assert (started(decision), decision.start[0].because) == (["07:00"], "DataComplete")


def test_an_idle_partition_completes_by_itself() -> None:
    layer = {
        "since": "2026-03-01T00:00:00Z",
        "offsetsCommitted": {"boundary": "2026-03-10T08:05:00Z", "seenAt": "2026-03-10T08:06:00Z"},
    }
    assert started(complete(0, at_edge=0, status={"layers": {"silver": layer}})) == ["07:00"]


def test_late_events_are_waited_for_first() -> None:
    assert reason(complete(50, now=at("03-10 08:04"))) == "WaitingForWatermark"


def test_at_the_deadline_the_run_starts_and_says_so() -> None:
    decision = complete(49, now=at("03-10 10:00"))
    assert (started(decision), decision.start[0].because) == (["07:00"], "Deadline")


def test_without_rights_to_observe_the_clock_decides_and_says_so() -> None:
    decision = decide(seen(NOW, runs=DONE), trigger="dataComplete")
    assert decision.start[0].because == "Clock"


def test_each_of_five_late_runs_gets_the_commits_that_it_would_have_had_on_time() -> None:
    commits = [commit(n, at(f"03-10 0{n}:01"), at(f"03-10 0{n}:00") - timedelta(seconds=1)) for n in range(1, 9)]
    commits += [commit(n + 10, at(f"03-10 0{n}:10"), at(f"03-10 0{n}:06")) for n in range(1, 9)]
    history = bronze(*sorted(commits, key=lambda c: c.committed_at))
    runs: tuple[RunObject, ...] = DONE[:3]
    ranges = []
    for _ in range(4):
        new = decide(seen(NOW, runs=runs, observation=history)).start[0]
        assert new.interval is not None
        ranges.append((new.after, new.upto))
        runs = (*runs, run(new.interval.start, "Succeeded", upto=new.upto))
    assert ranges == [(None, 14), (14, 15), (15, 16), (16, 17)]


# --- gold after silver


def gold(world: Observed) -> StageDecision:
    return decide(
        world,
        stage="gold",
        schedule="30 1 * * *",
        interval=timedelta(days=1),
        after="silver",
        trigger="dataComplete",
        deadline=timedelta(hours=6),
    )


def silver_day(hours: int) -> tuple[RunObject, ...]:
    return tuple(run(at("03-09 00:00") + timedelta(hours=hour), "Succeeded") for hour in range(hours))


SINCE = {"layers": {"gold": {"since": "2026-03-09T00:00:00Z"}, "silver": {"since": "2026-03-09T00:00:00Z"}}}


def test_gold_waits_for_all_silver_hours_of_its_day() -> None:
    assert reason(gold(seen(at("03-10 01:30"), runs=silver_day(23), status=SINCE))) == "WaitingForSilver"
    decision = gold(seen(at("03-10 01:30"), runs=silver_day(24), status=SINCE))
    assert [new.because for new in decision.start] == ["SilverDone"]


def test_a_silver_hole_in_the_day_holds_gold() -> None:
    holed = (*silver_day(10), run(at("03-09 10:00"), "Failed"), *silver_day(24)[11:])
    assert reason(gold(seen(at("03-10 01:30"), runs=holed, status=SINCE))) == "SilverFailed"


def test_at_its_deadline_gold_goes_past_silver_that_is_late_and_never_past_silver_that_failed() -> None:
    late, failure = at("03-10 06:00"), run(at("03-09 10:00"), "Failed")
    behind = gold(seen(late, runs=silver_day(23), status=SINCE))
    assert [new.because for new in behind.start] == ["Deadline"]
    holed = (*silver_day(10), failure, *silver_day(24)[11:])
    held = gold(seen(late, runs=holed, status=SINCE))
    assert (started(held), reason(held), failure.name in str(held.hold)) == ([], "SilverFailed", True)
    mended = run(at("03-09 10:00"), "Succeeded", name="by-hand", reason="manual")
    assert [new.because for new in gold(seen(late, runs=(*holed, mended), status=SINCE)).start] == ["SilverDone"]


def test_completed_through_stops_at_the_first_hole() -> None:
    holed = (*silver_day(10), run(at("03-09 10:00"), "Failed"), *silver_day(24)[11:])
    assert completed_through(entries(seen(NOW, runs=holed)), "silver") == at("03-09 10:00")


def test_an_interval_that_was_replaced_is_done_with_the_next_one() -> None:
    replaced = run(at("03-09 10:00"), "Cancelled")
    going_on = (*silver_day(10), replaced, run(at("03-09 11:00"), "Running"))
    assert completed_through(entries(seen(NOW, runs=going_on)), "silver") == at("03-09 10:00")
    whole = (*silver_day(10), replaced, *silver_day(24)[11:])
    assert completed_through(entries(seen(NOW, runs=whole)), "silver") == at("03-10 00:00")
    assert [new.because for new in gold(seen(at("03-10 01:30"), runs=whole, status=SINCE)).start] == ["SilverDone"]


def test_another_definition_tries_no_interval_again_whose_rows_the_next_one_has_taken() -> None:
    replaced = run(at("03-10 06:00"), "Cancelled", revision=OLDER)
    followed = decide(seen(NOW, runs=(replaced, run(at("03-10 07:00"), "Succeeded", revision=OLDER))))
    assert started(followed) == []
    assert started(decide(seen(NOW, runs=(run(at("03-10 05:00"), "Succeeded"), replaced)))) == ["06:00"]


# --- history


def test_runs_beyond_the_limits_are_forgotten_oldest_first() -> None:
    world = seen(NOW, runs=DONE)
    assert [old.name[-5:] for old in forgettable(policy(keep_succeeded=5), world)] == ["t0000", "t0100"]


def test_the_run_of_the_newest_interval_is_never_forgotten() -> None:
    newest = run(at("03-10 07:00"), "Failed")
    assert forgettable(policy(keep_failed=0), seen(NOW, runs=(*DONE, newest))) == ()
