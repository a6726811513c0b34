"""What Flink operators of different versions say of a FlinkDeployment, and how it is read."""

import json
from typing import Any

import pytest

from lakehouse_operator.cluster.gather import read_stream


def deployment(*, generation: int, state: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "numerals-bronze", "uid": "1", "generation": generation},
        "spec": {"job": {"state": state}},
        "status": status,
    }


def reconciled(state: str, generation: int) -> dict[str, Any]:
    """As the Flink operator 1.7.0 writes it: the generation stands beside the spec, in the same text."""
    about = {"apiVersion": "flink.apache.org/v1beta1", "metadata": {"generation": generation}, "firstDeployment": True}
    return {"state": state, "lastReconciledSpec": json.dumps({"spec": {}, "resource_metadata": about})}


@pytest.mark.parametrize(
    ("status", "is_settled"),
    [
        pytest.param({"observedGeneration": 3}, True, id="observed"),
        pytest.param({"observedGeneration": 2}, False, id="observed before the change"),
        pytest.param({"reconciliationStatus": reconciled("DEPLOYED", 3)}, True, id="deployed, as 1.7 says it"),
        pytest.param({"reconciliationStatus": reconciled("DEPLOYED", 2)}, False, id="deployed before the change"),
        pytest.param({"reconciliationStatus": reconciled("UPGRADING", 3)}, False, id="not deployed yet"),
        pytest.param({"reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": "?"}}, False, id="no JSON"),
        pytest.param({}, False, id="nothing yet"),
    ],
)
def test_a_status_counts_once_it_speaks_of_the_current_spec(status: dict[str, Any], *, is_settled: bool) -> None:
    seen = read_stream(deployment(generation=3, state="running", **status), ())
    assert seen.settled is is_settled


def test_one_that_was_created_suspended_never_says_that_it_is_settled() -> None:
    assert read_stream(deployment(generation=1, state="suspended"), ()).settled
