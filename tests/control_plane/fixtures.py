"""The API server as fixtures: one for the whole test run, with the CRDs of the Flink and Spark operators and our own.

`tests/conftest.py` makes them known to all tests. A test that installs or removes CRDs takes `bare_control_plane`.
"""

from collections.abc import Iterator
from itertools import count

import pytest

from control_plane.api_server import ControlPlane, running_control_plane

_numbers = count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server with the newest upstream CRDs that can be had (Flink 1.10.0, Spark 2.4.0) and our own."""
    with running_control_plane() as plane:
        plane.install_operators()
        plane.install_own_crds()
        yield plane


@pytest.fixture(scope="module")
def bare_control_plane() -> Iterator[ControlPlane]:
    """Another API server, without any CRD at first; its tests tidy up the CRDs that they install."""
    with running_control_plane() as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace. It stays: without a controller manager nobody could empty it."""
    return new_namespace(control_plane)


def new_namespace(plane: ControlPlane) -> str:
    """Make a namespace that nobody has used yet."""
    name = f"test-{next(_numbers)}"
    plane.create_namespace(name)
    return name
