"""Starting, watching and ending the processes of one world.

Every process has a guard of its own (see `guard`): whatever happens to the program that started it, nothing stays
behind, unless it was told to keep it. What was kept is found again by its record, a file that names the process by pid
*and* start time, so a pid that another program has got in the meantime is never touched.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lakehouse_operator.local import guard

GRACE_SECONDS = 15.0
"""How long a process may take to end after SIGTERM before it is killed."""
_QUOTED_LINES = 15
_QUOTED_LINE_LENGTH = 300


class ProcessFailed(Exception):
    """A process ended, or did not become ready in time; the message quotes the end of its log."""

    def __init__(self, name: str, what: str, log: Path, tail: Sequence[str], exit_code: int | None = None) -> None:
        self.name = name
        self.log = log
        self.exit_code = exit_code
        quoted = "\n".join(f"  | {line}" for line in tail) if tail else "  | (nothing)"
        super().__init__(f"{name} {what}. The last lines of {log}:\n{quoted}")


class Process:
    """One running process of a world.

    Attributes:
        name: What it is called in messages and in its record.
        pid: Its own pid (the guard has another).
        log: The file with its standard error, and its standard output if that has no file of its own.
    """

    def __init__(
        self,
        name: str,
        pid: int,
        *,
        log: Path,
        start_of_log: int,
        its_guard: "subprocess.Popen[bytes]",
        lifeline: socket.socket,
        grace: float,
    ) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self._start_of_log = start_of_log
        self._guard = its_guard
        self._lifeline = lifeline
        self._grace = grace

    def exit_code(self) -> int | None:
        """The exit code (128 + n after signal n), or None while it runs."""
        return self._guard.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Wait until it ends and answer its exit code.

        Raises:
            ProcessFailed: It still runs after `seconds`.
        """
        try:
            return self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still runs after {seconds:g} s") from None

    def written(self) -> str:
        """What this process has written to its log so far."""
        with self.log.open("rb") as file:
            file.seek(self._start_of_log)
            return file.read().decode(errors="replace")

    def failure(self, what: str) -> ProcessFailed:
        """An error about this process that quotes the end of its log; `what` continues its name."""
        lines = [line[:_QUOTED_LINE_LENGTH] for line in self.written().splitlines() if line.strip()]
        return ProcessFailed(self.name, what, self.log, lines[-_QUOTED_LINES:], self.exit_code())

    def until(self, condition: Callable[[], bool], *, what: str, seconds: float) -> None:
        """Wait until `condition` holds.

        Args:
            condition: Asked ten times a second.
            what: What is waited for, as in "was not `ready to listen` within 30 s".
            seconds: The deadline.

        Raises:
            ProcessFailed: The process ended first, or the deadline passed.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if (code := self.exit_code()) is not None:
                raise self.failure(f"ended with exit code {code} before it was {what}")
            if time.monotonic() > deadline:
                raise self.failure(f"was not {what} within {seconds:g} s")
            time.sleep(0.1)

    def until_logged(self, text: str, *, what: str, seconds: float) -> None:
        """Wait until `text` stands in what this process has logged; see `until`."""
        self.until(lambda: text in self.written(), what=what, seconds=seconds)

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        if self.exit_code() is None:
            self._guard.terminate()

    def kill(self) -> None:
        """Kill it and everything it started, at once."""
        self._lifeline.close()
        self._guard.wait()

    def stop(self) -> int:
        """End it: SIGTERM, and SIGKILL to what is left of its family after the grace period. Answers the exit code."""
        self.terminate()
        try:
            return self._guard.wait(self._grace + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._guard.wait()
        finally:
            self._lifeline.close()

    def keep(self) -> None:
        """Let it outlive this program; only `end_recorded` ends it then."""
        with suppress(BrokenPipeError):  # it has just ended by itself
            self._lifeline.sendall(b"keep")


class Processes:
    """The processes of one world, ended in reverse order when the `with` block ends, however it ends."""

    def __init__(self, records: Path, logs: Path) -> None:
        self.records = records
        self.logs = logs
        self._started: list[Process] = []
        self._kept = False
        records.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        output: Path | None = None,
        grace: float = GRACE_SECONDS,
    ) -> Process:
        """Start a process; its log is `<logs>/<name>.log`, appended to.

        Args:
            name: Names the process, its log and its record; unique among the running ones.
            command: The program and its arguments. No shell sees them.
            environment: Variables on top of this program's own.
            directory: Where it works.
            output: A file for its standard output; without it that goes into the log.
            grace: Seconds between SIGTERM and SIGKILL.

        Raises:
            FileNotFoundError: There is no such program.
        """
        program = shutil.which(str(command[0]))
        if program is None:
            raise FileNotFoundError(f"{name} can't be started: there is no program {command[0]}")
        log = self.logs / f"{name}.log"
        ours, theirs = socket.socketpair()
        with _closed_on_failure(ours), theirs, log.open("ab") as log_file, _sink(output, log_file.fileno()) as sink:
            start_of_log = log_file.seek(0, os.SEEK_END)
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(theirs.fileno()),
                 str(self.records / f"{name}.json"), str(grace), name, "--", program, *map(str, command[1:])],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=log_file, cwd=directory, start_new_session=True,
                env={**os.environ, **(environment or {})}, pass_fds=[theirs.fileno()],
            )  # fmt: skip
            theirs.close()
            answer = ours.recv(32)
            if not answer:
                popen.wait()
                raise RuntimeError(f"{name} can't be started: its guard ended at once; see {log}")
            process = Process(
                name, int(answer), log=log, start_of_log=start_of_log, its_guard=popen, lifeline=ours, grace=grace
            )
            self._started.append(process)
        return process

    def running(self) -> list[Process]:
        """Those that have not ended, oldest first."""
        return [process for process in self._started if process.exit_code() is None]

    def stop(self) -> None:
        """End all of them, the newest first."""
        while self._started:
            self._started[-1].stop()
            self._started.pop()

    def keep(self) -> None:
        """Let all of them outlive this program."""
        self._kept = True
        for process in self.running():
            process.keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self.stop()


@contextmanager
def _closed_on_failure(ours: socket.socket) -> Iterator[None]:
    """Close our end of the lifeline if the start fails or is interrupted: the guard then ends what it has begun."""
    try:
        yield
    except BaseException:
        ours.close()
        raise


@contextmanager
def _sink(output: Path | None, otherwise: int) -> Iterator[int]:
    if output is None:
        yield otherwise
    else:
        with output.open("wb") as file:
            yield file.fileno()


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, named so that no other can be meant: the pid and when it started, in clock ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a guard writes down about the process that it holds."""

    name: str
    boot: str
    guard: Identity
    process: Identity


def recorded(records: Path) -> list[tuple[Path, Record]]:
    """The records in a directory, the process that was started last first."""
    found = sorted(records.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [(path, _read_record(path)) for path in found]


def _read_record(path: Path) -> Record:
    raw: dict[str, Any] = json.loads(path.read_text())
    return Record(raw["name"], raw["boot"], Identity(**raw["guard"]), Identity(**raw["process"]))


def alive(record: Record) -> bool:
    """Whether the process of a record, or its guard, still runs."""
    return record.boot == guard.boot_id() and (_lives(record.guard) or _lives(record.process))


def _lives(identity: Identity) -> bool:
    return guard.started(identity.pid) == identity.started


def end_recorded(records: Path, *, first: str | None = None, seconds: float = 2 * GRACE_SECONDS) -> list[str]:
    """End whatever the records in a directory name, the newest first, and remove the records.

    Args:
        records: The directory.
        first: The name of the process that is ended before all others: the one that would start them again.
        seconds: How long one of them may take before it is killed.

    Returns:
        The names of the processes that were still running.
    """
    ended = []
    for path, record in sorted(recorded(records), key=lambda each: each[1].name != first):
        if alive(record):
            ended.append(record.name)
            _signal(record.guard, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while _lives(record.guard) and time.monotonic() < deadline:
                time.sleep(0.05)
            _signal(record.guard, signal.SIGKILL)
            _signal(record.process, signal.SIGKILL)  # its guard was killed before: nobody else holds it
        path.unlink(missing_ok=True)
    return ended


def _signal(identity: Identity, number: signal.Signals) -> None:
    """Send a signal to exactly this process: the descriptor pins the pid before the start time is compared."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(identity.pid)
        try:
            if guard.started(identity.pid) == identity.started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
