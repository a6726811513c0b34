"""The engines of a demo, and the pipeline that runs on them."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lakehouse_contract.decoding import to_json
from lakehouse_operator.documents import load_documents
from lakehouse_operator.local import flink, kafka
from lakehouse_operator.local.catalog import LocalCatalog
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.localize import localize
from lakehouse_operator.local.processes import Processes, end_recorded
from lakehouse_operator.local.topics import Topics, lag
from lakehouse_operator.planning import job_settings
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import validate

CHECKPOINT_SECONDS = 10
"""Between checkpoints: a demo of two minutes can't wait for the minute that the manifest asks for."""
PARTITIONS = 4


class DemoFailed(Exception):
    """Something in the demo went wrong; the message says what, and where to look."""


@dataclass(frozen=True, slots=True)
class World:
    """The engines of a demo, started, and the pipeline that runs on them."""

    engines: Engines
    directory: WorldDirectory
    processes: Processes
    broker: kafka.Broker
    flink: flink.FlinkCluster
    topics: Topics
    catalog: LocalCatalog
    pipeline: ValidPipeline

    @property
    def topic(self) -> str:
        """The topic of events."""
        return self.pipeline.spec.source.topic

    def lag(self) -> int:
        """How many records bronze has not committed."""
        return lag(self.topics.ends(self.topic), self.topics.committed(self.pipeline.consumer_group, self.topic))


@contextmanager
def alone(directory: WorldDirectory) -> Iterator[None]:
    """Be the only one that works on a world.

    Raises:
        DemoFailed: Another program does.
    """
    directory.root.parent.mkdir(parents=True, exist_ok=True)
    with directory.root.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"another demo is running in {directory.root}; wait for it, or end it") from None
        yield


def load_pipeline(manifest: Path, directory: WorldDirectory, bootstrap_servers: str) -> ValidPipeline:
    """Read the pipeline of a manifest, with the endpoints of this world and a demo's checkpoint interval.

    Raises:
        DemoFailed: The manifest holds no valid pipeline.
    """
    raw = next(document for document in load_documents(manifest) if document["kind"] == "LakehousePipeline")
    local = localize(raw, bootstrap_servers=bootstrap_servers, directory=directory.root)
    local["spec"]["bronze"]["checkpoint"]["interval"] = f"{CHECKPOINT_SECONDS}s"
    pipeline = validate(local)
    if isinstance(pipeline, Problems):
        raise DemoFailed(f"{manifest} is refused:\n{pipeline}")
    return pipeline


def start(engines: Engines, directory: WorldDirectory, processes: Processes, manifest: Path) -> World:
    """Start Kafka and Flink side by side and create the topics."""
    cluster = flink.start(processes, engines, directory.flink)
    broker = kafka.start(processes, engines, directory.kafka)
    pipeline = load_pipeline(manifest, directory, broker.bootstrap_servers)
    broker.wait_until_ready()
    topics = Topics(broker.bootstrap_servers)
    topics.create(pipeline.spec.source.topic, partitions=PARTITIONS, timestamps="CreateTime")
    topics.create(pipeline.dead_letter_topic, partitions=1, timestamps="LogAppendTime")
    cluster.wait_until_ready()
    catalog = LocalCatalog(directory, pipeline.spec.catalog.name)
    return World(engines, directory, processes, broker, cluster, topics, catalog, pipeline)


def submit_bronze(world: World) -> str:
    """Submit the streaming job; answers its id.

    Raises:
        ProcessFailed: It was not submitted.
        DemoFailed: It runs with another checkpoint interval than it was given.
    """
    settings = job_settings.bronze_settings(world.pipeline)
    job = flink.submit(world.processes, world.flink, "bronze-submit", to_json(settings)).wait()
    rest = world.flink.rest
    world.flink.jobmanager.until(lambda: rest.all_tasks_running(job), what="running the bronze job", seconds=60)
    # Flink has ways of ignoring a job's checkpoint settings without a word.
    if (interval := rest.checkpoint_interval(job)) != settings.checkpoint.interval_seconds:
        raise DemoFailed(
            f"bronze takes a checkpoint every {interval:g} s instead of {settings.checkpoint.interval_seconds}"
        )
    return job


def forget(directory: WorldDirectory) -> Sequence[str]:
    """End what an earlier demo has left running, and remove its files; answers the names of what was running."""
    ended = end_recorded(directory.records) if directory.records.exists() else []
    directory.clear()
    directory.make()
    return ended
