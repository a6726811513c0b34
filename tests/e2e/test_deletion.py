"""Pipelines that are deleted, by each policy, and created again from where they stopped."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import Manifest
from e2e.life import Life
from e2e.platform import TENANT
from e2e.reference import Pipeline, manifest

pytestmark = pytest.mark.timeout(900)
NAME = "second"


@pytest.fixture
def second(life: Life) -> Iterator[tuple[Pipeline, Manifest]]:
    """A pipeline with bronze alone over the same topic, with a table and dead letters of its own."""
    document = manifest(NAME, life.platform.images)
    spec: dict[str, Any] = document["spec"]
    del spec["silver"], spec["gold"]
    spec["bronze"]["table"] = "bronze.second_events"
    spec["bronze"]["deadLetterTopic"] = "second-dlq"
    life.client.create_topic("second-dlq")
    pipeline = Pipeline(life.platform.cluster, NAME)
    pipeline.apply(document)
    pipeline.until_ready()
    yield pipeline, document
    if pipeline.seen:
        pipeline.cluster.kubectl(
            "annotate", "lhp", NAME, "-n", TENANT, "lakehouse.dev/force-delete=true", "--overwrite"
        )
        pipeline.cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--ignore-not-found", "--timeout=120s")


def test_retained_it_goes_on_from_where_it_stopped(second: tuple[Pipeline, Manifest], life: Life) -> None:
    pipeline, document = second
    cluster, group = pipeline.cluster, document["spec"]["source"]["consumerGroup"]
    cluster.until(lambda: life.client.offsets(group)[1] > 0, "bronze has read", seconds=180, tell=pipeline.tell)
    cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--timeout=240s", seconds=260)
    assert cluster.get(TENANT, "flinkdeployment", f"{NAME}-bronze") is None
    assert cluster.get(TENANT, "configmap", f"{NAME}-record") is not None
    read = life.client.offsets(group)[1]
    pipeline.apply(document)
    pipeline.until_ready()
    cluster.until(lambda: life.client.offsets(group)[1] > read, "bronze goes on", seconds=240, tell=pipeline.tell)
    told = life.client.verify(document)
    assert "Everything is there" in told, told


def test_blocked_it_stays_until_a_person_lets_it_go(second: tuple[Pipeline, Manifest]) -> None:
    pipeline, _ = second
    cluster = pipeline.cluster
    pipeline.change(deletion={"policy": "Block"}, upgrade={"maxRecoveryPointAge": "1s"})
    pipeline.until_ready()
    cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--wait=false")
    held = cluster.until(
        lambda: next(
            (
                c
                for c in pipeline.status["conditions"]
                if "Block" in c.get("message", "") or "delet" in c.get("message", "").lower()
            ),
            None,
        ),
        "a condition says why it stays",
        seconds=120,
        tell=pipeline.tell,
    )
    assert "lakehouse.dev/force-delete" in held["message"]
    assert pipeline.job is not None or pipeline.stream
    cluster.kubectl("annotate", "lhp", NAME, "-n", TENANT, "lakehouse.dev/force-delete=true")
    cluster.until(lambda: not pipeline.seen, "it is gone", seconds=180, tell=pipeline.tell)


def test_forced_it_goes_at_once(second: tuple[Pipeline, Manifest]) -> None:
    pipeline, _ = second
    pipeline.change(deletion={"policy": "Force"})
    pipeline.until_ready()
    pipeline.cluster.kubectl("delete", "lhp", NAME, "-n", TENANT, "--timeout=120s", seconds=150)
    assert pipeline.cluster.get(TENANT, "flinkdeployment", f"{NAME}-bronze") is None
