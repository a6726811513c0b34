"""The gold job: `python -m lakehouse_jobs.gold --settings JSON [--date DAY | --from DAY --to DAY]`.

It computes the models again that read what silver changed since the last run, and of those by day only the days that
changed. A run that changed something ends with a tag on every table, so that readers can name one consistent set.
"""

import sys
from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import SparkSession

from lakehouse_contract.names import split
from lakehouse_contract.settings import GoldSettings
from lakehouse_jobs import freshness, gold_models, releases
from lakehouse_jobs.batch_job import Result, run_from_command_line
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.iceberg_commits import Lakehouse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line. Answer the exit code."""
    return run_from_command_line(GoldSettings, "gold", run, arguments)


def run(spark: SparkSession, settings: GoldSettings, started: datetime) -> Result:
    """Bring the gold models of a pipeline up to date, or compute days of them again. Answer what was done.

    Raises:
        SettingsRefused: A model can't be computed, or reads what it may not.
        BadData: What a run over days staged did not pass its audit. None of it was published.
        Conflict: Another run changed a table meanwhile.
        Missing: A silver table is not there yet.
    """
    job = BatchRun(Lakehouse(spark, settings.catalog.name), settings, started, "gold")
    sources = {name: job.lakehouse.history(name) for name in settings.sources}
    queries = gold_models.check(job, sources)
    models = gold_models.update(job, queries, sources)
    reads = {model.name: query.reads for model, query in zip(settings.models, queries, strict=True)}
    freshness.record(job, reads, sources)
    view = freshness.describe(job.lakehouse, split(settings.models[0].name).namespace, settings.sources)
    tag = releases.release(job.lakehouse, tuple(reads), settings.run.id)
    return {"run": settings.run.id, "models": models, "freshness": view, "release": tag}


if __name__ == "__main__":
    sys.exit(main())
