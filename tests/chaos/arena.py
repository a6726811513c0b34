"""A pipeline on real engines of this machine with events flowing through it, and what can be seen of it from outside.

The operator of the world runs as in `lakehouse local up`: it starts again whatever is killed. Checkpoints are a second
apart and waits are short, so that a minute holds many faults; nothing else of the pipeline is special.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from chaos import store as stores
from chaos.store import Store
from lakehouse_contract.commits import FLINK_JOB_ID, FLINK_MAX_COMMITTED_CHECKPOINT_ID
from lakehouse_contract.decoding import to_json
from lakehouse_contract.settings import CompactionSettings, ExpirySettings, RunSettings
from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN
from lakehouse_operator.local import ports, spark
from lakehouse_operator.local import world as worlds
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import FlinkRefused, FlinkRest
from lakehouse_operator.local.processes import Processes, Record, alive, recorded
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.local.world import NAMESPACE, World
from lakehouse_operator.observation.observe import Look
from lakehouse_operator.observation.verify import Asked, verify
from lakehouse_operator.planning import names
from lakehouse_operator.planning.job_settings import bronze_settings, catalog_settings, maintenance_settings
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION
from lakehouse_operator.planning.verification import Verdict
from lakehouse_operator.reference import oracle
from lakehouse_operator.reference.oracle import Check
from lakehouse_operator.reference.produce import generate_to_kafka
from lakehouse_operator.reference.topics import first_of_each, read_dead_letters, read_produced
from lakehouse_operator.reference.traffic import HOUR_MS, Traffic
from lakehouse_operator.tables.catalog import open_catalog

NAME = "roman-numerals"
TOPIC = "roman-numeral-events"
BRONZE = "bronze.conversion_events"
SILVER = ("silver.conversions", "silver.conversions_quarantine", "silver.dim_users")
BUSY_SECONDS = 3.0
"""How long Iceberg waits for a locked catalog before its commit fails."""
EVENTS_A_SECOND = 120.0
FIRST_MS = 1_769_817_600_000
"""Events begin with the last day of January 2026."""
_PATIENCE_SECONDS = 400.0
_LOOK_SECONDS = 0.2
_RUNNING = ("Running", "Soaking")
_SENDER = {"log_level": "2", "max.in.flight.requests.per.connection": "1"}
"""A killed broker may remember only the last batch of a producer: that one alone it knows again when it comes twice."""
_QUICK: dict[str, Any] = {
    "interval": "1s",
    "restart": {"attempts": 10_000, "delay": "1s", "recovery": {"retries": 1000, "backoff": "1s", "maxBackoff": "2s"}},
    "upgrade": {"soak": {"duration": "0s"}, "rollback": "manual"},
    "retry": {"infrastructure": 1000, "code": 0, "backoff": "1s", "maxBackoff": "1s"},
    "never": "0 0 29 2 *",
}


class Broken(AssertionError):
    """The pipeline is not what it promised to be, or did not become well in time."""


@dataclass
class Arena:
    """A world under fire.

    Attributes:
        processes: Who ends everything with this program.
        seed: Of the events.
        store: Where the tables' files are; None for a folder of the world.
        say: Takes a line about what goes on.
        rewound: Whether the stream went back to a savepoint, after which Kafka holds some dead letters twice.
    """

    engines: Engines
    directory: WorldDirectory
    processes: Processes
    seed: int = 0
    store: Store | None = None
    say: Callable[[str], None] = lambda _: None
    rewound: bool = False
    spec: dict[str, Any] = field(default_factory=dict)
    events: "Events | None" = None
    groups: int = 0
    runs: int = 0

    def start(self) -> None:
        """Start the world, apply the pipeline and wait until it runs."""
        worlds.start(self.engines, self.directory, self.processes)
        self.spec = self.world.load(self.engines.root / "examples" / "roman-numerals.yaml")
        _make_quick(self.spec["spec"])
        if self.store is not None:
            _put_on_s3(self.spec["spec"], self.store)
        self.apply()
        self.until(lambda: self.status.get("stream", {}).get("state") in _RUNNING, "the stream runs")

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        return worlds.find(self.engines, self.directory)

    @property
    def pipeline(self) -> ValidPipeline:
        return worlds.check(self.spec)

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.world.pipeline(NAME).get("status", {})
        return status

    @property
    def rest(self) -> FlinkRest:
        """Flink's REST interface.

        Raises:
            OSError: There is none now.
        """
        url = self.world.flink_url(NAME)
        if url is None:
            raise OSError("there is no JobManager")
        return FlinkRest(url)

    def running_job(self) -> str | None:
        """The id of the job, if all its tasks run."""
        try:
            rest = self.rest
            running = [job for job, state in rest.jobs().items() if state == "RUNNING"]
            return running[0] if len(running) == 1 and rest.all_tasks_running(running[0]) else None
        except (OSError, FlinkRefused):
            return None

    def completed_checkpoint(self) -> int:
        """The newest checkpoint that the running job has completed; 0 where that can't be told."""
        try:
            rest = self.rest
            running = [job for job, state in rest.jobs().items() if state == "RUNNING"]
            return rest.last_checkpoint(running[0]) if running else 0
        except (OSError, FlinkRefused):
            return 0

    def process(self, name: str) -> Record | None:
        """A process of the world by its name."""
        found = [each for _, each in self._recorded() if each.name == name and alive(each)]
        return found[0] if found else None

    def driver(self) -> Record | None:
        """The driver of the silver run that goes on."""
        marks = f"{NAME}-silver-"
        found = [each for _, each in self._recorded() if each.name.startswith(marks) and alive(each)]
        return found[0] if found else None

    def _recorded(self) -> list[tuple[Path, Record]]:
        try:
            return recorded(self.directory.records)
        except (FileNotFoundError, ValueError):
            return []  # one of them ends at this moment

    @contextmanager
    def tables(self) -> Iterator[Catalog]:
        """The catalog, as the operator opens it."""
        catalog = open_catalog(catalog_settings(self.pipeline.spec), {})
        try:
            yield catalog
        finally:
            catalog.close()

    @contextmanager
    def bronze(self) -> Iterator[Table]:
        """The bronze table, read afresh."""
        with self.tables() as tables:
            yield tables.load_table(BRONZE)

    def committed(self, job: str) -> int:
        """The newest checkpoint of a job whose rows are in bronze; 0 where there is none, or it can't be read now."""
        try:
            with self.bronze() as table:
                snapshot = table.current_snapshot()
                while snapshot is not None:
                    told = snapshot.summary.additional_properties if snapshot.summary else {}
                    if FLINK_JOB_ID in told:
                        return int(told[FLINK_MAX_COMMITTED_CHECKPOINT_ID]) if told[FLINK_JOB_ID] == job else 0
                    parent = snapshot.parent_snapshot_id
                    snapshot = table.snapshot_by_id(parent) if parent is not None else None
        except (NoSuchTableError, OSError):
            pass
        return 0

    def locations(self) -> dict[str, str]:
        """The metadata file of each table that the catalog calls current."""
        with closing(sqlite3.connect(self.directory.catalog, timeout=10)) as connection:
            rows = connection.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables")
            return {f"{namespace}.{name}": str(location) for namespace, name, location in rows}

    def unreferenced_metadata(self, table: str) -> set[str]:
        """Metadata files of a table that are newer than the one that the catalog calls current."""
        current = self._file(self.locations()[table])
        written = current.stat().st_mtime_ns
        files = current.parent.glob("*.metadata.json")
        return {each.name for each in files if each.name != current.name and each.stat().st_mtime_ns > written}

    def data_files(self, namespace: str) -> int:
        """How many data files lie there, those that no snapshot knows among them."""
        warehouse = self._file(self.spec["spec"]["catalog"]["warehouse"])
        return sum(1 for _ in (warehouse / namespace).glob("*/data/**/*.parquet"))

    def _file(self, location: str) -> Path:
        if self.store is not None:
            return self.store.path_of(location)
        return Path("/" + location.removeprefix("file:").lstrip("/"))

    # --- what a person does -------------------------------------------------------------------------------------------

    def apply(self, **bronze: Any) -> None:
        """Apply the pipeline, with some fields of bronze changed."""
        for name, value in bronze.items():
            self.spec["spec"]["bronze"][name] = value
        self.world.apply(self.spec)

    def annotate(self, purpose: str, annotation: str, value: str) -> None:
        """Ask for something as `lakehouse` and `kubectl annotate` do."""
        metadata = {"name": NAME, "namespace": NAMESPACE, "annotations": {annotation: value}}
        manifest = {"apiVersion": LAKEHOUSE_PIPELINE.api_version, "kind": LAKEHOUSE_PIPELINE.name, "metadata": metadata}
        asyncio.run(worlds.cluster_of(self.directory).seen_by(f"lakehouse-{purpose}").apply(manifest))

    def restore(self, point: str) -> None:
        """Ask for a rewind."""
        self.rewound = True
        self.annotate("restore", RESTORE_ANNOTATION, f"{point}/{time.time_ns()}")

    def run_silver(self, **spec: Any) -> str:
        """Ask for a run of silver; answers its name."""
        self.runs += 1
        name = f"{NAME}-silver-by-hand-{self.runs}"
        manifest = {
            "apiVersion": LAKEHOUSE_RUN.api_version,
            "kind": LAKEHOUSE_RUN.name,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {names.PIPELINE_LABEL: NAME}},
            "spec": {"pipelineRef": {"name": NAME}, "stage": "silver", "reason": "manual", **spec},
        }
        asyncio.run(self.world.cluster.create_once(manifest))
        return name

    def phase(self, run: str) -> str:
        """How a run is."""
        try:
            found = asyncio.run(self.world.cluster.read(LAKEHOUSE_RUN, NAMESPACE, run))
        except NotFound:
            return "Pending"
        return str(found.get("status", {}).get("phase", "Pending"))

    def unfinished_runs(self) -> list[str]:
        """The runs that are not over."""
        asked = [f"{NAME}-silver-by-hand-{number + 1}" for number in range(self.runs)]
        return [run for run in asked if self.phase(run) not in ("Succeeded", "Failed")]

    def upkeep(self) -> dict[str, Any]:
        """Compact, and remove every snapshot that nobody needs: the job of the maintenance stage; what it says."""
        pipeline = self.pipeline
        settings = replace(
            maintenance_settings(pipeline, RunSettings(id=f"upkeep-{time.monotonic_ns()}")),
            compaction=CompactionSettings(min_age_seconds=0, min_input_files=2),
            expiry=ExpirySettings(retention_seconds=0, keep_snapshots=1),
        )
        directory = self.directory.root / "upkeep"
        run = spark.submit(
            self.processes, self.engines, directory, name=f"upkeep-{time.monotonic_ns()}",
            script=self.engines.jobs / "lakehouse_jobs" / "maintenance.py",
            arguments=["--settings", to_json(settings)], options={"spark.sql.session.timeZone": "UTC"},
        )  # fmt: skip
        outcome = run.wait(_PATIENCE_SECONDS)
        if outcome.exit_code:
            raise Broken(f"maintenance ended with {outcome.exit_code}: {run.process.written()[-2000:]}")
        return dict(outcome.result)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], what: str, *, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for a condition.

        Raises:
            Broken: It did not come true in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Broken(f"not within {seconds:g} s: {what}\n{self.status}\n{self._log('operator')}")
            time.sleep(_LOOK_SECONDS)

    def until_well(self, *killed: int) -> None:
        """Wait until all that was killed is there again, all tasks run, and bronze has rows that were read since."""

        def all_there() -> bool:
            records = [self.process(name) for name in ("kafka", "flink-jobmanager", "flink-taskmanager")]
            there = all(each is not None and each.process.pid not in killed for each in records)
            host, _, port = self.world.bootstrap_servers.rpartition(":")
            return there and ports.listening(host, int(port)) and self.running_job() is not None

        self.until(all_there, "all processes are there and all tasks run")
        reached = self.completed_checkpoint()

        def goes_on() -> bool:
            # The one after the newest may have begun before all was there.
            job = self.running_job()
            return job is not None and self.committed(job) > reached + 1

        self.until(goes_on, "bronze gets rows")

    def _log(self, name: str) -> str:
        log = self.directory.logs / f"{name}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    # --- events, and the verdict --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let events flow: a new group of them, with a truth of its own."""
        traffic = Traffic(
            seed=1000 * self.seed + self.groups,
            end_ms=FIRST_MS + (self.groups + 1) * 12 * HOUR_MS,
            span_ms=12 * HOUR_MS,
            events=1_000_000,
            partitions=worlds.PARTITIONS,
            users=300,
            repeated=0.05,
            malformed=0.04,
            too_late=0.02,
            max_repeat_gap_ms=30_000,
        )
        self.events = Events(self.world.bootstrap_servers, traffic, self.directory.root / "truth" / f"{self.groups}")
        self.groups += 1

    def settle(self) -> None:
        """Stop the events, and wait until bronze has read them all and no run is left."""
        if self.events is not None:
            self.events.finish()
            self.events = None
        topics = Topics(self.world.bootstrap_servers)
        group = self.pipeline.consumer_group
        self.until(lambda: topics.committed(group, TOPIC) == topics.ends(TOPIC), "bronze has read everything")
        self.until(lambda: not self.unfinished_runs(), "no run is left")

    def catch_up_silver(self) -> None:
        """Let silver take all that bronze holds."""
        run = self.run_silver()
        self.until(lambda: not self.unfinished_runs(), "silver has caught up")
        if self.phase(run) != "Succeeded":
            raise Broken(f"silver's run {run} is {self.phase(run)}")

    def verify(self) -> Verdict:
        """What `lakehouse verify` says about all offsets; it looks again for what is being committed."""
        return verify(Look(settings=bronze_settings(self.pipeline)), Asked(), grace=60.0)

    def judge(self, *, with_silver: bool) -> Sequence[Check]:
        """What the oracle says about bronze and the dead letters, over all offsets, and about silver if asked for.

        The stream must have settled, and have been verified: then everything is committed.
        """
        if with_silver:
            self.catch_up_silver()
        connection = {"bootstrap.servers": self.world.bootstrap_servers}
        letters = read_dead_letters(connection, self.pipeline.dead_letter_topic)
        with self.tables() as tables, oracle.connect() as database:
            relations = {"bronze": BRONZE}
            if with_silver:
                relations |= dict(zip(("conversions", "conversions_quarantine", "dim_users"), SILVER, strict=True))
            oracle.load(
                database,
                truth=self.directory.root / "truth" / "*" / "truth-*.parquet",
                produced=read_produced(connection, TOPIC),
                dead_letters=first_of_each(letters) if self.rewound else letters,
                **{relation: tables.load_table(table).scan().to_arrow() for relation, table in relations.items()},
            )
            oracle.prepare(database, oracle.Lateness())
            checks = [*oracle.check_bronze(database)]
            if with_silver:
                checks += [*oracle.check_silver(database), *oracle.check_users(database)]
            return checks


def prove(arena: Arena, *, with_silver: bool = False) -> None:
    """Let it settle, and prove it: by `lakehouse verify`, and by the oracle, which shares no code with the jobs.

    Raises:
        Broken: Something is lost, doubled or wrong.
    """
    arena.settle()
    verdict = arena.verify()
    if verdict.outcome != "proven":
        raise Broken(f"{verdict.outcome}: {verdict.counts}\n{verdict.findings}\n{verdict.remarks}")
    failed = [check.report() for check in arena.judge(with_silver=with_silver) if not check.passed]
    if failed:
        raise Broken("\n".join(failed))


class Events:
    """Sends events at a steady pace until it is told to finish; a broker that is away is waited for."""

    def __init__(self, bootstrap_servers: str, traffic: Traffic, truth: Path) -> None:
        self.sent = 0
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._send, args=(bootstrap_servers, traffic, truth), daemon=True)
        self._thread.start()

    def _send(self, bootstrap_servers: str, traffic: Traffic, truth: Path) -> None:
        try:
            sent = generate_to_kafka(
                traffic, bootstrap_servers=bootstrap_servers, topic=TOPIC, truth_directory=truth, rate=EVENTS_A_SECOND,
                stop=self._stop, client=_SENDER,
            )  # fmt: skip
            self.sent = sent.records
        except BaseException as error:
            self._error = error

    def finish(self) -> int:
        """Stop, and wait until Kafka has everything; answers how many were sent."""
        self._stop.set()
        self._thread.join(180)
        if self._thread.is_alive():
            raise Broken("Kafka did not take the last events")
        if self._error is not None:
            raise self._error
        return self.sent


def _make_quick(spec: dict[str, Any]) -> None:
    spec["catalog"]["properties"] = {"jdbc.busy_timeout": str(int(1000 * BUSY_SECONDS))}
    bronze = spec["bronze"]
    bronze["checkpoint"] |= {"interval": _QUICK["interval"]}
    # A savepoint by schedule, taken at the very start, would keep every snapshot since.
    bronze |= {"restart": _QUICK["restart"], "upgrade": _QUICK["upgrade"], "recoveryPoints": {"interval": "0s"}}
    spec["silver"] |= {"schedule": _QUICK["never"], "retry": _QUICK["retry"], "catchUp": {"policy": "none"}}
    del spec["gold"]
    spec["maintenance"] = {"schedule": _QUICK["never"]}


def _put_on_s3(spec: dict[str, Any], store: Store) -> None:
    """Tables on the store; checkpoints stay files, so that only what this project writes is in question."""
    spec["storage"] = {"endpoint": store.url, "region": "us-east-1", "pathStyleAccess": True}
    spec["catalog"]["warehouse"] = f"s3://{stores.BUCKET}/warehouse"
    spec["catalog"]["properties"] |= stores.IMPATIENCE
