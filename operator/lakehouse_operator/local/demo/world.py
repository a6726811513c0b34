"""The world of a demo, and the pipeline that runs in it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse_operator.local import world as worlds
from lakehouse_operator.local.catalog import LocalCatalog
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import FlinkRest
from lakehouse_operator.local.processes import Process, Processes
from lakehouse_operator.local.topics import Topics, lag
from lakehouse_operator.planning.pipeline import ValidPipeline

CHECKPOINT_SECONDS = 10
"""Between checkpoints: a demo of two minutes can't wait for the minute that the manifest asks for."""
_RUNNING = ("Running", "Soaking")
_DEPLOY_SECONDS = 180.0
_STOP_SECONDS = 180.0


class DemoFailed(Exception):
    """Something in the demo went wrong; the message says what, and where to look."""


@dataclass(frozen=True, slots=True)
class World:
    """A world whose operator runs, and the pipeline that was applied to it."""

    engines: Engines
    directory: WorldDirectory
    processes: Processes
    operator: Process
    world: worlds.World
    topics: Topics
    catalog: LocalCatalog
    pipeline: ValidPipeline

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address."""
        return self.world.bootstrap_servers

    @property
    def topic(self) -> str:
        """The topic of events."""
        return self.pipeline.spec.source.topic

    def status(self) -> Mapping[str, Any]:
        """The pipeline's status.

        Raises:
            ProcessFailed: The operator has ended.
            DemoFailed: Only a person can help the stream.
        """
        if (code := self.operator.exit_code()) is not None:
            raise self.operator.failure(f"ended with exit code {code}")
        found: Mapping[str, Any] = self.world.pipeline(self.pipeline.name).get("status", {})
        for condition in found.get("conditions", ()):
            if condition["type"] == "Stalled" and condition["status"] == "True":
                raise DemoFailed(f"{condition['message']}; see {self.directory.logs}")
        return found

    def job(self) -> tuple[FlinkRest, str] | None:
        """Flink's REST interface and the id of the running job; None while none runs."""
        stream, url = self.status().get("stream", {}), self.world.flink_url(self.pipeline.name)
        if url is None or stream.get("state") not in _RUNNING or not stream.get("jobId"):
            return None
        return FlinkRest(url), stream["jobId"]

    def lag(self) -> int:
        """How many records bronze has not committed."""
        return lag(self.topics.ends(self.topic), self.topics.committed(self.pipeline.consumer_group, self.topic))

    def suspend(self) -> str:
        """Stop the stream as a person would, by `spec.suspend`; answers where the savepoint lies.

        Raises:
            ProcessFailed: It was not stopped in time.
        """
        self.apply(suspend=True)

        def at_rest() -> bool:
            return bool(self.status().get("stream", {}).get("state") == "Suspended")

        self.operator.until(at_rest, what="done with stopping the stream", seconds=_STOP_SECONDS)
        points = self.status().get("recoveryPoints", ())
        return str(points[0]["path"]) if points else "(no recovery point)"

    def apply(self, **spec: Any) -> None:
        """Change fields of the pipeline's spec."""
        there = self.world.pipeline(self.pipeline.name)
        identity = {"name": there["metadata"]["name"], "namespace": there["metadata"]["namespace"]}
        changed = {"apiVersion": there["apiVersion"], "kind": there["kind"], "metadata": identity, "spec": spec}
        asyncio.run(self.world.cluster.seen_by("demo").apply(changed))


def start(engines: Engines, directory: WorldDirectory, processes: Processes, manifest: Path, *, logged: bool) -> World:
    """Start the operator of a world and apply a manifest, with a demo's checkpoint interval."""
    operator = worlds.start(engines, directory, processes, logged=logged)
    world = worlds.find(engines, directory)
    pipeline = world.load(manifest)
    pipeline["spec"]["bronze"]["checkpoint"]["interval"] = f"{CHECKPOINT_SECONDS}s"
    valid = world.apply(pipeline)
    topics = Topics(world.bootstrap_servers)
    catalog = LocalCatalog(directory, valid.spec.catalog.name)
    return World(engines, directory, processes, operator, world, topics, catalog, valid)


def wait_for_bronze(world: World) -> str:
    """Wait until the streaming job runs; answers where Flink is.

    Raises:
        ProcessFailed: It did not run in time.
        DemoFailed: It can't be started, or runs with another checkpoint interval than it was given.
    """

    def runs() -> bool:
        found = world.job()
        return found is not None and found[0].all_tasks_running(found[1])

    world.operator.until(runs, what="running the bronze job", seconds=_DEPLOY_SECONDS)
    found = world.job()
    if found is None:
        raise DemoFailed(f"the bronze job has ended again; see {world.directory.logs}")
    rest, job = found
    # Flink has ways of ignoring a job's checkpoint settings without a word.
    if (interval := rest.checkpoint_interval(job)) != CHECKPOINT_SECONDS:
        raise DemoFailed(f"bronze takes a checkpoint every {interval:g} s instead of {CHECKPOINT_SECONDS}")
    return rest.url
