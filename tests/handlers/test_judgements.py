"""A spec is validated once, and anew when anything changes that the answer depends on."""

from collections.abc import Mapping
from typing import Any

import pytest

from cluster.fake_cluster import FakeCluster
from handlers.actors import NAME, Actors, manifest
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE
from lakehouse_operator.handlers.judgements import Judgements
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import ConfigMaps, validate

KEY = ("one", NAME)


class Counted:
    """`validate`, counting."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, raw: Mapping[str, Any], config_maps: ConfigMaps) -> ValidPipeline | Problems:
        self.count += 1
        return validate(raw, config_maps)


def raw(generation: int = 1, uid: str = "a", **spec: Any) -> dict[str, Any]:
    made = manifest(*KEY[:1])
    made["metadata"] |= {"generation": generation, "uid": uid}
    made["spec"] |= spec
    return made


def gold_from(config_map: str) -> dict[str, Any]:
    model = {"name": "gold.one", "kind": "full", "sqlFrom": {"configMap": config_map, "key": "one.sql"}}
    return {"gold": {"image": "spark:1", "models": [model]}}


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def judgements(counted: Counted) -> Judgements:
    return Judgements(counted)


def judged(judgements: Judgements, *asked: tuple[dict[str, Any], ConfigMaps]) -> list[ValidPipeline | Problems]:
    """What one round is told."""
    with judgements.of(KEY) as judge:
        return [judge(*each) for each in asked]


def test_the_same_spec_is_validated_once_and_the_answer_is_the_same(judgements: Judgements, counted: Counted) -> None:
    first, again = judged(judgements, (raw(), {}), (raw(), {}))
    (later,) = judged(judgements, (raw(), {}))
    assert counted.count == 1
    assert first == again == later == validate(raw())


def test_problems_are_remembered_too(judgements: Judgements, counted: Counted) -> None:
    refused = raw(source={"bootstrapServers": "kafka:9092"})
    assert judged(judgements, (refused, {})) == judged(judgements, (refused, {})) == [validate(refused)]
    assert isinstance(validate(refused), Problems)
    assert counted.count == 1


@pytest.mark.parametrize("changed", [{"generation": 2}, {"uid": "b"}, {"suspend": True}])
def test_a_changed_generation_uid_or_spec_is_validated_anew(
    judgements: Judgements, counted: Counted, changed: dict[str, Any]
) -> None:
    judged(judgements, (raw(), {}))
    (found,) = judged(judgements, (raw(**changed), {}))
    assert counted.count == 2
    assert found == validate(raw(**changed))


def test_changed_sql_of_a_named_config_map_is_validated_anew_and_that_of_others_is_not(
    judgements: Judgements, counted: Counted
) -> None:
    spec = raw(**gold_from("models"))
    for maps in ({"models": {"one.sql": "SELECT 1 AS a"}}, {"models": {"one.sql": "SELECT 2 AS a"}}):
        (found,) = judged(judgements, (spec, maps))
        assert found == validate(spec, maps)
    assert counted.count == 2
    judged(judgements, (spec, {**maps, "clicks-record": {"record.json": "{}"}}))
    assert counted.count == 2


def test_what_a_round_does_not_ask_for_is_forgotten(judgements: Judgements) -> None:
    for generation in range(1, 50):
        judged(judgements, (raw(generation), {}))
    assert len(judgements) == 1


def test_a_round_that_fails_forgets_nothing(judgements: Judgements, counted: Counted) -> None:
    judged(judgements, (raw(), {}))
    with pytest.raises(OSError, match="away"), judgements.of(KEY):
        raise OSError("away")
    judged(judgements, (raw(), {}))
    assert counted.count == 1


async def test_rounds_over_an_unchanged_pipeline_validate_nothing_and_a_deleted_one_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    judgements = Judgements(counted)
    monkeypatch.setattr("lakehouse_operator.handlers.tender.Judgements", lambda: judgements)
    cluster = FakeCluster(namespaces=("one",))
    actors = Actors(cluster, "one")
    tender = Tender(cluster, Sight(cluster))
    await actors.create_pipeline(deletion={"policy": "Force"})
    for _ in range(5):
        await tender.round(KEY)
    assert counted.count == 1
    await actors.create_pipeline(deletion={"policy": "Force"}, parallelism=2)
    await tender.round(KEY)
    assert counted.count == 3  # the new spec, and the last accepted one, which it is compared with
    await cluster.delete(LAKEHOUSE_PIPELINE, *KEY, (await actors.pipeline())["metadata"]["uid"])
    while await tender.round(KEY) is not None:
        pass
    assert len(judgements) == 0
