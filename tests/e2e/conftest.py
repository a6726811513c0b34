"""One cluster, one platform and one pipeline for all tests here: what is started once is shared.

`LAKEHOUSE_E2E_KUBECONFIG` names a cluster of one's own, and `LAKEHOUSE_E2E_IMAGES` the images that its nodes can get,
as `operator=REFERENCE flink=REFERENCE spark=REFERENCE testbed=REFERENCE`.
`LAKEHOUSE_E2E_KEEP=1` leaves everything up at the end.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.api_server import REPOSITORY
from e2e.cluster import Cluster
from e2e.evidence import keep
from e2e.life import Life
from e2e.platform import Images, Platform
from e2e.reference import Client, Pipeline, manifest
from e2e.second import Second, Story, story

NAME = "roman-numerals"
EVIDENCE = REPOSITORY / ".lakehouse" / "e2e"


def _setup(script: str, *arguments: str) -> dict[str, str]:
    """Run one of the scripts in `setup/` and read the `NAME=value` lines that it prints."""
    command = [sys.executable, REPOSITORY / "setup" / script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster. It is taken down at the end, unless it was there before."""
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    EVIDENCE.mkdir(parents=True)
    tools = Path(_setup("control_plane.py")["KUBEBUILDER_ASSETS"])
    was_up = (REPOSITORY / ".lakehouse" / "cluster" / "kubeconfig").exists()
    kubeconfig = Path(_setup("cluster.py", "up")["KUBECONFIG"])
    try:
        yield Cluster(tools / "kubectl", kubeconfig)
    finally:
        if not was_up and not os.environ.get("LAKEHOUSE_E2E_KEEP"):
            _setup("cluster.py", "down")


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """The project's images, on the cluster's nodes."""
    if given := os.environ.get("LAKEHOUSE_E2E_IMAGES"):
        return Images(**dict(each.split("=", 1) for each in given.split()))
    built = {name: told.split() for name, told in _setup("images.py").items()}
    _setup("cluster.py", "load", *(archive for _, archive in built.values()))
    return Images(**{name.removeprefix("lakehouse-"): reference for name, (reference, _) in built.items()})


@pytest.fixture(scope="session")
def platform(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Kafka, PostgreSQL, S3 and the three operators."""
    made = Platform(cluster, images, tmp_path_factory.mktemp("platform"))
    try:
        made.install(Path(_setup("control_plane.py")["LAKEHOUSE_FOREIGN_CRDS"]))
    except BaseException:
        keep(cluster, EVIDENCE / "platform")
        raise
    return made


@pytest.fixture(scope="session")
def life(platform: Platform) -> Life:
    """The reference pipeline, running and under load."""
    document = manifest(NAME, platform.images)
    topic = document["spec"]["source"]["topic"]
    client = Client(platform.cluster, platform.images, "client", topic)
    made = Life(platform, Pipeline(platform.cluster, NAME), client, document)
    try:
        made.begin()
        made.pipeline.until_ready(seconds=420)
        made.goes_on()
    except BaseException:
        keep(platform.cluster, EVIDENCE / "start")
        raise
    return made


@pytest.fixture(scope="session")
def second(life: Life) -> Iterator[Story]:
    """What happens to a second pipeline, beside the tests of the first one."""
    made = story(Second.of(life))
    yield made
    made.break_off()


@pytest.fixture
def kept(platform: Platform, request: pytest.FixtureRequest) -> Iterator[None]:
    """What is seen at a failure is kept."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        keep(platform.cluster, EVIDENCE / request.node.name)


@pytest.fixture
def well(life: Life, kept: None) -> Life:
    """The pipeline, doing well with the spec of its manifest."""
    life.restored()
    return life
