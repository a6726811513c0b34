"""Children of a pipeline, as its runs would have them."""

from typing import Any

from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.planning import job_settings, names
from lakehouse_operator.planning.pipeline import BatchStageName, ValidPipeline
from lakehouse_operator.planning.spark_manifest import build_spark_application

START, END = "2026-01-31T05:00:00Z", "2026-01-31T06:00:00Z"


def run_spec(pipeline: ValidPipeline, stage: BatchStageName, **changes: Any) -> RunSpec:
    """A run of the schedule, with fields changed."""
    return RunSpec.from_raw(
        {
            "pipelineRef": {"name": pipeline.name},
            "stage": stage,
            "reason": "schedule",
            "revision": job_settings.revision(pipeline, stage),
            "dataInterval": {"start": START, "end": END},
            **({"sourceRange": {"upto": "8437218941234567890"}} if stage == "silver" else {}),
            **changes,
        }
    )


def application(pipeline: ValidPipeline, stage: BatchStageName, **changes: Any) -> dict[str, Any]:
    """The first attempt of the run of an interval."""
    return build_spark_application(
        pipeline,
        run=names.interval_run(pipeline.name, stage, START),
        run_uid="4-5-6",
        spec=run_spec(pipeline, stage),
        attempt=1,
        **changes,
    )
