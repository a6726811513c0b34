"""A run that a person creates is found by its label, even where that could not be put there at first."""

from cluster.fake_cluster import FakeCluster, Write
from crds import spoilers
from lakehouse_operator.cluster.errors import Refused
from lakehouse_operator.cluster.kinds import LAKEHOUSE_RUN
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.handlers.labels import Labels
from lakehouse_operator.planning.names import PIPELINE_LABEL


class Rung:
    """Bells that only remember."""

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def ring(self, key: Key) -> None:
        self.keys.append(key)


def denied(write: Write) -> None:
    raise Refused(f"a webhook denies {write.verb}")


async def a_run(cluster: FakeCluster) -> Resource:
    made = spoilers.run()
    return await cluster.seen_by("person").apply({**made, "metadata": {**made["metadata"], "namespace": "one"}})


async def labelled(cluster: FakeCluster) -> list[Resource]:
    return await cluster.list_labelled(LAKEHOUSE_RUN, "one", {PIPELINE_LABEL: "clicks"})


async def test_a_label_that_could_not_be_put_there_is_put_there_later_and_rings() -> None:
    cluster, rung = FakeCluster(namespaces=("one",)), Rung()
    labels = Labels(cluster, rung)  # type: ignore[arg-type]
    run = await a_run(cluster)
    cluster.store.before_write = denied
    await labels.see(run, "clicks")
    await labels.again()
    assert (await labelled(cluster), rung.keys) == ([], [])
    cluster.store.before_write = None
    await labels.again()
    await labels.again()
    (found,) = await labelled(cluster)
    assert found["metadata"]["uid"] == run["metadata"]["uid"]
    assert rung.keys == [("one", "clicks")]


async def test_a_run_that_was_deleted_meanwhile_is_not_made_again() -> None:
    cluster, rung = FakeCluster(namespaces=("one",)), Rung()
    labels = Labels(cluster, rung)  # type: ignore[arg-type]
    run = await a_run(cluster)
    cluster.store.before_write = denied
    await labels.see(run, "clicks")
    cluster.store.before_write = None
    await cluster.delete(LAKEHOUSE_RUN, "one", run["metadata"]["name"], run["metadata"]["uid"])
    await labels.again()
    assert await cluster.list_labelled(LAKEHOUSE_RUN, "one", {}) == []
