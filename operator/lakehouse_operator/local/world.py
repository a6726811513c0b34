"""A world: the engines, the local cluster and the operator of one directory, seen from outside.

The operator of a world is a process of its own (`commands.local_operator`). It starts the broker, and Flink and Spark
as the pipelines ask for them; whoever wants something of it changes an object of the local cluster.
"""

import asyncio
import fcntl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT, LAKEHOUSE_PIPELINE
from lakehouse_operator.documents import load_documents
from lakehouse_operator.local.cluster import LocalCluster
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_operator import REST_URL
from lakehouse_operator.local.localize import localize
from lakehouse_operator.local.objects import InFiles
from lakehouse_operator.local.processes import Process, Processes, alive, end_recorded, recorded
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.planning import names
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import validate

OPERATOR = "operator"
"""The name of the operator's process and of its log."""
NAMESPACE = "default"
USER = "lakehouse-up"
_READY_SECONDS = 60.0
PARTITIONS = 4
"""Of the topic of events."""


class WorldFailed(Exception):
    """Something in a world went wrong; the message says what, and where to look."""


@dataclass(frozen=True, slots=True)
class World:
    """A world whose operator runs.

    Attributes:
        bootstrap_servers: Where its broker is.
    """

    engines: Engines
    directory: WorldDirectory
    bootstrap_servers: str

    @property
    def cluster(self) -> LocalCluster:
        """Its objects, as a person at the command line sees them."""
        return cluster_of(self.directory).seen_by(USER)

    def load(self, manifest: Path) -> dict[str, Any]:
        """The pipeline of a manifest, with the endpoints of this world; raises as `read_manifest`."""
        pipeline = read_manifest(manifest)
        return localize(pipeline, bootstrap_servers=self.bootstrap_servers, directory=self.directory.root)

    def apply(self, pipeline: Mapping[str, Any]) -> ValidPipeline:
        """Create or change a pipeline, and make the topics that it names.

        Raises:
            WorldFailed: It is refused. Nothing has changed.
        """
        valid = check(pipeline)
        topics = Topics(self.bootstrap_servers)
        topics.create(valid.spec.source.topic, partitions=PARTITIONS, timestamps="CreateTime")
        topics.create(valid.dead_letter_topic, partitions=1, timestamps="LogAppendTime")
        metadata = {**pipeline["metadata"], "namespace": NAMESPACE}
        asyncio.run(self.cluster.apply({**pipeline, "metadata": metadata}))
        return valid

    def pipeline(self, name: str) -> dict[str, Any]:
        """The object of a pipeline, with its status."""
        return asyncio.run(self.cluster.read(LAKEHOUSE_PIPELINE, NAMESPACE, name))

    def flink_url(self, name: str) -> str | None:
        """Where Flink's web UI and REST interface of a pipeline are; None while there are none."""
        try:
            child = asyncio.run(self.cluster.read(FLINK_DEPLOYMENT, NAMESPACE, names.deployment(name)))
        except NotFound:
            return None
        url: str | None = child.get("status", {}).get("clusterInfo", {}).get(REST_URL)
        return url


def cluster_of(directory: WorldDirectory) -> LocalCluster:
    """The local cluster of a world, as its operator sees it."""
    return LocalCluster(InFiles(directory.objects))


def read_manifest(manifest: Path) -> dict[str, Any]:
    """The pipeline of a manifest, as it is written.

    Raises:
        DocumentsRefused: The file can't be read.
        WorldFailed: It holds no pipeline, more than one, or one that is refused.
    """
    found = [document for document in load_documents(manifest) if document.get("kind") == "LakehousePipeline"]
    if len(found) != 1:
        raise WorldFailed(f"{manifest} must hold one LakehousePipeline, and holds {len(found)}")
    check(found[0])
    return found[0]


def check(pipeline: Mapping[str, Any]) -> ValidPipeline:
    """The pipeline, validated.

    Raises:
        WorldFailed: It is refused; the message lists every problem.
    """
    valid = validate(dict(pipeline))
    if isinstance(valid, Problems):
        raise WorldFailed(f"the pipeline is refused:\n{valid}")
    return valid


@contextmanager
def alone(directory: WorldDirectory) -> Iterator[None]:
    """Be the only program that makes or ends a world.

    Raises:
        WorldFailed: Another program does.
    """
    directory.root.parent.mkdir(parents=True, exist_ok=True)
    with directory.root.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorldFailed(f"another program works on {directory.root}; wait for it, or end it") from None
        yield


def is_up(directory: WorldDirectory) -> bool:
    """Whether the operator of a world runs."""
    records = recorded(directory.records) if directory.records.is_dir() else []
    return any(record.name == OPERATOR and alive(record) for _, record in records)


def start(engines: Engines, directory: WorldDirectory, processes: Processes, *, logged: bool = False) -> Process:
    """Start the operator of a world, and wait until its broker serves clients.

    Args:
        engines: Where everything is.
        directory: The world.
        processes: Who ends the operator, and with it all that it has started.
        logged: Whether Spark's runs can be looked at afterwards.

    Raises:
        ProcessFailed: It ended, or was not ready in time.
    """
    directory.make()
    directory.broker.unlink(missing_ok=True)
    command = [sys.executable, "-m", "lakehouse_operator.commands.local_operator", str(directory.root)]
    environment = {"LAKEHOUSE_ROOT": str(engines.root)}
    process = processes.start(
        OPERATOR, [*command, *(["--logged"] if logged else [])], environment=environment, grace=60.0
    )
    process.until(directory.broker.exists, what="ready", seconds=_READY_SECONDS)
    return process


def find(engines: Engines, directory: WorldDirectory) -> World:
    """A world whose operator runs.

    Raises:
        WorldFailed: It does not.
    """
    if not is_up(directory) or not directory.broker.exists():
        raise WorldFailed(f"nothing runs in {directory.root}: start it with `lakehouse local up`")
    return World(engines, directory, directory.broker.read_text())


def end(directory: WorldDirectory) -> Sequence[str]:
    """End every process of a world; answers their names. Its files stay."""
    return end_recorded(directory.records, first=OPERATOR) if directory.records.exists() else []


def clear(directory: WorldDirectory) -> Sequence[str]:
    """End what runs in a world, and remove its files; answers the names of what was running."""
    ended = end(directory)
    directory.clear()
    directory.make()
    return ended
