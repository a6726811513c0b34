"""Pipelines that are deleted, by each policy, and created again from their record, with nothing lost."""

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from e2e.cluster import Manifest
from e2e.life import Life
from e2e.platform import TENANT
from e2e.reference import Pipeline, manifest

pytestmark = [pytest.mark.timeout(1500), pytest.mark.usefixtures("kept")]
NAME = "second"


@dataclass(frozen=True, slots=True)
class Second:
    """A pipeline with bronze alone over the same topic, with a table and dead letters of its own."""

    life: Life
    pipeline: Pipeline
    document: Manifest

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
            lambda: self.committed > before, "bronze goes on", seconds=240, tell=self.pipeline.tell
        )

    def delete(self) -> None:
        """Delete it and wait until it is gone. Its record stays, and nothing else."""
        cluster = self.pipeline.cluster
        cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--timeout=240s", seconds=260)
        self.is_gone()

    def is_gone(self) -> None:
        """See that nothing but its record is left."""
        cluster = self.pipeline.cluster
        assert cluster.get(TENANT, "configmap", f"{NAME}-record") is not None
        cluster.until(
            lambda: cluster.get(TENANT, "flinkdeployment", f"{NAME}-bronze") is None, "the stream is gone", seconds=120
        )

    def proven(self) -> None:
        """Each record that bronze has read is in bronze, in the dead letters, or a repeat."""
        told = self.life.client.verify(self.document)
        assert "Everything is there" in told, told

    def point(self) -> str:
        """Wait for a recovery point that is proven; the newest."""
        return self.pipeline.cluster.until(
            lambda: next((each["name"] for each in self.pipeline.points if each["proven"]), None),
            "a recovery point is proven",
            seconds=180,
            tell=self.pipeline.tell,
        )


@pytest.fixture(scope="module")
def made(life: Life) -> Second:
    """The pipeline, once."""
    document = manifest(NAME, life.platform.images)
    spec: dict[str, Any] = document["spec"]
    del spec["silver"], spec["gold"]
    spec["bronze"]["table"] = "bronze.second_events"
    spec["bronze"]["deadLetterTopic"] = "second-dlq"
    life.client.create_topic("second-dlq")
    return Second(life, Pipeline(life.platform.cluster, NAME), document)


@pytest.fixture
def second(made: Second) -> Second:
    """The pipeline, running, with its own spec and a proven recovery point."""
    if made.pipeline.seen:
        made.pipeline.set_spec(made.document["spec"])
        made.pipeline.until_ready()
    else:
        made.create()
    made.point()
    return made


def test_retained_it_is_stopped_with_a_savepoint_and_goes_on_from_it(second: Second) -> None:
    before = {point["name"] for point in second.pipeline.points}
    second.delete()
    second.create()
    [new] = [point for point in second.pipeline.points if point["name"] not in before]
    assert (new["trigger"], new["proven"]) == ("deletion", True)
    second.proven()


def test_blocked_it_stays_until_a_person_lets_it_go(second: Second) -> None:
    pipeline, cluster = second.pipeline, second.pipeline.cluster
    pipeline.change(deletion={"policy": "Block"}, upgrade={"maxRecoveryPointAge": "1s"})
    pipeline.until_ready()
    job = pipeline.job
    cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--wait=false")
    held = cluster.until(
        lambda: next((c for c in pipeline.status["conditions"] if c["reason"] == "DeletionBlocked"), None),
        "a condition says why it stays",
        seconds=120,
        tell=pipeline.tell,
    )
    assert "lakehouse.dev/force-delete" in held["message"]
    assert pipeline.job == job
    cluster.kubectl("annotate", "lhp", NAME, "-n", TENANT, "lakehouse.dev/force-delete=true")
    cluster.until(lambda: not pipeline.seen, "it is gone", seconds=180, tell=pipeline.tell)
    second.is_gone()
    second.create()
    second.proven()


def test_forced_it_goes_at_once_and_comes_back_at_its_last_recovery_point(second: Second) -> None:
    second.pipeline.change(deletion={"policy": "Force"})
    second.pipeline.until_ready()
    known = [point["name"] for point in second.pipeline.points]
    second.delete()
    second.create()
    assert [point["name"] for point in second.pipeline.points][-len(known) :] == known
    second.proven()
