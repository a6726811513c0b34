"""Flink's REST interface: what the local world and its tests ask of a cluster."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

_TIMEOUT_SECONDS = 20.0
_NO_WATERMARK = -(2**63)
TERMINAL = frozenset({"FINISHED", "CANCELED", "FAILED"})
"""The states that a job does not leave."""


class FlinkRefused(Exception):
    """Flink answered with an error; the message is Flink's own."""


@dataclass(frozen=True, slots=True)
class FlinkRest:
    """A cluster's REST interface at `url`, such as `http://127.0.0.1:8092`."""

    url: str

    def get(self, path: str) -> Any:
        """Read a resource, such as `/jobs/overview`.

        Raises:
            FlinkRefused: Flink answered with an error.
            OSError: The JobManager can't be reached.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """Send a command; raises as `get`."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own cluster, always http
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise FlinkRefused(f"{method} {path}: {_reason(error.read())}") from None

    def free_slots(self) -> int | None:
        """How many slots wait for work; None while the JobManager does not answer."""
        try:
            return int(self.get("/overview")["slots-available"])
        except (OSError, FlinkRefused):
            return None

    def jobs(self) -> dict[str, str]:
        """The state of every job by its id."""
        return {job["jid"]: job["state"] for job in self.get("/jobs/overview")["jobs"]}

    def state(self, job: str) -> str:
        """A job's state, such as RUNNING."""
        return str(self.get(f"/jobs/{job}")["state"])

    def all_tasks_running(self, job: str) -> bool:
        """Whether the job and each of its tasks runs: a job is RUNNING before its tasks are."""
        found = self.get(f"/jobs/{job}")
        return found["state"] == "RUNNING" and all(vertex["status"] == "RUNNING" for vertex in found["vertices"])

    def root_exception(self, job: str) -> str | None:
        """Why the job failed or restarted last, with Java's stack trace."""
        entries = self.get(f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return entries[0]["stacktrace"] if entries else None

    def checkpoint_interval(self, job: str) -> float:
        """How often the job takes a checkpoint, in seconds."""
        return int(self.get(f"/jobs/{job}/checkpoints/config")["interval"]) / 1000

    def last_checkpoint(self, job: str) -> int:
        """The id of the newest checkpoint that has been completed; 0 before the first."""
        newest = self.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        return int(newest["id"]) if newest else 0

    def watermark(self, job: str) -> int | None:
        """The lowest watermark that has reached a task, in milliseconds since 1970; None before there is one."""
        found = [
            int(metric["value"])
            for vertex in self.get(f"/jobs/{job}")["vertices"]
            for metric in self.get(f"/jobs/{job}/vertices/{vertex['id']}/watermarks")
        ]
        real = [value for value in found if value != _NO_WATERMARK]
        return min(real) if real else None

    def cancel(self, job: str) -> None:
        """Cancel a job without a savepoint; answers before it has ended."""
        self._ask("PATCH", f"/jobs/{job}?mode=cancel", None)

    def stop_with_savepoint(self, job: str, directory: str, *, seconds: float = 120.0) -> str:
        """Stop a job so that it can be continued, and wait until it has; answers where the savepoint lies.

        Args:
            job: Its id.
            directory: A URI below which the savepoint is written.
            seconds: The deadline.

        Raises:
            FlinkRefused: The savepoint failed, or the job was not finished in time.
        """
        deadline = time.monotonic() + seconds
        trigger = self.post(f"/jobs/{job}/stop", {"targetDirectory": directory, "drain": False})["request-id"]
        location = self._savepoint_of(job, trigger, directory, seconds)
        # The savepoint is there before its data are committed: that is done when the job has finished.
        while (state := self.state(job)) not in TERMINAL:
            if time.monotonic() > deadline:
                raise FlinkRefused(f"job {job} was still {state} {seconds:g} s after it was asked to stop")
            time.sleep(0.2)
        if state != "FINISHED":
            raise FlinkRefused(f"job {job} was to stop with a savepoint, but is {state}: {self.root_exception(job)}")
        return location

    def savepoint(self, job: str, directory: str, *, seconds: float = 120.0) -> str:
        """Take a savepoint while the job goes on, and answer where it lies; arguments and errors as above."""
        trigger = self.post(f"/jobs/{job}/savepoints", {"target-directory": directory, "cancel-job": False})
        return self._savepoint_of(job, trigger["request-id"], directory, seconds)

    def _savepoint_of(self, job: str, trigger: str, directory: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while (answer := self.get(f"/jobs/{job}/savepoints/{trigger}"))["status"]["id"] != "COMPLETED":
            if time.monotonic() > deadline:
                raise FlinkRefused(f"the savepoint of job {job} in {directory} was not there within {seconds:g} s")
            time.sleep(0.2)
        operation = answer["operation"]
        if "failure-cause" in operation:
            raise FlinkRefused(f"the savepoint of job {job} failed: {operation['failure-cause']['stack-trace']}")
        return str(operation["location"])


def _reason(body: bytes) -> str:
    """What Flink says went wrong, without the stack traces behind the first."""
    try:
        return str(json.loads(body)["errors"][0]).strip()
    except (ValueError, KeyError, IndexError):
        return body.decode(errors="replace")[:500]
