"""A program for spark-submit that does what the tests ask for, one after another, in one JVM.

Each request is a file in the folder that the command line names; its answer is put beside it. Every request opens a
session of its own, as every run of a job does.
"""

import contextlib
import io
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_contract import layout
from lakehouse_contract.decoding import decode, from_json
from lakehouse_contract.settings import CatalogSettings, MaintenanceSettings
from lakehouse_contract.tables import spark_schema
from lakehouse_jobs import batch_job, gold, maintenance, silver, spark_session

JOBS = {"silver": silver.main, "gold": gold.main}


def run(stage: str, settings: str) -> dict[str, Any]:
    """A job as its own command line runs it, but for maintenance's clock."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = maintain(settings) if stage == "maintenance" else JOBS[stage](["--settings", settings])
    return {"code": code, **json.loads(said.getvalue().splitlines()[-1])}


def maintain(settings: str) -> int:
    """The maintenance job by a clock that is ahead: no pipeline may keep its snapshots for less than a minute."""

    def job(spark: SparkSession, settings: MaintenanceSettings, started: datetime) -> dict[str, Any]:
        return maintenance.run(spark, settings, started + timedelta(minutes=2))

    return batch_job.execute("maintenance", lambda: from_json(MaintenanceSettings, settings), job)


def append(catalog: dict[str, Any], table: str, until: str, environment: Any) -> int:
    """Commit one row again and again until there is a file of this name; answers how often."""
    session = spark_session.open_session(decode(CatalogSettings, catalog), environment, "append")
    now = datetime.now(UTC)  # noqa: TID251 - this is the edge
    number = 0
    while number == 0 or not Path(until).exists():
        row = (f"spark-{number}", now, "{}", None, -1, number, now, False, now)
        frame = session.createDataFrame([row], spark_schema(layout.bronze(table)).replace(" NOT NULL", ""))
        frame.coalesce(1).writeTo(table).append()
        number += 1
    return number


def query(catalog: dict[str, Any], texts: list[str], environment: Any) -> list[list[list[Any]]]:
    """The rows of each query."""
    session = spark_session.open_session(decode(CatalogSettings, catalog), environment, "query")
    return [[list(row) for row in session.sql(text).collect()] for text in texts]


def answer(request: dict[str, Any]) -> Any:
    """Do what is asked for."""
    import os

    match request:
        case {"do": "run", "stage": stage, "settings": settings}:
            return run(stage, settings)
        case {"do": "append", "catalog": catalog, "table": table, "until": until}:
            return append(catalog, table, until, os.environ)
        case {"do": "query", "catalog": catalog, "texts": texts}:
            return query(catalog, texts, os.environ)
    raise ValueError(f"nobody knows how to do {request}")


def main(folder: Path) -> None:
    """Answer requests until there is a file `stop`."""
    number = 0
    (folder / "ready").touch()
    while not (folder / "stop").exists():
        request = folder / f"{number}.request"
        if not request.exists():
            time.sleep(0.05)
            continue
        try:
            found: dict[str, Any] = {"answer": answer(json.loads(request.read_text()))}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        session = SparkSession.getActiveSession()
        if session is not None:
            session.stop()
        draft = folder / f"{number}.draft"
        draft.write_text(json.dumps(found, default=str))
        draft.rename(folder / f"{number}.answer")
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
