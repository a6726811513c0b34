"""YAML files, read as kubectl reads them."""

import re
from pathlib import Path

import pytest

from lakehouse_operator.documents import DocumentsRefused, config_maps, load_documents


def test_days_and_times_stay_texts() -> None:
    (document,) = load_documents("kind: X\nfirst: 2026-01-01\nat: 2026-01-31T05:00:00Z\nnumber: 3\nflag: true\n")
    assert document == {"kind": "X", "first": "2026-01-01", "at": "2026-01-31T05:00:00Z", "number": 3, "flag": True}


def test_all_documents_of_a_file_are_read_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("kind: A\n---\n---\n# nothing\n---\nkind: ConfigMap\nmetadata: {name: sql}\ndata: {a: b}\n")
    documents = load_documents(file)
    assert [document["kind"] for document in documents] == ["A", "ConfigMap"]
    assert config_maps(documents) == {"sql": {"a": "b"}}


def test_merge_keys_work_and_can_be_overridden() -> None:
    (document,) = load_documents("kind: X\nbase: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n")
    assert document["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: A\nspec: {a: 1, a: 2}\n", "a is given twice"),
        ("kind: A\nspec: {1: 2}\n", "the key 1 is not a string"),
        ("kind: A\nspec: {on: 2}\n", "the key True is not a string"),
        ("- a\n", "document 1 is not a Kubernetes object"),
        ("kind: A\n---\nname: b\n", "document 2 is not a Kubernetes object"),
        ("kind: [A\n", "line 2"),
        ("kind: !!python/object/apply:os.system [ls]\n", "python/object"),
    ],
)
def test_what_kubectl_would_not_take_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(DocumentsRefused, match=re.escape(says)):
        load_documents(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentsRefused, match=r"missing\.yaml"):
        load_documents(tmp_path / "missing.yaml")
