"""What the JobManager's REST API is asked about a job, against one that answers like it: late."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from lakehouse_operator.observation import flink
from lakehouse_operator.observation.flink import job_health
from lakehouse_operator.planning.observed import JobHealth

COUNT = "dead_letters__Committer.failedCommittables"


@dataclass
class JobManager:
    """A job with two tasks that commit dead letters. What Flink tells of them is what it has asked them for before."""

    job: str = field(default_factory=lambda: uuid4().hex)
    started: int = 1_000
    running_ms: int = 60_000
    status: str = "RUNNING"
    lost: int = 0
    fetched: int = 0
    url: str = ""

    def again(self, **now: Any) -> None:
        """The job was started again in place."""
        self.started += 1
        self.lost = 0
        for name, value in now.items():
            setattr(self, name, value)

    def answer(self, path: str) -> Any:
        tasks = [
            {"status": self.status, "start-time": self.started - late, "status-duration": {"RUNNING": self.running_ms}}
            for late in (5, 0)
        ]
        sink = f"/jobs/{self.job}/vertices/sink"
        answers = {
            f"/jobs/{self.job}/checkpoints": {"counts": {"completed": 7, "failed": 1}},
            f"/jobs/{self.job}/metrics?get=numRestarts": [{"id": "numRestarts", "value": "3"}],
            f"/jobs/{self.job}": {"vertices": [{"id": "sink"}]},
            f"{sink}/subtasks/metrics": [{"id": COUNT}],
            f"{sink}/subtasks/metrics?get={COUNT}&agg=sum": [{"id": COUNT, "sum": float(self.fetched)}],
            sink: {"subtasks": tasks},
        }
        return answers[path]


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobManager]:
    made = JobManager()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(made.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(flink.time, "sleep", lambda _: setattr(made, "fetched", made.lost))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()


def lost(manager: JobManager) -> tuple[int, str]:
    told = job_health(manager.url, manager.job)
    return told.lost_transactions, told.counter


def test_a_job_that_has_lost_nothing_is_told_without_a_count(manager: JobManager) -> None:
    assert job_health(manager.url, manager.job) == JobHealth(restarts=3, completed_checkpoints=7, failed_checkpoints=1)


def test_what_tasks_gave_up_is_told_apart_from_what_those_before_them_gave_up(manager: JobManager) -> None:
    manager.lost = manager.fetched = 2
    assert lost(manager) == (2, "1000")
    manager.again(lost=2)
    assert lost(manager) == (2, "1001")


def test_the_count_of_tasks_that_are_no_more_is_not_told_as_that_of_those_that_run_now(manager: JobManager) -> None:
    manager.lost = manager.fetched = 2
    assert lost(manager) == (2, "1000")
    manager.again(running_ms=9_000)  # Flink may have asked the tasks before these
    assert lost(manager) == (0, "")
    manager.status = "INITIALIZING"
    assert lost(manager) == (0, "")
    manager.status, manager.running_ms = "RUNNING", 11_000
    assert lost(manager) == (0, "1001")


def test_it_is_waited_once_for_each_count(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(flink.time, "sleep", waits.append)
    manager.lost = manager.fetched = 2
    for _ in range(3):
        lost(manager)
    assert len(waits) == 1
