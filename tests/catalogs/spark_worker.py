"""A program for spark-submit that does what the tests ask for, one after another, in one JVM.

Each request is a file in the folder that the command line names; its answer is put beside it. Every request opens a
session of its own, as every run of a job does.
"""

import contextlib
import io
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_contract import layout
from lakehouse_contract.decoding import decode
from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import spark_schema
from lakehouse_jobs import silver, spark_session


def run_silver(settings: str) -> dict[str, Any]:
    """The silver job's own command line."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = silver.main(["--settings", settings])
    return {"code": code, **json.loads(said.getvalue().splitlines()[-1])}


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


def query(catalog: dict[str, Any], sql: str, environment: Any) -> list[list[Any]]:
    """The rows of a query."""
    session = spark_session.open_session(decode(CatalogSettings, catalog), environment, "query")
    return [list(row) for row in session.sql(sql).collect()]


def answer(request: dict[str, Any]) -> Any:
    """Do what is asked for."""
    import os

    match request:
        case {"do": "silver", "settings": settings}:
            return run_silver(settings)
        case {"do": "append", "catalog": catalog, "table": table, "until": until}:
            return append(catalog, table, until, os.environ)
        case {"do": "query", "catalog": catalog, "sql": sql}:
            return query(catalog, sql, os.environ)
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
        draft.write_text(json.dumps(found))
        draft.rename(folder / f"{number}.answer")
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
