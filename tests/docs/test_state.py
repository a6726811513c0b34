"""docs/state.md says of each field what the types say, and lists what the contract lists."""

import re
from pathlib import Path

import pytest

from lakehouse_contract import state
from lakehouse_operator.api.parts import model_of, rolls_of
from lakehouse_operator.api.pipeline import PipelineSpec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "state.md").read_text()
ROWS = re.findall(
    r"^\| (.+) \| (.+) \|$", PAGE.partition("| changed |")[2].partition("`lakehouse explain")[0], re.MULTILINE
)


def effect(path: str) -> str | None:
    """What the type of a field says about its change; fields below inherit it."""
    model, found = PipelineSpec, None
    for name in path.split("."):
        assert model is not None, path
        [info] = [info for own, info in model.model_fields.items() if name == (info.alias or own)]
        own = rolls_of(info)
        found = own.effect if own else found
        model = model_of(info)
    return found


def fields(cell: str) -> list[str]:
    return re.findall(r"`((?:source|bronze|catalog|silver|gold|maintenance)(?:\.[a-zA-Z.]+)?)`", cell)


def test_every_field_is_named_with_the_effect_that_its_type_has() -> None:
    meaning = {"is not touched": "hot", "is taken over": "restart", "belongs to the old": "newState"}
    named = 0
    for changed, what in ROWS:
        wanted = next((each for start, each in meaning.items() if what.startswith(start)), None)
        for path in fields(changed) if wanted else ():
            assert effect(path) == wanted, path
            named += 1
    assert named > 20


@pytest.mark.parametrize("section", ["source", "bronze"])
def test_no_field_that_restarts_the_stream_is_left_out(section: str) -> None:
    model = model_of(PipelineSpec.model_fields[section])
    assert model is not None
    listed = {path for changed, _ in ROWS for path in fields(changed)}
    in_words = {"bronze.serviceAccount", "bronze.jobManager", "bronze.taskManager", "bronze.pod", "source.event"}
    for own, info in model.model_fields.items():
        path = f"{section}.{info.alias or own}"
        if effect(path) != "hot":
            assert path in listed or path in in_words, path


def test_the_parts_are_those_of_the_contract() -> None:
    for part in state.PARTS:
        assert f"| {part.name} | {part.id} | {part.keeps} |" in PAGE
    assert str(state.MAX_PARALLELISM) in PAGE
