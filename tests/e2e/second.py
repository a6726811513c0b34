"""A second pipeline, that is deleted and created again while the first one has its troubles."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from e2e.cluster import Manifest
from e2e.life import Life
from e2e.platform import REST_CATALOG, REST_SECRET, TENANT
from e2e.reference import Pipeline, manifest

NAME = "second"


@dataclass(frozen=True, slots=True)
class Second:
    """A pipeline with bronze alone over the same topic, with dead letters and a catalog of its own, a REST server."""

    life: Life
    pipeline: Pipeline
    document: Manifest

    @classmethod
    def of(cls, life: Life) -> "Second":
        """Beside the first one; nothing is created yet."""
        document = manifest(NAME, life.platform.images)
        spec: dict[str, Any] = document["spec"]
        del spec["silver"], spec["gold"]
        spec["catalog"] = {
            "type": "rest",
            "uri": REST_CATALOG,
            "warehouse": "s3://lakehouse/rest",
            "secretRef": {"name": REST_SECRET},
        }
        spec["bronze"]["table"] = "bronze.second_events"
        spec["bronze"]["deadLetterTopic"] = "second-dlq"
        return cls(life, Pipeline(life.platform.cluster, NAME), document)

    @property
    def committed(self) -> int:
        """How many records bronze has committed."""
        return self.life.client.offsets(self.document["spec"]["source"]["consumerGroup"])[1]

    def create(self) -> None:
        """Create it, as docs/install.md says, and wait until bronze goes on."""
        before = self.committed
        file = self.life.platform.folder / "second.yaml"
        file.write_text(yaml.safe_dump(self.document))
        self.life.platform.documented("install.md", "A pipeline of your own", {"-f pipeline.yaml": f"-f '{file}'"})
        self.pipeline.until_ready()
        self.pipeline.cluster.until(
            lambda: self.committed > before, "bronze goes on", seconds=400, tell=self.pipeline.tell
        )

    def change(self, **bronze: Any) -> None:
        """Change fields of bronze, and wait until that is taken in."""
        self.pipeline.change(**bronze)
        self.pipeline.until_ready()

    def delete(self) -> None:
        """Delete it and wait until it is gone. Its record stays, and nothing else."""
        self.pipeline.cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--timeout=480s", seconds=500)
        self.is_gone()

    def is_gone(self) -> None:
        """Wait until nothing but its record is left."""
        cluster = self.pipeline.cluster
        cluster.until(lambda: not self.pipeline.seen, "it is gone", seconds=180, tell=self.pipeline.tell)
        assert cluster.get(TENANT, "configmap", f"{NAME}-record") is not None
        cluster.until(
            lambda: cluster.get(TENANT, "flinkdeployment", f"{NAME}-bronze") is None, "the stream is gone", seconds=120
        )

    def proven(self) -> None:
        """Each record that bronze has read is in bronze, in the dead letters, or a repeat."""
        told = self.life.client.verify(self.document)
        assert "Everything is there" in told, told

    def points(self) -> list[dict[str, Any]]:
        """Its recovery points, once one of them is proven."""
        self.pipeline.cluster.until(
            lambda: any(each["proven"] for each in self.pipeline.points),
            "a recovery point is proven",
            seconds=180,
            tell=self.pipeline.tell,
        )
        return self.pipeline.points


class Story:
    """Chapters that are gone through one after the other, beside whatever else is tested.

    Args:
        chapters: What happens. One that fails does not keep the next ones from being tried.
    """

    def __init__(self, *chapters: Callable[[], None]) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1)
        self._ended: dict[str, Future[None]] = {each.__name__: self._threads.submit(each) for each in chapters}

    def ended(self, chapter: str) -> None:
        """Wait for the end of a chapter; what went wrong in it is raised."""
        self._ended[chapter].result()

    def is_over(self) -> None:
        """Wait for the end of all."""
        self._threads.shutdown()

    def break_off(self) -> None:
        """Begin no further chapter, and wait for the end of the one that is under way."""
        self._threads.shutdown(cancel_futures=True)


def story(second: Second) -> Story:
    """The pipeline is created, and deleted and created again by each policy."""

    def is_created() -> None:
        second.life.client.create_topic("second-dlq")
        second.create()

    def is_retained() -> None:
        before = {point["name"] for point in second.points()}
        second.delete()
        second.create()
        [new] = [point for point in second.pipeline.points if point["name"] not in before]
        assert (new["trigger"], new["proven"]) == ("deletion", True)
        second.proven()

    def is_blocked() -> None:
        pipeline, cluster = second.pipeline, second.pipeline.cluster
        second.change(deletion={"policy": "Block"}, upgrade={"maxRecoveryPointAge": "1s"})
        cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--wait=false")
        held = cluster.until(
            lambda: next((c for c in pipeline.status["conditions"] if c["reason"] == "DeletionBlocked"), None),
            "a condition says why it stays",
            seconds=120,
            tell=pipeline.tell,
        )
        assert "lakehouse.dev/force-delete" in held["message"]
        child = cluster.get(TENANT, "flinkdeployment", f"{NAME}-bronze")
        assert child
        assert child["spec"]["job"]["state"] == "running"
        assert "deletionTimestamp" not in child["metadata"]
        cluster.kubectl("annotate", "lhp", NAME, "-n", TENANT, "lakehouse.dev/force-delete=true")
        second.is_gone()
        second.create()
        second.proven()

    def is_forced() -> None:
        second.change(deletion={"policy": "Force"})
        known = [point["name"] for point in second.points()]
        second.delete()
        second.create()
        assert known[0] in [point["name"] for point in second.pipeline.points]
        second.proven()
        second.pipeline.lakehouse("suspend", NAME)  # the node is small, and its story is over

    return Story(is_created, is_retained, is_blocked, is_forced)
