"""A stream from its first deployment on: what is done, and what is left alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse_operator.planning import points
from lakehouse_operator.planning.observed import Capabilities
from lakehouse_operator.planning.plan import ApplyChild, Delete, SaveRecord
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.record import Record
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION, SAVEPOINT_ANNOTATION, START_FRESH_ANNOTATION
from planning.stream_scenes import at_rest, child, plan, reasons, sentences, stalled, until, world


def test_the_first_deployment_is_created_suspended_and_told_to_run_only_when_that_is_on_record():
    fresh = world()
    assert child(fresh)["job"]["state"] == "suspended"
    fresh.reconcile()
    assert not fresh.record.started, "so nothing of it can have run yet"
    told = plan(fresh)
    assert child(fresh)["job"]["state"] == "running"
    kinds = [type(action).__name__ for action in told.actions]
    assert kinds.index("SaveRecord") < kinds.index("ApplyChild")
    assert next(a for a in told.actions if isinstance(a, SaveRecord)).record.started


def test_a_deployment_that_is_there_is_changed_only_while_it_is_the_one_that_was_seen():
    fresh = world()
    for expected in (None, "child-1"):
        (applied,) = (action for action in plan(fresh).actions if isinstance(action, ApplyChild))
        assert applied.uid == expected
        fresh.reconcile()


def test_what_an_earlier_stream_has_left_with_flink_is_gone_before_the_next_one_is_created():
    fresh = world()
    left = replace(fresh.see(), leftover="uid-of-the-old-one")
    *_, gone, created = reconcile(left).actions
    assert gone == Delete("v1", "ConfigMap", "clicks-bronze-cluster-config-map", "uid-of-the-old-one", gone.why)
    assert isinstance(created, ApplyChild)
    fresh.reconcile()
    there = replace(fresh.see(), leftover="uid-of-its-own")
    assert not [action for action in reconcile(there).actions if isinstance(action, Delete)]


def test_a_finalizer_is_set_before_anything_is_created():
    assert sentences(world())[0] == "Let a deletion of the pipeline wait until its state is on record."


def test_a_fresh_stream_has_no_savepoint_to_start_from_and_no_operator_fallback():
    spec = child(world())
    assert "initialSavepointPath" not in spec["job"]
    assert spec["job"]["upgradeMode"] == "savepoint"
    assert spec["flinkConfiguration"]["kubernetes.operator.job.upgrade.last-state-fallback.enabled"] == "false"
    assert spec["flinkConfiguration"]["kubernetes.operator.job.savepoint-on-deletion"] == "false"


def test_the_flink_operator_may_recover_a_job_manager_only_once_the_job_has_run():
    key = "kubernetes.operator.jm-deployment-recovery.enabled"
    assert child(world())["flinkConfiguration"][key] == "false"
    assert at_rest().child.spec["flinkConfiguration"][key] == "true"


def test_at_rest_nothing_is_done():
    calm = at_rest()
    calm.go(rounds=5)
    assert plan(calm).actions == ()
    writes = calm.writes
    calm.go(rounds=5)
    assert calm.writes == writes


def test_the_same_input_gives_the_same_plan():
    seen = world().see()
    assert reconcile(seen) == reconcile(seen)


def test_the_child_has_no_owner_that_could_take_it_along():
    manifest = next(a.manifest for a in plan(world()).actions if type(a).__name__ == "ApplyChild")
    assert "ownerReferences" not in manifest["metadata"]


def test_a_field_of_ours_that_somebody_changed_is_repaired():
    drifted = at_rest()
    drifted.child.spec = {**drifted.child.spec, "image": "other:1"}
    assert child(drifted)["image"] == "flink:1"


def test_a_field_of_others_is_left_alone():
    shared = at_rest()
    shared.child.spec = {**shared.child.spec, "ingress": {"template": "x"}}
    shared.child.annotations["somebody/else"] = "x"
    assert child(shared) is None


def test_a_policy_reaches_a_running_stream_without_an_upgrade():
    hot = at_rest()
    hot.edit(upgrade={"maxRecoveryPointAge": "20m", "soak": {"duration": "1m"}})
    key = "kubernetes.operator.job.upgrade.last-state.max.allowed.checkpoint.age"
    assert child(hot)["flinkConfiguration"][key] == "1200 s"
    assert plan(hot).statuses[0].status["stream"]["state"] == "Running"


@pytest.mark.parametrize("observing", [True, False])
def test_a_suspended_stream_rests_on_a_recovery_point_and_resumes_from_it(observing):
    resting = at_rest(observing=observing)
    resting.suspend()
    until(resting, "Suspended")
    point = resting.record.point(resting.record.resting_on)
    assert (point.trigger, point.proven) == ("suspend", observing)
    resting.produce(20)
    resting.suspend(False)
    until(resting, "Running")
    assert resting.record.launch.point == point.path
    assert resting.missing_or_doubled() is None


def test_a_pipeline_that_is_created_suspended_gets_no_child():
    idle = world()
    idle.suspend()
    idle.go(rounds=3)
    assert idle.child is None
    assert idle.condition("Ready")["status"] == "True"


def test_a_deleted_child_comes_back_from_the_newest_proven_point_with_bronze_rolled_back():
    lost = at_rest()
    point = lost.record.points[-1]
    head = lost.table[-1].id
    lost.child.deleting = True
    lost.flink_operator()
    until(lost, "Rewinding")
    until(lost, "Running")
    assert lost.record.launch.point == point.path
    assert head not in [commit.id for commit in lost.table]
    assert head in lost.tags.values(), "the discarded head is tagged"
    assert lost.missing_or_doubled() is None


def test_a_deleted_child_of_a_resting_stream_comes_back_without_a_rewind():
    lost = at_rest(observing=False)
    lost.suspend()
    until(lost, "Suspended")
    lost.child.deleting = True
    lost.flink_operator()
    lost.suspend(False)
    until(lost, "Running")
    assert lost.missing_or_doubled() is None


def test_without_a_proven_point_a_deleted_child_is_not_started_empty():
    lost = at_rest(observing=False)
    lost.child.deleting = True
    lost.flink_operator()
    assert stalled(lost) == "NoRecoveryPoint"
    assert START_FRESH_ANNOTATION in lost.condition("Stalled")["message"]
    lost.go(rounds=5)
    assert lost.child is None


def test_a_point_whose_snapshot_has_lost_its_tag_and_expired_is_not_proven_and_care_goes_on():
    expired = at_rest()
    point = next(each for each in expired.record.points if each.proven and each.bronze_snapshot is not None)
    expired.tags.pop(points.tag(point))
    expired.table = expired.table[[each.id for each in expired.table].index(point.bronze_snapshot) + 1 :]
    del expired.every_commit[point.bronze_snapshot]
    for _ in range(3):
        expired.produce(10)
        expired.go()
    assert not expired.record.point(point.name).proven
    assert "RecoveryPointLost" in reasons(expired)
    expired.annotations[RESTORE_ANNOTATION] = point.name
    expired.go()
    assert "has lost its tag and has expired" in expired.condition("RequestRefused")["message"]
    assert expired.cluster.job.state == "RUNNING"


def test_a_lost_tag_is_set_again_while_the_snapshot_stands():
    lost = at_rest()
    point = next(each for each in lost.record.points if each.proven and each.bronze_snapshot is not None)
    lost.tags.pop(points.tag(point))
    lost.go()
    assert lost.tags[points.tag(point)] == point.bronze_snapshot
    assert lost.record.point(point.name).proven


def test_a_person_may_have_it_started_without_state_once():
    lost = at_rest(observing=False)
    lost.child.deleting = True
    lost.flink_operator()
    lost.annotations[START_FRESH_ANNOTATION] = "1"
    lost.go(rounds=12)
    assert lost.cluster.job.state == "RUNNING"
    assert len(lost.stateless_starts) == 1
    lost.child.deleting = True
    lost.flink_operator()
    assert stalled(lost) == "NoRecoveryPoint", "the request was for that once"


def test_a_request_to_start_without_state_is_void_while_the_stream_runs():
    running = at_rest(observing=False)
    running.annotations[START_FRESH_ANNOTATION] = "1"
    running.go()
    running.child.deleting = True
    running.flink_operator()
    assert stalled(running) == "NoRecoveryPoint"


def test_a_stream_that_another_hand_stopped_goes_on_from_that_savepoint():
    touched = at_rest(observing=False)
    job = touched.child.spec["job"]
    touched.child.spec = {**touched.child.spec, "job": {**job, "state": "suspended"}}
    touched.child.generation += 1
    assert child(touched) is None, "until the Flink operator is done nobody knows what it would go on from"
    touched.flink_operator()
    until(until(touched, "Deploying"), "Running")
    assert touched.record.launch.point == touched.record.points[-1].path
    assert touched.missing_or_doubled() is None


def test_a_stream_that_another_hand_stopped_without_state_goes_back_to_a_proven_point():
    touched = at_rest()
    job = touched.child.spec["job"]
    touched.child.spec = {**touched.child.spec, "job": {**job, "state": "suspended", "upgradeMode": "stateless"}}
    touched.child.generation += 1
    touched.flink_operator()
    until(touched, "Running")
    assert touched.stateless_starts == []
    assert touched.missing_or_doubled() is None


def test_a_flink_deployment_of_that_name_that_is_not_ours_is_left_alone():
    taken = world()
    taken.go()
    taken.child.annotations, taken.record_data = {}, {}
    assert stalled(taken) == "NameTaken"
    assert child(taken) is None


def test_a_child_left_behind_by_a_pipeline_of_the_same_name_is_taken_over():
    left = at_rest()
    left.uid, left.status = "pipeline-2", {}
    left.go(rounds=2)
    assert left.child.annotations["lakehouse.dev/pipeline-uid"] == "pipeline-2"
    assert left.cluster.job.state == "RUNNING"


def test_missing_crds_are_a_condition_and_their_coming_goes_on_by_itself():
    bare = world()
    bare.capabilities = Capabilities()
    assert stalled(bare) == "FlinkOperatorMissing"
    assert plan(bare).wake_after <= timedelta(minutes=1)
    bare.capabilities = Capabilities(flink_versions=frozenset({"v2_1"}))
    until(bare, "Running")
    assert bare.condition("Stalled") == {}


def test_a_flink_version_that_the_installed_operator_does_not_know_is_refused_with_a_sentence():
    old = world()
    old.capabilities = Capabilities(flink_versions=frozenset({"v1_18"}))
    assert stalled(old) == "FlinkVersionNotSupported"
    assert "bronze.flinkVersion v2_1" in old.condition("Stalled")["message"]
    assert old.child is None


def test_without_redeploy_and_snapshot_fields_in_the_crd_none_is_sent():
    plain = at_rest()
    plain.capabilities = replace(plain.capabilities, savepoint_redeploy=False, state_snapshots=False)
    plain.annotations[RESTORE_ANNOTATION] = plain.record.points[0].name
    for _ in range(30):
        plain.go()
        assert plain.child is None or "savepointRedeployNonce" not in plain.child.spec["job"]
    assert plain.missing_or_doubled() is None
    assert "Rewound" in reasons(plain)


def test_a_lost_record_is_made_again_from_the_child_and_the_status():
    forgetful = at_rest()
    forgetful.annotations[SAVEPOINT_ANNOTATION] = "done-before"
    forgetful.go(rounds=8)
    known = forgetful.record
    forgetful.record_data = {}
    forgetful.go()
    made = forgetful.record
    assert (made.deployed.id, made.started, made.launch.ran) == (known.deployed.id, True, True)
    assert [point.path for point in made.points] == [point.path for point in known.points]
    assert made.pending is None, "no request is carried out a second time"


def test_an_empty_record_means_a_pipeline_that_never_ran():
    assert world().record == Record()


def test_a_refused_spec_changes_nothing_and_the_last_accepted_one_is_cared_for():
    careless = at_rest()
    careless.edit(parallelism=0, image="flink:2")
    careless.fail_job(for_good=True)
    careless.go(60, rounds=12)
    assert careless.condition("Stalled")["reason"] == "SpecRefused"
    assert "spec.bronze.parallelism" in careless.condition("Ready")["message"]
    assert careless.cluster.job.state == "RUNNING", "its recovery goes on"
    assert careless.cluster.job.image == "flink:1"


def test_a_change_that_needs_new_state_is_refused_with_the_way_on():
    moved = at_rest()
    moved.replace_spec({**moved.spec, "source": {**moved.spec["source"], "topic": "other"}})
    assert stalled(moved) == "SpecRefused"
    message = moved.condition("Stalled")["message"]
    assert "spec.source.topic" in message
    assert "pipeline of another name" in message
    assert moved.record.operation is None


def test_a_pipeline_that_was_never_accepted_does_nothing_and_can_be_deleted():
    wrong = world(parallelism=0)
    wrong.finalizers = ("lakehouse.dev/recovery-point",)
    assert stalled(wrong) == "SpecRefused"
    wrong.delete()
    wrong.go()
    assert wrong.gone
