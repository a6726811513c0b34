"""A backfill: the list first, then approval, then runs that collide with nobody."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from lakehouse_contract import commits
from lakehouse_operator.api.backfill import BackfillStatus
from lakehouse_operator.api.run import AuditLimits
from lakehouse_operator.planning import batch
from lakehouse_operator.planning.backfill import BackfillDecision, Definition, decide_backfill
from lakehouse_operator.planning.due import NewRun
from lakehouse_operator.planning.ledger import entries
from lakehouse_operator.planning.observed import BackfillObject, Observed, RunObject
from lakehouse_operator.planning.plan import CreateOnce, Hold
from planning import examples
from planning.batch_builders import OLDER, REVISION, at, bronze, commit, run, seen
from planning.batch_world import BatchWorld

NOW = at("03-10 08:10")
DEFINITION = Definition(name="kept", revisions={"silver": REVISION, "gold": REVISION}, bronze_table="bronze.events")
BRONZE = bronze(commit(7, at("03-10 08:00")))


def backfill(first: str = "2026-03-01", last: str = "2026-03-03", **spec: Any) -> BackfillObject:
    whole = {"pipelineRef": {"name": "numerals"}, "range": {"first": first, "last": last}, **spec}
    return BackfillObject(name="mend", uid="b", generation=2, created_at=NOW, spec=whole, status={}, deleting=False)


def decide(asked: BackfillObject, *runs: RunObject, definition: Definition = DEFINITION) -> BackfillDecision:
    world = seen(NOW, runs=runs, observation=BRONZE)
    return decide_backfill(asked, world, entries(world), definition)


def states(decision: BackfillDecision) -> list[str]:
    return [f"{i.stage} {i.first[-2:]} {i.state}" for i in decision.status.intervals]


def told(status: BackfillStatus) -> list[tuple[str, str]]:
    return [(each.type, each.status) for each in status.conditions]


def of(new: NewRun, phase: str) -> RunObject:
    assert new.days is not None
    base = run(NOW, phase, stage=new.stage, name=new.name, reason="backfill")
    spec = {key: value for key, value in base.spec.items() if key != "dataInterval"}
    days = {"first": new.days[0], "last": new.days[1]}
    return replace(base, spec={**spec, "days": days, "backfill": "mend"})


def test_the_list_is_shown_and_nothing_runs_before_approval() -> None:
    decision = decide(backfill())
    assert decision.status.phase == "Proposed"
    assert states(decision)[:3] == ["silver 01 Planned", "silver 02 Planned", "silver 03 Planned"]
    assert decision.start == ()


def test_approved_it_runs_as_many_as_allowed_from_one_pinned_snapshot() -> None:
    decision = decide(backfill(approved=True, maxConcurrent=2))
    assert [(new.days, new.upto) for new in decision.start] == [
        (("2026-03-01", "2026-03-01"), 7),
        (("2026-03-02", "2026-03-02"), 7),
    ]
    assert decision.status.source_snapshot == "7"


def test_the_limits_of_the_audit_travel_with_the_runs() -> None:
    (plain,) = decide(backfill(approved=True)).start
    assert plain.audit is None
    asked = backfill(approved=True, audit={"maxEventsLost": 1.0}, range={"first": "2026-03-01", "last": "2026-03-01"})
    (silver,) = decide(asked).start
    assert silver.audit == AuditLimits(max_events_lost=1.0)
    (gold,) = decide(asked, of(silver, "Succeeded")).start
    assert (gold.stage, gold.audit) == ("gold", AuditLimits(max_events_lost=1.0))


def test_once_approved_it_computes_all_its_days_with_the_definition_of_then() -> None:
    asked = backfill(approved=True, stages=["silver"])
    begun = decide(asked)
    (one,) = begun.start
    later = replace(asked, status=begun.status.to_raw())
    edited = replace(DEFINITION, name="newer", revisions={"silver": OLDER, "gold": OLDER})
    decision = decide(later, of(one, "Succeeded"), definition=edited)
    assert [new.revision for new in decision.start] == [REVISION]
    assert (decision.status.definition, decision.status.silver_revision) == ("kept", REVISION)


def test_before_it_is_approved_it_shows_what_it_would_compute_with() -> None:
    asked = backfill(stages=["silver"])
    proposed = replace(asked, status=decide(asked).status.to_raw())
    edited = replace(DEFINITION, name="newer", revisions={"silver": OLDER, "gold": OLDER})
    assert decide(proposed, definition=edited).status.silver_revision == OLDER


def test_its_conditions_say_the_same_as_its_phase_and_keep_their_time() -> None:
    asked = backfill(approved=True, stages=["silver"], range={"first": "2026-03-01", "last": "2026-03-01"})
    begun = decide(asked)
    assert told(begun.status) == [("Succeeded", "Unknown"), ("Reconciling", "True")]
    (one,) = begun.start
    world = replace(seen(NOW + timedelta(hours=1), runs=(of(one, "Running"),)), observation=BRONZE)
    later = decide_backfill(replace(asked, status=begun.status.to_raw()), world, entries(world), DEFINITION)
    times = [[each.last_transition_time for each in decision.status.conditions] for decision in (begun, later)]
    assert times[0] == times[1]
    assert told(decide(asked, of(one, "Failed")).status) == [("Succeeded", "False"), ("Stalled", "True")]
    assert told(decide(asked, of(one, "Succeeded")).status) == [("Succeeded", "True")]
    assert told(decide(backfill()).status) == [("Succeeded", "Unknown")], "the proposal is made"


def test_newest_first() -> None:
    assert decide(backfill(approved=True, order="newestFirst")).start[0].days == ("2026-03-03", "2026-03-03")


def test_several_days_in_a_run_end_with_the_range() -> None:
    decision = decide(backfill(approved=True, daysPerRun=2, maxConcurrent=9, stages=["silver"]))
    assert [new.days for new in decision.start] == [("2026-03-01", "2026-03-02"), ("2026-03-03", "2026-03-03")]


def test_gold_follows_silver_day_by_day() -> None:
    asked = backfill(approved=True, maxConcurrent=9)
    silver = decide(asked).start
    assert {new.stage for new in silver} == {"silver"}
    decision = decide(asked, of(silver[0], "Succeeded"), of(silver[1], "Running"), of(silver[2], "Running"))
    assert [(new.stage, new.days) for new in decision.start] == [("gold", ("2026-03-01", "2026-03-01"))]


def test_it_waits_for_a_scheduled_run_in_flight() -> None:
    decision = decide(backfill(approved=True), run(at("03-10 07:00"), "Running"))
    assert (decision.start, decision.status.phase) == ((), "Approved")
    assert "numerals-silver" in (decision.status.message or "")


def test_a_scheduled_run_that_is_due_goes_before_further_days() -> None:
    asked = backfill(approved=True, maxConcurrent=2)
    first, second = (of(new, "Running") for new in decide(asked).start)
    due = replace(DEFINITION, due=frozenset({"silver"}))
    ended = replace(first, status={**first.status, "phase": "Succeeded"})
    waiting = decide(asked, ended, second, definition=due)
    assert (waiting.start, waiting.status.message) == ((), "lets the scheduled run of silver go first")
    assert len(decide(asked, ended, second).start) == 1
    # Of a stage that it does not compute it takes no notice.
    silver = backfill(approved=True, stages=["silver"])
    assert decide(silver, definition=replace(due, due=frozenset({"gold"}))).start


def test_the_schedule_tells_backfills_what_is_due() -> None:
    valid = examples.valid("roman-numerals")
    asked = backfill(approved=True, maxConcurrent=2, stages=["silver"])
    first, _ = decide(asked).start
    layers = {stage: {"since": f"2026-03-10T0{hour}:00:00Z"} for stage, hour in (("silver", 5), ("gold", 8))}
    world = replace(seen(NOW, runs=(of(first, "Running"),), status={"layers": layers}), backfills=(asked,))

    def created(observed: Observed) -> list[str]:
        decided = batch.decide(valid, observed, definition="kept", paused=None, definitions={})
        specs = [action.manifest["spec"] for action in decided.actions if isinstance(action, CreateOnce)]
        return [spec["reason"] for spec in specs if "reason" in spec]

    assert created(world) == []
    assert created(replace(world, runs=())) == ["schedule"]
    nothing_due = {"layers": {**layers, "silver": {"since": "2026-03-10T08:00:00Z"}}}
    assert created(replace(world, pipeline=replace(world.pipeline, status=nothing_due))) == ["backfill"]


def test_a_paused_pipeline_pauses_its_backfills() -> None:
    paused = replace(DEFINITION, paused=Hold(reason="Suspended", message="the pipeline is suspended"))
    assert decide(backfill(approved=True), definition=paused).start == ()


def test_reprocess_none_leaves_days_that_were_computed() -> None:
    decision = decide(backfill(reprocess="none", stages=["silver"]), run(at("03-02 00:00"), "Failed", hours=24))
    # the run of 2 March ends at midnight, which is the first instant of the 3rd and belongs to it
    assert states(decision) == ["silver 01 Planned", "silver 02 Skipped", "silver 03 Planned"]


def test_reprocess_failed_takes_failed_missing_and_outdated_days() -> None:
    decision = decide(
        backfill("2026-03-01", "2026-03-04", reprocess="failed", stages=["silver"]),
        run(at("03-01 01:00"), "Failed"),
        run(at("03-02 01:00"), "Succeeded"),
        run(at("03-03 01:00"), "Succeeded", revision=OLDER),
    )
    assert [i.was for i in decision.status.intervals] == ["Failed", "Succeeded", "Outdated", "Missing"]
    assert [i.state for i in decision.status.intervals] == ["Planned", "Skipped", "Planned", "Planned"]


def test_what_was_known_of_a_day_is_its_latest_outcome_whichever_run_it_was_of() -> None:
    hourly = run(at("03-01 01:00"), "Succeeded")
    asked = backfill(approved=True, stages=["silver"], range={"first": "2026-03-01", "last": "2026-03-01"})
    (one,) = decide(asked).start
    again = replace(backfill(reprocess="failed", stages=["silver"]), uid="another")
    assert states(decide(again, hourly, of(one, "Failed")))[0] == "silver 01 Planned"
    later = replace(hourly, status={"phase": "Succeeded", "finishedAt": "2026-03-10T09:11:00Z"})
    assert states(decide(again, later, of(one, "Failed")))[0] == "silver 01 Skipped"
    assert states(decide(again, hourly, of(one, "Cancelled")))[0] == "silver 01 Skipped", "it has computed nothing"


def test_one_that_failed_says_which_days_are_left() -> None:
    asked = backfill(approved=True, stages=["silver"])
    (one,) = decide(asked).start
    (two,) = decide(asked, of(one, "Succeeded")).start
    message = str(decide(asked, of(one, "Succeeded"), of(two, "Failed")).status.message)
    assert message.endswith("create a new backfill of what is left, 2026-03-02 to 2026-03-03")


def test_the_list_stays_as_it_was_approved_whatever_runs_come_later() -> None:
    asked = backfill(reprocess="none", stages=["silver"])
    proposed = decide(asked)
    later = replace(asked, status=proposed.status.to_raw(), spec={**asked.spec, "approved": True})
    decision = decide(later, run(at("03-02 05:00"), "Succeeded"))
    assert [i.state for i in decision.status.intervals] == ["Waiting", "Waiting", "Waiting"]


def test_when_all_is_done_it_has_succeeded() -> None:
    asked = backfill(approved=True, stages=["silver"], maxConcurrent=9)
    done = [of(new, "Succeeded") for new in decide(asked).start]
    assert decide(asked, *done).status.phase == "Succeeded"


def test_a_failed_day_starts_no_more_and_ends_it_when_the_others_are_over() -> None:
    asked = backfill(approved=True, stages=["silver"], maxConcurrent=2)
    one, two = decide(asked).start
    busy = decide(asked, of(one, "Failed"), of(two, "Running"))
    assert (busy.start, busy.status.phase) == ((), "Running")
    over = decide(asked, of(one, "Failed"), of(two, "Succeeded"))
    assert (over.status.phase, str(one.name) in (over.status.message or "")) == ("Failed", True)


def test_cancel_stops_what_runs_and_then_ends() -> None:
    asked = backfill(approved=True, stages=["silver"])
    (one,) = decide(asked).start
    stopping = replace(asked, spec={**asked.spec, "cancel": True})
    assert decide(stopping, of(one, "Running")).cancel == (one.name,)
    ended = decide(stopping, of(one, "Cancelled"))
    assert (ended.status.phase, states(ended)[1]) == ("Cancelled", "silver 02 Cancelled")


def test_days_whose_runs_are_forgotten_keep_their_outcome() -> None:
    asked = backfill(approved=True, stages=["silver"])
    (one,) = decide(asked).start
    begun = replace(asked, status=decide(asked, of(one, "Succeeded")).status.to_raw())
    forgotten = decide(begun)
    assert states(forgotten) == ["silver 01 Succeeded", "silver 02 Waiting", "silver 03 Waiting"]
    assert [new.days for new in forgotten.start] == [("2026-03-02", "2026-03-02")]
    failed = replace(asked, status=decide(asked, of(one, "Failed"), of(forgotten.start[0], "Running")).status.to_raw())
    assert decide(failed).status.phase == "Failed"


def test_a_run_that_is_deleted_before_its_outcome_is_created_again() -> None:
    asked = backfill(approved=True, stages=["silver"])
    (one,) = decide(asked).start
    begun = replace(asked, status=decide(asked, of(one, "Running")).status.to_raw())
    assert [new.name for new in decide(begun).start] == [one.name]


def test_a_backfill_of_more_days_than_the_history_keeps_comes_to_its_end() -> None:
    world = BatchWorld("all", "Forbid", bronze_goes_on=False)
    asked = backfill("2026-02-01", "2026-02-05", approved=True)
    world.backfills = {"mend": asked}
    for _ in range(40):
        world.round()
        world.spark()
    assert world.backfills["mend"].status["phase"] == "Succeeded"
    days = {f"2026-02-0{day}" for day in range(1, 6)}
    for stage in ("silver", "gold"):
        done = (each.properties for each in world.tables[stage])
        computed = [each[commits.RUN] for each in done if commits.INTERVAL not in each]
        assert len(computed) == len(set(computed)) == len(days), "each day is computed once"
    assert len(world.runs) < 2 * len(days)


def test_a_backfill_that_is_created_again_under_its_name_runs_again() -> None:
    asked = backfill(approved=True, stages=["silver"], range={"first": "2026-03-01", "last": "2026-03-01"})
    (one,) = decide(asked).start
    again = replace(asked, uid="another")
    for outcome in ("Succeeded", "Failed"):
        decision = decide(again, of(one, outcome))
        assert (decision.status.phase, [new.days for new in decision.start]) == ("Running", [one.days])
    assert decision.start[0].name != one.name
    waiting = decide(again, of(one, "Running"))
    assert (waiting.start, str(one.name) in str(waiting.status.message)) == ((), True), "it is still under way"


def test_a_stage_that_the_pipeline_lacks_is_refused() -> None:
    only_silver = replace(DEFINITION, revisions={"silver": REVISION})
    decision = decide(backfill(), definition=only_silver)
    assert (decision.status.phase, decision.status.message) == ("Failed", "spec.stages: the pipeline has no gold")


def test_a_backfill_that_is_over_stays_as_it_is() -> None:
    over = replace(backfill(approved=True), status={"phase": "Succeeded"})
    assert decide(over).start == ()
