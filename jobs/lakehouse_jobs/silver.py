"""The silver job: `python -m lakehouse_jobs.silver --settings JSON [--date DAY | --from DAY --to DAY]`.

It takes what bronze got since the last run, reads the payload, sets rows that break a rule aside, keeps one row per
event and brings the dimensions up to date. Started again at any point it goes on where the tables say they are.
"""

import sys
from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import SparkSession

from lakehouse_contract import layout
from lakehouse_contract.settings import SilverSettings
from lakehouse_jobs import releases, silver_dimensions, silver_tables
from lakehouse_jobs.batch_job import Result, run_from_command_line
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.iceberg_commits import Lakehouse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line. Answer the exit code."""
    return run_from_command_line(SilverSettings, "silver", run, arguments)


def run(spark: SparkSession, settings: SilverSettings, started: datetime) -> Result:
    """Bring the silver tables of a pipeline up to date, or recompute days of them. Answer what was done.

    Raises:
        SettingsRefused: An expression can't be used, or a table of that name is another one.
        BadData: A rule of severity `fail` is broken, or days did not pass their audit. No table was changed.
        Conflict: Another run changed a table meanwhile.
        Missing: Bronze is not there yet.
    """
    job = BatchRun(Lakehouse(spark, settings.catalog.name), settings, started, "silver")
    tables = silver_tables.update(job)
    dimensions = silver_dimensions.update(job)
    tag = _release(job) if settings.run.days else None
    return {"run": settings.run.id, "tables": tables, "dimensions": dimensions, "release": tag}


def _release(run: BatchRun[SilverSettings]) -> str | None:
    """One tag of one name on every table of the layer, so that readers can name it as the days left it."""
    keyed = [name for table in run.settings.tables for name in (table.name, table.name + layout.QUARANTINE_SUFFIX)]
    return releases.release(
        run.lakehouse, [*keyed, *(each.name for each in run.settings.dimensions)], run.settings.run.id
    )


if __name__ == "__main__":
    sys.exit(main())
