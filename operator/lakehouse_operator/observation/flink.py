"""How a running job does, from the JobManager's REST API: restarts, and checkpoints completed and failed."""

import json
import urllib.error
import urllib.request
from typing import Any

from lakehouse_operator.planning.observed import JobHealth

_SECONDS = 5.0


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
        restarts=restarts, completed_checkpoints=int(counts["completed"]), failed_checkpoints=int(counts["failed"])
    )


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - the address is built, not given
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FlinkUnreadable(f"{url} can't be read: {error}") from error
