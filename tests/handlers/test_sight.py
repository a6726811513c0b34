"""What is wrong outside the API server, in catalogs, brokers and Secrets, stops no care of a pipeline."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.fake_cluster import FakeCluster
from handlers.actors import NAME, Actors, manifest
from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.gather import gather
from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT, LAKEHOUSE_PIPELINE
from lakehouse_operator.handlers.sight import Sight, _look
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.observation import clients
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning.acceptance import accept
from lakehouse_operator.planning.observed import Observation, RunObject
from lakehouse_operator.tables.move import MoveRefused
from planning.stream_scenes import at_rest

NAMESPACE = "one"
KEY = (NAMESPACE, NAME)


class DriverMissing(Exception):
    """What no list of error types would name, with a message that nobody may read."""


def broken(*_: Any, **__: Any) -> Any:
    raise DriverMissing("postgresql://lake:s3cr3t@db/catalog")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(namespaces=(NAMESPACE,))


@pytest.fixture
def actors(cluster: FakeCluster) -> Actors:
    return Actors(cluster.seen_by("outsider"), NAMESPACE)


async def rounds(tender: Tender, actors: Actors, number: int = 8) -> float | None:
    pause: float | None = 0.0
    for _ in range(number):
        pause = await tender.round(KEY)
        if pause is None:
            return None
        await actors.follow()
    return pause


async def observing(actors: Actors) -> dict[str, Any]:
    conditions = (await actors.pipeline())["status"]["conditions"]
    return next(each for each in conditions if each["type"] == "Observing")


def no_part_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "open_catalog", broken)
    monkeypatch.setattr(clients, "KafkaObserver", broken)


def the_observer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observer, "observe", broken)


def test_the_snapshots_of_recovery_points_and_of_runs_of_days_are_asked_for_however_old_they_are() -> None:
    seen = at_rest().see()
    [point] = seen.record.points
    discarded = replace(point, name="d", bronze_snapshot=77, discarded=True)
    run = RunObject(
        name="days",
        uid="run-1",
        owner_uid=None,
        created_at=seen.now,
        spec={"stage": "silver", "days": {"first": "2026-01-30", "last": "2026-02-01", "atSnapshot": "99"}},
        status={},
        annotations={},
        deleting=False,
    )
    seen = replace(seen, runs=(run,), record=replace(seen.record, points=(discarded, point)))
    pipeline = accept(seen).pipeline
    assert pipeline is not None
    assert point.bronze_snapshot is not None
    looks = (seen, replace(seen, record=replace(seen.record, stale_days=("2026-01-30",))))
    asked = [_look(pipeline, each, {}, lambda *_: "").asked for each in looks]
    assert asked == [{"bronze.clicks": (point.bronze_snapshot,)}, {"bronze.clicks": (point.bronze_snapshot, 99)}]


@pytest.mark.parametrize("spoil", [no_part_can_be_read, the_observer_fails])
async def test_errors_of_any_kind_are_a_condition_and_the_stream_is_deployed_all_the_same(
    spoil: Any, cluster: FakeCluster, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    await actors.create_pipeline()
    await rounds(Tender(cluster, Sight(cluster, ("*",))), actors)
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"
    told = await observing(actors)
    assert (told["status"], told["reason"]) == ("False", "CannotRead")
    assert "DriverMissing" in told["message"]
    assert "s3cr3t" not in str(await actors.pipeline())


@pytest.mark.parametrize("spoil", [no_part_can_be_read, the_observer_fails])
async def test_errors_of_any_kind_do_not_hold_up_a_forced_deletion(
    spoil: Any, cluster: FakeCluster, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await actors.create_pipeline()
    unseeing = Tender(cluster, Sight(cluster))
    await rounds(unseeing, actors)
    await actors.flink_runs()
    await rounds(unseeing, actors)
    spoil(monkeypatch)
    await actors.create_pipeline(deletion={"policy": "Force"})
    uid = (await actors.pipeline())["metadata"]["uid"]
    await actors.cluster.delete(LAKEHOUSE_PIPELINE, NAMESPACE, NAME, uid)
    assert await rounds(Tender(cluster, Sight(cluster, ("*",))), actors) is None
    with pytest.raises(NotFound):
        await actors.pipeline()
    assert await actors.cluster.list_labelled(FLINK_DEPLOYMENT, NAMESPACE, {}) == []


async def test_a_secret_that_is_no_text_is_named_without_its_value(
    cluster: FakeCluster, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_part_can_be_read(monkeypatch)
    secret = {"username": base64.b64encode(b"lake").decode(), "password": base64.b64encode(b"\xff\xfe pw").decode()}
    await actors.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "kafka", "namespace": NAMESPACE},
            "data": secret,
        }
    )
    secured = manifest(NAMESPACE)
    secured["spec"]["source"]["security"] = {
        "protocol": "SASL_PLAINTEXT",
        "mechanism": "SCRAM-SHA-512",
        "secretRef": {"name": "kafka"},
    }
    await actors.cluster.apply(secured)
    await rounds(Tender(cluster, Sight(cluster, ("*",))), actors)
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"
    message = (await observing(actors))["message"]
    assert "the key password of Secret kafka holds no UTF-8 text" in message
    assert "xff" not in message


async def test_a_catalog_that_fails_while_a_table_is_moved_is_told_by_the_kind_of_its_error_alone(
    cluster: FakeCluster, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Observer, "observe", lambda *_: Observation())
    monkeypatch.setattr(Observer, "catalog", broken)
    await actors.create_pipeline()
    gathered = await gather(cluster, NAMESPACE, NAME, datetime(2026, 1, 1, tzinfo=UTC))
    sight = Sight(cluster, ("*",))
    await sight.observe(gathered.seen)
    with pytest.raises(MoveRefused, match=r"^a table can't be moved now: DriverMissing$") as caught:
        await sight.tables(gathered.seen).tag("bronze.events", "recovery-x", 1)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("own", [False, True])
async def test_the_tables_of_gold_are_looked_at_whoever_wrote_the_job(
    own: bool, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[Look]()

    def look_at(_: Observer, look: Look) -> Observation:
        looks.append(look)
        return Observation()

    monkeypatch.setattr(Observer, "observe", look_at)
    made = manifest(NAMESPACE, gold=True)
    if own:
        made["spec"]["gold"].pop("models")
        made["spec"]["gold"]["job"] = {"entryPoint": "local:///gold.py", "writes": ["gold.pages"]}
    await cluster.apply(made)
    gathered = await gather(cluster, NAMESPACE, NAME, datetime(2026, 1, 1, tzinfo=UTC))
    await Sight(cluster, ("*",)).observe(gathered.seen)
    assert "gold.pages" in looks[0].tables


# --- what never answers


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[Look]]]:
    """A catalog that does not answer until it is told to, and the looks that began."""
    told, looks = threading.Event(), list[Look]()

    def hang(_: Observer, look: Look) -> Observation:
        looks.append(look)
        told.wait(30)
        return Observation()

    monkeypatch.setattr(Observer, "observe", hang)
    yield told, looks
    told.set()


async def test_catalogs_that_never_answer_hold_up_nobody_and_are_not_asked_again(
    cluster: FakeCluster, actors: Actors, silence: tuple[threading.Event, list[Look]]
) -> None:
    told, looks = silence
    await actors.create_pipeline()
    tender = Tender(cluster, Sight(cluster, ("*",), seconds=0.2))
    await rounds(tender, actors)
    assert (await actors.deployment())["spec"]["job"]["state"] == "running"
    assert "did not answer within 0.2 s" in (await observing(actors))["message"]
    assert len(looks) == 1
    told.set()
    async with asyncio.timeout(30):  # a busy machine may take a while to end the thread and start another
        while "did not answer" in (await observing(actors))["message"]:
            await rounds(tender, actors, 1)
    assert len(looks) > 1


async def test_many_that_never_answer_leave_threads_for_the_others(
    cluster: FakeCluster, actors: Actors, silence: tuple[threading.Event, list[Look]]
) -> None:
    _, looks = silence
    await actors.create_pipeline()
    gathered = await gather(cluster, NAMESPACE, NAME, datetime(2026, 1, 1, tzinfo=UTC))
    sight = Sight(cluster, ("*",), seconds=5)
    pipelines = [replace(gathered.seen.pipeline, name=f"p{number}") for number in range(100)]
    tasks = [asyncio.create_task(sight.observe(replace(gathered.seen, pipeline=each))) for each in pipelines]
    answers = await asyncio.gather(*tasks)
    assert len(looks) == len(pipelines)
    assert all("did not answer" in (each.problem or "") for each in answers)


async def test_one_that_hangs_is_given_up_when_the_address_is_mended(
    cluster: FakeCluster, actors: Actors, silence: tuple[threading.Event, list[Look]]
) -> None:
    _, looks = silence
    await actors.create_pipeline()
    tender = Tender(cluster, Sight(cluster, ("*",), seconds=0.1))
    await rounds(tender, actors, 2)
    mended = manifest(NAMESPACE)
    mended["spec"]["catalog"]["uri"] = "http://other:8181"
    await actors.cluster.apply(mended)
    await rounds(tender, actors, 2)
    assert [look.settings.catalog.uri for look in looks] == ["http://catalog:8181", "http://other:8181"]
