"""Deleting a pipeline: what is kept, what it waits for, and that there is always a way on."""

import contextlib
from dataclasses import replace

import pytest

from lakehouse_operator.planning.observed import Capabilities
from lakehouse_operator.planning.plan import DropFinalizer, SaveRecord
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.situation import (
    FORCE_DELETE_ANNOTATION,
    RESTORE_ANNOTATION,
    RESTORE_ANYWAY_ANNOTATION,
    SAVEPOINT_ANNOTATION,
)
from planning.stream_scenes import (
    at_rest,
    plan,
    replace_child,
    rewindable,
    rolled_back,
    stalled,
    until,
    upgraded,
    world,
)
from planning.world import Crash


def test_retain_stops_with_a_savepoint_and_keeps_the_record():
    kept = at_rest()
    kept.delete()
    kept.go(rounds=6)
    assert kept.gone
    point = kept.record.point(kept.record.resting_on)
    assert (point.trigger, point.proven) == ("deletion", True)
    kept.flink_operator()
    assert kept.child is None


def test_the_child_is_deleted_only_after_its_point_is_on_record():
    kept = at_rest()
    kept.delete()
    for _ in range(6):
        kinds = [type(action).__name__ for action in plan(kept).actions]
        if "Delete" in kinds:
            assert kept.record.resting_on is not None
            assert kinds.index("Delete") < kinds.index("DropFinalizer")
            return
        kept.go()
    raise AssertionError("the child was not deleted")


def test_a_pipeline_that_is_created_again_goes_on_where_it_stopped():
    again = at_rest()
    again.delete()
    again.go(rounds=6)
    again.flink_operator()
    path = again.record.point(again.record.resting_on).path
    again.create_again()
    again.produce(30)
    again.go(rounds=8)
    assert again.record.launch.point == path
    assert again.stateless_starts == []
    assert again.missing_or_doubled() is None
    assert again.kafka_end == int(again.table[-1].properties["span"].split("-")[1])


@pytest.mark.parametrize("how", ["the policy", "the annotation"])
def test_force_goes_at_once(how):
    forced = at_rest(deletion={"policy": "Force" if how == "the policy" else "Block"})
    if how == "the annotation":
        forced.annotations[FORCE_DELETE_ANNOTATION] = "true"
    forced.delete()
    forced.reconcile()
    assert forced.gone
    assert forced.child.deleting


def test_block_refuses_without_a_recent_point_and_goes_on_once_there_is_one():
    blocked = at_rest(deletion={"policy": "Block"})
    blocked.go(600, rounds=4)
    blocked.delete()
    assert stalled(blocked) == "DeletionBlocked"
    assert SAVEPOINT_ANNOTATION in blocked.condition("Stalled")["message"]
    blocked.go(rounds=3)
    assert blocked.cluster.job.state == "RUNNING", "meanwhile it is cared for"
    blocked.annotations[SAVEPOINT_ANNOTATION] = "1"
    blocked.go(rounds=14)
    assert blocked.gone


def test_a_job_that_does_not_run_holds_retain_and_the_message_names_the_way_on():
    sick = at_rest()
    sick.fail_job()
    sick.faults = {"flink operator down"}
    sick.child.job_state = "RESTARTING"
    sick.delete()
    assert stalled(sick) == "DeletionWaits"
    assert FORCE_DELETE_ANNOTATION in sick.condition("Stalled")["message"]
    assert not sick.gone


def test_a_job_that_flink_gave_up_is_kept_from_its_last_checkpoint():
    down = at_rest()
    down.fail_job(for_good=True)
    down.flink_operator()
    down.delete()
    down.go(rounds=8)
    assert down.gone
    assert "/chk-" in down.record.point(down.record.resting_on).path
    down.flink_operator()
    down.create_again()
    down.go(rounds=8)
    assert down.missing_or_doubled() is None
    assert down.stateless_starts == []


@pytest.mark.parametrize("image", ["flink:no-image", "flink:never-runs"])
def test_a_stream_that_never_ran_holds_nothing_and_may_begin_anew(image):
    never = world(image=image)
    never.go(rounds=6)
    never.delete()
    never.go(rounds=2)
    assert never.gone
    never.flink_operator()
    never.create_again()
    never.edit(image="flink:1")
    never.go(rounds=10)
    assert never.cluster.job.state == "RUNNING"


def test_force_asks_nothing_of_the_tables():
    forced = at_rest()
    forced.tags.clear()
    forced.tags["recovery-stray"] = forced.table[-1].id
    forced.annotations[FORCE_DELETE_ANNOTATION] = "true"
    forced.delete()
    assert not {"TagSnapshot", "DropTag"} & {type(action).__name__ for action in plan(forced).actions}


def test_a_namespace_that_is_being_deleted_takes_its_pipeline_with_it_and_no_record_is_asked_for():
    ending = at_rest()
    ending.delete()
    ending.record_data = {}
    seen = replace(ending.see(), namespace_ending=True)
    assert reconcile(seen).actions == (DropFinalizer(),)


def test_only_a_forced_deletion_goes_on_where_the_record_can_not_be_written():
    for policy, needed in (("Retain", True), ("Force", False)):
        changed = at_rest(deletion={"policy": policy})
        changed.edit(image="flink:2")
        changed.delete()
        (saved,) = [action for action in plan(changed).actions if isinstance(action, SaveRecord)]
        assert saved.needed is needed


def test_a_stream_is_not_left_behind_by_force_though_no_spec_of_its_pipeline_can_be_read():
    unread = at_rest()
    unread.replace_spec({**unread.spec, "source": {}})
    unread.record_data = {}
    unread.annotations[FORCE_DELETE_ANNOTATION] = "true"
    unread.delete()
    unread.reconcile()
    assert unread.gone
    assert unread.child.deleting


def test_without_the_flink_crds_the_finalizer_does_not_get_stuck():
    bare = at_rest()
    bare.delete()
    bare.remove_flink_crds()
    bare.go()
    assert bare.gone
    assert bare.capabilities == Capabilities()


@pytest.mark.parametrize("policy", ["Retain", "Block"])
def test_a_running_stream_is_stopped_with_a_savepoint_though_its_kind_is_not_announced_yet(policy):
    kept = at_rest(deletion={"policy": policy})
    known, kept.capabilities, kept.kind_is_served = kept.capabilities, Capabilities(), True
    kept.delete()
    kept.reconcile()
    assert not kept.gone
    assert kept.child.spec["job"]["state"] == "suspended"
    kept.capabilities = known
    kept.go(rounds=6)
    assert kept.gone
    assert kept.record.point(kept.record.resting_on).trigger == "deletion"


def test_a_deployment_that_is_not_ours_is_not_deleted_with_the_pipeline():
    taken = world()
    taken.go()
    taken.child.annotations, taken.record_data = {}, {}
    taken.delete()
    taken.go()
    assert taken.gone
    assert not taken.child.deleting


@pytest.mark.parametrize("keeps_job_id", [False, True])
def test_an_upgrade_under_way_does_not_hold_a_deletion(keeps_job_id):
    busy = upgraded("flink:2-no-image", keeps_job_id=keeps_job_id)
    busy.delete()
    busy.go(rounds=4)
    assert busy.gone
    assert busy.record.resting_on is not None


def test_a_stop_under_way_is_seen_through_before_the_deletion():
    busy = at_rest()
    busy.edit(image="flink:2")
    busy.reconcile()
    busy.delete()
    busy.go(rounds=6)
    assert busy.gone
    assert busy.record.point(busy.record.resting_on).trigger == "upgrade"


def test_a_resting_stream_whose_point_cannot_be_read_is_not_let_go():
    resting = at_rest()
    resting.suspend()
    until(resting, "Suspended")
    resting.store.clear()
    resting.delete()
    assert stalled(resting) == "DeletionWaits"
    assert not resting.gone


def test_once_let_go_nothing_more_is_done():
    done = at_rest(deletion={"policy": "Force"})
    done.delete()
    done.reconcile()
    assert plan(done).actions == ()
    assert plan(done).statuses == ()


def test_a_suspended_pipeline_is_deleted_without_a_further_savepoint():
    resting = at_rest()
    resting.suspend()
    until(resting, "Suspended")
    points = resting.record.points
    resting.delete()
    resting.go(rounds=2)
    assert resting.gone
    assert resting.record.points == points


# --- in the middle of a rewind ----------------------------------------------------------------------------------------


def rests_in_metadata():
    """A suspended stream whose newest state is in Flink's metadata alone."""
    made = rewindable(upgrade={"mode": "lastState"})
    made.suspend()
    return until(made, "Suspended")


def never_deployed():
    """A stream that was told to go on from where it rests, and whose deployment the Flink operator has not seen yet."""
    made = rewindable()
    made.suspend()
    until(made, "Suspended")
    made.child.deleting = True
    made.flink_operator()
    made.suspend(False)
    made.reconcile()
    assert made.child.spec["job"]["state"] == "suspended"
    return made


def goes_on_after_it_is_created_again(made):
    """Let the Flink operator clean up, create the pipeline again, and let it come up and read all that there is."""
    made.faults = set()
    made.flink_operator()
    assert made.child is None
    made.create_again()
    made.suspend(False)
    until(made, "Running")
    made.go(rounds=3)
    assert made.stateless_starts == []
    assert made.missing_or_doubled() is None
    assert made.kafka_end == int(made.table[-1].properties["span"].split("-")[1]), "everything is read again"


@pytest.mark.parametrize("how", [rewindable, rests_in_metadata, never_deployed])
def test_a_pipeline_deleted_right_after_bronze_was_rolled_back_starts_again_from_the_point_of_the_rewind(how):
    back = rolled_back(how())
    target, *later = back.record.points
    assert all(point.discarded for point in later)
    back.delete()
    back.go(rounds=2)
    assert back.gone
    assert back.record.resting_point == target
    goes_on_after_it_is_created_again(back)
    assert back.record.launch.point == target.path


@pytest.mark.parametrize("dies_after", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("rounds", range(6))
def test_a_deletion_in_the_middle_of_a_rewind_needs_no_force(rounds, dies_after):
    back = rewindable()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    back.go(rounds=rounds)
    if dies_after is not None:
        with contextlib.suppress(Crash):
            back.reconcile(crash_after=dies_after)
    back.delete()
    back.go(rounds=8)
    assert back.gone
    goes_on_after_it_is_created_again(back)
    assert not any(point.discarded for point in back.record.points if point.path == back.record.launch.point)


def test_a_rewind_that_could_not_move_bronze_yet_does_not_hold_a_deletion():
    """The record says what is discarded before the table is moved, and then the catalog refuses."""
    back = rests_in_metadata()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    back._roll_back = lambda *_: None
    back.go(rounds=4)
    del back._roll_back
    assert back.record.operation.stage == "rewinding"
    back.delete()
    back.go(rounds=2)
    assert back.gone
    goes_on_after_it_is_created_again(back)


def test_a_rewind_whose_events_are_gone_meanwhile_does_not_hold_a_deletion_but_what_is_created_again():
    back = rewindable()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    back._roll_back = lambda *_: None
    back.go(rounds=5)
    del back._roll_back
    target, discarded = back.record.points
    assert discarded.discarded
    back.kafka_start = 210
    back.delete()
    back.go(rounds=2)
    assert back.gone
    back.flink_operator()
    back.create_again()
    back.go(rounds=6)
    assert stalled(back) == "KafkaGone"
    assert f"{RESTORE_ANYWAY_ANNOTATION}={target.name}" in back.condition("Stalled")["message"]
    assert back.cluster is None, "nothing is started meanwhile"


def test_a_rewind_that_nobody_can_look_at_holds_a_deletion_until_somebody_can():
    back = rolled_back(rests_in_metadata())
    back.observing = False
    back.delete()
    assert stalled(back) == "DeletionWaits"
    back.go(rounds=3)
    assert not back.gone
    back.observing = True
    back.go(rounds=2)
    assert back.gone
    goes_on_after_it_is_created_again(back)


def test_a_deletion_after_which_nothing_could_be_gone_back_to_waits_for_a_person():
    back = rolled_back(rewindable())
    del back.store[back.record.points[0].path]
    back.delete()
    back.go(rounds=4)
    assert not back.gone
    assert stalled(back) == "DeletionWaits"


def stopped_for_a_rewind():
    """A stream that was stopped to go back to its first point; bronze is as it was."""
    made = rewindable()
    made.annotations[RESTORE_ANNOTATION] = made.record.points[0].name
    for _ in range(10):
        made.go()
        if made.record.resting_on is not None:
            return made
    raise AssertionError("it is not stopped")


def test_a_deletion_before_bronze_was_rolled_back_goes_on_where_the_stream_stopped():
    back = stopped_for_a_rewind()
    resting = back.record.resting_point
    assert resting.trigger == "rewind"
    back.delete()
    back.go(rounds=4)
    assert back.gone
    goes_on_after_it_is_created_again(back)
    assert back.record.launch.point == resting.path


def test_a_deletion_before_bronze_was_rolled_back_goes_on_without_the_savepoint_of_the_stop_if_that_is_no_good():
    back = stopped_for_a_rewind()
    target, broken = back.record.points
    del back.store[broken.path]
    back.delete()
    back.go(rounds=4)
    assert back.gone
    goes_on_after_it_is_created_again(back)
    assert back.record.launch.point == target.path


def test_a_job_that_runs_again_before_it_was_removed_for_a_rewind_is_kept_with_its_state():
    back = rewindable()
    back.fail_job()
    back.flink_operator()
    back.annotations[RESTORE_ANNOTATION] = back.record.points[0].name
    for writes in range(5):
        with contextlib.suppress(Crash):
            back.reconcile(crash_after=writes)
        if back.record.operation is not None:
            break
    assert back.record.operation.stage == "removing"
    assert not back.child.deleting
    back.flink()
    back.flink_operator()
    back.delete()
    back.go(rounds=6)
    assert back.gone
    assert back.record.resting_point.trigger == "deletion"
    goes_on_after_it_is_created_again(back)


def deleted_while_another_hand_replaces_its_deployment(made):
    """Where the stream should have been stopped, a deployment stands of which nothing has run."""
    made.delete()
    made.reconcile()
    replace_child(made)
    made.go(rounds=6)
    assert made.gone
    return made


def test_a_deployment_that_was_replaced_is_not_taken_for_one_that_has_yet_to_run():
    anew = rewindable()
    anew.suspend()
    until(anew, "Suspended")
    anew.suspend(False)
    until(anew, "Running")
    anew.go(rounds=4)
    assert anew.record.launch.point is not None
    goes_on_after_it_is_created_again(deleted_while_another_hand_replaces_its_deployment(anew))


def test_a_stream_that_ran_is_not_begun_with_nothing_because_its_deployment_was_replaced():
    anew = deleted_while_another_hand_replaces_its_deployment(at_rest(recoveryPoints={"interval": "0s"}))
    assert anew.record.points == ()
    anew.flink_operator()
    anew.create_again()
    anew.go(rounds=6)
    assert stalled(anew) == "NoRecoveryPoint"
    assert anew.stateless_starts == []
