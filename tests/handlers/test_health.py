"""Liveness fails when a pipeline exists that nobody tends: the watch is silent."""

from cluster.fake_cluster import FakeCluster
from handlers.actors import NAME, Actors
from lakehouse_operator.cluster.errors import Refused, Unavailable
from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.handlers.bells import Bells, Key
from lakehouse_operator.handlers.health import Reach, Watchdog


async def _nothing(_: Key) -> float | None:
    return 3600.0


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_pipeline_that_stays_untended_fails_the_probe_after_a_while() -> None:
    cluster, time = FakeCluster(namespaces=("one",)), Time()
    await Actors(cluster, "one").create_pipeline()
    watchdog = Watchdog(cluster, (), Bells(_nothing, 1), 60, time)
    await watchdog.look()
    assert watchdog.is_healthy
    time.now += 61
    await watchdog.look()
    assert not watchdog.is_healthy


async def test_a_tended_pipeline_is_healthy() -> None:
    cluster, time = FakeCluster(namespaces=("one",)), Time()
    await Actors(cluster, "one").create_pipeline()
    bells = Bells(_nothing, 1)
    bells.begin(("one", NAME), 1)
    watchdog = Watchdog(cluster, ("one",), bells, 60, time)
    await watchdog.look()
    time.now += 1000
    await watchdog.look()
    assert watchdog.is_healthy
    await bells.stop()


async def test_a_change_that_no_watch_tells_of_fails_the_probe_after_a_while() -> None:
    cluster, time = FakeCluster(namespaces=("one",)), Time()
    actors = Actors(cluster, "one")
    await actors.create_pipeline()
    bells = Bells(_nothing, 1)
    bells.begin(("one", NAME), 1)
    await actors.create_pipeline(parallelism=2)
    watchdog = Watchdog(cluster, (), bells, 60, time)
    await watchdog.look()
    time.now += 61
    assert not watchdog.is_healthy
    bells.begin(("one", NAME), 2)
    await watchdog.look()
    assert watchdog.is_healthy
    await bells.stop()


async def test_an_api_server_that_does_not_answer_proves_nothing() -> None:
    class Away(FakeCluster):
        async def list_labelled(self, kind: Kind, *args: object) -> list[Resource]:
            raise Unavailable("connection refused")

    watchdog = Watchdog(Away(), (), Bells(_nothing, 1), 60, Time())
    await watchdog.look()
    assert watchdog.is_healthy


async def test_a_replica_is_ready_while_the_api_server_answers_it_if_only_with_a_refusal() -> None:
    answers: list[Exception] = [Unavailable("connection refused"), Refused("no rights"), Unavailable("gone again")]

    class Moody(FakeCluster):
        async def read(self, kind: Kind, *args: object) -> Resource:
            raise answers.pop(0)

    time = Time()
    reach = Reach(Moody(), "one", "operator", 60, time)
    ready = []
    for _ in range(3):
        await reach.look()
        ready.append(reach.is_there)
        time.now += 30
    assert ready == [False, True, True]
    time.now += 1
    assert not reach.is_there
