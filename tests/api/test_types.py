"""The types of the API: frozen, described, strict, and each field of a pipeline knows what its change does."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from lakehouse_contract import names as contract_names
from lakehouse_contract import tables as contract_tables
from lakehouse_operator.api import values
from lakehouse_operator.api.backfill import LakehouseBackfill
from lakehouse_operator.api.parts import Rolls, model_of, rolls_of
from lakehouse_operator.api.pipeline import LakehousePipeline, PipelineSpec
from lakehouse_operator.api.run import LakehouseRun
from planning import examples

KINDS = (LakehousePipeline, LakehouseRun, LakehouseBackfill)


def fields(model: type[BaseModel], path: str, above: Rolls | None) -> Iterator[tuple[str, Any, Rolls | None]]:
    for name, info in model.model_fields.items():
        where, own = f"{path}.{info.alias or name}", rolls_of(info) or above
        yield where, info, own
        below = model_of(info)
        if below is not None:
            yield from fields(below, where, own)


ALL = [(path, info) for kind in KINDS for path, info, _ in fields(kind, kind.__name__, None)]
SPEC = list(fields(PipelineSpec, "spec", None))


def test_there_are_as_many_fields_as_one_would_think() -> None:
    assert len(SPEC) > 150


@pytest.mark.parametrize(("path", "info"), ALL, ids=[path for path, _ in ALL])
def test_every_field_is_described_in_a_sentence(path: str, info: Any) -> None:
    assert info.description
    assert info.description.strip()[0].isupper() or info.description.startswith("`")
    assert info.description.strip().endswith(".")


def test_every_field_of_a_pipeline_knows_what_its_change_does() -> None:
    assert [path for path, _, rolls in SPEC if rolls is None] == []


def test_an_object_that_was_read_can_not_be_changed() -> None:
    pipeline = LakehousePipeline.from_raw(examples.raw("minimal"))
    with pytest.raises(ValidationError, match="frozen"):
        pipeline.spec.suspend = True  # type: ignore[misc]


def test_snake_case_is_python_s_own_affair() -> None:
    with pytest.raises(ValidationError):
        LakehousePipeline.from_raw(examples.changed("minimal", spec__source__bootstrap_servers="kafka:9092"))


def test_what_was_read_can_be_written_and_read_again() -> None:
    for name in examples.names():
        read = PipelineSpec.from_raw(examples.raw(name)["spec"])
        assert PipelineSpec.from_raw(read.to_raw()) == read


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("0s", 0), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("24h", 86_400), ("7d", 604_800), ("1d2h3m4s", 93_784)],
)
def test_a_duration_is_so_many_seconds(duration: str, expected: int) -> None:
    assert values.seconds(duration) == expected


@pytest.mark.parametrize(("memory", "expected"), [("1536Mi", 1536), ("2Gi", 2048)])
def test_memory_is_so_many_mebibytes(memory: str, expected: int) -> None:
    assert values.mebibytes(memory) == expected


NAMES = ["a", "a_1", "", "A", "1a", "a-b", "a.b", "a" * 63, "a" * 64, "a b", "ä", "a.b.c", "_a._b", "a;b", "a\n"]
TYPES = [*contract_tables.COLUMN_TYPES, "decimal(10,2)", "decimal(39,0)", "decimal(0,0)", "varchar", "INT", ""]
PATHS = ["$", "$.a", "$.a.b[0]", "$.a['b']", "a", "$..a", "$.a[99999]", "$.1", ""]


@pytest.mark.parametrize(
    ("mine", "theirs", "samples"),
    [
        (values.Identifier, contract_names.identifier, NAMES),
        (values.TableName, contract_names.qualified, NAMES),
        (values.Topic, contract_names.topic, [*NAMES, "a" * 249, "a" * 250]),
        (values.JsonPath, contract_names.json_path, PATHS),
        (values.ColumnType, contract_tables.column_type, TYPES),
    ],
    ids=["identifier", "table", "topic", "path", "type"],
)
def test_the_api_takes_exactly_the_names_that_the_contract_takes(mine: Any, theirs: Any, samples: list[str]) -> None:
    text = next(item for item in mine.__metadata__ if isinstance(item, values.Text))
    for sample in samples:
        assert _accepts(text, sample) == (theirs(sample) is None), sample


def _accepts(text: values.Text, sample: str) -> bool:
    reader = TypeAdapter(Annotated[str, text])
    try:
        reader.validate_python(sample)
    except ValidationError:
        return False
    return True
