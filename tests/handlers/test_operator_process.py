"""The operator as a process: kopf for real, on a real API server with the real CRDs."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from control_plane.api_server import ControlPlane, api_server_away, running_control_plane
from control_plane.faulty_proxy import answer_with, drop, faulty_proxy, lose_the_answer
from control_plane.fixtures import new_namespace
from handlers.actors import NAME, Actors, manifest
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT, LAKEHOUSE_PIPELINE, Kind
from lakehouse_operator.cluster.rest import Login

DEADLINE = 90.0


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a check holds; what is not there yet does not hold."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                if await check():
                    return
            except NotFound:
                pass
            await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Operator:
    """One replica; it watches one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, log: Path, **environment: str) -> None:
        self.health = free_port()
        self.metrics = free_port()
        self.log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse_operator.handlers"],
            env={
                **os.environ,
                "KUBECONFIG": str(plane.kubeconfig),
                "WATCH_NAMESPACES": namespace,
                "POD_NAMESPACE": namespace,
                "HEALTH_PORT": str(self.health),
                "METRICS_PORT": str(self.metrics),
                "LEADER_ELECTION": "false",
                **environment,
            },
            stdout=self.log,
            stderr=self.log,
        )

    def end(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        self.log.close()
        return code

    def get(self, port: int, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
async def actors(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Actors]:
    async with KubernetesCluster(Login(control_plane.kubeconfig), field_manager="user") as cluster:
        yield Actors(cluster, namespace)


@pytest.fixture
def start(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    started: list[Operator] = []

    def start(**environment: str) -> Operator:
        started.append(Operator(control_plane, namespace, tmp_path / f"operator-{len(started)}.log", **environment))
        return started[-1]

    yield start
    for operator in started:
        operator.end(signal.SIGKILL)


async def is_told_to_run(actors: Actors) -> bool:
    """The FlinkDeployment is created suspended, and then told to run: before that the Flink operator runs nothing."""
    return bool((await actors.deployment())["spec"]["job"]["state"] == "running")


async def is_ready(actors: Actors) -> bool:
    """Whether the pipeline is ready; the Flink operator, as always, follows each change of the deployment."""
    await actors.follow()
    return await actors.condition("Ready") == "True"


async def test_an_applied_pipeline_is_carried_out_until_it_is_ready(
    actors: Actors, start: Callable[..., Operator]
) -> None:
    operator = start()
    await actors.create_pipeline()
    await eventually(lambda: is_told_to_run(actors))
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))
    metadata = (await actors.pipeline())["metadata"]
    assert metadata["finalizers"] == ["lakehouse.dev/recovery-point"]
    assert not any("kopf" in name for name in metadata.get("annotations", {}))
    assert operator.get(operator.health, "/healthz")[0] == 200
    assert operator.get(operator.health, "/readyz")[0] == 200
    assert "lakehouse_stream_state{" in operator.get(operator.metrics, "/metrics")[1]
    assert operator.end() == 0


async def test_pipelines_that_exist_at_the_start_are_found_and_a_kill_changes_nothing(
    actors: Actors, start: Callable[..., Operator]
) -> None:
    await actors.create_pipeline()
    start().end(signal.SIGKILL)
    start()
    await eventually(lambda: is_told_to_run(actors))
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))


async def test_what_a_child_does_is_noticed_without_waiting_for_the_next_look(
    actors: Actors, start: Callable[..., Operator]
) -> None:
    start()
    await actors.create_pipeline()
    await eventually(lambda: is_told_to_run(actors))
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))
    uid = (await actors.deployment())["metadata"]["uid"]
    await actors.flink_runs(job="b" * 32)
    await eventually(lambda: is_shown(actors, "b" * 32))
    assert (await actors.deployment())["metadata"]["uid"] == uid


async def test_upstream_operators_that_are_installed_later_are_found_and_watched_with_rights_in_one_namespace_alone(
    tmp_path: Path,
) -> None:
    with running_control_plane() as plane:
        plane.install_own_crds()
        namespace = new_namespace(plane)
        operator = Operator(plane, namespace, tmp_path / "operator.log")
        try:
            async with KubernetesCluster(Login(plane.kubeconfig), field_manager="user") as cluster:
                await is_noticed_once_installed(plane, Actors(cluster, namespace))
        finally:
            operator.end(signal.SIGKILL)


async def is_noticed_once_installed(plane: ControlPlane, actors: Actors) -> None:
    await actors.create_pipeline()

    async def is_missed() -> bool:
        told = (await actors.pipeline()).get("status", {}).get("conditions", [])
        return "FlinkOperatorMissing" in [each["reason"] for each in told]

    await eventually(is_missed)
    plane.install_operators()
    await eventually(lambda: is_told_to_run(actors))
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))
    # At rest it looks every five minutes: that it hears sooner is the watch's doing.
    await actors.flink_runs(job="b" * 32)
    await eventually(lambda: is_shown(actors, "b" * 32))


async def test_of_two_replicas_one_leads_and_the_other_takes_over(
    actors: Actors, start: Callable[..., Operator]
) -> None:
    first = start(LEADER_ELECTION="true", POD_NAME="first")
    await actors.create_pipeline()
    await eventually(lambda: is_told_to_run(actors))
    second = start(LEADER_ELECTION="true", POD_NAME="second")

    async def waits() -> bool:
        return "lakehouse_leading 0.0" in (await asyncio.to_thread(second.get, second.metrics, "/metrics"))[1]

    async def answers() -> bool:
        try:
            return await waits()
        except OSError:
            return False

    await eventually(answers)
    assert first.end() == 0
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))


async def test_a_pipeline_that_is_deleted_with_force_is_gone(actors: Actors, start: Callable[..., Operator]) -> None:
    start()
    await actors.cluster.apply(manifest(actors.namespace, deletion={"policy": "Force"}))
    await eventually(lambda: is_told_to_run(actors))
    uid = (await actors.pipeline())["metadata"]["uid"]
    await actors.cluster.delete(LAKEHOUSE_PIPELINE, actors.namespace, NAME, uid)

    async def gone() -> bool:
        return await actors.cluster.list_labelled(LAKEHOUSE_PIPELINE, actors.namespace, {}) == []

    await eventually(gone)


async def test_it_lives_through_a_restart_of_the_api_server_and_hears_of_what_happens_then(tmp_path: Path) -> None:
    with running_control_plane() as plane:
        plane.install_operators()
        plane.install_own_crds()
        operator = Operator(plane, namespace := new_namespace(plane), tmp_path / "operator.log")
        try:
            async with KubernetesCluster(Login(plane.kubeconfig), field_manager="user") as cluster:
                actors = Actors(cluster, namespace)
                await actors.create_pipeline()
                await eventually(lambda: is_told_to_run(actors))
                await actors.flink_runs()
                await eventually(lambda: is_ready(actors))
                with api_server_away(plane) as start_again:
                    await asyncio.sleep(5)
                    await asyncio.to_thread(start_again)
                    # At rest it looks every five minutes: that it hears sooner is the watches' doing.
                    await eventually(lambda: is_told_of_job(actors, "b" * 32))
                    await actors.create_pipeline(parallelism=2)
                    await eventually(lambda: is_stopped(actors))
                    assert operator.process.poll() is None
        finally:
            operator.end(signal.SIGKILL)


@pytest.mark.parametrize("kind", [LAKEHOUSE_PIPELINE, FLINK_DEPLOYMENT])
async def test_it_ends_when_the_api_server_tells_an_error_in_a_watch_and_hears_all_when_it_is_started_again(
    actors: Actors, control_plane: ControlPlane, start: Callable[..., Operator], tmp_path: Path, kind: Kind
) -> None:
    async with faulty_proxy(control_plane, tmp_path) as proxy:
        operator = start(KUBECONFIG=str(proxy.kubeconfig))
        await actors.create_pipeline()
        await eventually(lambda: is_told_to_run(actors))

        async def is_watched() -> bool:
            return proxy.watches[kind.plural] == 1

        await eventually(is_watched)
        await proxy.break_watches(kind.plural, 500, "etcdserver: leader changed")
        assert await asyncio.to_thread(operator.process.wait, DEADLINE) == 1
        assert "so this process ends: Error in the watch-stream" in (tmp_path / "operator-0.log").read_text()
    start()
    await actors.flink_runs()
    await eventually(lambda: is_ready(actors))


async def test_an_operator_whose_watch_tells_nothing_any_more_is_not_healthy(
    actors: Actors, control_plane: ControlPlane, start: Callable[..., Operator], tmp_path: Path
) -> None:
    async with faulty_proxy(control_plane, tmp_path) as proxy:
        operator = start(KUBECONFIG=str(proxy.kubeconfig), STALE_AFTER_SECONDS="10")
        await actors.create_pipeline()
        await eventually(lambda: is_told_to_run(actors))
        proxy.muted.add(LAKEHOUSE_PIPELINE.plural)
        assert (await asyncio.to_thread(operator.get, operator.health, "/healthz"))[0] == 200
        await actors.create_pipeline(parallelism=2)

        async def is_unhealthy() -> bool:
            return (await asyncio.to_thread(operator.get, operator.health, "/healthz"))[0] == 503

        await eventually(is_unhealthy)
        told = await asyncio.to_thread(operator.get, operator.metrics, "/metrics")
        assert "lakehouse_watch_silent_seconds 0.0" not in told[1]


async def test_a_busy_api_server_that_throttles_refuses_and_loses_answers_is_lived_through(
    actors: Actors, control_plane: ControlPlane, start: Callable[..., Operator], tmp_path: Path
) -> None:
    refused: list[str] = []

    async def conflict(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        if request.method == "GET":
            proxy.then(conflict)  # for the next write
            return await really()
        refused.append(request.path)
        return await answer_with(409, "the object has been modified", reason="Conflict")(request, really)

    failing = (answer_with(500, "etcdserver: request timed out"), answer_with(503), answer_with(504))
    throttled = answer_with(429, retry_after="1")
    storm = (throttled, lose_the_answer, drop, conflict, *failing, conflict, lose_the_answer, drop, throttled)
    async with faulty_proxy(control_plane, tmp_path) as proxy:
        start(KUBECONFIG=str(proxy.kubeconfig))
        proxy.then(*storm)
        await actors.create_pipeline()
        await eventually(lambda: is_told_to_run(actors))
        proxy.then(*storm)
        await actors.flink_runs()
        proxy.then(*storm)
        await eventually(lambda: is_ready(actors))
        await actors.create_pipeline(parallelism=2)
        proxy.then(*storm)
        await eventually(lambda: is_stopped(actors))
        assert len(refused) > 3


async def is_shown(actors: Actors, job: str) -> bool:
    return bool((await actors.pipeline())["status"]["stream"]["jobId"] == job)


async def is_told_of_job(actors: Actors, job: str) -> bool:
    """Whether the status names a job that the Flink operator has just said to run."""
    await actors.flink_runs(job=job)
    return await is_shown(actors, job)


async def is_stopped(actors: Actors) -> bool:
    return bool((await actors.deployment())["spec"]["job"]["state"] == "suspended")


async def test_each_of_many_pipelines_that_exist_at_the_start_is_looked_at(
    actors: Actors, start: Callable[..., Operator]
) -> None:
    many = 200
    for number in range(many):
        wanted = manifest(actors.namespace)
        name = f"{NAME}-{number}"
        wanted["spec"]["source"]["consumerGroup"] = name
        await actors.cluster.apply({**wanted, "metadata": {**wanted["metadata"], "name": name}})
    operator = start()

    async def all_are_seen() -> bool:
        found = await actors.cluster.list_labelled(LAKEHOUSE_PIPELINE, actors.namespace, {})
        return sum("observedGeneration" in each.get("status", {}) for each in found) == many

    await eventually(all_are_seen)
    assert f"lakehouse_pipelines {many}.0" in operator.get(operator.metrics, "/metrics")[1]
    assert operator.get(operator.health, "/healthz")[0] == 200
