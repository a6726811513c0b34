"""The silver job: `python -m lakehouse_jobs.silver --settings JSON [--date DAY | --from DAY --to DAY]`.

It takes what bronze got since the last run, reads the payload, sets rows that break a rule aside, keeps one row per
event and brings the dimensions up to date. Started again at any point it goes on where the tables say they are.
"""

import sys
from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import SparkSession

from lakehouse_contract.settings import SilverSettings
from lakehouse_jobs import silver_dimensions, silver_tables
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
        BadData: A rule of severity `fail` is broken. Nothing was written.
        Conflict: Another run changed a table meanwhile.
        Missing: Bronze is not there yet.
    """
    job = BatchRun(Lakehouse(spark, settings.catalog.name), settings, started, "silver")
    tables = silver_tables.update(job)
    dimensions = silver_dimensions.update(job)
    return {"run": settings.run.id, "tables": tables, "dimensions": dimensions}


if __name__ == "__main__":
    sys.exit(main())
