"""One catalog, from a pipeline's spec on: what the bronze job, the silver job and the operator make of it."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.fs
import pyarrow.parquet
from confluent_kafka import Producer
from pyiceberg.table import Table

from catalogs import servers
from catalogs.machine import AWS_KEYS, Machine
from catalogs.servers import Server, Store
from lakehouse_contract.commits import FLINK_JOB_ID
from lakehouse_contract.decoding import encode, to_json
from lakehouse_contract.settings import RunSettings
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.local import flink
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning import job_settings, secrets
from lakehouse_operator.planning.pipeline import BatchStageName, ValidPipeline
from lakehouse_operator.planning.validate import validate

BRONZE, SILVER, PEOPLE, DAILY, LATEST = "bronze.events", "silver.events", "silver.people", "gold.daily", "gold.latest"
LATEST_SQL = f"SELECT version_id, who, plan, valid_from FROM {PEOPLE} WHERE is_current"
DAILY_SQL = (
    f"SELECT to_date(event_time) AS day, count(*) AS events, sum(amount) AS amount FROM {SILVER} GROUP BY 1",
    f"SELECT to_date(event_time) AS day, count(*) AS events, max(amount) AS largest FROM {SILVER} GROUP BY 1",
)
"""What the model by day is, and what it becomes: with another column, so that its table is made anew."""
MANIFESTS_ALONE = {"compaction": {"minInputFiles": 10_000}, "expiry": {"enabled": False}}
EVERYTHING = {
    "compaction": {"minInputFiles": 2, "minAge": "1s"},
    "expiry": {"retention": "1m", "keepSnapshots": 1, "orphanRetention": "3d"},
}
WHO = ("ann", "bob", "cy", "dee", "eve")
_SECONDS = 300.0
_SETTINGS: Mapping[BatchStageName, Callable[[ValidPipeline, RunSettings], Any]] = {
    "silver": job_settings.silver_settings,
    "gold": job_settings.gold_settings,
    "maintenance": job_settings.maintenance_settings,
}


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
        self._spec = self._first_spec()
        self.pipeline = self._valid()
        self.settings = job_settings.bronze_settings(self.pipeline)
        self.environment = self._environment(kind.secret)
        self.observer = Observer()
        self.topics = Topics(machine.broker.bootstrap_servers)
        self.topics.create(self.settings.kafka.topic, partitions=1, timestamps="CreateTime")
        self.topics.create(self.settings.dead_letter_topic, partitions=1, timestamps="LogAppendTime")
        self.produced = 0
        self.days: set[str] = set()
        self.files = kind.store or servers.Disk()
        self._runs = 0

    def _first_spec(self) -> dict[str, Any]:
        kind, store = self.kind, self.kind.store
        where = f"s3://{store.bucket}/{kind.name}" if store else self.directory.as_uri()
        text = {name: {"name": name, "type": "string"} for name in ("who", "plan")}
        spec: dict[str, Any] = {
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
                "timeout": "1m",  # no snapshot is kept for less
                "columns": [
                    {"name": "amount", "type": "long", "path": "$.amount", "required": True},
                    *({**column, "path": f"$.{name}"} for name, column in text.items()),
                ],
                "tables": [
                    {
                        "name": SILVER,
                        "columns": [
                            {"name": "amount", "type": "long", "expression": "amount"},
                            *({**column, "expression": name} for name, column in text.items()),
                        ],
                    }
                ],
                "dimensions": [{"name": PEOPLE, "source": SILVER, "key": "who", "tracked": ["plan"]}],
            },
            "gold": {
                "timeout": "1m",
                "models": [
                    {"name": LATEST, "kind": "full", "sql": LATEST_SQL},
                    {"name": DAILY, "kind": "incrementalByDay", "dayColumn": "day", "sql": DAILY_SQL[0]},
                ],
            },
            "maintenance": MANIFESTS_ALONE,
        }
        if kind.secret:
            spec["catalog"]["secretRef"] = {"name": "catalog"}
        if kind.compression:
            spec["bronze"]["compression"] = kind.compression
        if store:
            spec["storage"] = {"endpoint": store.endpoint, "pathStyleAccess": True, "secretRef": {"name": "storage"}}
        return spec

    def _valid(self) -> ValidPipeline:
        found = validate(
            {
                "apiVersion": "lakehouse.dev/v1alpha1",
                "kind": "LakehousePipeline",
                "metadata": {"name": self.kind.name, "namespace": "default"},
                "spec": self._spec,
            }
        )
        assert isinstance(found, ValidPipeline), found
        return found

    def other_gold(self) -> None:
        """Change what the model by day computes."""
        self._spec["gold"]["models"][1]["sql"] = DAILY_SQL[1]
        self.pipeline = self._valid()

    def other_maintenance(self) -> None:
        """Have all of maintenance done, not the manifests alone."""
        self._spec["maintenance"] = EVERYTHING
        self.pipeline = self._valid()

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

    def produce(self, count: int, plan: str = "free") -> None:
        """Send further events, in turn of each of the people, who all have this plan now."""
        producer = Producer({"bootstrap.servers": self.machine.broker.bootstrap_servers, "linger.ms": 5})
        for number in range(self.produced, self.produced + count):
            now = datetime.now(UTC).isoformat()  # noqa: TID251 - as a producer does
            event = {"event_id": f"e{number}", "event_time": now, "amount": number, "who": WHO[number % len(WHO)]}
            producer.produce(self.settings.kafka.topic, json.dumps({**event, "plan": plan}).encode())
            self.days.add(now[:10])
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

    def sql(self, text: str) -> str:
        """A query with the catalog before each table, as it must be where a namespace has the catalog's name."""
        return re.sub(r"\b(bronze|silver|gold)\.", rf"{self.settings.catalog.name}.\1.", text)

    def settings_of(
        self, stage: BatchStageName, run: str | None = None, *, days: Mapping[str, str] | None = None
    ) -> str:
        """What the next run of a stage is told, or that of this name; `days` is what it is to compute again."""
        if run is None:
            self._runs += 1
            run = f"{self.kind.name}-{self._runs}"
        wanted: dict[str, Any] = {
            "pipelineRef": {"name": self.kind.name},
            "stage": stage,
            "revision": job_settings.revision(self.pipeline, stage),
        }
        spec = RunSpec.from_raw({**wanted, **({"days": dict(days)} if days else {})})
        return to_json(_SETTINGS[stage](self.pipeline, job_settings.run_settings(run, spec)))

    # --- pyiceberg

    def look(self, *, environment: Mapping[str, str] | None = None, savepoints: tuple[str, ...] = ()) -> Look:
        """What the operator looks at."""
        given = self.environment if environment is None else environment
        return Look(
            settings=self.settings, secrets=given, tables=(BRONZE, SILVER, PEOPLE, DAILY), savepoints=savepoints
        )

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

    def written(self) -> tuple[str, ...]:
        """The tables of the pipeline that are there by now."""
        catalog = self.observer.catalog(self.look())
        return tuple(name for name in job_settings.written_tables(self.pipeline) if catalog.table_exists(name))

    def contents(self, name: str) -> list[str]:
        """Every row of a table."""
        return sorted(map(repr, self.table(name).scan().to_arrow().to_pylist()))

    def stored(self, name: str) -> set[str]:
        """The files in a table's folder."""
        folder = pyarrow.fs.FileSelector(path_of(self.table(name).location()), recursive=True)
        found = self.files.filesystem.get_file_info(folder)
        # Hadoop has a hidden file with a checksum beside each file of a local folder.
        return {each.path for each in found if each.is_file and not each.base_name.startswith(".")}

    def known(self, name: str) -> set[str]:
        """The files that a table's metadata name: what is needed to read each of its snapshots, and older metadata."""
        table = self.table(name)
        manifests = {
            manifest.manifest_path: manifest
            for snapshot in table.snapshots()
            for manifest in snapshot.manifests(table.io)
        }
        entries = [entry for each in manifests.values() for entry in each.fetch_manifest_entry(table.io)]
        found = {
            table.metadata_location,
            *(each.metadata_file for each in table.metadata.metadata_log),
            *(each.manifest_list for each in table.snapshots()),
            *manifests,
            *(each.data_file.file_path for each in entries),
        }
        return {path_of(location) for location in found}

    def age(self, tables: Iterable[str], age: timedelta) -> None:
        """Make all files of these tables so old."""
        moment = datetime.now(UTC) - age  # noqa: TID251 - by the clock of the stores
        paths = [path for name in tables for path in self.stored(name)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: self.files.age(path, moment), paths))

    def leave_behind(self, name: str, file: str) -> str:
        """Put a file beside the data of a table, as a job does that dies before its commit; answers its path."""
        some = next(iter(self.table(name).scan().plan_files())).file.file_path
        path = f"{path_of(some).rpartition('/')[0]}/{file}"
        with self.files.filesystem.open_output_stream(path) as stream:
            stream.write(b"of a job that died")
        return path

    def codecs(self, name: str) -> set[str]:
        """The codecs of all columns in all files of a table's head."""
        table = self.table(name)
        found = set()
        for task in table.scan().plan_files():
            with table.io.new_input(task.file.file_path).open() as file:
                group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
            found |= {group.column(number).compression for number in range(group.num_columns)}
        return found


def path_of(location: str) -> str:
    """What the store calls a file that metadata name by its URI."""
    scheme, _, rest = location.partition(":")
    return ("/" if scheme == "file" else "") + rest.lstrip("/")


def until(condition: Callable[[], object], tell: Callable[[], str], seconds: float = _SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.1)


def command_line(pid: int) -> str:
    """The arguments of a running process, as all users of the machine can read them."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
