"""How a running job does, from the JobManager's REST API: restarts, checkpoints, and dead letters that it gave up."""

import json
import time
import urllib.error
import urllib.request
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from lakehouse_operator.planning.observed import JobHealth

_SECONDS = 5.0
_ASKED_EVERY_MS = 10_000
"""How often Flink asks its tasks for metrics, at most (`metrics.fetcher.update-interval`).

Whoever asks Flink gets what it knew before, and makes it ask anew.
"""
_ANSWER_SECONDS = 2.0
"""How long its tasks take to answer, and more."""
_LOST = ".failedCommittables"
"""Flink's count of what a sink's committer gave up; one committable of Kafka's sink is a transaction."""


class FlinkUnreadable(Exception):
    """The JobManager did not answer, or does not know the job."""


def job_health(url: str, job: str) -> JobHealth:
    """Ask a JobManager about a job.

    Args:
        url: The JobManager's REST address, such as `http://numerals-bronze-rest.data:8081`.
        job: Flink's id of the job, 32 hexadecimal digits.

    Raises:
        FlinkUnreadable: It did not answer, or does not know the job.
    """
    counts = _get(f"{url}/jobs/{job}/checkpoints")["counts"]
    metrics = _get(f"{url}/jobs/{job}/metrics?get=numRestarts")
    restarts = next((int(float(metric["value"])) for metric in metrics if metric["id"] == "numRestarts"), 0)
    lost, counter = _lost_transactions(url, job)
    return JobHealth(
        restarts=restarts,
        completed_checkpoints=int(counts["completed"]),
        failed_checkpoints=int(counts["failed"]),
        lost_transactions=lost,
        counter=counter,
    )


def _lost_transactions(url: str, job: str) -> tuple[int, str]:
    """How many transactions the tasks that run now gave up, and which count that is; 0 while nobody can tell."""
    try:
        vertex, names = _committers(url, job)
    except LookupError:  # no task has told of its metrics yet
        return 0, ""
    part = f"{url}/jobs/{job}/vertices/{vertex}"
    wanted = ",".join(quote(name, safe="") for name in names)
    counts = f"{part}/subtasks/metrics?get={wanted}&agg=sum"
    if not _sum(counts):
        return 0, ""
    counter = _counter(part)
    if counter is None:
        return 0, ""
    _wait_for_answers(counts, counter)
    return _sum(counts), counter


def _sum(counts: str) -> int:
    return sum(int(float(metric["sum"])) for metric in _get(counts))


def _counter(part: str) -> str | None:
    """What tells the count of the tasks that run now from that of those before them: when the newest one was started.

    None while Flink may not have asked all of them: it still tells then what those before them had counted.
    """
    tasks = _get(part)["subtasks"]
    running = all(task["status"] == "RUNNING" for task in tasks)
    if not running or min(task["status-duration"]["RUNNING"] for task in tasks) <= _ASKED_EVERY_MS:
        return None
    return str(max(task["start-time"] for task in tasks))


@lru_cache(maxsize=4096)
def _wait_for_answers(counts: str, counter: str) -> None:  # noqa: ARG001 - once for each count
    """Let Flink ask the tasks that run now: the question before this told it to."""
    time.sleep(_ANSWER_SECONDS)


@lru_cache(maxsize=4096)
def _committers(url: str, job: str) -> tuple[str, tuple[str, ...]]:
    """The part of a job that commits dead letters, and the names of its counts; remembered once they are known.

    Raises:
        LookupError: They are not known yet.
    """
    for vertex in _get(f"{url}/jobs/{job}")["vertices"]:
        known = _get(f"{url}/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics")
        names = tuple(each["id"] for each in known if each["id"].endswith(_LOST) and "dead_letters" in each["id"])
        if names:
            return vertex["id"], names
    raise LookupError(job)


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - the address is built, not given
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FlinkUnreadable(f"{url} can't be read: {error}") from error
