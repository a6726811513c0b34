"""What moves while the stream runs: the sender of the events, the runs of silver and gold, and who watches them all."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import to_json
from lakehouse_contract.settings import RunSettings
from lakehouse_operator.local import spark
from lakehouse_operator.local.demo.screen import Progress, Screen
from lakehouse_operator.local.demo.world import DemoFailed, World
from lakehouse_operator.local.flink_rest import TERMINAL, FlinkRest
from lakehouse_operator.local.topics import LiveCount
from lakehouse_operator.planning import job_settings
from lakehouse_operator.planning.pipeline import BatchStageName
from lakehouse_operator.reference.produce import Sent, generate_to_kafka
from lakehouse_operator.reference.traffic import Traffic

_SPARK_SECONDS = 900.0
_QUIET_SECONDS = 300.0


class Sender:
    """Sends the stream of events from a thread, and the truth about it to files."""

    def __init__(self, world: World, traffic: Traffic, rate: float, truth: Path) -> None:
        self.sent = 0
        self.result: Sent | None = None
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._arguments: Mapping[str, Any] = {
            "bootstrap_servers": world.broker.bootstrap_servers,
            "topic": world.topic,
            "truth_directory": truth,
            "rate": rate,
        }
        self._traffic = traffic
        # A daemon, so that a client that waits for a dead broker can't keep the program alive.
        self._thread = threading.Thread(target=self._send, name="sender", daemon=True)

    def _send(self) -> None:
        try:
            self.result = generate_to_kafka(self._traffic, stop=self._stop, progress=self._progress, **self._arguments)
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is asked for
            self._error = error

    def _progress(self, sent: int) -> None:
        self.sent = sent

    def done(self) -> bool:
        """Whether everything has been sent.

        Raises:
            SendingFailed: Kafka did not take a record.
        """
        if self._thread.is_alive():
            return False
        if self._error:
            raise self._error
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


@dataclass(slots=True)
class Batch:
    """The runs of a batch stage, one at a time; `logged` ones can be looked at afterwards in Spark's history server."""

    world: World
    stage: BatchStageName
    say: Callable[[str], None]
    logged: bool = False
    finished: list[spark.Outcome] = field(default_factory=list)
    _number: int = 0
    _running: spark.SparkRun | None = None

    @property
    def running(self) -> bool:
        """Whether a run is going on; looks at it and notes its end.

        Raises:
            ProcessFailed: The run has failed.
        """
        if self._running is None:
            return False
        outcome = self._running.outcome()
        if outcome is None:
            return True
        if outcome.exit_code != ExitCode.SUCCEEDED:
            problems = "; ".join(outcome.result.get("problems", ())) or "it did not say why"
            raise self._running.process.failure(f"failed with exit code {_named(outcome.exit_code)}: {problems}")
        self.finished.append(outcome)
        self._running = None
        self.say(f"{self.stage} run {self._number}: {_summary(outcome.result)}, {outcome.seconds:.0f} s")
        return False

    def start(self) -> None:
        """Start the next run."""
        self._number += 1
        name = f"{self.stage}-{self._number}"
        pipeline = self.world.pipeline
        run = RunSettings(id=f"demo-{name}", revision=job_settings.revision(pipeline, self.stage))
        build = job_settings.silver_settings if self.stage == "silver" else job_settings.gold_settings
        self._running = spark.submit(
            self.world.processes,
            self.world.engines,
            self.world.directory.spark,
            name=name,
            script=self.world.engines.jobs / "lakehouse_jobs" / f"{self.stage}.py",
            arguments=["--settings", to_json(build(pipeline, run))],
            logged=self.logged,
        )

    def told(self) -> str:
        """What the stage is doing, in words."""
        if self._running is not None:
            return f"run {self._number} is running"
        return f"{len(self.finished)} runs done" if self.finished else "waiting"


def _summary(result: Mapping[str, Any]) -> str:
    """What a run did, from the line that it ended with."""
    if "models" in result:
        return f"{len(result['models'])} models"
    totals = {
        what: sum(table[key] for table in result.get("tables", ()))
        for what, key in (("read", "rowsRead"), ("wrote", "rowsWritten"), ("quarantined", "rowsQuarantined"))
    }
    return ", ".join(f"{what} {total:,}" for what, total in totals.items())


def _named(code: int) -> str:
    with suppress(ValueError):
        return f"{code} ({ExitCode(code).name.lower().replace('_', ' ')})"
    return str(code)


@dataclass(slots=True)
class Watch:
    """Looks at everything that moves while the stream runs."""

    world: World
    job: str
    sender: Sender
    silver: Batch
    gold: Batch
    dead_letters: LiveCount
    screen: Screen
    expected: int

    def look(self) -> Progress:
        """See how far everything has come, and show it.

        Raises:
            DemoFailed: The stream has ended.
            ProcessFailed: A process has ended, or a run has failed.
        """
        rest, world = self.world.flink.rest, self.world
        _refuse_ended(rest, self.job)
        self.silver.running, self.gold.running  # noqa: B018 - a failed run is noticed here
        seen = Progress(
            produced=self.sender.sent,
            expected=self.expected,
            bronze=world.catalog.rows_of_summary(world.pipeline.bronze_table),
            dead_letters=self.dead_letters.now(),
            lag=world.lag(),
            watermark=rest.watermark(self.job),
            silver=self.silver.told(),
            gold=self.gold.told(),
        )
        self.screen.show(seen)
        return seen

    def until_sent(self) -> None:
        """Watch until everything is sent; silver runs whenever bronze has something new."""
        bronze_at_last_start = 0
        while not self.sender.done():
            seen = self.look()
            if not self.silver.running and seen.bronze > bronze_at_last_start:
                bronze_at_last_start = seen.bronze
                self.silver.start()
            time.sleep(0.3)

    def until_complete(self) -> None:
        """Watch until bronze holds everything that was sent.

        All offsets are committed by the consumer group, and the Iceberg commit of the checkpoint that committed them is
        in: either the table's newest commit names a checkpoint that is not older, or a later checkpoint is complete
        (then there was nothing more to commit; the sink leaves empty commits out).

        Raises:
            DemoFailed: Nothing has moved for minutes.
        """
        rest, table = self.world.flink.rest, self.world.pipeline.bronze_table
        deadline, last = time.monotonic() + _QUIET_SECONDS, -1
        while (seen := self.look()).lag > 0:
            if seen.lag != last:
                deadline, last = time.monotonic() + _QUIET_SECONDS, seen.lag
            elif time.monotonic() > deadline:
                raise DemoFailed(f"{seen.lag} records were not committed for {_QUIET_SECONDS:g} s; see {self._logs()}")
            time.sleep(0.3)
        covering = rest.last_checkpoint(self.job)
        while self.world.catalog.committed_checkpoint(table) < covering >= rest.last_checkpoint(self.job):
            self.look()
            if time.monotonic() > deadline:
                raise DemoFailed(f"no checkpoint for {_QUIET_SECONDS:g} s; see {self._logs()}")
            time.sleep(0.3)

    def until_done(self, batch: Batch) -> None:
        """Watch until a stage's run has ended, if one is going on."""
        deadline = time.monotonic() + _SPARK_SECONDS
        while batch.running:
            self.look()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{batch.stage} still ran after {_SPARK_SECONDS:g} s; see {self._logs()}")
            time.sleep(0.3)

    def _logs(self) -> Path:
        return self.world.directory.logs


def _refuse_ended(rest: FlinkRest, job: str) -> None:
    state = rest.state(job)
    if state in TERMINAL:
        why = (rest.root_exception(job) or "without an exception").splitlines()
        raise DemoFailed(f"the bronze job is {state}: {why[0]}")
