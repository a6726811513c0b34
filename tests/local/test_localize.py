"""The local pipeline differs from the written one in where things are, and in nothing else."""

import copy
from pathlib import Path
from typing import Any

import pytest

from lakehouse_operator.documents import load_documents
from lakehouse_operator.local.directory import NameRefused, world_directory
from lakehouse_operator.local.localize import localize
from lakehouse_operator.planning import job_settings
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.validate import validate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLACES = {
    "source": {"bootstrapServers", "properties", "security"},
    "catalog": {"type", "uri", "warehouse", "properties", "secretRef"},
    "checkpoint": {"directory", "savepointDirectory"},
}


def example(name: str) -> dict[str, Any]:
    return next(document for document in load_documents(EXAMPLES / name) if document["kind"] == "LakehousePipeline")


def without_places(pipeline: dict[str, Any]) -> dict[str, Any]:
    rest = copy.deepcopy(pipeline)
    spec = rest["spec"]
    spec.pop("storage", None)
    for part, places in (
        (spec["source"], "source"),
        (spec["catalog"], "catalog"),
        (spec["bronze"]["checkpoint"], "checkpoint"),
    ):
        for place in PLACES[places]:
            part.pop(place, None)
    return rest


@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.glob("*.yaml"))])
def test_only_places_change(name: str) -> None:
    written = example(name)
    before = copy.deepcopy(written)
    local = localize(written, bootstrap_servers="127.0.0.1:9", directory=Path("/worlds/w"))
    assert written == before
    assert without_places(local) == without_places(written)
    assert local != written


def test_every_endpoint_and_secret_of_a_cluster_is_gone() -> None:
    written = example("roman-numerals.yaml")
    source = written["spec"]["source"]
    source["properties"] = {"client.rack": "a"}
    source["security"] = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "secretRef": {"name": "kafka"}}
    written["spec"]["catalog"]["name"] = "other"
    local = localize(written, bootstrap_servers="127.0.0.1:9", directory=Path("/worlds/w"))
    assert not any(word in str(local) for word in ("s3://", "minio", "postgres", "secretRef", "SASL", "kafka:9092"))
    pipeline = validate(local)
    assert isinstance(pipeline, ValidPipeline), pipeline
    settings = job_settings.bronze_settings(pipeline)
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9"
    assert settings.catalog.name == "other"
    assert settings.catalog.uri == "jdbc:sqlite:/worlds/w/catalog.db"
    assert settings.catalog.warehouse == "file:///worlds/w/warehouse"
    assert not settings.catalog.secret_properties
    assert not settings.kafka.secret_properties
    assert settings.checkpoint.savepoint_directory == "file:///worlds/w/savepoints"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "-a", "x" * 46])
def test_a_name_that_could_leave_the_directory_of_worlds_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NameRefused, match="can't name a world"):
        world_directory(tmp_path, name)


def test_a_directory_that_is_not_a_world_can_not_become_one(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    with pytest.raises(NameRefused, match="engines is there, and is not a world"):
        world_directory(tmp_path, "engines")


def test_a_world_can_be_made_afresh(tmp_path: Path) -> None:
    for _ in range(2):
        world = world_directory(tmp_path, "demo-2")
        assert world.root == tmp_path / "demo-2"
        world.clear()
        assert not world.root.exists()
        world.make()
        (world.warehouse / "file").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["demo-2"]
