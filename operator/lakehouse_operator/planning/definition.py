"""Accepted specs of pipelines with batch stages, kept while the pipeline lives: one ConfigMap for each.

A run that is tried again days later works with the spec that it began with, whatever the pipeline and its ConfigMaps
say by then. So SQL from ConfigMaps is written out in it. The ConfigMap is named by the hash of its content and is
immutable: creating it again is no write, and nobody can change it unseen.
"""

import json
from collections.abc import Mapping
from typing import Any

from lakehouse_contract.decoding import Problem
from lakehouse_operator.api import API_VERSION
from lakehouse_operator.planning import names
from lakehouse_operator.planning.job_settings import spec_hash
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline, pinned_spec
from lakehouse_operator.planning.validate import Judge, validate

DATA_KEY = "spec.json"


def definition_name(pipeline: ValidPipeline) -> str:
    """The name of the ConfigMap that keeps the pipeline's spec."""
    return names.definition(pipeline.name, spec_hash(pinned_spec(pipeline)))


def build_definition_record(pipeline: ValidPipeline) -> dict[str, Any]:
    """The ConfigMap that keeps the pipeline's spec."""
    spec = pinned_spec(pipeline)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.metadata(
            names.definition(pipeline.name, spec_hash(spec)),
            pipeline.namespace,
            labels={**names.labels(pipeline.name, "definition")},
            annotations={},
            owner=names.owned_by("LakehousePipeline", pipeline.name, pipeline.uid),
        ),
        "immutable": True,
        "data": {DATA_KEY: json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)},
    }


def read_definition(
    data: Mapping[str, str],
    *,
    name: str,
    namespace: str,
    uid: str = "",
    generation: int = 0,
    judge: Judge = validate,
) -> ValidPipeline | Problems:
    """Read the data of a definition's ConfigMap as the pipeline that it was written from.

    Args:
        data: The ConfigMap's data.
        name: The pipeline's name.
        namespace: Its namespace.
        uid: Its UID.
        generation: The generation that it had, where it matters.
        judge: Says whether it is valid.
    """
    try:
        spec = json.loads(data[DATA_KEY])
    except (KeyError, ValueError):
        return Problems((Problem(DATA_KEY, "the ConfigMap holds no definition of a pipeline"),))
    metadata = {"name": name, "namespace": namespace, "uid": uid, "generation": generation}
    return judge({"apiVersion": API_VERSION, "kind": "LakehousePipeline", "metadata": metadata, "spec": spec}, {})
