"""One catalog, from a pipeline's spec on: what the bronze job, the silver job and the operator make of it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
from confluent_kafka import Producer
from pyiceberg.table import Table

from catalogs.machine import AWS_KEYS, Machine
from catalogs.servers import Server, Store
from lakehouse_contract.commits import FLINK_JOB_ID
from lakehouse_contract.decoding import encode, to_json
from lakehouse_contract.settings import RunSettings
from lakehouse_operator.local import flink
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning import job_settings, secrets
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.validate import validate

BRONZE, SILVER = "bronze.events", "silver.events"
_SECONDS = 300.0


@dataclass(frozen=True)
class Kind:
    """A catalog and a store to try.

    Attributes:
        name: What it is called here.
        catalog: `spec.catalog`, less the warehouse.
        secret: What is in the catalog's Secret.
        server: What can be restarted; None for SQLite, which is a file.
        store: Where the warehouse is; None for a folder of this machine.
        compression: `spec.bronze.compression`; None leaves the default.
    """

    name: str
    catalog: Mapping[str, Any]
    secret: Mapping[str, str] = field(default_factory=dict)
    server: Server | None = None
    store: Store | None = None
    compression: str | None = None


class Lakehouse:
    """The tables of one pipeline, and all who read and write them."""

    def __init__(self, kind: Kind, machine: Machine) -> None:
        self.kind = kind
        self.machine = machine
        self.directory = machine.directory / kind.name
        self.directory.mkdir()
        self.pipeline = _valid(self._manifest())
        self.settings = job_settings.bronze_settings(self.pipeline)
        self.environment = self._environment(kind.secret)
        self.observer = Observer()
        self.topics = Topics(machine.broker.bootstrap_servers)
        self.topics.create(self.settings.kafka.topic, partitions=1, timestamps="CreateTime")
        self.topics.create(self.settings.dead_letter_topic, partitions=1, timestamps="LogAppendTime")
        self.produced = 0
        self._runs = 0

    def _manifest(self) -> dict[str, Any]:
        kind, store = self.kind, self.kind.store
        where = f"s3://{store.bucket}/{kind.name}" if store else self.directory.as_uri()
        manifest: dict[str, Any] = {
            "apiVersion": "lakehouse.dev/v1alpha1",
            "kind": "LakehousePipeline",
            "metadata": {"name": kind.name, "namespace": "default"},
            "spec": {
                "source": {"bootstrapServers": self.machine.broker.bootstrap_servers, "topic": f"{kind.name}-events"},
                "catalog": {**kind.catalog, "warehouse": f"{where}/warehouse"},
                "bronze": {
                    "image": "lakehouse-flink:0.1.0",
                    "table": BRONZE,
                    "parallelism": 1,
                    "checkpoint": {
                        "interval": "1s",
                        "directory": f"{where}/checkpoints",
                        "savepointDirectory": f"{where}/savepoints",
                    },
                    "restart": {"attempts": 100, "delay": "1s"},
                },
                "silver": {
                    "image": "lakehouse-spark:0.1.0",
                    "columns": [{"name": "amount", "type": "long", "path": "$.amount", "required": True}],
                    "tables": [
                        {"name": SILVER, "columns": [{"name": "amount", "type": "long", "expression": "amount"}]}
                    ],
                },
            },
        }
        if kind.secret:
            manifest["spec"]["catalog"]["secretRef"] = {"name": "catalog"}
        if kind.compression:
            manifest["spec"]["bronze"]["compression"] = kind.compression
        if store:
            manifest["spec"]["storage"] = {
                "endpoint": store.endpoint,
                "pathStyleAccess": True,
                "secretRef": {"name": "storage"},
            }
        return manifest

    def _environment(self, catalog: Mapping[str, str]) -> dict[str, str]:
        """The variables of the jobs' pods, as the kubelet would fill them from the Secrets."""
        known = {"catalog": catalog, "storage": AWS_KEYS}
        found = {}
        for entry in secrets.stream_environment(self.pipeline.spec):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                found[entry["name"]] = entry["value"]
            elif reference["key"] in known[reference["name"]]:
                found[entry["name"]] = known[reference["name"]][reference["key"]]
        return found

    # --- Kafka and Flink

    def produce(self, count: int) -> None:
        """Send further events."""
        producer = Producer({"bootstrap.servers": self.machine.broker.bootstrap_servers, "linger.ms": 5})
        for number in range(self.produced, self.produced + count):
            now = datetime.now(UTC).isoformat()  # noqa: TID251 - as a producer does
            event = {"event_id": f"e{number}", "event_time": now, "amount": number}
            producer.produce(self.settings.kafka.topic, json.dumps(event).encode())
        producer.flush(30)
        self.produced += count

    def submit(self) -> flink.Submission:
        """Start to submit the bronze job, with the secrets in the environment."""
        return flink.submit(
            self.machine.processes, self.machine.flink, f"submit-{self.kind.name}", to_json(self.settings),
            environment=self.environment,
        )  # fmt: skip

    def caught_up(self) -> bool:
        """Whether everything that was sent has been read and committed."""
        group, topic = self.settings.kafka.consumer_group, self.settings.kafka.topic
        return self.topics.committed(group, topic) == self.topics.ends(topic)

    def stop(self, job: str) -> str:
        """Stop the bronze job with a savepoint; answers where it lies."""
        return self.machine.flink.rest.stop_with_savepoint(job, self.settings.checkpoint.savepoint_directory)

    # --- Spark

    @property
    def catalog(self) -> dict[str, Any]:
        """The catalog as the jobs are told."""
        found: dict[str, Any] = encode(self.settings.catalog)
        return found

    def silver_settings(self) -> str:
        """What the next silver run is told."""
        self._runs += 1
        run = RunSettings(id=f"{self.kind.name}-{self._runs}")
        return to_json(job_settings.silver_settings(self.pipeline, run))

    # --- pyiceberg

    def look(self, *, environment: Mapping[str, str] | None = None, savepoints: tuple[str, ...] = ()) -> Look:
        """What the operator looks at."""
        given = self.environment if environment is None else environment
        return Look(settings=self.settings, secrets=given, tables=(BRONZE, SILVER), savepoints=savepoints)

    def rows(self, table: str = BRONZE) -> int:
        """How many rows the operator's own catalog client finds; 0 for no table."""
        seen = self.observer.observe(self.look())
        assert seen.tables is not None, seen.problem
        if table not in seen.tables:
            return 0
        return sum(task.file.record_count for task in self.table(table).scan().plan_files())

    def head(self, table: str = BRONZE) -> int:
        """The table's current snapshot."""
        seen = self.observer.observe(self.look())
        assert seen.tables is not None, seen.problem
        return seen.tables[table].commits[-1].id

    def writers(self) -> str:
        """Who made the commits of bronze, the oldest first: a letter f for Flink or s for Spark."""
        seen = self.observer.observe(self.look())
        assert seen.tables is not None, seen.problem
        return "".join("f" if FLINK_JOB_ID in each.properties else "s" for each in seen.tables[BRONZE].commits)

    def until_rows(self, count: int, job: str) -> None:
        """Wait until bronze has so many rows, and fail if it gets more."""
        rest = self.machine.flink.rest
        until(
            lambda: self.rows() >= count,
            lambda: f"{self.kind.name}: {self.rows()} of {count} rows; {rest.state(job)}: {rest.root_exception(job)}",
        )
        assert self.rows() == count

    def table(self, name: str) -> Table:
        """A table as the operator's own catalog client has it."""
        return self.observer.catalog(self.look()).load_table(name)

    def places(self, snapshot: int) -> list[tuple[int, int]]:
        """Where bronze's rows came from, in a snapshot: partition and offset of each."""
        columns = ("kafka_partition", "kafka_offset")
        found = self.table(BRONZE).scan(snapshot_id=snapshot, selected_fields=columns).to_arrow()
        return [(row[columns[0]], row[columns[1]]) for row in found.to_pylist()]

    def codecs(self, name: str) -> set[str]:
        """The codecs of all columns in all files of a table's head."""
        table = self.table(name)
        found = set()
        for task in table.scan().plan_files():
            with table.io.new_input(task.file.file_path).open() as file:
                group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
            found |= {group.column(number).compression for number in range(group.num_columns)}
        return found


def _valid(manifest: dict[str, Any]) -> ValidPipeline:
    found = validate(manifest)
    assert isinstance(found, ValidPipeline), found
    return found


def until(condition: Callable[[], object], tell: Callable[[], str], seconds: float = _SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.1)


def command_line(pid: int) -> str:
    """The arguments of a running process, as all users of the machine can read them."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
