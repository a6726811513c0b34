"""Recovery points, going back to one, and what happens when Flink has given up."""

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse_contract import commits
from lakehouse_operator.planning.observed import Commit, RunObject, TableView
from lakehouse_operator.planning.plan import SaveRecord
from lakehouse_operator.planning.points import resolve
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.record import to_data
from lakehouse_operator.planning.situation import (
    FORCE_DELETE_ANNOTATION,
    FORGET_ANNOTATION,
    RESTORE_ANNOTATION,
    RESTORE_ANYWAY_ANNOTATION,
    RETRY_ANNOTATION,
    SAVEPOINT_ANNOTATION,
)
from planning.stream_scenes import (
    at_rest,
    child,
    plan,
    reasons,
    replace_child,
    rewindable,
    rolled_back,
    stalled,
    until,
    world,
)
from planning.world import START, TABLE, Child


def history(*entries: tuple[str, int] | None) -> TableView:
    """A table whose commits are of (job, checkpoint); None is a commit of maintenance. Snapshot ids count from 1."""
    made = []
    for number, entry in enumerate(entries, start=1):
        properties = (
            {commits.FLINK_JOB_ID: entry[0], commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: str(entry[1])} if entry else {}
        )
        made.append(Commit(id=number, parent=number - 1, committed_at=START, operation="append", properties=properties))
    return TableView(name=TABLE, commits=tuple(made))


@pytest.mark.parametrize(
    ("bronze", "checkpoint", "at_rest", "answer"),
    [
        pytest.param(history(("a", 1), ("a", 2)), 2, False, (False, None), id="a later commit must be there first"),
        pytest.param(history(("a", 1), ("a", 2)), 2, True, (True, 2), id="a stopped job commits nothing more"),
        pytest.param(history(("a", 1), ("a", 3)), 2, False, (True, 1), id="the newest not above the savepoint's"),
        pytest.param(
            history(("a", 1), None, ("a", 3)), 2, False, (True, 1), id="maintenance in between is no commit of it"
        ),
        pytest.param(history(("a", 1), ("b", 1)), 2, False, (True, 1), id="another job has taken over"),
        pytest.param(history(("b", 5)), 2, False, (False, None), id="checkpoints of another job do not count"),
        pytest.param(history(("b", 7), ("a", 3)), 2, False, (True, 1), id="the job had not committed yet"),
        pytest.param(history(("a", 3)), 2, False, (True, None), id="bronze had no commit yet, and has now"),
        pytest.param(
            replace(history(("a", 1), ("a", 3)), commits=history(("a", 1), ("a", 3)).commits[1:]),
            2,
            False,
            (False, None),
            id="what was before the oldest commit that is seen is not known",
        ),
        pytest.param(None, 2, True, (True, None), id="there is no table yet"),
        pytest.param(None, 2, False, (False, None), id="there is no table yet, and the job goes on"),
    ],
)
def test_the_snapshot_of_a_savepoint(bronze, checkpoint, at_rest, answer):
    assert resolve("a", checkpoint, bronze, at_rest=at_rest) == answer


# --- taking points ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_savepoint_that_is_asked_for_is_taken_once_for_each_token(snapshots):
    asked = world()
    asked.capabilities = type(asked.capabilities)(
        flink_versions=frozenset({"v2_1"}), state_snapshots=snapshots, savepoint_redeploy=True
    )
    asked.go(rounds=22)
    asked.annotations[SAVEPOINT_ANNOTATION] = "before-the-party"
    asked.go(rounds=8)
    manual = [point for point in asked.record.points if point.trigger == "manual"]
    assert len(manual) == 1
    assert manual[0].proven
    assert asked.snapshots == {}, "nothing is left behind"
    asked.annotations[SAVEPOINT_ANNOTATION] = "and-after"
    asked.go(rounds=8)
    assert len([point for point in asked.record.points if point.trigger == "manual"]) == 2


def test_a_point_that_waits_for_its_commit_is_looked_at_soon_and_then_ever_more_seldom():
    """No event tells of a commit, and a pipeline at rest is looked at every five minutes."""
    asked = at_rest()
    asked.annotations[SAVEPOINT_ANNOTATION] = "1"
    while not any(point.trigger == "manual" for point in asked.record.points):
        asked.reconcile()
        asked.flink_operator()  # Flink itself commits nothing meanwhile
    assert not asked.record.points[-1].proven
    soon = plan(asked).wake_after.total_seconds()
    assert soon <= 15
    asked.now += timedelta(seconds=120)
    assert 100 < plan(asked).wake_after.total_seconds() <= 140
    asked.produce(3)
    asked.go(rounds=6)
    assert asked.record.points[-1].proven
    assert plan(asked).wake_after.total_seconds() > 200


def test_the_files_of_a_savepoint_stay_when_its_object_is_deleted():
    asked = at_rest()
    asked.annotations[SAVEPOINT_ANNOTATION] = "1"
    manifest = next(a.manifest for a in plan(asked).actions if type(a).__name__ == "CreateOnce")
    assert manifest["kind"] == "FlinkStateSnapshot"
    assert manifest["spec"]["savepoint"]["disposeOnDelete"] is False


def test_a_savepoint_that_fails_is_an_event_and_not_tried_for_ever():
    failing = at_rest()
    failing.faults = {"savepoints fail"}
    failing.annotations[SAVEPOINT_ANNOTATION] = "1"
    failing.go(rounds=6)
    assert "SavepointFailed" in reasons(failing)
    assert failing.record.pending is None
    assert plan(failing).actions == ()


def test_savepoints_come_by_schedule_and_the_oldest_go():
    scheduled = at_rest(recoveryPoints={"interval": "1h", "keep": 2})
    scheduled.go(300, rounds=60)
    points = scheduled.record.points
    assert len(points) == 2
    assert all(point.trigger == "schedule" and point.proven for point in points)
    assert set(scheduled.tags) == {f"recovery-{point.name}" for point in points}


def test_an_interval_of_zero_takes_none():
    never = at_rest(recoveryPoints={"interval": "0s"})
    never.go(600, rounds=20)
    assert never.record.points == ()


def test_points_by_hand_and_those_that_are_needed_stay():
    kept = at_rest(recoveryPoints={"interval": "1h", "keep": 1})
    kept.annotations[SAVEPOINT_ANNOTATION] = "1"
    kept.go(rounds=6)
    kept.suspend()
    until(kept, "Suspended")
    resting = kept.record.resting_on
    kept.go(3600, rounds=4)
    names = [point.name for point in kept.record.points]
    assert resting in names
    assert any(name.startswith("manual-") for name in names)


def test_the_newest_proven_point_stays_however_many_unproven_ones_follow():
    kept = at_rest(recoveryPoints={"interval": "1h", "keep": 1})
    proven = kept.record.points[0].name
    kept.faults = {"catalog down"}
    kept.go(600, rounds=20)
    assert len(kept.record.points) == 2
    assert kept.record.point(proven).proven
    assert not kept.record.points[-1].proven


def test_a_savepoint_that_another_job_may_have_taken_is_no_point():
    swapped = at_rest()
    swapped.annotations[SAVEPOINT_ANNOTATION] = "1"
    swapped.reconcile()
    swapped.flink_operator()
    assert [each.state for each in swapped.snapshots.values()] == ["Completed"]
    job = {**swapped.child.spec["job"], "state": "suspended"}
    swapped.child.spec = {**swapped.child.spec, "job": job}
    swapped.child.generation += 1
    swapped.flink_operator()
    swapped.go(rounds=8)
    assert [point for point in swapped.record.points if point.trigger == "manual"] == []
    assert "SavepointFailed" in reasons(swapped)


def test_a_point_whose_files_are_gone_is_no_longer_proven_and_that_is_news():
    gone = at_rest()
    del gone.store[gone.record.points[0].path]
    gone.go()
    assert not gone.record.points[0].proven
    assert "RecoveryPointLost" in reasons(gone)
    assert gone.condition("RecoveryPointCurrent")["status"] == "False"


def test_a_store_that_does_not_answer_takes_nothing_back():
    dark = at_rest()
    dark.faults = {"store down"}
    dark.go(rounds=3)
    assert dark.record.points[0].proven


def test_a_tag_that_somebody_removed_is_set_again():
    untagged = at_rest()
    untagged.tags.clear()
    untagged.go()
    assert list(untagged.tags) == [f"recovery-{untagged.record.points[0].name}"]


# --- going back to one ------------------------------------------------------------------------------------------------


def test_a_restore_takes_stream_and_bronze_back_together_and_marks_the_days():
    back = rewindable()
    point = back.record.points[0]
    head = back.table[-1].id
    back.annotations[RESTORE_ANNOTATION] = point.name
    until(back, "Rewinding")
    until(back, "Running")
    assert back.record.launch.point == point.path
    assert head not in [commit.id for commit in back.table]
    assert [name for name in back.tags if name.startswith("discarded-")]
    assert back.record.stale_days == ("2026-01-31",)
    assert "stale" not in back.status, "this pipeline has no layer that could be"
    back.go(rounds=3)
    assert back.missing_or_doubled() is None
    assert back.kafka_end == int(back.table[-1].properties["span"].split("-")[1]), "everything is read again"


def silver_days(
    made, *, days=("2026-01-30", "2026-02-01"), minutes=1, phase="Succeeded", snapshot=None, stage="silver"
):
    """What is seen, and a run of whole days that was created some minutes after now."""
    at = {} if snapshot is None else {"atSnapshot": str(snapshot)}
    run = RunObject(
        name="days",
        uid="run-1",
        owner_uid=None,
        created_at=made.now + timedelta(minutes=minutes),
        spec={"stage": stage, "days": {"first": days[0], "last": days[1], **at}},
        status={"phase": phase},
        annotations={},
        deleting=False,
    )
    return replace(made.see(), runs=(run,))


def stale_after(seen):
    """The stale days in the record that is to be written; those of the present one if none is."""
    saved = [action.record for action in reconcile(seen).actions if isinstance(action, SaveRecord)]
    return (saved[0] if saved else seen.record).stale_days


def test_days_that_a_run_computes_anew_after_the_rewind_are_no_longer_stale():
    back = rewindable()
    discarded = back.table[-1].id
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(until(back, "Rewinding"), "Running")
    back.go(rounds=2)
    stale = ("2026-01-31",)
    assert stale_after(back.see()) == stale
    assert stale_after(silver_days(back)) == ()
    assert stale_after(silver_days(back, snapshot=back.table[-1].id)) == ()
    assert stale_after(silver_days(back, days=("2026-01-29", "2026-01-30"))) == stale, "other days"
    assert stale_after(silver_days(back, minutes=-600)) == stale, "it is from before the rewind"
    assert stale_after(silver_days(back, phase="Failed")) == stale
    assert stale_after(silver_days(back, stage="gold")) == stale, "it read the silver that is stale"
    assert stale_after(silver_days(back, snapshot=discarded)) == stale, "it read what was discarded"


def days_left_by_a_restore(back, change):
    """The stale days after going back to the first point. Each commit is seen changed, by how new it is: 0, 1..."""
    newest = [commit.id for commit in reversed(back.table)]
    really = back.see

    def see():
        seen = really()
        bronze = seen.observation.tables[TABLE]
        # What is committed while the stream stops holds no rows.
        commits = tuple(
            change(newest.index(each.id), each) if each.id in newest else replace(each, event_days=())
            for each in bronze.commits
        )
        tables = {**seen.observation.tables, TABLE: replace(bronze, commits=commits)}
        return replace(seen, observation=replace(seen.observation, tables=tables))

    back.see = see
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(until(back, "Rewinding"), "Running")
    return back.record.stale_days


def test_the_stale_days_are_those_that_the_discarded_files_tell():
    told = {0: ("2026-01-07",), 1: ("2026-01-05", "2026-01-07"), 2: ()}
    days = days_left_by_a_restore(
        rewindable(), lambda age, commit: replace(commit, event_days=told.get(age, ("2026-01-06",)))
    )
    assert days == ("2026-01-05", "2026-01-06", "2026-01-07")


def test_a_rewrite_by_maintenance_makes_no_day_stale():
    def change(age, commit):
        if age == 0:
            return replace(commit, event_days=("2025-06-01",), operation="replace")
        return replace(commit, event_days=("2026-01-06",))

    assert days_left_by_a_restore(rewindable(), change) == ("2026-01-06",)


def test_a_stream_that_was_behind_leaves_the_days_that_its_records_arrived_on():
    back = rewindable()
    point = back.record.points[0].bronze_snapshot

    def change(_, commit):
        # Nobody looked how far the point's own rows had arrived; it was committed long after that.
        arrived = None if commit.id == point else START - timedelta(days=2)
        return replace(commit, kafka_timestamp_max=arrived)

    assert (START - timedelta(days=2)).date().isoformat() in days_left_by_a_restore(back, change)


def test_a_point_that_is_older_than_all_commits_that_are_seen_is_gone_back_to():
    back = rewindable()
    first = back.record.points[0]
    for token in ("1", "2"):
        back.annotations[SAVEPOINT_ANNOTATION] = token
        back.produce(20)
        back.go(rounds=6)
    later = [point.name for point in back.record.points[1:]]
    head = back.table[-1].id
    back.most_commits = 2
    back.reconcile()
    assert all(point.proven for point in back.record.points)
    back.annotations[RESTORE_ANNOTATION] = first.name
    until(until(back, "Rewinding"), "Running")
    assert back.record.launch.point == first.path
    assert head not in [commit.id for commit in back.table]
    assert len(later) == 2
    assert all(back.record.point(name).discarded for name in later)
    back.go(rounds=3)
    assert back.missing_or_doubled() is None


def test_what_was_discarded_and_is_not_seen_makes_all_days_stale_that_it_can_have_touched():
    def old(_, commit):
        return replace(commit, event_days=("2025-06-01",))

    assert days_left_by_a_restore(rewindable(), old) == ("2025-06-01",)
    back = rewindable()
    back.most_commits = 2
    assert days_left_by_a_restore(back, old) == ("2026-01-31",)


def test_a_restore_is_carried_out_once():
    back = rewindable()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(until(back, "Rewinding"), "Running")
    back.go(rounds=5)
    assert reasons(back).count("BronzeRolledBack") == 1
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name + "/again"
    back.go()
    assert back.record.operation.kind == "rewind"


def test_a_point_after_the_one_gone_back_to_is_discarded():
    back = rewindable()
    first = back.record.points[0].name
    back.annotations[SAVEPOINT_ANNOTATION] = "1"
    back.go(rounds=6)
    later = back.record.points[-1].name
    back.annotations[RESTORE_ANNOTATION] = first
    until(until(back, "Rewinding"), "Running")
    assert back.record.point(later).discarded
    back.annotations[RESTORE_ANNOTATION] = later
    back.go(rounds=2)
    assert back.condition("RequestRefused")["reason"] == "RecoveryPointNotProven"
    assert back.condition("Ready")["status"] == "True", "the stream is not touched"


def test_a_savepoint_that_can_never_be_taken_is_refused_with_the_way_on():
    without = world(upgrade={"mode": "lastState"}, deletion={"policy": "Force"})
    del without.spec["bronze"]["checkpoint"]["savepointDirectory"]
    without.go(rounds=20)
    without.annotations[SAVEPOINT_ANNOTATION] = "1"
    without.go()
    refused = without.condition("RequestRefused")
    assert refused["reason"] == "NoSavepointDirectory"
    assert "spec.bronze.checkpoint.savepointDirectory" in refused["message"]
    assert without.condition("Ready")["status"] == "True"


def test_a_savepoint_of_a_stream_that_does_not_run_says_that_it_waits_and_is_taken_later():
    rests = at_rest()
    rests.suspend()
    until(rests, "Suspended")
    rests.annotations[SAVEPOINT_ANNOTATION] = "1"
    rests.go()
    assert rests.condition("RequestRefused")["reason"] == "SavepointWaits"
    rests.suspend(False)
    until(rests, "Running")
    rests.go(rounds=4)
    assert rests.condition("RequestRefused") == {}
    assert any(point.trigger == "manual" for point in rests.record.points)


@pytest.mark.parametrize(
    ("spoil", "reason", "says"),
    [
        pytest.param(
            lambda w: w.annotations.update({RESTORE_ANNOTATION: "nosuch"}),
            "UnknownRecoveryPoint",
            "known are: schedule-",
            id="an unknown point",
        ),
        pytest.param(lambda w: setattr(w, "observing", False), "RewindNotObserved", "can't read", id="no observation"),
        pytest.param(lambda w: w.store.clear(), "RecoveryPointNotProven", "can't be read", id="files that are gone"),
        pytest.param(
            lambda w: setattr(w, "kafka_start", 210), "KafkaGone", "bronze would lose up to", id="events that are gone"
        ),
        pytest.param(
            lambda w: w.table.__delitem__(slice(0, 8)), "SnapshotGone", "not an ancestor", id="a snapshot that is gone"
        ),
    ],
)
def test_a_restore_is_refused(spoil, reason, says):
    back = rewindable()
    before = back.record.deployed
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    spoil(back)
    back.reconcile()
    refused = back.condition("RequestRefused")
    assert refused["reason"] == reason
    assert says in refused["message"]
    assert back.record.operation is None
    assert back.record.deployed == before


def test_a_person_may_accept_what_kafka_has_lost():
    back = rewindable()
    name = back.record.points[0].name
    back.kafka_start = 210
    back.annotations.update({RESTORE_ANNOTATION: name, RESTORE_ANYWAY_ANNOTATION: name})
    back.reconcile()
    assert back.record.operation.kind == "rewind"


def test_a_restore_of_a_job_that_does_not_run_needs_no_savepoint_of_it():
    back = rewindable()
    back.fail_job(for_good=True)
    back.flink_operator()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(until(back, "Rewinding"), "Running")
    back.go(rounds=3)
    assert back.missing_or_doubled() is None


def test_a_suspended_stream_that_is_restored_stays_suspended():
    back = rewindable()
    first = back.record.points[0]
    back.suspend()
    until(back, "Suspended")
    back.annotations[RESTORE_ANNOTATION] = first.name
    back.go(rounds=6)
    assert back.record.resting_on == first.name
    assert back.cluster is None
    back.suspend(False)
    until(back, "Running")
    assert back.record.launch.point == first.path
    back.go(rounds=2)
    assert back.missing_or_doubled() is None


def test_a_rewind_survives_a_crash_right_after_bronze_was_rolled_back():
    back = rewindable()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(back, "Rewinding")
    while back.record.operation.stage != "rewinding" or not back.record.stale_days:
        back.go()
    status, record = back.status, back.record_data
    back.go()
    back.status, back.record_data = status, record  # as if the round had not written what came after
    until(back, "Running")
    back.go(rounds=3)
    assert back.missing_or_doubled() is None


# --- what a rewind has discarded is nothing to go on with -------------------------------------------------------------


def goes_on_well(made):
    """Let everybody go on: the stream runs, was never started without state, and nothing is missing or doubled."""
    until(made, "Running")
    made.go(rounds=3)
    assert made.stateless_starts == []
    assert made.missing_or_doubled() is None
    return made


def test_a_deployment_that_was_put_back_without_its_status_starts_from_the_newest_point_that_still_counts():
    back = rolled_back(rewindable())
    target, discarded = back.record.points
    kept = back.child
    back.annotations[FORCE_DELETE_ANNOTATION] = "true"
    back.delete()
    back.reconcile()
    back.flink_operator()
    assert back.record.resting_on == discarded.name
    back.child = Child(uid="put-back", spec=kept.spec, annotations=kept.annotations, labels=kept.labels)
    back.create_again()
    goes_on_well(back)
    assert back.record.launch.point == target.path


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: w.edit(image="flink:2"), id="an upgrade"),
        pytest.param(lambda w: w.suspend(), id="a suspension"),
    ],
)
def test_a_deployment_that_is_replaced_while_it_is_stopped_goes_back_to_the_newest_proven_point(change):
    anew = rewindable()
    change(anew)
    anew.reconcile()
    replace_child(anew)
    anew.go(rounds=4)
    anew.suspend(False)
    goes_on_well(anew)
    assert anew.record.launch.point == anew.record.points[0].path


def discarding_the_newest_point(made):
    """The record says that a rewind has discarded the newest point, and that the stream rests on it."""
    *others, newest = made.record.points
    known = (*others, replace(newest, proven=False, discarded=True))
    made.record_data = to_data(replace(made.record, points=known, resting_on=newest.name))


def test_an_upgrade_does_not_go_on_from_a_point_that_a_rewind_has_discarded():
    anew = rewindable()
    anew.annotations[SAVEPOINT_ANNOTATION] = "1"
    anew.go(rounds=6)
    anew.edit(image="flink:2")
    anew.reconcile()
    replace_child(anew)
    discarding_the_newest_point(anew)
    goes_on_well(anew)
    assert anew.record.launch.point == anew.record.points[0].path


def test_a_stop_does_not_wait_for_the_proof_of_a_point_that_a_rewind_has_discarded():
    back = rewindable()
    back.edit(image="flink:2")
    for _ in range(10):
        if back.record.operation is not None and back.record.operation.stage == "proving":
            break
        back.go()
    assert back.record.operation.stage == "proving"
    discarding_the_newest_point(back)
    back.go(rounds=2)
    assert back.record.operation.stage == "rewinding", "without the five minutes that a proof may take"
    goes_on_well(back)
    assert back.record.launch.point == back.record.points[0].path


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_stopped_stream_whose_metadata_is_gone_goes_back_to_the_newest_proven_point(upgrade):
    gone = rewindable(upgrade={"mode": "savepoint" if upgrade else "lastState"})
    if upgrade:
        gone.edit(image="flink:2")
        gone.reconcile()
        # Another hand is quicker, and stops it in its own way.
        gone.child.spec["job"]["upgradeMode"] = "last-state"
    else:
        gone.suspend()
        gone.reconcile()
    gone.flink_operator()
    assert gone.child.reconciled["job"]["upgradeMode"] == "last-state"
    gone.ha, gone.ha_exists = None, False
    gone.suspend(False)
    goes_on_well(gone)
    assert gone.record.launch.point == gone.record.points[0].path


# --- another hand starts what rests -----------------------------------------------------------------------------------


def started_by_another_hand(**how):
    """A suspended stream that somebody has started all the same, by its deployment, and that has committed since."""
    made = rewindable(**how)
    made.suspend()
    until(made, "Suspended")
    made.change_child(state="running")
    for _ in range(6):
        made.produce(5)
        made.flink_operator()
        made.flink()
    assert made.cluster.job.state == "RUNNING"
    return made


def deleted(made):
    """Somebody deletes the deployment, and the stream is to go on."""
    made.child.deleting = True
    made.flink_operator()
    assert made.child is None
    made.suspend(False)
    return made


@pytest.mark.parametrize("looks", [0, 1])
def test_a_resting_stream_that_another_hand_let_run_is_started_from_its_point_only_together_with_bronze(looks):
    ran = started_by_another_hand()
    for _ in range(looks):
        ran.reconcile()
    goes_on_well(deleted(ran))
    assert ran.record.launch.point == ran.record.points[-1].path
    assert "BronzeRolledBack" in reasons(ran)


def test_where_bronze_is_not_observed_such_a_stream_waits_for_a_person():
    ran = started_by_another_hand(observing=False)
    ran.reconcile()
    assert ran.record.resting_on is None
    deleted(ran).go(rounds=4)
    assert stalled(ran) == "NoRecoveryPoint"
    assert ran.child is None


def test_a_resting_stream_that_another_hand_has_started_and_stopped_goes_on_from_its_newest_savepoint():
    ran = started_by_another_hand()
    ran.change_child(state="suspended", upgradeMode="savepoint")
    ran.flink_operator()
    newest = ran.child.savepoint_path
    assert newest not in [point.path for point in ran.record.points]
    ran.suspend(False)
    goes_on_well(ran)
    assert ran.record.launch.point == newest
    assert "BronzeRolledBack" not in reasons(ran)


def test_a_suspended_stream_that_another_hand_starts_is_suspended_again_with_its_newest_state():
    ran = started_by_another_hand()
    first = ran.record.resting_on
    until(ran, "Suspended")
    assert ran.record.resting_on not in (None, first)
    assert ran.cluster is None
    ran.suspend(False)
    goes_on_well(ran)


# --- beyond Flink's own restarts --------------------------------------------------------------------------------------


def failed(**how):
    made = at_rest(**how)
    made.fail_job(for_good=True)
    made.flink_operator()
    return made


def test_a_failed_job_is_started_again_from_its_newest_state_after_a_while():
    down = failed()
    down.reconcile()
    assert down.condition("Ready")["reason"] == "Recovering"
    assert child(down) is None, "not at once"
    down.now += timedelta(minutes=1)
    assert (child(down)["job"]["upgradeMode"], child(down)["restartNonce"]) == ("last-state", 1)
    until(down, "Running")
    assert down.stateless_starts == []
    assert down.missing_or_doubled() is None


def test_recovery_is_ever_more_patient_and_not_for_ever():
    down = failed(restart={"recovery": {"retries": 3, "backoff": "1m", "maxBackoff": "3m"}})
    attempts = []
    for _ in range(120):
        down.go(30)
        if down.cluster and down.cluster.job and down.cluster.job.state == "RUNNING":
            attempts.append(down.now)
            down.fail_job(for_good=True)
    assert len(attempts) == 3
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert waits == sorted(waits)
    assert stalled(down) == "RecoveryExhausted"
    down.annotations[RETRY_ANNOTATION] = "1"
    until(down, "Running", seconds=60)


def test_after_running_well_for_long_enough_the_count_starts_again():
    down = failed()
    until(down, "Running", seconds=60)
    assert down.status["stream"]["recoveries"] == 1
    down.go(600, rounds=9)
    assert down.record.recoveries is None


def test_while_flink_restarts_the_job_by_itself_it_is_left_alone():
    busy = at_rest()
    busy.fail_job()
    busy.faults = {"flink operator down"}
    busy.child.job_state = "RESTARTING"
    for _ in range(40):
        assert child(busy) is None
        busy.reconcile()
        busy.now += timedelta(minutes=1)
    assert busy.condition("Ready")["reason"] == "NotRunning"


def test_without_metadata_and_observation_it_is_not_started_empty():
    lost = at_rest(observing=False)
    lost.kill_job_manager()
    lost.ha, lost.ha_exists = None, False
    # Somebody's change that the Flink operator can't carry out, so it does not even try to recover the JobManager.
    lost.child.foreign["ingress"] = {"template": "x"}
    lost.child.spec = {**lost.child.spec, **lost.child.foreign}
    lost.child.generation += 1
    lost.go(60, rounds=14)
    assert lost.condition("Stalled")["reason"] == "NoRecoveryPoint"
    assert lost.child is not None
    assert lost.stateless_starts == []


def test_when_the_metadata_is_gone_it_goes_back_to_the_newest_proven_point():
    lost = rewindable()
    lost.kill_job_manager()
    lost.ha, lost.ha_exists = None, False
    until(until(lost, "Rewinding", seconds=60), "Running", seconds=60)
    assert lost.stateless_starts == []
    lost.go(rounds=3)
    assert lost.missing_or_doubled() is None


# --- giving up --------------------------------------------------------------------------------------------------------


def by_hand(made):
    """The names of the points that a person asked for."""
    return [point.name for point in made.record.points if point.trigger == "manual"]


def asked_for(made, token):
    made.annotations[SAVEPOINT_ANNOTATION] = token
    for _ in range(6):
        made.produce(10)
        made.go()


def with_two_by_hand():
    made = at_rest()
    asked_for(made, "1")
    asked_for(made, "2")
    return made


def test_a_point_that_a_person_gives_up_goes_with_its_tag():
    made = with_two_by_hand()
    first, second = by_hand(made)
    made.annotations[FORGET_ANNOTATION] = f"{first}/1"
    made.go(rounds=2)
    assert by_hand(made) == [second]
    assert f"recovery-{first}" not in made.tags
    assert f"recovery-{second}" in made.tags


def test_the_newest_proven_point_is_not_given_up_before_there_is_another():
    made = with_two_by_hand()
    newest = by_hand(made)[-1]
    made.annotations[FORGET_ANNOTATION] = f"{newest}/1"
    made.go(rounds=2)
    assert newest in by_hand(made)
    assert made.condition("RequestRefused")["reason"] == "RecoveryPointNeeded"
    asked_for(made, "3")
    assert newest not in by_hand(made)
    assert not made.condition("RequestRefused")


def test_a_head_that_a_rewind_discarded_is_kept_for_a_week():
    back = rewindable()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    until(until(back, "Rewinding"), "Running")
    back.go()
    assert [head.tag for head in back.record.discarded] == [tag for tag in back.tags if tag.startswith("discarded-")]
    back.now += timedelta(days=6, hours=23)
    back.go(rounds=2)
    assert len(back.record.discarded) == 1
    back.now += timedelta(hours=2)
    back.go(rounds=2)
    assert [tag for tag in back.tags if tag.startswith("discarded-")] == []
    assert back.record.discarded == ()


def test_a_stream_whose_job_was_never_seen_running_keeps_what_its_metadata_holds_when_it_is_suspended():
    unseen = world(observing=False)
    unseen.go(60, rounds=4)
    child = unseen.child
    child.foreign["ingress"] = {"template": "x"}  # of another manager: its generation never settles
    child.spec = {**child.spec, **child.foreign}
    child.generation += 1
    unseen.kill_job_manager()
    unseen.go(rounds=16)
    unseen.suspend()
    unseen.go(5, rounds=30)
    unseen.kill_job_manager()
    unseen.go(rounds=10)
    unseen.suspend(False)
    unseen.go(rounds=80)
    assert unseen.child.job_state == "RUNNING"
    assert unseen.stateless_starts == []
