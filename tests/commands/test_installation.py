"""`lakehouse operator`: what is well is said, what is not ends with a sentence, and nothing is left that waits."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from control_plane.api_server import ControlPlane
from control_plane.fixtures import new_namespace
from handlers.actors import NAME, manifest
from lakehouse_operator.cli import app
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, LEASE
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.planning.plan import FINALIZER

T = TypeVar("T")
ANOTHER = "example.com/somebody-elses"


def lakehouse(plane: ControlPlane, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["operator", *arguments, "--kubeconfig", str(plane.kubeconfig)])


def do(plane: ControlPlane, work: Callable[[Cluster], Coroutine[None, None, T]]) -> T:
    async def run() -> T:
        async with KubernetesCluster(Login(plane.kubeconfig)) as cluster:
            return await work(cluster)

    return asyncio.run(run())


async def _apply(manifest: dict[str, Any], cluster: Cluster) -> None:
    await cluster.apply(manifest)


@contextmanager
def renewed(plane: ControlPlane, namespace: str) -> Iterator[None]:
    """A Lease that somebody renews."""
    ended = threading.Event()

    def lease(number: int) -> dict[str, Any]:
        spec = {"holderIdentity": "somebody", "renewTime": f"2026-01-01T00:00:00.{number:06}Z"}
        place = {"namespace": namespace, "name": "lakehouse-operator"}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": place, "spec": spec}

    def renew() -> None:
        for number in count(1):
            if ended.wait(0.1):
                return
            do(plane, partial(_apply, lease(number)))

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def serving(text: str) -> Iterator[str]:
    """A server that answers everything with a text; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    return new_namespace(control_plane)


def test_what_is_well_is_said(control_plane: ControlPlane, namespace: str) -> None:
    do(control_plane, lambda cluster: cluster.apply(manifest(namespace)))
    with renewed(control_plane, namespace), serving("lakehouse_leading 1.0\n") as url:
        place = ["-n", namespace, "--operator-namespace", namespace]
        result = lakehouse(control_plane, "check", *place, "--metrics", url)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:3] == [
        f"ok: 1 pipelines in {namespace}",
        "ok: somebody leads",
        f"ok: {url} answers",
    ]
    assert "the Flink operator knows" in result.output
    assert "ok: the Spark operator is there" in result.output


def test_a_lease_that_nobody_renews_is_told(control_plane: ControlPlane, namespace: str) -> None:
    result = lakehouse(control_plane, "check", "--operator-namespace", namespace, "--wait", "1")
    assert result.exit_code == 1
    assert f"error: nobody renews the Lease {namespace}/lakehouse-operator" in result.output


def test_somebody_elses_metrics_are_told(control_plane: ControlPlane) -> None:
    with serving("something else") as url:
        result = lakehouse(control_plane, "check", "--lease", "", "--metrics", url)
    assert result.exit_code == 1
    assert f"error: {url} does not serve the operator's metrics" in result.output


def test_the_finalizer_is_taken_off_and_others_stay(control_plane: ControlPlane, namespace: str) -> None:
    async def work(cluster: Cluster) -> list[str]:
        uid = (await cluster.apply(manifest(namespace)))["metadata"]["uid"]
        for each in (FINALIZER, ANOTHER):
            await cluster.add_finalizer(LAKEHOUSE_PIPELINE, namespace, NAME, uid=uid, finalizer=each)
        return []

    async def finalizers(cluster: Cluster) -> list[str]:
        found: list[str] = (await cluster.read(LAKEHOUSE_PIPELINE, namespace, NAME))["metadata"]["finalizers"]
        return found

    do(control_plane, work)
    result = lakehouse(control_plane, "release", "-n", namespace)
    assert (result.exit_code, result.output) == (0, f"released {namespace}/{NAME}\n")
    assert do(control_plane, finalizers) == [ANOTHER]
    assert lakehouse(control_plane, "release", "-n", namespace).output == ""


def test_labels_that_are_none_are_told(control_plane: ControlPlane) -> None:
    result = lakehouse(control_plane, "release", "--after-pods", "app")
    assert result.exit_code == 2
    assert "app is not key=value" in result.output
