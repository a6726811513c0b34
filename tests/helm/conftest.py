"""One API server with the chart's rights for all tests of this folder."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.fixtures import new_namespace
from handlers.actors import Actors
from helm.guarded import Guarded, guarded_plane
from helm.release import Release
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.rest import Login


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """An API server on which the operator has the chart's rights alone."""
    with guarded_plane(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture
def install(guarded: Guarded, tmp_path: Path) -> Iterator[Callable[..., Release]]:
    """Installs releases, and removes them at the end."""
    releases: list[Release] = []

    def install(name: str, **values: Any) -> Release:
        releases.append(Release(guarded, tmp_path, name, **values))
        # The CRDs may be there from a test before: then this release takes them over.
        releases[-1].helm("install", "--take-ownership")
        return releases[-1]

    yield install
    for release in releases:
        release.clean_up()


@pytest.fixture
async def team(guarded: Guarded) -> AsyncIterator[Actors]:
    """A tenant's namespace, and who acts there: with an administrator's rights, which are not what is tested."""
    async with KubernetesCluster(Login(guarded.plane.kubeconfig), field_manager="user") as cluster:
        yield Actors(cluster, new_namespace(guarded.plane))
