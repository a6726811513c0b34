"""The worlds that the behaviour suite runs in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.fake_cluster import FakeCluster, InMemory
from cluster.worlds import World
from control_plane.api_server import ControlPlane
from control_plane.fixtures import new_namespace
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.local.objects import InFiles


@pytest.fixture(params=["memory", "files", "real"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A local cluster in memory and in files, then a real API server: the same is true of all of them."""
    if request.param != "real":
        objects = InMemory() if request.param == "memory" else InFiles(tmp_path / "objects")
        fake = FakeCluster(namespaces=("one", "one-b"), objects=objects)
        yield World(fake, fake.seen_by("somebody-else"), "one", "one-b")
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    login = Login(plane.kubeconfig)
    async with (
        # Two objects a page, so that every list of three or more is paged through.
        KubernetesCluster(login, page=2) as cluster,
        KubernetesCluster(login, field_manager="somebody-else") as outsider,
    ):
        namespace = new_namespace(plane)
        # The API server keeps objects by path, and "-" comes before "/": its own order is not ours.
        plane.create_namespace(f"{namespace}-b")
        yield World(cluster, outsider, namespace, f"{namespace}-b")
