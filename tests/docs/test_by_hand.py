"""What the pages say of jobs by hand and of the local world is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from lakehouse_contract.decoding import from_json
from lakehouse_contract.settings import MaintenanceSettings
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.planning.spark_manifest import build_spark_application
from planning.examples import valid

ROOT = Path(__file__).resolve().parents[2]
MAINTENANCE = (ROOT / "docs" / "maintenance.md").read_text()
REST_CATALOG = {"type": "rest", "uri": "http://catalog:8181", "warehouse": "s3://lake", "secretRef": {"name": "c"}}


def maintenance(**changes: Any) -> dict[str, Any]:
    spec = RunSpec.from_raw({"stage": "maintenance", "pipelineRef": {"name": "x"}, "revision": "0" * 12})
    pipeline = valid("roman-numerals", spec__maintenance={}, **changes)
    return build_spark_application(pipeline, run="night", run_uid="", spec=spec, attempt=1)


def at(path: str, found: Any) -> Any:
    """What kubectl's jsonpath finds, as far as the pages use it."""
    for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        found = found[name] if name else found[int(number)]
    return found


def paths() -> list[str]:
    return re.findall(r"kubectl get sparkapplication NAME -n data -o jsonpath='\{(.+?)\}'", MAINTENANCE)


def test_the_settings_of_a_maintenance_run_are_where_the_page_says() -> None:
    application = maintenance()
    settings, environment = (at(path, application) for path in paths())
    assert from_json(MaintenanceSettings, settings).tables
    assert {"name", "value"} <= environment[0].keys()


@pytest.mark.parametrize("catalog", [None, REST_CATALOG], ids=["jdbc", "rest"])
def test_the_page_names_every_variable_that_the_job_takes(catalog: dict[str, Any] | None) -> None:
    _, environment = (at(path, maintenance(**({"spec__catalog": catalog} if catalog else {}))) for path in paths())
    assert len(environment) > 3
    assert [each["name"] for each in environment if f"`{each['name']}`" not in MAINTENANCE] == []


def test_the_commands_that_the_page_calls_tested_in_a_local_world_are() -> None:
    page = " ".join((ROOT / "docs" / "local.md").read_text().split())
    [said] = re.findall(r"instead of a kubeconfig\. ([^.]+) are tested here\.", page)
    named = re.findall(r"`(\w+)`", said)
    life = (ROOT / "tests" / "local" / "test_pipeline_life.py").read_text()
    assert {"restore", "backfill"} <= {*named}
    assert [command for command in named if f'life.lakehouse("{command}"' not in life] == []
