"""What the operator looks at outside the API server: a real Kafka, and a real Iceberg table for each pipeline.

All pipelines read one topic, each as its own consumer group, and all tables are in one SQLite catalog with their files
on this disk. No store is asked over a network, and no JobManager answers: what a look costs there is not measured.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse_contract import commits
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.local import engines, kafka
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics

TOPIC = "events"
_NAMESPACE = "bronze"
_HEADER = struct.Struct(">IIq")
_MAGIC, _VERSION = 0x4960672D, 4


@dataclass(frozen=True, slots=True)
class Lake:
    """Where the pipelines' data are."""

    bootstrap_servers: str
    directory: Path
    catalog: Catalog

    def localize(self, pipeline: Resource) -> None:
        """Let a pipeline read and write here. Its stream's table is its own."""
        spec, name = pipeline["spec"], pipeline["metadata"]["name"]
        spec["source"] |= {"bootstrapServers": self.bootstrap_servers, "topic": TOPIC}
        for field in ("security", "properties"):
            spec["source"].pop(field, None)
        spec["catalog"] = {
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{self.directory / 'catalog.db'}",
            "warehouse": self._uri("warehouse"),
        }
        spec.pop("storage", None)
        spec["bronze"]["table"] = f"{_NAMESPACE}.{_table(name)}"
        spec["bronze"]["checkpoint"] = {
            **spec["bronze"].get("checkpoint", {}),
            "directory": self._uri("checkpoints"),
            "savepointDirectory": self._uri("savepoints"),
        }

    def make_tables(self, pipelines: Iterable[str], job: str) -> None:
        """A table for each pipeline, with one commit of its stream."""
        rows = pa.table({"event_id": ["1"]})
        properties = {commits.FLINK_JOB_ID: job, commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: "1"}
        for name in pipelines:
            table = self.catalog.create_table(f"{_NAMESPACE}.{_table(name)}", schema=rows.schema)
            table.append(rows, snapshot_properties=properties)

    def savepoint(self, name: str) -> str:
        """A savepoint of no state, which can be read; answers its path."""
        folder = self.directory / "savepoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_metadata").write_bytes(_HEADER.pack(_MAGIC, _VERSION, 1))
        return folder.as_uri()

    def _uri(self, folder: str) -> str:
        return (self.directory / folder).as_uri()


def _table(pipeline: str) -> str:
    return pipeline.replace("-", "_")


@contextmanager
def lake(directory: Path) -> Iterator[Lake]:
    """Start a broker and make a catalog, and end the broker afterwards."""
    with Processes(directory / "records", directory / "logs") as processes:
        broker = kafka.start(processes, engines.find(), directory / "kafka", optimized=True)
        broker.wait_until_ready()
        Topics(broker.bootstrap_servers).create(TOPIC, partitions=4, timestamps="LogAppendTime")
        catalog = SqlCatalog(
            "lakehouse", uri=f"sqlite:///{directory / 'catalog.db'}", warehouse=(directory / "warehouse").as_uri()
        )
        catalog.create_namespace(_NAMESPACE)
        yield Lake(broker.bootstrap_servers, directory, catalog)
