"""The program of `spark_stream`, seen from the one that starts it and asks it for queries."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lakehouse_contract.settings import CatalogSettings
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Process, Processes

_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Query:
    """A stream from a topic into an Iceberg table that is there.

    Attributes:
        deduplicated: Whether repeats within `remembered` are dropped, by state in RocksDB.
        every_seconds: How often there is a batch; None: all that is there, and then the end.
    """

    name: str
    bootstrap_servers: str
    topic: str
    table: str
    checkpoints: str
    deduplicated: bool
    every_seconds: int | None = None
    remembered: str = "24 hours"


def start(processes: Processes, installed: Engines, catalog: CatalogSettings, directory: Path) -> "Program":
    """Start the program, without waiting for it to be ready."""
    (directory / "queries").mkdir(parents=True)
    process = processes.start(
        "spark-stream",
        [installed.spark_python, "-W", "ignore", "-m", "benchmarks.bronze.spark_stream", directory / "queries"],
        environment={
            **installed.java_environment(),
            "PYTHONPATH": f"{installed.root}:{installed.jobs}:{installed.root / 'operator'}",
            "CATALOG_URI": catalog.uri,
            "CATALOG_WAREHOUSE": catalog.warehouse,
            "SCRATCH": str(directory),
        },
    )
    return Program(process, directory / "queries")


@dataclass(frozen=True, slots=True)
class Program:
    """The program, seen from the one that started it."""

    process: Process
    directory: Path

    def wait_until_ready(self) -> None:
        """Wait until it takes queries."""
        self.process.until((self.directory / "ready").exists, what="ready", seconds=120)

    def run(self, query: Query) -> None:
        """Run a query to its end, or start one that has none."""
        draft = self.directory / f"{query.name}.draft"
        draft.write_text(json.dumps(asdict(query)))
        draft.rename(draft.with_suffix(".json"))
        done, failed = draft.with_suffix(".done"), draft.with_suffix(".failed")
        self.process.until(
            lambda: done.exists() or failed.exists(), what=f"done with {query.name}", seconds=_DEADLINE_SECONDS
        )
        if why := self.failure(query.name):
            raise RuntimeError(f"{query.name} failed: {why}")

    def failure(self, name: str) -> str | None:
        """Why a query has failed; None if it has not."""
        failed = self.directory / f"{name}.failed"
        return failed.read_text() if failed.exists() else None

    def stop_queries(self) -> None:
        """Stop the queries that go on, after their present batch."""
        request = self.directory / "stop"
        request.touch()
        self.process.until(lambda: not request.exists(), what="done with stopping", seconds=_DEADLINE_SECONDS)
