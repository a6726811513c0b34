"""One run of one variant: when the cluster itself says that it ran, and what it cost the TaskManager."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lakehouse_operator.local.flink import FlinkCluster

_TICKS = os.sysconf("SC_CLK_TCK")
_DEADLINE_SECONDS = 1800.0
_LOOK_SECONDS = 0.5
_RESTING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took.

    Attributes:
        records: How many records the source read.
        seconds: From the first source task running to the last one having sent everything.
        cpu_seconds: Of the TaskManager's process, from before the job was submitted to its end.
        machine: How busy the machine was meanwhile, in cores, whoever used them.
    """

    records: int
    seconds: float
    cpu_seconds: float
    machine: float

    @property
    def events_per_second(self) -> float:
        """Records by wall clock."""
        return self.records / self.seconds

    @property
    def cores(self) -> float:
        """How many cores the TaskManager kept busy."""
        return self.cpu_seconds / self.seconds

    @property
    def microseconds_per_event(self) -> float:
        """CPU time of the TaskManager for each record."""
        return 1e6 * self.cpu_seconds / self.records


class Stopwatch:
    """CPU time of a process and of the machine since it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process = self.process_seconds()
        self._machine = self._busy()
        self._started = time.monotonic()

    def process_seconds(self) -> float:
        """CPU time that the process has used since it started."""
        fields = Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @staticmethod
    def _busy() -> float:
        user, nice, system, _, _, interrupts, soft, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + interrupts + soft) / _TICKS

    def used(self) -> tuple[float, float]:
        """Seconds of CPU that the process has used, and cores that the machine was busy with."""
        elapsed = time.monotonic() - self._started
        return self.process_seconds() - self._process, (self._busy() - self._machine) / elapsed


def finish(cluster: FlinkCluster, job: str, stopwatch: Stopwatch, *, last_row_ms: Callable[[], float] | None) -> Run:
    """Wait for a bounded job to end, and find out from the cluster how long it took.

    A job with transactional sinks goes on running until its last checkpoint, which comes when the interval says so.
    That wait is no work. So its end is the moment in which the last row was processed, by the clock of the TaskManager
    that wrote it into the row, plus the time that the last checkpoint took, in which files are closed and committed.

    Args:
        cluster: Where it runs.
        job: Its id.
        stopwatch: Started before the job was submitted.
        last_row_ms: Asked after the job has ended: when its last row was processed, in milliseconds since 1970; None
            for a job without transactional sinks.

    Raises:
        RuntimeError: It failed.
    """
    _wait(cluster, job, stopwatch)
    cpu, machine = stopwatch.used()
    found = cluster.rest.get(f"/jobs/{job}")
    [source] = [vertex for vertex in found["vertices"] if vertex["name"].startswith("Source:")]
    subtasks = cluster.rest.get(f"/jobs/{job}/vertices/{source['id']}")["subtasks"]
    start_ms = min(subtask["end-time"] - subtask["status-duration"]["RUNNING"] for subtask in subtasks)
    if last_row_ms is None:
        end_ms = max(subtask["end-time"] for subtask in subtasks)
    else:
        latest = cluster.rest.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        end_ms = last_row_ms() + latest["end_to_end_duration"]
    return Run(source["metrics"]["read-records"], (end_ms - start_ms) / 1000, cpu, machine)


def _wait(cluster: FlinkCluster, job: str, stopwatch: Stopwatch) -> None:
    """Wait for the end. Once the TaskManager rests, ask for the last checkpoint rather than wait for it."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    used = stopwatch.process_seconds()
    while (state := cluster.rest.state(job)) not in ("FINISHED", "FAILED", "CANCELED"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"job {job} still runs after {_DEADLINE_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
        before, used = used, stopwatch.process_seconds()
        if used - before < _RESTING_SHARE * _LOOK_SECONDS and cluster.rest.all_tasks_running(job):
            cluster.rest.post(f"/jobs/{job}/checkpoints", {"checkpointType": "CONFIGURED"})
    if state != "FINISHED":
        raise RuntimeError(f"job {job} is {state}: {cluster.rest.root_exception(job)}")
