"""The watch after an upgrade: what passes, and how the last good revision comes back with its state."""

import pytest

from lakehouse_operator.planning.situation import RESTORE_ANNOTATION, RETRY_ANNOTATION
from planning.stream_scenes import at_rest, reasons, stalled, until, upgraded, world


def test_a_revision_that_runs_well_through_its_soak_is_good():
    good = upgraded("flink:2")
    until(good, "Soaking")
    before = good.record.good.id
    assert good.condition("Ready")["reason"] == "Soaking"
    until(good, "Running")
    assert good.record.good.id == good.record.deployed.id != before
    assert good.condition("Ready")["status"] == "True"
    assert "SoakPassed" in reasons(good)


def test_a_revision_that_restarts_too_often_is_rolled_back_from_the_newest_state():
    crashing = upgraded("flink:2-crashes")
    until(crashing, "RollingBack")
    assert crashing.child.spec["job"]["upgradeMode"] == "last-state"
    crashing.go(rounds=6)
    assert crashing.cluster.job.image == "flink:1"
    assert crashing.cluster.job.state == "RUNNING"
    assert crashing.stateless_starts == []
    assert crashing.missing_or_doubled() is None


def test_a_revision_that_never_runs_is_rolled_back_from_the_savepoint_before_the_upgrade():
    broken = upgraded("flink:2-never-runs")
    point = broken.record.launch.point
    until(broken, "RollingBack")
    until(broken, "Held")
    assert broken.cluster.job.image == "flink:1"
    assert broken.record.launch.point == point
    assert broken.missing_or_doubled() is None


@pytest.mark.parametrize("observing", [True, False])
def test_an_image_that_cannot_be_pulled_is_rolled_back_after_the_time_to_start(observing):
    missing = upgraded("flink:2-no-image", observing=observing)
    until(missing, "Held", seconds=60)
    assert missing.cluster.job.image == "flink:1"
    assert missing.cluster.job.state == "RUNNING"
    assert missing.stateless_starts == []
    assert missing.missing_or_doubled() is None


def test_a_rolled_back_revision_is_not_tried_again_until_the_spec_changes():
    rolled = until(upgraded("flink:2-crashes"), "Held")
    assert stalled(rolled) == "RolledBack"
    assert rolled.condition("Ready")["status"] == "False"
    assert rolled.condition("StreamRunning")["status"] == "True"
    rolled.go(60, rounds=30)
    assert rolled.cluster.job.image == "flink:1"
    rolled.edit(recoveryPoints={"interval": "0s"})
    rolled.go(rounds=3)
    assert stalled(rolled) == "RolledBack", "a change elsewhere is no change of the revision"
    rolled.edit(image="flink:3")
    until(rolled, "Running")
    assert rolled.cluster.job.image == "flink:3"


def test_a_person_may_have_a_rolled_back_revision_tried_once_more():
    rolled = until(upgraded("flink:2-crashes"), "Held")
    rolled.annotations[RETRY_ANNOTATION] = "1"
    until(rolled, "Soaking")
    assert rolled.cluster.job.image == "flink:2-crashes"


def test_when_the_last_state_does_not_start_either_it_goes_back_to_the_point_before_the_upgrade():
    stuck = upgraded("flink:2-crashes")
    until(stuck, "RollingBack")
    point = stuck.record.operation.point
    stuck.flink_operator()
    stuck.cluster.job.state = "FAILED"
    stuck.ha, stuck.ha_exists = None, False
    for _ in range(30):
        stuck.go(60)
        if stuck.status["stream"]["state"] == "Held":
            break
    assert stuck.record.launch.point == stuck.record.point(point).path
    assert stuck.cluster.job.image == "flink:1"
    assert stuck.missing_or_doubled() is None


def test_when_nothing_helps_it_is_stalled_with_both_options_named():
    lost = upgraded("flink:2-never-runs", observing=True)
    until(lost, "RollingBack")
    lost.replace_spec({**lost.spec})
    for _ in range(200):
        if lost.cluster and lost.cluster.job:
            lost.cluster.job.image = "flink:1-never-runs"
        lost.go(60)
        if lost.record.rollback_failed:
            break
    assert stalled(lost) == "RollbackFailed"
    message = lost.condition("Stalled")["message"]
    assert RETRY_ANNOTATION in message
    assert RESTORE_ANNOTATION in message


def test_rollback_by_hand_only_says_what_failed_and_leaves_it():
    manual = upgraded("flink:2-crashes", upgrade={"rollback": "manual"})
    for _ in range(40):
        manual.go()
        if manual.record.soak_failed:
            break
    manual.go()
    assert stalled(manual) in ("SoakFailed", "RecoveryExhausted", "")
    assert "SoakFailed" in reasons(manual)
    assert manual.record.deployed.content["image"] == "flink:2-crashes"
    assert manual.record.rejected is None


def test_a_lag_that_is_not_caught_up_rolls_back_after_some_grace():
    slow = upgraded("flink:2", upgrade={"soak": {"duration": "1m", "maxLag": 10}})
    until(slow, "Soaking")
    slow.group = -100_000
    for _ in range(60):
        slow.group = -100_000
        slow.go()
        if slow.record.rejected:
            break
    assert "maxLag (10)" in slow.record.rejected.reason


def test_a_soak_without_a_single_checkpoint_is_not_passed():
    idle = upgraded("flink:2")
    until(idle, "Soaking")
    for _ in range(60):
        if idle.cluster and idle.cluster.job and idle.cluster.job.image == "flink:2":
            idle.cluster.job.completed = 0
        idle.go()
        if idle.record.rejected:
            break
    assert idle.record.rejected.reason == "no checkpoint was completed"


def test_failed_checkpoints_beyond_the_limit_roll_back():
    failing = upgraded("flink:2")
    until(failing, "Soaking")
    failing.cluster.job.failed_checkpoints = 4
    failing.reconcile()
    assert "maxFailedCheckpoints (3)" in failing.record.rejected.reason


def test_an_image_that_cannot_be_had_is_rolled_back_within_minutes():
    broken = at_rest()
    good = broken.record.good.id
    broken.edit(image="no-image:2")
    until(broken, "Deploying")
    asked = broken.now
    until(broken, "RollingBack")
    assert "the JobManager can't be started: ImagePullBackOff" in broken.record.rejected.reason
    assert (broken.now - asked).total_seconds() < 240
    until(broken, "Running")
    assert broken.record.deployed.id == good


def test_checkpoints_that_failed_before_the_job_ran_are_not_held_against_it():
    """While its tasks are being started, each checkpoint that is due counts as failed in Flink's statistics."""
    slow = upgraded("flink:2")
    while not (slow.cluster and slow.cluster.job and slow.cluster.job.image == "flink:2"):
        slow.go()
    slow.cluster.job.failed_checkpoints = 6
    until(slow, "Running")
    assert slow.record.rejected is None
    assert slow.record.deployed.id == slow.record.good.id


def test_the_first_revision_is_ready_as_soon_as_it_runs():
    first = until(world(), "Soaking")
    assert first.condition("Ready")["status"] == "True"
    assert first.condition("Reconciling") == {}


def test_a_suspension_during_the_soak_is_not_put_off():
    hasty = upgraded("flink:2")
    until(hasty, "Soaking")
    hasty.suspend()
    until(hasty, "Suspended")
    hasty.suspend(False)
    until(hasty, "Soaking", most=30)


def test_a_fix_of_a_revision_that_does_not_start_does_not_wait_for_its_time_to_run_out():
    fixed = upgraded("flink:2-no-image")
    fixed.go(rounds=2)
    fixed.edit(image="flink:3")
    fixed.go(rounds=25)
    assert fixed.cluster.job.image == "flink:3"
    assert fixed.missing_or_doubled() is None


def test_a_restart_is_counted_once_however_often_one_looks():
    counted = upgraded("flink:2", observing=False)
    until(counted, "Soaking")
    counted.fail_job()
    counted.flink_operator()
    for _ in range(4):
        counted.reconcile()
    assert counted.record.operation.restarts == 1


def test_one_restart_of_several_states_is_one_restart():
    counted = upgraded("flink:2", observing=False)
    until(counted, "Soaking")
    for state in ("FAILING", "RESTARTING", "RECONCILING", "RUNNING"):
        counted.child.job_state = state
        counted.reconcile()
    assert counted.record.operation.restarts == 1


def test_a_soak_of_at_rest_is_none():
    assert at_rest().record.operation is None
