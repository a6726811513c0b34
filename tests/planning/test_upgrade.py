"""An upgrade, step by step: what is on record before what, what it waits for, and what a failed stop leaves."""

from datetime import timedelta

import pytest

from lakehouse_operator.planning.situation import RETRY_ANNOTATION
from planning.stream_scenes import at_rest, child, plan, reasons, sentences, stalled, until, upgraded, world


def test_an_upgrade_stops_with_a_savepoint_proves_it_and_starts_the_new_revision_from_it():
    changed = at_rest()
    old = changed.record.deployed
    changed.edit(image="flink:2")
    changed.reconcile()
    assert changed.child.spec["image"] == "flink:1", "the old definition is what is stopped"
    assert (changed.child.spec["job"]["state"], changed.child.spec["job"]["upgradeMode"]) == ("suspended", "savepoint")
    changed.flink_operator()
    changed.reconcile()
    point = changed.record.points[-1]
    assert (point.trigger, point.revision, changed.record.resting_on) == ("upgrade", old.id, point.name)
    assert changed.child.spec["job"]["state"] == "suspended"
    changed.reconcile()
    assert changed.record.points[-1].proven
    assert changed.tags[f"recovery-{point.name}"] == changed.table[-1].id
    assert (changed.child.spec["image"], changed.child.spec["job"]["state"]) == ("flink:2", "running")
    assert changed.record.launch.point == point.path
    until(changed, "Soaking")
    assert changed.missing_or_doubled() is None


def test_the_upgrade_is_on_record_and_stamped_on_the_child_before_the_child_changes():
    changed = at_rest()
    changed.edit(image="flink:2")
    kinds = [type(action).__name__ for action in plan(changed).actions]
    assert kinds.index("SaveRecord") < kinds.index("ApplyChild")
    changed.reconcile()
    assert changed.child.annotations["lakehouse.dev/operation"] == changed.record.operation.id


def test_a_point_is_called_proven_only_after_its_tag_stands():
    changed = at_rest()
    changed.edit(image="flink:2")
    changed.reconcile()
    changed.flink_operator()
    changed.reconcile()
    kinds = [type(action).__name__ for action in plan(changed).actions]
    assert kinds.index("TagSnapshot") < kinds.index("SaveRecord")


def test_status_says_how_far_the_upgrade_is():
    changed = at_rest()
    changed.edit(image="flink:2")
    changed.reconcile()
    shown = changed.status["stream"]["upgrade"]
    assert (shown["stage"], shown["fromRevision"]) == ("Stopping", changed.record.good.id)
    assert changed.status["changes"] == [{"path": "spec.bronze.image", "effect": "restart"}]
    until(changed, "Soaking")
    assert changed.status["stream"]["upgrade"]["stage"] == "Soaking"
    until(changed, "Running")
    assert "upgrade" not in changed.status["stream"]
    assert "changes" not in changed.status or changed.status["changes"] == []


def test_a_change_without_a_new_revision_stops_nothing():
    hot = at_rest()
    hot.edit(recoveryPoints={"interval": "0s"})
    hot.go(rounds=3)
    assert hot.record.operation is None
    assert hot.child.spec["job"]["state"] == "running"


# --- what it waits for ------------------------------------------------------------------------------------------------


def test_it_waits_until_the_job_runs_and_says_how_not_to():
    sick = at_rest()
    sick.fail_job()
    sick.faults = {"flink operator down"}
    sick.child.job_state = "RESTARTING"
    sick.edit(image="flink:2")
    sick.reconcile()
    held = sick.condition("UpgradeHeld")
    assert held["reason"] == "StreamUnhealthy"
    assert "whenUnhealthy" in held["message"]
    assert sick.child.spec["job"]["state"] == "running"


def test_when_unhealthy_last_state_goes_on_from_the_newest_checkpoint():
    sick = at_rest(upgrade={"whenUnhealthy": "lastState"})
    sick.fail_job()
    sick.child.job_state = "RESTARTING"
    sick.edit(image="flink:2")
    assert (child(sick)["job"]["upgradeMode"], child(sick)["image"]) == ("last-state", "flink:2")
    sick.go(rounds=12)
    assert sick.cluster.job.image == "flink:2"
    assert sick.stateless_starts == []
    assert sick.missing_or_doubled() is None


def test_mode_last_state_needs_no_savepoint():
    quick = at_rest(upgrade={"mode": "lastState"})
    quick.edit(image="flink:2")
    quick.go(rounds=12)
    assert quick.cluster.job.image == "flink:2"
    assert not [point for point in quick.record.points if point.trigger == "upgrade"]
    assert quick.missing_or_doubled() is None


def test_it_waits_while_commits_do_not_come():
    stale = at_rest()
    stale.faults = {"catalog down"}
    stale.go(60, rounds=30)
    stale.edit(image="flink:2")
    stale.reconcile()
    assert stale.condition("UpgradeHeld")["reason"] == "CheckpointsStale"
    stale.faults = set()
    until(stale, "Soaking")


def test_it_waits_for_a_savepoint_that_is_under_way():
    busy = at_rest(recoveryPoints={"interval": "6h", "keep": 5})
    busy.annotations["lakehouse.dev/savepoint"] = "1"
    busy.reconcile()
    busy.edit(image="flink:2")
    busy.reconcile()
    assert busy.condition("UpgradeHeld")["reason"] == "SavepointPending"


# --- a stop that fails ------------------------------------------------------------------------------------------------


def test_after_a_failed_savepoint_the_stream_goes_on_as_it_was_and_it_is_tried_again_later():
    failing = at_rest()
    failing.edit(image="flink:2")
    failing.faults = {"savepoints fail"}
    until(failing, "Held", seconds=60)
    assert "SavepointError" in failing.record.stops.reason
    assert failing.child.spec["job"]["state"] == "running"
    assert failing.cluster.job.image == "flink:1"
    failing.faults = set()
    until(failing, "Soaking", seconds=60)
    assert failing.missing_or_doubled() is None


def test_a_stop_that_names_no_new_savepoint_does_not_start_from_the_old_one():
    stale = at_rest()
    stale.edit(image="flink:2")
    until(stale, "Running")
    old = stale.child.savepoint_path
    stale.go(rounds=4)
    stale.edit(image="flink:3")
    stale.reconcile()
    job = {**stale.child.spec["job"], "upgradeMode": "savepoint"}
    stale.child.reconciled = {**stale.child.spec, "job": job}
    stale.child.observed_generation, stale.child.job_state = stale.child.generation, "FINISHED"
    stale.cluster, stale.ha, stale.ha_exists = None, None, False
    assert (stale.see().stream.lifecycle_state, stale.child.savepoint_path) == ("SUSPENDED", old)
    stale.reconcile()
    assert stale.record.operation.stage == "rewinding", "bronze is ahead of that savepoint"
    until(stale, "Running")
    stale.go(rounds=2)
    assert stale.missing_or_doubled() is None


def test_after_three_failed_stops_it_is_stalled_until_somebody_asks_for_another_try():
    failing = at_rest()
    failing.edit(image="flink:2")
    failing.faults = {"savepoints fail"}
    failing.go(60, rounds=80)
    assert failing.condition("Stalled")["reason"] == "StopFailed"
    assert reasons(failing).count("StopFailed") == 3
    assert failing.child.spec["job"]["state"] == "running"
    failing.faults = set()
    failing.go(60, rounds=80)
    assert failing.cluster.job.image == "flink:1", "it is not tried for ever"
    failing.annotations[RETRY_ANNOTATION] = "1"
    until(failing, "Soaking", seconds=60)


def test_a_point_that_cannot_be_proven_lets_the_old_revision_go_on():
    blind = at_rest()
    blind.edit(image="flink:2")
    blind.reconcile()
    blind.flink_operator()
    path = blind.child.savepoint_path
    blind.reconcile()
    hidden = blind.store.pop(path)
    for _ in range(20):
        blind.reconcile()
        blind.now += timedelta(seconds=20)
    blind.store[path] = hidden
    assert "UpgradeHeld" in reasons(blind)
    assert child(blind) is None or child(blind)["image"] == "flink:1"
    until(blind, "Running")
    blind.go(rounds=2)
    assert blind.missing_or_doubled() is None


def test_while_the_store_does_not_answer_the_stream_is_not_stopped():
    waiting = at_rest()
    waiting.edit(image="flink:2")
    waiting.faults = {"store down"}
    waiting.go(rounds=10)
    assert waiting.condition("UpgradeHeld")["reason"] == "ProofNotPossible"
    assert plan(waiting).wake_after <= timedelta(seconds=30)
    assert (waiting.cluster.job.image, waiting.child.spec["job"]["state"]) == ("flink:1", "running")
    waiting.faults = set()
    until(waiting, "Soaking")
    assert waiting.record.points[-1].proven


def test_what_does_not_answer_is_looked_at_again_soon():
    resting = at_rest()
    assert plan(resting).wake_after > timedelta(minutes=2)
    resting.faults = {"store down"}
    assert plan(resting).wake_after == timedelta(minutes=1)


def test_while_the_store_does_not_answer_mode_last_state_goes_on():
    changed = at_rest(upgrade={"mode": "lastState", "soak": {"duration": "0s"}})
    changed.edit(image="flink:2", upgrade={"mode": "lastState", "soak": {"duration": "0s"}})
    changed.faults = {"store down"}
    until(changed, "Running")
    assert changed.cluster.job.image == "flink:2"


def test_a_savepoint_that_nobody_could_prove_starts_no_new_revision():
    blind = at_rest()
    blind.edit(image="flink:2")
    blind.reconcile()
    blind.faults = {"store down"}
    for _ in range(20):
        blind.flink_operator()
        blind.reconcile()
        blind.now += timedelta(seconds=20)
        assert child(blind) is None or child(blind)["image"] == "flink:1"
    assert "UpgradeHeld" in reasons(blind)
    blind.faults = set()
    until(blind, "Soaking")
    assert blind.record.points[-1].proven
    assert blind.missing_or_doubled() is None


def test_without_observation_the_flink_operators_own_savepoint_counts():
    blind = upgraded("flink:2", observing=False)
    assert not blind.record.points[-1].proven
    until(blind, "Running", seconds=30)
    assert blind.cluster.job.image == "flink:2"
    assert blind.condition("RecoveryPointCurrent")["message"].endswith(
        "(completed; unproven, because bronze is not observed)"
    )


def test_a_start_that_another_hand_stops_before_anything_is_restored_begins_anew():
    touched = upgraded("flink:2")
    assert (touched.ha_exists, touched.ha) == (True, None), "the JobManager is up and has not restored the savepoint"
    job = {**touched.child.spec["job"], "state": "suspended", "upgradeMode": "last-state"}
    touched.child.spec = {**touched.child.spec, "job": job}
    touched.child.generation += 1
    touched.flink_operator()
    assert touched.see().stream.restore_mode == "last-state"
    touched.go(rounds=14)
    assert touched.cluster.job.image == "flink:2"
    assert touched.stateless_starts == []
    assert touched.missing_or_doubled() is None


# --- a stream that has never run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["flink:no-image", "flink:never-runs"])
def test_a_first_revision_that_never_ran_is_simply_replaced(image):
    wrong = world(image=image, observing=False)
    wrong.go(rounds=6)
    wrong.edit(image="flink:1")
    wrong.go(rounds=14)
    assert wrong.cluster.job.image == "flink:1"
    assert wrong.cluster.job.state == "RUNNING"
    assert wrong.stateless_starts == []


def test_a_first_revision_that_crashed_before_its_first_checkpoint_may_be_replaced():
    wrong = world(image="flink:crashes", observing=False)
    wrong.go(rounds=14)
    wrong.edit(image="flink:1")
    wrong.go(60, rounds=30)
    assert wrong.cluster.job.image == "flink:1"
    assert wrong.stateless_starts == []


def test_another_change_during_an_upgrade_is_the_one_that_is_started():
    twice = at_rest()
    twice.edit(image="flink:2")
    twice.reconcile()
    twice.edit(image="flink:3")
    until(twice, "Soaking")
    assert twice.cluster.job.image == "flink:3"


def test_the_sentences_of_an_upgrade():
    changed = at_rest()
    changed.edit(image="flink:2")
    assert sentences(changed)[0] == "Write down: upgrade, stopping."
    assert sentences(changed)[1].startswith("Apply FlinkDeployment clicks-bronze: suspended, upgrade mode savepoint")
    assert stalled(changed) == ""


@pytest.mark.parametrize("keeps_job_id", [False, True])
def test_an_upgrade_that_never_ran_is_taken_back_from_its_point_though_its_job_has_the_old_ones_id(keeps_job_id):
    made = upgraded("flink:2-no-image", keeps_job_id=keeps_job_id)
    made.go(rounds=2)
    assert (made.child.job_id == "job2") is keeps_job_id
    assert not made.record.launch.ran
    made.go(rounds=60)
    assert (stalled(made), made.child.job_state) == ("RolledBack", "RUNNING")
    assert made.stateless_starts == []
    made.produce(10)
    made.go(rounds=4)
    assert not made.missing_or_doubled()
