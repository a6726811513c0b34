"""Whole rounds over a cluster: look, decide, report, act. In memory, and on a real API server with the real CRDs."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from cluster.conftest import world
from cluster.fake_cluster import FakeCluster, Write
from cluster.worlds import World
from control_plane.api_server import ControlPlane
from control_plane.fixtures import new_namespace
from handlers.actors import NAME, Actors, manifest
from handlers.rounds import BEGAN, Clock, running, settle
from lakehouse_operator import metrics
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import NotFound, Refused
from lakehouse_operator.cluster.kinds import (
    CONFIG_MAP,
    FLINK_DEPLOYMENT,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    POD,
    SPARK_APPLICATION,
    Kind,
)
from lakehouse_operator.cluster.port import FIELD_MANAGER, Cluster, Resource
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.handlers.gauges import forget
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.planning.names import PIPELINE_LABEL
from lakehouse_operator.planning.observed import Observation, Observed
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.planning.situation import FORCE_DELETE_ANNOTATION, START_FRESH_ANNOTATION
from lakehouse_operator.planning.validate import Judge

__all__ = ["world"]

LHP = LAKEHOUSE_PIPELINE.name


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def actors(world: World) -> Actors:
    return Actors(world.outsider, world.namespace)


@pytest.fixture
def tender(world: World, clock: Clock) -> Tender:
    return Tender(world.cluster, Sight(world.cluster), clock)


async def test_a_new_pipeline_gets_its_flink_deployment_and_says_that_it_reconciles(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await settle(tender, actors, clock)
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"
    assert await actors.condition("Ready") in ("Unknown", "False")
    assert await actors.condition("Reconciling") == "True"


async def test_once_the_job_runs_it_is_ready(tender: Tender, actors: Actors, clock: Clock) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    assert await actors.condition("Ready") == "True"
    assert (await actors.pipeline())["status"]["stream"]["state"] == "Running"


async def test_at_rest_nothing_is_written(tender: Tender, actors: Actors, clock: Clock) -> None:
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    before = [(await actors.pipeline()), (await actors.deployment())]
    for _ in range(3):
        clock.go(minutes=2)
        await tender.round((actors.namespace, NAME))
    after = [(await actors.pipeline()), (await actors.deployment())]
    assert [each["metadata"]["resourceVersion"] for each in after] == [
        each["metadata"]["resourceVersion"] for each in before
    ]


async def test_a_deleted_flink_deployment_comes_back_without_its_state_only_when_a_person_says_so(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    deleted = await actors.deployment()
    await actors.delete(FLINK_DEPLOYMENT, deleted)
    await settle(tender, actors, clock)
    with pytest.raises(NotFound):
        await actors.deployment()
    assert await actors.condition("Stalled") == "True"

    pipeline = manifest(actors.namespace)
    pipeline["metadata"]["annotations"] = {START_FRESH_ANNOTATION: "1"}
    await actors.cluster.apply(pipeline)
    await settle(tender, actors, clock)
    back = await actors.deployment()
    assert back["metadata"]["uid"] != deleted["metadata"]["uid"]
    assert back["spec"]["job"]["state"] == "running"
    assert "initialSavepointPath" not in back["spec"]["job"]
    assert await actors.condition("Stalled") in (None, "False")


class DeletedOnceSeen(Sight):
    """Between the look and what follows from it, somebody deletes the FlinkDeployment."""

    def __init__(self, cluster: Cluster, actors: Actors) -> None:
        super().__init__(cluster)
        self.deletes = False
        self._actors = actors

    @override
    async def observe(self, seen: Observed, judge: Judge) -> Observation:
        if self.deletes:
            self.deletes = False
            await self._actors.delete(FLINK_DEPLOYMENT, await self._actors.deployment())
        return await super().observe(seen, judge)


async def test_a_flink_deployment_that_is_deleted_before_it_is_changed_is_not_made_anew_by_the_change(
    world: World, actors: Actors, clock: Clock
) -> None:
    sight = DeletedOnceSeen(world.cluster, actors)
    tender = Tender(world.cluster, sight, clock)
    await actors.create_pipeline()
    await running(tender, actors, clock)
    # A policy reaches the running job: the deployment that is applied says `running`.
    await actors.create_pipeline(upgrade={"soak": {"duration": "0s"}, "maxRecoveryPointAge": "20m"})
    sight.deletes = True
    await tender.round((actors.namespace, NAME))
    assert not sight.deletes
    with pytest.raises(NotFound):
        await actors.deployment()
    await settle(tender, actors, clock)
    with pytest.raises(NotFound):
        await actors.deployment()
    stalled = next(each for each in (await actors.pipeline())["status"]["conditions"] if each["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "NoRecoveryPoint")


async def test_a_spark_application_that_is_deleted_while_it_runs_is_followed_by_another_attempt(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    (first,) = await actors.applications()
    await actors.spark_says(first["metadata"]["name"], "RUNNING")
    await settle(tender, actors, clock)
    await actors.delete(SPARK_APPLICATION, first)
    await settle(tender, actors, clock)
    clock.go(minutes=10)
    await settle(tender, actors, clock)
    (second,) = await actors.applications()
    assert second["metadata"]["name"] == first["metadata"]["name"].removesuffix("1") + "2"


async def test_a_changed_child_is_mended(tender: Tender, actors: Actors, clock: Clock) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    drifted = await actors.deployment()
    mine = {
        "apiVersion": drifted["apiVersion"],
        "kind": drifted["kind"],
        "metadata": {"name": drifted["metadata"]["name"], "namespace": actors.namespace, "labels": {"theirs": "yes"}},
        "spec": {"image": "other:2"},
    }
    await actors.cluster.apply(mine)
    await settle(tender, actors, clock)
    mended = await actors.deployment()
    assert mended["spec"]["image"] == "flink:1"
    assert mended["metadata"]["labels"]["theirs"] == "yes"


async def test_an_upgrade_stops_with_a_savepoint_and_starts_from_it(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    await actors.create_pipeline(parallelism=2)
    await settle(tender, actors, clock)
    stopping = await actors.deployment()
    assert (stopping["spec"]["job"]["state"], stopping["spec"]["job"]["upgradeMode"]) == ("suspended", "savepoint")
    assert stopping["spec"]["job"]["parallelism"] == 1
    await actors.flink_stopped("s3://lake/savepoints/savepoint-1")
    await settle(tender, actors, clock)
    started = await actors.deployment()
    assert (started["spec"]["job"]["state"], started["spec"]["job"]["parallelism"]) == ("running", 2)
    points = (await actors.pipeline())["status"]["recoveryPoints"]
    assert [point["path"] for point in points] == ["s3://lake/savepoints/savepoint-1"]


async def test_a_silver_run_is_created_tried_again_and_recorded(tender: Tender, actors: Actors, clock: Clock) -> None:
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    (run,) = await actors.runs()
    assert run["spec"]["dataInterval"] == {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}
    (first,) = await actors.applications()
    assert first["metadata"]["ownerReferences"][0]["uid"] == run["metadata"]["uid"]
    await actors.spark_says(first["metadata"]["name"], "FAILED", "driver container failed with ExitCode: 69")
    await settle(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=10)
    await settle(tender, actors, clock)
    second = next(a for a in await actors.applications() if a["metadata"]["name"] != first["metadata"]["name"])
    await actors.spark_says(second["metadata"]["name"], "RUNNING")
    await settle(tender, actors, clock)
    await actors.spark_says(second["metadata"]["name"], "COMPLETED")
    await settle(tender, actors, clock)
    (run,) = await actors.runs()
    outcomes = [attempt["outcome"] for attempt in run["status"]["attempts"]]
    assert (run["status"]["phase"], outcomes) == ("Succeeded", ["Failed", "Succeeded"])
    layer = (await actors.pipeline())["status"]["layers"]["silver"]
    assert layer["completedThrough"] == "2026-01-01T01:00:00Z"


PREEMPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "lastTransitionTime": "2026-01-01T01:00:00Z",
}


@pytest.mark.parametrize(
    ("pod", "exit_code", "expected"),
    [
        ({"reason": "Error", "says": {"reason": "Evicted", "message": "Low on memory."}}, 137, "Infrastructure"),
        ({"reason": "Error", "says": {"conditions": [PREEMPTED]}}, 1, "Infrastructure"),
        ({"reason": "OOMKilled"}, 137, "OutOfMemory"),
        ({"reason": "Error"}, 137, "Infrastructure"),
        ({"reason": "OOMKilled", "role": "executor"}, 70, "OutOfMemory"),
    ],
)
async def test_why_an_attempt_failed_is_read_from_its_pods(
    world: World, clock: Clock, pod: dict[str, Any], exit_code: int, expected: str
) -> None:
    actors, tender = Actors(world.outsider, world.namespace), Tender(world.cluster, Sight(world.cluster), clock)
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    (attempt,) = await actors.applications()
    name = attempt["metadata"]["name"]
    await actors.pod_ended(name, **pod)
    await actors.spark_says(name, "FAILED", f"driver container failed with ExitCode: {exit_code}, Reason: Error")
    await settle(tender, actors, clock)
    (run,) = await actors.runs()
    first = run["status"]["attempts"][0]
    assert (first["failureClass"], first["exitCode"]) == (expected, exit_code)
    assert pod.get("says", {}).get("message", "") in first["message"]


async def test_pods_are_listed_once_for_each_failure_and_never_at_rest(clock: Clock) -> None:
    cluster = Listening(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    for number in (1, 2):
        await settle(tender, actors, clock)
        attempts = await actors.applications()
        assert len(attempts) == number
        await actors.spark_says(attempts[-1]["metadata"]["name"], "FAILED", "driver pod not found")
        await settle(tender, actors, clock)
        clock.go(minutes=10)
    asked = [labels["sparkoperator.k8s.io/app-name"] for kind, labels in cluster.listed if kind == POD]
    assert asked == [each["metadata"]["name"] for each in attempts]


async def test_an_operator_that_may_not_list_pods_judges_without_them(clock: Clock) -> None:
    cluster = Listening(namespaces=("one",), now=clock)
    cluster.forbidden = POD
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    (attempt,) = await actors.applications()
    await actors.spark_says(attempt["metadata"]["name"], "FAILED", "driver container failed with ExitCode: 65")
    await settle(tender, actors, clock)
    (run,) = await actors.runs()
    assert run["status"]["attempts"][0]["failureClass"] == "Data"


class Listening(FakeCluster):
    """Remembers what was listed; one kind may not be."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.listed: list[tuple[Kind, Mapping[str, str]]] = []
        self.forbidden: Kind | None = None

    @override
    async def list_labelled(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        if kind == self.forbidden:
            raise Refused(f"{kind.plural} is forbidden")
        self.listed.append((kind, labels))
        return await super().list_labelled(kind, namespace, labels)


def events(cluster: FakeCluster, reason: str) -> list[Resource]:
    """The writes of events with this reason, a repetition being one of them."""
    posted = (write.resource for write in cluster.store.writes)
    return [each for each in posted if each.get("kind") == "Event" and each["reason"] == reason]


async def test_a_run_that_fails_for_good_is_seen_in_the_conditions_and_told_once(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    assert await actors.condition("RunsHealthy") == "True"
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    (attempt,) = await actors.applications()
    await actors.spark_says(attempt["metadata"]["name"], "FAILED", "driver container failed with ExitCode: 65")
    for _ in range(3):
        await settle(tender, actors, clock)
        clock.go(minutes=10)
    assert await actors.condition("RunsHealthy") == "False"
    assert (await actors.condition("Ready"), await actors.condition("Stalled")) == ("False", "True")
    told = events(cluster, "RunFailed")
    assert [(event["type"], "(Data)" in event["note"], "series" in event) for event in told] == [
        ("Warning", True, False)
    ]


async def test_without_the_spark_operator_runs_wait_and_say_so_until_it_comes(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    installed = cluster.store.capabilities
    cluster.store.capabilities = replace(installed, spark_applications=False)
    cluster.store.missing.add((SPARK_APPLICATION.group, SPARK_APPLICATION.plural))
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=1)
    await settle(tender, actors, clock)
    reasons = {each["type"]: each["reason"] for each in (await actors.pipeline())["status"]["conditions"]}
    assert (reasons["Ready"], reasons["RunsHealthy"]) == ("SparkOperatorMissing", "SparkOperatorMissing")
    (run,) = await actors.runs()
    assert run["status"]["conditions"][0]["reason"] == "SparkOperatorMissing"
    cluster.store.missing.clear()
    cluster.store.capabilities = installed
    await settle(tender, actors, clock)
    assert await actors.condition("Ready") == "True"
    assert len(await actors.applications()) == 1


async def test_rounds_that_keep_failing_are_told_in_an_event_and_not_each_time(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline()

    def denied(write: Write) -> None:
        if write.resource.get("kind") == FLINK_DEPLOYMENT.name:
            raise Refused("exceeded quota")

    cluster.store.before_write = denied
    for expected in (0, 0, 0, 0, 1, 1, 1):
        await tender.round(("one", NAME))
        assert len(events(cluster, "ReconcileFailed")) == expected
    assert "exceeded quota" in events(cluster, "ReconcileFailed")[0]["note"]


async def test_rounds_that_keep_failing_are_a_condition_until_one_does_all_that_it_should(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    await actors.create_pipeline()
    await running(Tender(cluster, Sight(cluster), clock), actors, clock)
    before = (await actors.pipeline())["status"]
    await actors.cluster.apply(
        {
            "apiVersion": FLINK_DEPLOYMENT.api_version,
            "kind": FLINK_DEPLOYMENT.name,
            "metadata": {"name": f"{NAME}-bronze", "namespace": "one"},
            "spec": {"image": "drifted:2"},
        }
    )

    def denied(write: Write) -> None:
        if write.resource.get("kind") == FLINK_DEPLOYMENT.name:
            raise Refused("exceeded quota")

    cluster.store.before_write = denied
    # The operator is started anew in between; it says no less.
    for tender in (Tender(cluster, Sight(cluster), clock), Tender(cluster, Sight(cluster), clock)):
        for _ in range(6):
            await tender.round(("one", NAME))
            clock.go(seconds=30)
        assert (await actors.condition("ReconcileFailed"), await actors.condition("Ready")) == ("True", "False")
    statuses = [write for write in cluster.store.writes if write.verb == "status" and write.resource["kind"] == LHP]
    told = [write.resource["status"] for write in statuses if "ReconcileFailed" in str(write.resource["status"])]
    assert len(told) == 1, "written when it began, and not in each round"
    assert "exceeded quota" in str(told[0]["conditions"])

    cluster.store.before_write = None
    await tender.round(("one", NAME))
    assert await actors.condition("ReconcileFailed") is None
    for _ in range(2):
        await settle(tender, actors, clock)
    assert await actors.condition("Ready") == "True"
    after = (await actors.pipeline())["status"]
    assert {**after, "conditions": None} == {**before, "conditions": None}


async def test_the_metrics_say_of_conditions_what_the_status_says_though_rounds_fail(clock: Clock) -> None:
    cluster = Listening(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    await actors.create_pipeline()
    await running(Tender(cluster, Sight(cluster), clock), actors, clock)
    assert measured("Ready") == 1
    await actors.create_pipeline(parallelism=3)
    cluster.store.before_write = refuses_config_maps
    await Tender(cluster, Sight(cluster), clock).round(("one", NAME))
    assert (await actors.condition("Ready"), measured("Ready")) == ("False", 0), "from the first round on"

    # The operator is started anew, and can't even read what belongs to the pipeline.
    forget(("one", NAME))
    cluster.store.before_write, cluster.forbidden = None, LAKEHOUSE_RUN
    tender = Tender(cluster, Sight(cluster), clock)
    for _ in range(5):
        await tender.round(("one", NAME))
    assert await actors.condition("ReconcileFailed") == "True"
    assert (measured("ReconcileFailed"), measured("Ready")) == (1, 0)

    cluster.forbidden = None
    await tender.round(("one", NAME))
    assert await actors.condition("ReconcileFailed") is None
    assert measured("ReconcileFailed") is None
    assert measured("Ready") == 0, "the change is under way"


def measured(condition: str) -> float | None:
    labels = {"namespace": "one", "pipeline": NAME, "condition": condition}
    return metrics.REGISTRY.get_sample_value("lakehouse_pipeline_condition", labels)


async def test_a_refused_change_is_explained_and_what_runs_goes_on(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    await actors.create_pipeline(flinkConfiguration={"kubernetes.cluster-id": "x"})
    await settle(tender, actors, clock)
    status = (await actors.pipeline())["status"]
    assert "kubernetes.cluster-id" in str(status["problems"])
    assert await actors.condition("Stalled") == "True"
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"


async def test_deleting_takes_a_savepoint_first_and_leaves_the_record(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    pipeline = await actors.pipeline()
    await actors.cluster.delete(LAKEHOUSE_PIPELINE, actors.namespace, NAME, pipeline["metadata"]["uid"])
    await settle(tender, actors, clock)
    assert (await actors.deployment())["spec"]["job"]["state"] == "suspended"
    await actors.flink_stopped("s3://lake/savepoints/last")
    pause = await settle(tender, actors, clock)
    assert pause is None
    assert await actors.cluster.list_labelled(FLINK_DEPLOYMENT, actors.namespace, {}) == []


UNREADABLE = {
    "of a newer operator": lambda text: json.dumps({**json.loads(text), "madeLater": True}),
    "cut short": lambda text: text[:-9],
    "emptied": lambda _: None,
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_record_that_can_not_be_read_is_told_once_and_everything_is_left_as_it_is(
    clock: Clock, spoil: Callable[[str], str | None]
) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster, ("*:*",)), clock)
    await actors.create_pipeline()
    await running(Tender(cluster, Sight(cluster), clock), actors, clock)
    before, deployment = (await actors.pipeline())["status"], await actors.deployment()
    kept = (await actors.read(CONFIG_MAP, f"{NAME}-record"))["data"]
    spoiled = await write_record(actors, spoil(kept["record.json"]))
    for _ in range(3):
        await tender.round(("one", NAME))
    conditions = {each["type"]: each for each in (await actors.pipeline())["status"]["conditions"]}
    assert (conditions["Ready"]["status"], conditions["Stalled"]["status"]) == ("False", "True")
    assert conditions["Ready"]["reason"] == "RecordUnreadable"
    assert f"ConfigMap {NAME}-record" in conditions["Stalled"]["message"]
    assert FORCE_DELETE_ANNOTATION in conditions["Stalled"]["message"]
    assert len(events(cluster, "RecordUnreadable")) == 1
    assert await actors.deployment() == deployment
    assert await actors.read(CONFIG_MAP, f"{NAME}-record") == spoiled

    await write_record(actors, kept["record.json"])
    await settle(Tender(cluster, Sight(cluster), clock), actors, clock)
    after = (await actors.pipeline())["status"]
    assert await actors.condition("Ready") == "True"
    assert {**after, "conditions": None} == {**before, "conditions": None}


async def write_record(actors: Actors, text: str | None) -> Resource:
    """Write into the record's ConfigMap as a person would; without a text the ConfigMap holds nothing."""
    found = await actors.read(CONFIG_MAP, f"{NAME}-record")
    await actors.cluster.delete(CONFIG_MAP, actors.namespace, f"{NAME}-record", found["metadata"]["uid"])
    metadata = {key: found["metadata"][key] for key in ("namespace", "name", "labels")}
    content = {"data": {"record.json": text}} if text is not None else {}
    made = await actors.cluster.create_once({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **content})
    return made.resource


async def test_a_pipeline_whose_record_can_not_be_read_is_deleted_by_force_alone(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline()
    await running(tender, actors, clock)
    spoiled = await write_record(actors, "{")
    await actors.cluster.delete(LAKEHOUSE_PIPELINE, "one", NAME, (await actors.pipeline())["metadata"]["uid"])
    await settle(tender, actors, clock)
    assert "RecordUnreadable" in str((await actors.pipeline())["status"])
    metadata = {"name": NAME, "namespace": "one", "annotations": {FORCE_DELETE_ANNOTATION: "true"}}
    await actors.cluster.apply({**manifest("one"), "metadata": metadata})
    assert await settle(tender, actors, clock) is None
    assert await actors.cluster.list_labelled(FLINK_DEPLOYMENT, "one", {}) == []
    assert await actors.read(CONFIG_MAP, f"{NAME}-record") == spoiled


@pytest.mark.parametrize("how", ["the policy", "the annotation"])
async def test_a_forced_deletion_goes_on_though_nobody_may_write_the_record(clock: Clock, how: str) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors = Actors(cluster.seen_by("outsider"), "one")
    tender = Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline(**({"deletion": {"policy": "Force"}} if how == "the policy" else {}))
    await running(tender, actors, clock)
    cluster.store.before_write = refuses_config_maps
    metadata = (await actors.pipeline())["metadata"]
    await actors.cluster.delete(LAKEHOUSE_PIPELINE, "one", NAME, metadata["uid"])
    if how == "the annotation":
        metadata = {"name": NAME, "namespace": "one", "annotations": {FORCE_DELETE_ANNOTATION: "true"}}
        await actors.cluster.apply({**manifest("one"), "metadata": metadata})
    assert await settle(tender, actors, clock) is None
    assert await actors.cluster.list_labelled(FLINK_DEPLOYMENT, "one", {}) == []


def refuses_config_maps(write: Write) -> None:
    if write.resource["kind"] == "ConfigMap":
        raise Refused("exceeded quota")


async def test_a_pipeline_is_let_go_with_its_namespace(control_plane: ControlPlane, clock: Clock) -> None:
    namespace = new_namespace(control_plane)
    login = Login(control_plane.kubeconfig)
    async with (
        KubernetesCluster(login) as cluster,
        KubernetesCluster(login, field_manager="somebody-else") as outsider,
    ):
        actors, tender = Actors(outsider, namespace), Tender(cluster, Sight(cluster), clock)
        await actors.create_pipeline()
        await running(tender, actors, clock)
        assert not await cluster.is_ending(namespace)
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")
        # The namespace controller, which does not run here, deletes all that there is, in no order.
        record = await actors.read(CONFIG_MAP, f"{NAME}-record")
        await outsider.delete(CONFIG_MAP, namespace, f"{NAME}-record", record["metadata"]["uid"])
        uid = (await actors.pipeline())["metadata"]["uid"]
        await outsider.delete(LAKEHOUSE_PIPELINE, namespace, NAME, uid)
        assert await cluster.is_ending(namespace)
        assert await settle(tender, actors, clock) is None


async def test_a_label_that_somebody_removes_from_the_deployment_is_put_back(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    person = cluster.seen_by(FIELD_MANAGER)
    actors, tender = Actors(cluster.seen_by("outsider"), "one"), Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline()
    await running(tender, actors, clock)
    before = await actors.deployment()
    without = {key: value for key, value in before["metadata"]["labels"].items() if key != PIPELINE_LABEL}
    # Fields that the operator applied before and does not name now are removed: as `kubectl label ... pipeline-` does.
    await person.apply({**before, "metadata": {**before["metadata"], "labels": without}})
    assert PIPELINE_LABEL not in (await actors.deployment())["metadata"]["labels"]
    await tender.round(("one", NAME))
    after = await actors.deployment()
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["spec"] == before["spec"]


async def test_the_definition_that_a_status_names_is_there(clock: Clock) -> None:
    cluster = FakeCluster(namespaces=("one",), now=clock)
    actors, tender = Actors(cluster.seen_by("outsider"), "one"), Tender(cluster, Sight(cluster), clock)
    await actors.create_pipeline()
    await settle(tender, actors, clock)
    assert "definition" not in (await actors.pipeline())["status"], "nothing is pinned to it"
    await actors.create_pipeline(silver=True)
    await settle(tender, actors, clock)
    assert await actors.read(CONFIG_MAP, (await actors.pipeline())["status"]["definition"])


async def test_a_pipeline_that_is_gone_ends_its_task(tender: Tender, actors: Actors) -> None:
    assert await tender.round((actors.namespace, "nobody")) is None


# --- the process dies at any write


class Died(BaseException):
    """The process is gone: no handler of ours may catch it."""


@contextmanager
def dying_at(cluster: FakeCluster, number: int) -> Iterator[None]:
    left = number

    def count(_: Write) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    cluster.store.before_write = count
    try:
        yield
    finally:
        cluster.store.before_write = None


async def story(cluster: FakeCluster, clock: Clock, death: int | None) -> tuple[dict[str, object], int]:
    """A pipeline from its creation to its first silver run; the operator dies before its n-th write, once."""
    actors = Actors(cluster.seen_by("outsider"), "one")
    await actors.create_pipeline(silver=True)
    own = 0

    async def live() -> None:
        nonlocal own
        before = len(cluster.store.writes)
        tender = Tender(cluster, Sight(cluster), clock)
        try:
            if death is not None and death - own > 0:
                with dying_at(cluster, death - own):
                    await settle(tender, actors, clock)
            else:
                await settle(tender, actors, clock)
        except Died:
            clock.go(seconds=5)
            await settle(Tender(cluster, Sight(cluster), clock), actors, clock)
            own = 10**9
        own += len(cluster.store.writes) - before

    await live()
    await actors.flink_runs()
    await live()
    clock.now = BEGAN.replace(hour=1, minute=1)
    await live()
    (application,) = await actors.applications()
    await actors.spark_says(application["metadata"]["name"], "COMPLETED")
    await live()
    runs = await actors.runs()
    end = {
        "runs": [(run["metadata"]["name"], run["status"]["phase"], len(run["status"]["attempts"])) for run in runs],
        "applications": [each["metadata"]["name"] for each in await actors.applications()],
        "deployments": len(await actors.cluster.list_labelled(FLINK_DEPLOYMENT, "one", {})),
        "through": (await actors.pipeline())["status"]["layers"]["silver"]["completedThrough"],
    }
    return end, own


async def test_dying_before_any_write_changes_nothing_in_the_end() -> None:
    clock = Clock()
    expected, writes = await story(FakeCluster(namespaces=("one",), now=clock), clock, None)
    assert expected["through"] == instant(BEGAN.replace(hour=1, minute=0))
    assert writes > 8
    for death in range(1, writes + 1):
        clock = Clock()
        end, _ = await story(FakeCluster(namespaces=("one",), now=clock), clock, death)
        assert end == expected, f"died before write {death}"
