"""From a valid pipeline and one of its runs to a SparkApplication. Nothing here can fail on validated input.

It is created once and never changed: the Spark operator runs an application again after any change of its spec. What a
webhook of the Spark operator would fill in is spelled out, because there may be none.
"""

import math
from typing import Any

from lakehouse_contract.settings import OwnJobSettings
from lakehouse_operator.api.pipeline import BatchStage
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.api.values import mebibytes
from lakehouse_operator.planning import job_settings, names, secrets
from lakehouse_operator.planning.image_layout import ENTRY_POINTS, SPARK_USER, SPARK_WRITABLE, settings_argument
from lakehouse_operator.planning.pipeline import OwnJob, ValidPipeline
from lakehouse_operator.planning.pod_template import build_pod_template

API_VERSION = "sparkoperator.k8s.io/v1beta2"


def build_spark_application(
    pipeline: ValidPipeline,
    *,
    run: str,
    run_uid: str,
    spec: RunSpec,
    attempt: int,
    driver_memory_mib: int | None = None,
    executor_memory_mib: int | None = None,
) -> dict[str, Any]:
    """One attempt of a run.

    Args:
        pipeline: The pipeline as it was when the run was created.
        run: The LakehouseRun's name.
        run_uid: Its UID; empty for a manifest that is only shown.
        spec: Its spec, with the revision.
        attempt: The attempt's number, from 1.
        driver_memory_mib: The driver's heap, if not the one of the pipeline.
        executor_memory_mib: The executors' heap, if not the one of the pipeline.
    """
    stage = pipeline.stage(spec.stage)
    name = names.attempt(run, attempt)
    labels = names.labels(pipeline.name, spec.stage, run=run, attempt=str(attempt))
    script, arguments = _job(pipeline, run, spec)
    driver_heap = driver_memory_mib or mebibytes(stage.driver.memory)
    executor_heap = executor_memory_mib or mebibytes(stage.executor.memory)
    return {
        "apiVersion": API_VERSION,
        "kind": "SparkApplication",
        "metadata": names.metadata(
            name,
            pipeline.namespace,
            labels=labels,
            annotations={names.REVISION_ANNOTATION: spec.revision or ""},
            owner=names.owned_by("LakehouseRun", run, run_uid),
        ),
        "spec": {
            "type": "Python",
            "pythonVersion": "3",
            "mode": "cluster",
            "sparkVersion": stage.spark_version,
            "image": pipeline.image(spec.stage),
            "imagePullPolicy": "IfNotPresent",
            "mainApplicationFile": script,
            "arguments": arguments,
            "restartPolicy": {"type": "Never"},
            "sparkConf": {
                "spark.kubernetes.executor.podNamePrefix": names.executor_prefix(name),
                "spark.sql.session.timeZone": "UTC",
                **stage.spark_conf,
            },
            "driver": _driver(pipeline, stage, labels, driver_heap),
            "executor": _executor(pipeline, stage, labels, executor_heap),
        },
    }


def _job(pipeline: ValidPipeline, run: str, spec: RunSpec) -> tuple[str, list[str]]:
    """The script in the image and its arguments."""
    told = job_settings.run_settings(run, spec)
    own = {"silver": pipeline.silver, "gold": pipeline.gold}.get(spec.stage)
    if isinstance(own, OwnJob):
        settings: object = OwnJobSettings(
            pipeline=pipeline.name,
            catalog=job_settings.catalog_settings(pipeline.spec),
            run=told,
            reads=_reads(pipeline, spec),
            writes=own.writes,
        )
        return own.entry_point, [*own.arguments, "--settings", settings_argument(settings)]
    if spec.stage == "silver":
        settings = job_settings.silver_settings(pipeline, told)
    elif spec.stage == "gold":
        settings = job_settings.gold_settings(pipeline, told)
    else:
        settings = job_settings.maintenance_settings(pipeline, told)
    return f"local://{ENTRY_POINTS[spec.stage]}", ["--settings", settings_argument(settings)]


def _reads(pipeline: ValidPipeline, spec: RunSpec) -> tuple[str, ...]:
    if spec.stage == "silver" or pipeline.silver is None:
        return (pipeline.bronze_table,)
    return pipeline.silver.writes


def _driver(pipeline: ValidPipeline, stage: BatchStage, labels: dict[str, str], heap_mib: int) -> dict[str, Any]:
    return {
        "cores": math.ceil(stage.driver.cpu),
        "coreRequest": _cpu(stage.driver.cpu),
        "memory": f"{heap_mib}m",
        "memoryOverhead": f"{mebibytes(stage.driver.memory_overhead)}m",
        "serviceAccount": stage.service_account,
        "labels": labels,
        "template": _template(pipeline, stage, labels, "spark-kubernetes-driver"),
    }


def _executor(pipeline: ValidPipeline, stage: BatchStage, labels: dict[str, str], heap_mib: int) -> dict[str, Any]:
    executor = stage.executor
    return {
        "instances": executor.instances,
        "cores": executor.cores,
        "coreRequest": _cpu(executor.cpu or executor.cores),
        "memory": f"{heap_mib}m",
        "memoryOverhead": f"{mebibytes(executor.memory_overhead)}m",
        "labels": labels,
        "template": _template(pipeline, stage, labels, "spark-kubernetes-executor"),
    }


def _template(pipeline: ValidPipeline, stage: BatchStage, labels: dict[str, str], container: str) -> dict[str, Any]:
    return build_pod_template(
        container=container,
        user=SPARK_USER,
        folders=SPARK_WRITABLE,
        environment=secrets.batch_environment(pipeline.spec),
        pod=stage.pod,
        labels=labels,
    )


def _cpu(cpus: float) -> str:
    return f"{round(cpus * 1000)}m"
