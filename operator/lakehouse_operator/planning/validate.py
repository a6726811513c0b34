"""From a raw object to a `ValidPipeline`, or to everything that is wrong with it.

First its shape (`structure`), then what it says (`spec_check`: schedules, configuration, secrets; `domain_check`:
columns, rules, SQL). The API server's own rules hold here too, so a file can be checked without a server.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from lakehouse_contract.decoding import Problem, SettingsRefused, from_json, to_json
from lakehouse_contract.settings import BronzeSettings, GoldSettings, MaintenanceSettings, RunSettings, SilverSettings
from lakehouse_operator.api.backfill import LakehouseBackfill
from lakehouse_operator.api.pipeline import LakehousePipeline
from lakehouse_operator.api.run import LakehouseRun
from lakehouse_operator.planning import domain_check, job_settings, size, spec_check, structure
from lakehouse_operator.planning.pipeline import GoldModels, Problems, SilverTables, ValidPipeline

ConfigMaps = Mapping[str, Mapping[str, str]]
"""The ConfigMaps that are known: name -> data."""
Judge: TypeAlias = Callable[[Mapping[str, Any], ConfigMaps], ValidPipeline | Problems]
"""`validate`, or something that answers as it does and remembers."""
_NONE: ConfigMaps = MappingProxyType({})


def validate(raw: Mapping[str, Any], config_maps: ConfigMaps = _NONE) -> ValidPipeline | Problems:
    """Read a LakehousePipeline.

    Args:
        raw: The object as parsed from JSON or YAML.
        config_maps: The ConfigMaps of its namespace that its `sqlFrom` fields name.
    """
    read = structure.read(LakehousePipeline, raw)
    if isinstance(read, Problems):
        return read
    table = read.spec.bronze.table or f"bronze.{read.metadata.name.replace('-', '_')}"
    domain = domain_check.check(read.spec, table, config_maps)
    problems = (*spec_check.problems(read.spec), *domain.problems)
    if problems:
        return Problems(problems)
    pipeline = ValidPipeline(
        namespace=read.metadata.namespace,
        name=read.metadata.name,
        uid=read.metadata.uid,
        generation=read.metadata.generation,
        spec=read.spec,
        bronze_table=table,
        dead_letter_topic=read.spec.bronze.dead_letter_topic or f"{read.spec.source.topic}-dlq",
        consumer_group=read.spec.source.consumer_group or f"lakehouse.{read.metadata.namespace}.{read.metadata.name}",
        silver=domain.silver,
        gold=domain.gold,
        warnings=spec_check.warnings(read.spec),
    )
    refused = _refused_by_jobs(pipeline) or tuple(size.too_large_to_keep(pipeline))
    return Problems(refused) if refused else pipeline


def _refused_by_jobs(pipeline: ValidPipeline) -> tuple[Problem, ...]:
    """Whatever a job would refuse is refused here, so that nothing that is built from a valid pipeline ever is."""
    found: list[Problem] = []
    for kind, settings, path in _settings(pipeline):
        found += _refusals(kind, to_json(settings), path)
        found += size.too_long_to_hand_over(settings, path)
    return tuple(found)


def _settings(pipeline: ValidPipeline) -> Iterator[tuple[type, object, str]]:
    """The settings of each of our own jobs, their kind, and where they stand in the spec."""
    run = RunSettings(id="any")
    yield BronzeSettings, job_settings.bronze_settings(pipeline), "spec.bronze"
    if isinstance(pipeline.silver, SilverTables):
        yield SilverSettings, job_settings.silver_settings(pipeline, run), "spec.silver"
    if isinstance(pipeline.gold, GoldModels):
        yield GoldSettings, job_settings.gold_settings(pipeline, run), "spec.gold"
    if pipeline.spec.maintenance is not None:
        yield MaintenanceSettings, job_settings.maintenance_settings(pipeline, run), "spec.maintenance"


@lru_cache(maxsize=64)
def _refusals(kind: type, text: str, path: str) -> tuple[Problem, ...]:
    """What the contract says against settings. Remembered: a spec is validated often and changes seldom."""
    try:
        from_json(kind, text)
    except SettingsRefused as refused:
        return tuple(Problem(path, f"the job would refuse this: {problem}") for problem in refused.problems)
    return ()


def validate_run(raw: Mapping[str, Any]) -> LakehouseRun | Problems:
    """Read a LakehouseRun."""
    read = structure.read(LakehouseRun, raw)
    return read if isinstance(read, Problems) else _sound(read, spec_check.run_problems(read.spec))


def validate_backfill(raw: Mapping[str, Any]) -> LakehouseBackfill | Problems:
    """Read a LakehouseBackfill."""
    read = structure.read(LakehouseBackfill, raw)
    return read if isinstance(read, Problems) else _sound(read, spec_check.backfill_problems(read.spec))


def _sound(read: Any, problems: tuple[Problem, ...]) -> Any:
    return Problems(problems) if problems else read
