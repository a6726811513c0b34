"""The committed CRDs and the reference page are what the types say, and stay within what Kubernetes takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_operator.api import crd

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_files_are_what_the_types_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err


def test_a_file_that_was_edited_by_hand_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--write", "--root", str(tmp_path)]) == 0
    assert crd.main(["--check", "--root", str(tmp_path)]) == 0
    edited = tmp_path / "crds" / "lakehouseruns.lakehouse.dev.yaml"
    edited.write_text(edited.read_text().replace("lhr", "lr"))
    (tmp_path / "docs" / "reference" / "api.md").unlink()
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "crds/lakehouseruns.lakehouse.dev.yaml is not what the types say" in told
    assert "docs/reference/api.md is not what the types say" in told
    assert "lakehousepipelines" not in told


def test_no_crd_file_is_left_over() -> None:
    assert {file.name for file in (ROOT / "crds").glob("*.yaml")} == {resource.file for resource in crd.RESOURCES}


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from nodes(node[name], f"{path}.{name}")


SCHEMAS = {resource.kind: crd.schema(resource.model) for resource in crd.RESOURCES}
NODES = [each for kind, schema in SCHEMAS.items() for each in nodes(schema, kind)]


def test_everything_has_a_type_and_a_bound() -> None:
    """The server refuses rules whose cost it can't bound, and an object without bounds could fill etcd."""
    bounds = {"array": "maxItems", "string": "maxLength"}
    for path, node in NODES:
        assert "type" in node, path
        if path.split(".", 1)[-1] in ("apiVersion", "kind", "metadata.name"):
            continue
        assert "enum" in node or bounds.get(node["type"], "type") in node, path
        assert "additionalProperties" not in node or "maxProperties" in node, path


def test_a_status_has_no_defaults() -> None:
    """The server would add them to what was written, and it would be written again and again."""
    assert [path for path, node in NODES if ".status" in path and "default" in node] == []


def test_a_crd_is_small_enough_for_kubectl_apply() -> None:
    for resource in crd.RESOURCES:
        assert len(yaml.safe_dump(crd.definition(resource))) < 256 * 1024, resource.kind


@pytest.mark.parametrize("bad", [{"oneOf": [{"type": "string"}]}, {"type": "object", "patternProperties": {}}])
def test_a_schema_that_a_crd_can_not_say_is_an_error_and_not_left_out(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a structural schema can't say"):
        crd._structural(bad, {})


def test_the_reference_page_shows_each_field_with_its_default_and_what_its_change_does() -> None:
    shown = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert "| `dedupTtl` | string | `24h` | restart | How long a repeat of an event is recognized" in shown
    assert "| `topic` | string | **required** | newState |" in shown
    assert "### spec.silver.tables[].rules[]" in shown
    assert "hot, renews silver and gold" in shown
    assert "- gold needs silver: it is computed from silver's tables" in shown
