"""What moves while the stream runs: the sender of the events, the runs of silver and gold, and who watches them all."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaException

from lakehouse_operator.cluster.kinds import LAKEHOUSE_RUN
from lakehouse_operator.local import spark
from lakehouse_operator.local import world as worlds
from lakehouse_operator.local.demo.screen import Progress, Screen
from lakehouse_operator.local.demo.world import DemoFailed, World
from lakehouse_operator.local.flink_rest import FlinkRefused
from lakehouse_operator.local.topics import LiveCount
from lakehouse_operator.planning import names
from lakehouse_operator.planning.pipeline import BatchStageName
from lakehouse_operator.reference.produce import Sent, generate_to_kafka
from lakehouse_operator.reference.traffic import Traffic

_SPARK_SECONDS = 900.0
_QUIET_SECONDS = 300.0
_PAUSE_SECONDS = 0.4


class Sender:
    """Sends the stream of events from a thread, and the truth about it to files."""

    def __init__(self, world: World, traffic: Traffic, rate: float, truth: Path) -> None:
        self.sent = 0
        self.result: Sent | None = None
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._arguments: Mapping[str, Any] = {
            "bootstrap_servers": world.bootstrap_servers,
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
    """The runs of a batch stage, one at a time: LakehouseRuns, as a person creates them."""

    world: World
    stage: BatchStageName
    say: Callable[[str], None]
    finished: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)
    _number: int = 0
    _running: str | None = None
    _began: float = 0.0

    @property
    def running(self) -> bool:
        """Whether a run is going on; looks at it and notes its end.

        Raises:
            DemoFailed: The run has failed.
        """
        if self._running is None:
            return False
        status = self._status(self._running)
        phase, attempts = status.get("phase"), status.get("attempts", ())
        if phase == "Failed":
            why = attempts[-1].get("message") if attempts else "nothing was tried"
            raise DemoFailed(f"{self._running} failed: {why}; see {self.world.directory.logs}")
        if phase != "Succeeded":
            return True
        self.result = spark.result_of(self.world.directory.spark, attempts[-1]["application"])
        self._running, self.finished = None, self.finished + 1
        self.say(f"{self.stage} run {self._number}: {_summary(self.result)}, {time.monotonic() - self._began:.0f} s")
        return False

    def start(self) -> None:
        """Start the next run."""
        self._number += 1
        pipeline = self.world.pipeline
        self._running, self._began = f"{pipeline.name}-{self.stage}-demo-{self._number}", time.monotonic()
        manifest = {
            "apiVersion": LAKEHOUSE_RUN.api_version,
            "kind": LAKEHOUSE_RUN.name,
            "metadata": {
                "name": self._running,
                "namespace": worlds.NAMESPACE,
                "labels": {names.PIPELINE_LABEL: pipeline.name},
            },
            "spec": {"pipelineRef": {"name": pipeline.name}, "stage": self.stage, "reason": "manual"},
        }
        asyncio.run(self.world.world.cluster.create_once(manifest))

    def _status(self, name: str) -> Mapping[str, Any]:
        found = asyncio.run(self.world.world.cluster.read(LAKEHOUSE_RUN, worlds.NAMESPACE, name))
        status: Mapping[str, Any] = found.get("status", {})
        return status

    def has_come_to(self, snapshot: int | None) -> bool:
        """Whether the last run took everything up to a snapshot of its source."""
        tables = self.result.get("tables", ())
        return bool(tables) and all(table.get("upto") == snapshot for table in tables)

    def told(self) -> str:
        """What the stage is doing, in words."""
        if self._running is not None:
            return f"run {self._number} is running"
        return f"{self.finished} runs done" if self.finished else "waiting"


def _summary(result: Mapping[str, Any]) -> str:
    """What a run did, from the line that it ended with."""
    if "models" in result:
        return f"{len(result['models'])} models"
    totals = {
        what: sum(table.get(key, 0) for table in result.get("tables", ()))
        for what, key in (("read", "rowsRead"), ("wrote", "rowsWritten"), ("quarantined", "rowsQuarantined"))
    }
    return ", ".join(f"{what} {total:,}" for what, total in totals.items())


@dataclass(slots=True)
class Watch:
    """Looks at everything that moves while the stream runs."""

    world: World
    sender: Sender
    silver: Batch
    gold: Batch
    dead_letters: LiveCount
    screen: Screen
    expected: int
    _last_lag: int = 0

    def look(self) -> Progress:
        """See how far everything has come, and show it. What does not answer just now is seen the next time.

        Raises:
            DemoFailed: The stream needs a person, or a run has failed.
            ProcessFailed: The operator has ended.
        """
        self.world.status()
        self.silver.running, self.gold.running  # noqa: B018 - a failed run is noticed here
        seen = Progress(
            produced=self.sender.sent,
            expected=self.expected,
            bronze=self.world.catalog.rows_of_summary(self.world.pipeline.bronze_table),
            dead_letters=self.dead_letters.now(),
            lag=self._lag(),
            watermark=self._watermark(),
            silver=self.silver.told(),
            gold=self.gold.told(),
        )
        self.screen.show(seen)
        return seen

    def _lag(self) -> int:
        with suppress(KafkaException):
            self._last_lag = self.world.lag()
        return self._last_lag

    def _watermark(self) -> int | None:
        with suppress(OSError, FlinkRefused):
            if found := self.world.job():
                return found[0].watermark(found[1])
        return None

    def _last_checkpoint(self) -> int | None:
        with suppress(OSError, FlinkRefused):
            if found := self.world.job():
                return found[0].last_checkpoint(found[1])
        return None

    def until_sent(self) -> None:
        """Watch until everything is sent; silver runs whenever bronze has something new."""
        bronze_at_last_start = 0
        while not self.sender.done():
            seen = self.look()
            if not self.silver.running and seen.bronze > bronze_at_last_start:
                bronze_at_last_start = seen.bronze
                self.silver.start()
            time.sleep(_PAUSE_SECONDS)

    def until_complete(self) -> None:
        """Watch until bronze holds everything that was sent.

        All offsets are committed by the consumer group, and the Iceberg commit of the checkpoint that committed them is
        in: either the table's newest commit names a checkpoint that is not older, or a later checkpoint is complete
        (then there was nothing more to commit; the sink leaves empty commits out).

        Raises:
            DemoFailed: Nothing has moved for minutes.
        """
        table = self.world.pipeline.bronze_table
        deadline, last = time.monotonic() + _QUIET_SECONDS, -1
        while (seen := self.look()).lag > 0:
            if seen.lag != last:
                deadline, last = time.monotonic() + _QUIET_SECONDS, seen.lag
            elif time.monotonic() > deadline:
                raise DemoFailed(f"{seen.lag} records were not committed for {_QUIET_SECONDS:g} s; see {self._logs()}")
            time.sleep(_PAUSE_SECONDS)
        covering: int | None = None
        while not self._is_covered(table, covering):
            covering = self._last_checkpoint() if covering is None else covering
            self.look()
            if time.monotonic() > deadline:
                raise DemoFailed(f"no checkpoint for {_QUIET_SECONDS:g} s; see {self._logs()}")
            time.sleep(_PAUSE_SECONDS)

    def _is_covered(self, table: str, covering: int | None) -> bool:
        """Whether what a checkpoint covers is in the table: it says so, or there was nothing more to commit."""
        if covering is None:
            return False
        latest = self._last_checkpoint()
        return self.world.catalog.committed_checkpoint(table) >= covering or (latest is not None and latest > covering)

    def until_done(self, batch: Batch) -> None:
        """Watch until a stage's run has ended, if one is going on."""
        deadline = time.monotonic() + _SPARK_SECONDS
        while batch.running:
            self.look()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{batch.stage} still ran after {_SPARK_SECONDS:g} s; see {self._logs()}")
            time.sleep(_PAUSE_SECONDS)

    def _logs(self) -> Path:
        return self.world.directory.logs
