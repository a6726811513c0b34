"""How a running job does, from the JobManager's REST API: restarts, checkpoints, and dead letters that it gave up."""

import json
import urllib.error
import urllib.request
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from lakehouse_operator.planning.observed import JobHealth

_SECONDS = 5.0
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
    return JobHealth(
        restarts=restarts,
        completed_checkpoints=int(counts["completed"]),
        failed_checkpoints=int(counts["failed"]),
        lost_transactions=_lost_transactions(url, job),
    )


def _lost_transactions(url: str, job: str) -> int:
    try:
        vertex, names = _committers(url, job)
    except LookupError:  # no task has told of its metrics yet
        return 0
    wanted = ",".join(quote(name, safe="") for name in names)
    answer = _get(f"{url}/jobs/{job}/vertices/{vertex}/subtasks/metrics?get={wanted}&agg=sum")
    return sum(int(float(metric["sum"])) for metric in answer)


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
