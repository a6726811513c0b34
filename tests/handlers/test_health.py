"""Liveness fails when a pipeline exists that nobody tends: the watch is silent."""

from cluster.fake_cluster import FakeCluster
from handlers.actors import NAME, Actors
from lakehouse_operator.cluster.errors import Unavailable
from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.handlers.bells import Bells, Key
from lakehouse_operator.handlers.health import Watchdog


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
    bells.begin(("one", NAME))
    watchdog = Watchdog(cluster, ("one",), bells, 60, time)
    await watchdog.look()
    time.now += 1000
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
