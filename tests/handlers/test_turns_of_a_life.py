"""What happens seldom in a pipeline's life, in whole rounds: in memory, in files, and on a real API server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from cluster.conftest import world
from cluster.worlds import World
from control_plane.api_server import ControlPlane
from control_plane.faulty_proxy import FaultyProxy, answer_with, drop, faulty_proxy
from control_plane.fixtures import new_namespace
from handlers.actors import NAME, Actors
from handlers.rounds import BEGAN, Clock, running, settle
from lakehouse_contract import commits
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL, LAKEHOUSE_RUN
from lakehouse_operator.cluster.rest import Login, Patience
from lakehouse_operator.handlers.sight import PipelineTables, Sight
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.planning import names
from lakehouse_operator.planning.observed import Commit, Observation, Observed, PartitionProgress, TableView
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION, SAVEPOINT_ANNOTATION
from lakehouse_operator.planning.validate import Judge, validate

__all__ = ["world"]

IMPATIENT = Patience(connect=5.0, answer=5.0, attempts=2, first_pause=0.01, longest_pause=0.1)
BRONZE, JOB = "bronze.clicks", "a" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def actors(world: World) -> Actors:
    return Actors(world.outsider, world.namespace)


@pytest.fixture
def tender(world: World, clock: Clock) -> Tender:
    return Tender(world.cluster, Sight(world.cluster), clock)


# --- going back -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seeing(Sight):
    """Sees a bronze table and Kafka that are scripted, and moves that table."""

    bronze: TableView = field(default_factory=lambda: TableView(name=BRONZE, commits=()))
    savepoints: dict[str, int] = field(default_factory=dict)

    @override
    async def observe(self, seen: Observed, judge: Judge = validate) -> Observation:
        kafka = (PartitionProgress(partition=0, committed=10, start=0, end=10),)
        return Observation(tables={BRONZE: self.bronze}, kafka=kafka, savepoints=self.savepoints)

    @override
    def tables(self, seen: Observed) -> "Moving":
        return Moving(None, self)

    def commit(self) -> None:
        """The stream commits its next checkpoint."""
        number = len(self.bronze.commits) + 1
        properties = {commits.FLINK_JOB_ID: JOB, commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: str(number)}
        at = BEGAN + timedelta(minutes=number)
        before = number - 1 or None
        commit = Commit(id=number, parent=before, committed_at=at, operation="append", properties=properties)
        self.bronze = replace(self.bronze, commits=(*self.bronze.commits, commit))


@dataclass(frozen=True, slots=True)
class Moving(PipelineTables):
    """Does to the scripted table what would be done to a real one."""

    sight: Seeing

    @override
    async def tag(self, table: str, tag: str, snapshot: int) -> None:
        bronze = self.sight.bronze
        self.sight.bronze = replace(bronze, tags={**bronze.tags, tag: snapshot})

    @override
    async def roll_back(self, table: str, *, to: int, expected_head: int, discarded_tag: str) -> None:
        bronze = self.sight.bronze
        assert bronze.head is not None
        assert bronze.head.id == expected_head
        kept = tuple(commit for commit in bronze.commits if commit.id <= to)
        self.sight.bronze = replace(bronze, commits=kept, tags={**bronze.tags, discarded_tag: expected_head})


async def test_a_restore_takes_bronze_back_and_starts_from_the_savepoint(
    world: World, actors: Actors, clock: Clock
) -> None:
    sight = Seeing(world.cluster)
    tender = Tender(world.cluster, sight, clock)
    sight.commit()
    await actors.create_pipeline()
    await running(tender, actors, clock)
    await actors.annotate(SAVEPOINT_ANNOTATION, "1")
    await settle(tender, actors, clock)
    await actors.savepoint_taken("s3://lake/savepoints/first")
    sight.savepoints["s3://lake/savepoints/first"] = 1
    await settle(tender, actors, clock)
    sight.commit()
    sight.commit()
    await settle(tender, actors, clock)
    (point,) = (await actors.pipeline())["status"]["recoveryPoints"]
    assert (point["proven"], point["bronzeSnapshot"]) == (True, "1")

    await actors.annotate(RESTORE_ANNOTATION, f"{point['name']}/1")
    await settle(tender, actors, clock)
    assert (await actors.deployment())["spec"]["job"]["state"] == "suspended"
    assert sight.bronze.head is not None
    assert sight.bronze.head.id == 3, "nothing is moved while the job may still commit"
    await actors.flink_stopped("s3://lake/savepoints/second")
    for _ in range(3):
        await settle(tender, actors, clock)
    assert sight.bronze.head.id == 1
    assert 3 in [snapshot for tag, snapshot in sight.bronze.tags.items() if tag.startswith("discarded-")]
    job = (await actors.deployment())["spec"]["job"]
    assert (job["state"], job["initialSavepointPath"]) == ("running", "s3://lake/savepoints/first")
    points = {each["name"]: each["proven"] for each in (await actors.pipeline())["status"]["recoveryPoints"]}
    assert points[point["name"]]


async def test_a_restore_that_can_not_be_carried_out_is_refused_and_the_stream_goes_on(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    await actors.annotate(RESTORE_ANNOTATION, "manual-0/1")
    await settle(tender, actors, clock)
    told = {each["type"]: each["reason"] for each in (await actors.pipeline())["status"]["conditions"]}
    assert (told["RequestRefused"], told["Ready"]) == ("UnknownRecoveryPoint", "Running")
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"


async def test_an_upgrade_that_fails_returns_to_the_last_good_revision(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline()
    await running(tender, actors, clock)
    await actors.create_pipeline(parallelism=2)
    await settle(tender, actors, clock)
    await actors.flink_stopped("s3://lake/savepoints/upgrade")
    await settle(tender, actors, clock)
    assert (await actors.deployment())["spec"]["job"]["parallelism"] == 2
    await actors.flink_runs("b" * 32)
    await actors.flink_gives_up()
    await settle(tender, actors, clock)
    job = (await actors.deployment())["spec"]["job"]
    assert (job["state"], job["parallelism"], job["upgradeMode"]) == ("running", 1, "last-state")
    await actors.flink_runs("c" * 32)
    await settle(tender, actors, clock)
    told = {each["type"]: each["reason"] for each in (await actors.pipeline())["status"]["conditions"]}
    assert (told["Stalled"], told["StreamRunning"]) == ("RolledBack", "Running")
    clock.go(minutes=30)
    await settle(tender, actors, clock)
    assert (await actors.deployment())["spec"]["job"]["parallelism"] == 1, "it is not tried again by itself"


# --- runs -------------------------------------------------------------------------------------------------------------


def backfill(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": LAKEHOUSE_BACKFILL.api_version,
        "kind": LAKEHOUSE_BACKFILL.name,
        "metadata": {"name": "again", "namespace": namespace, "labels": {names.PIPELINE_LABEL: NAME}},
        "spec": {
            "pipelineRef": {"name": NAME},
            "range": {"first": "2025-12-30", "last": "2025-12-31"},
            "stages": ["silver"],
            "reprocess": "all",
            "maxConcurrent": 2,
            **spec,
        },
    }


async def test_a_backfill_is_planned_waits_for_approval_and_runs_each_day_once(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline(silver=True)
    await running(tender, actors, clock)
    await actors.cluster.apply(backfill(actors.namespace))
    await settle(tender, actors, clock)
    status = (await actors.read(LAKEHOUSE_BACKFILL, "again"))["status"]
    assert (status["phase"], [each["first"] for each in status["intervals"]]) == (
        "Proposed",
        ["2025-12-30", "2025-12-31"],
    )
    assert await actors.runs() == []
    await actors.cluster.apply(backfill(actors.namespace, approved=True))
    await settle(tender, actors, clock)
    attempts = await actors.applications()
    assert [run["spec"]["days"]["first"] for run in await actors.runs()] == ["2025-12-30", "2025-12-31"]
    assert len(attempts) == 2
    for attempt in attempts:
        await actors.spark_says(attempt["metadata"]["name"], "COMPLETED")
    await settle(tender, actors, clock)
    assert (await actors.read(LAKEHOUSE_BACKFILL, "again"))["status"]["phase"] == "Succeeded"
    await settle(tender, actors, clock)
    assert len(await actors.applications()) == len(attempts)


async def test_gold_starts_when_silver_has_done_its_hour_and_not_before(
    tender: Tender, actors: Actors, clock: Clock
) -> None:
    await actors.create_pipeline(gold=True)
    await running(tender, actors, clock)
    clock.now = BEGAN.replace(hour=1, minute=31)
    await settle(tender, actors, clock)
    (silver,) = await actors.applications()
    layers = (await actors.pipeline())["status"]["layers"]
    assert "silver must have succeeded through 2026-01-01T01:00:00Z" in layers["gold"]["heldBecause"]
    await actors.spark_says(silver["metadata"]["name"], "COMPLETED")
    await settle(tender, actors, clock)
    (gold,) = [run for run in await actors.runs() if run["spec"]["stage"] == "gold"]
    assert gold["spec"]["dataInterval"] == {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}
    assert gold["status"]["startedBecause"] == "SilverDone"


# --- the API server is away -------------------------------------------------------------------------------------------


@pytest.fixture
async def proxy(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(control_plane, tmp_path) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", [drop, answer_with(503)], ids=["unreachable", "unavailable"])
async def test_while_the_api_server_is_away_nothing_is_lost_and_afterwards_nothing_is_done_twice(
    control_plane: ControlPlane, proxy: FaultyProxy, clock: Clock, fault: Any
) -> None:
    namespace = new_namespace(control_plane)
    async with (
        KubernetesCluster(Login(control_plane.kubeconfig), field_manager="outsider") as outside,
        KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT) as cluster,
    ):
        actors = Actors(outside, namespace)
        tender = Tender(cluster, Sight(cluster), clock)
        await actors.create_pipeline(silver=True)
        await running(tender, actors, clock)
        clock.now = BEGAN.replace(hour=1, minute=1)
        # It goes away after a few requests: in the middle of looking, then of writing.
        for answered in (0, 3, 8, 13, 18):
            proxy.then(*[_unharmed] * answered, *[fault] * 500)
            pauses = [await tender.round((namespace, NAME)) for _ in range(3)]
            assert all(pause is not None and pause > 0 for pause in pauses), "the care goes on, and waits"
            proxy.faults.clear()
        await settle(tender, actors, clock)
        await settle(tender, actors, clock)
        assert len(await outside.list_labelled(LAKEHOUSE_RUN, namespace, {})) == 1
        assert len(await actors.applications()) == 1
        assert await actors.condition("Ready") == "True"


async def _unharmed(request: Any, really: Any) -> Any:
    return await really()
