"""A real broker and a real Flink cluster, started once for all tests of bronze."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobs.flink.bronze_world import World, settings_for
from lakehouse_operator.local import engines, flink, kafka
from lakehouse_operator.local.processes import Processes
from local import secured

_numbers = count(1)


@pytest.fixture(scope="session")
def installed() -> engines.Engines:
    return engines.find()


@pytest.fixture(scope="session")
def client_configuration(installed: engines.Engines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLINK_CONF_DIR of the JVM that these tests submit from: it names no cluster, and gives up soon on one."""
    directory = tmp_path_factory.mktemp("client")
    for source in (installed.flink_home / "conf").glob("log4j*"):
        shutil.copy(source, directory)
    (directory / "config.yaml").write_text("rest.retry.max-attempts: 1\nrest.retry.delay: 100 ms\n")
    return directory


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Of the secured broker. All processes of these tests get what a pipeline's Secret holds."""
    made = secured.make_certificates(tmp_path_factory.mktemp("secrets"))
    os.environ |= secured.environment(made)
    return made


@pytest.fixture(scope="session")
def jvm(installed: engines.Engines, client_configuration: Path, certificates: Mapping[str, str]) -> Any:
    """The JVM behind PyFlink: the format, Iceberg and Flink's client are in it."""
    os.environ |= {
        **installed.java_environment(),
        "FLINK_HOME": str(installed.flink_home),
        "FLINK_CONF_DIR": str(client_configuration),
        "FLINK_LOG_DIR": str(client_configuration),
        "JVM_ARGS": "-XX:+UseSerialGC -Xmx512m",
    }
    os.environ["PATH"] = f"{installed.java.parent}:{os.environ['PATH']}"
    from pyflink.java_gateway import get_gateway

    return get_gateway().jvm


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    directory = tmp_path_factory.mktemp("processes")
    with Processes(directory / "records", directory / "logs") as started:
        yield started


@pytest.fixture(scope="session")
def broker(processes: Processes, installed: engines.Engines, tmp_path_factory: pytest.TempPathFactory) -> kafka.Broker:
    return kafka.start(processes, installed, tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def cluster(
    processes: Processes,
    installed: engines.Engines,
    tmp_path_factory: pytest.TempPathFactory,
    broker: kafka.Broker,
    certificates: Mapping[str, str],
) -> flink.FlinkCluster:
    started = flink.start(processes, installed, tmp_path_factory.mktemp("flink"), port=None, slots=2)
    broker.wait_until_ready()
    started.wait_until_ready()
    return started


@pytest.fixture
def make_world(
    jvm: Any, broker: kafka.Broker, cluster: flink.FlinkCluster, tmp_path: Path
) -> Iterator[Callable[[], World]]:
    """Makes pipelines of their own; their jobs are ended with the test."""

    def make() -> World:
        name = f"world-{next(_numbers)}"
        directory = tmp_path / name
        directory.mkdir()
        servers = broker.bootstrap_servers
        return World(name, directory, servers, cluster, jvm, settings_for(name, directory, servers))

    yield make
    ended = ("FINISHED", "CANCELED", "FAILED")
    for job, state in cluster.rest.jobs().items():
        if state not in ended:
            cluster.rest.cancel(job)


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()
