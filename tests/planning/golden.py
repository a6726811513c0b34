"""The manifests of the examples as they were last looked at, in `tests/golden`.

    python tests/planning/golden.py --write     # after a change that is meant; then look at the difference

A difference in a FlinkDeployment means that every running stream is restarted when the operator is upgraded.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def manifests() -> dict[str, dict[str, Any]]:
    """File name -> manifest."""
    from lakehouse_operator.planning.definition import build_definition_record
    from lakehouse_operator.planning.flink_manifest import build_flink_deployment
    from planning import children, examples

    found: dict[str, dict[str, Any]] = {}
    for name in examples.names():
        pipeline = examples.valid(name)
        found[f"{name}.flink.yaml"] = build_flink_deployment(pipeline)
        found[f"{name}.definition.yaml"] = build_definition_record(pipeline)
        for stage in pipeline.stages:
            found[f"{name}.{stage}.yaml"] = children.application(pipeline, stage)
    return found


def text(manifest: dict[str, Any]) -> str:
    """A manifest as it is kept."""
    return yaml.safe_dump(manifest, sort_keys=True, width=120, allow_unicode=True)


def write() -> None:
    """Write all files anew."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.yaml"):
        file.unlink()
    for name, manifest in manifests().items():
        (FOLDER / name).write_text(text(manifest), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parent))
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
