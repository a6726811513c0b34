"""Lists for somebody who also watches: cheap, and never older than what was written, listed or heard of before."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.web import Request, Response

from cluster.conftest import world
from cluster.worlds import World
from control_plane.api_server import ControlPlane
from control_plane.faulty_proxy import faulty_proxy
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import Unavailable
from lakehouse_operator.cluster.kinds import CONFIG_MAP, FLINK_STATE_SNAPSHOT
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.cluster.rest import Login, Patience

__all__ = ["world"]

LABELS = {"lakehouse.dev/pipeline": "clicks"}
OFTEN = 40


def config_map(namespace: str, name: str, labels: dict[str, str] = LABELS) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {"a": "b"},
    }


async def listed(world: World) -> list[str]:
    found = await world.cluster.list_followed(CONFIG_MAP, world.namespace, LABELS)
    assert all(each["kind"] == "ConfigMap" and each["apiVersion"] == "v1" for each in found)
    return [each["metadata"]["name"] for each in found]


async def test_the_first_one_shows_what_others_wrote_just_before(world: World) -> None:
    await world.outsider.apply(config_map(world.namespace, "one"))
    await world.outsider.apply(config_map(world.namespace, "two"))
    await world.outsider.apply(config_map(world.namespace, "of-others", {"lakehouse.dev/pipeline": "orders"}))
    assert await listed(world) == ["one", "two"]


async def test_what_was_written_here_is_always_in_the_next_one(world: World) -> None:
    assert await listed(world) == []
    for number in range(OFTEN):
        name = f"map-{number:02}"
        await (world.cluster.create_once if number % 2 else world.cluster.apply)(config_map(world.namespace, name))
        assert name in await listed(world)


async def test_what_a_watch_has_told_of_is_always_in_the_next_one(world: World) -> None:
    assert await listed(world) == []
    for number in range(OFTEN):
        written = await world.outsider.apply(config_map(world.namespace, f"map-{number:02}"))
        world.cluster.heard(CONFIG_MAP, written["metadata"]["resourceVersion"])
        assert f"map-{number:02}" in await listed(world)


async def test_generations_are_those_of_all_objects_in_a_namespace_or_everywhere(world: World) -> None:
    assert await world.cluster.generations(CONFIG_MAP, world.namespace) == {}
    for number in range(5):
        await world.outsider.apply(config_map(world.namespace, f"map-{number}"))
    expected = {(world.namespace, f"map-{number}") for number in range(5)}
    assert (await world.cluster.generations(CONFIG_MAP, world.namespace)).keys() == expected
    assert expected <= (await world.cluster.generations(CONFIG_MAP, None)).keys()


async def test_the_server_is_asked_for_what_is_not_older_than_all_that_is_known(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Its cache is so seldom late that no other test would notice a version that is too old."""
    asked: list[dict[str, str]] = []

    async def note(request: Request, really: Callable[[], Awaitable[Response]]) -> Response:
        asked.append(dict(request.query))
        return await really()

    async with (
        faulty_proxy(control_plane, tmp_path) as proxy,
        KubernetesCluster(Login(proxy.kubeconfig)) as cluster,
    ):

        async def version_asked_for() -> int | None:
            proxy.then(note)
            await cluster.list_followed(CONFIG_MAP, namespace, LABELS)
            query = asked.pop()
            if "resourceVersion" not in query:
                return None
            assert query["resourceVersionMatch"] == "NotOlderThan"
            return int(query["resourceVersion"])

        assert await version_asked_for() is None
        first = await version_asked_for()
        assert first is not None
        applied = await cluster.apply(config_map(namespace, "one"))
        assert await version_asked_for() == int(applied["metadata"]["resourceVersion"])
        created = (await cluster.create_once(config_map(namespace, "two"))).resource
        assert await version_asked_for() == int(created["metadata"]["resourceVersion"])
        # A dry run writes nothing; an older event, and one of another kind, say nothing new.
        await cluster.apply(config_map(namespace, "three"), dry_run=True)
        cluster.heard(CONFIG_MAP, str(first))
        cluster.heard(FLINK_STATE_SNAPSHOT, str(2**60))
        assert await version_asked_for() == int(created["metadata"]["resourceVersion"])
        async with KubernetesCluster(Login(control_plane.kubeconfig)) as outsider:
            theirs = (await outsider.apply(config_map(namespace, "four")))["metadata"]["resourceVersion"]
        cluster.heard(CONFIG_MAP, theirs)
        assert await version_asked_for() == int(theirs)


@pytest.fixture
async def impatient(control_plane: ControlPlane) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster(Login(control_plane.kubeconfig), patience=Patience(attempts=1), page=2) as cluster:
        yield cluster


async def test_generations_are_read_page_by_page(impatient: KubernetesCluster, namespace: str) -> None:
    for number in range(5):
        await impatient.apply(config_map(namespace, f"map-{number}"))
    assert len(await impatient.generations(CONFIG_MAP, namespace)) == 5


async def test_a_version_that_never_comes_is_given_up(impatient: KubernetesCluster, namespace: str) -> None:
    """As after a restore of etcd from a backup, when versions begin anew at a lower number."""
    await impatient.list_labelled(FLINK_STATE_SNAPSHOT, namespace, {})
    impatient.heard(FLINK_STATE_SNAPSHOT, str(2**60))
    with pytest.raises(Unavailable):
        await impatient.list_followed(FLINK_STATE_SNAPSHOT, namespace, LABELS)
    assert await impatient.list_followed(FLINK_STATE_SNAPSHOT, namespace, LABELS) == []
