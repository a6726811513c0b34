"""One run's life: start an attempt, read how it ended, try again or give up. Each attempt is a SparkApplication.

A SparkApplication is created and never changed: any change of its spec, even of a finished one, would run it again
(kubeflow/spark-operator `event_filter.go`). An attempt is written into the run's status before it is created, so a
crash in between is recognizable: the same attempt, with the same name, is created then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lakehouse_operator.api.run import Attempt, FailureClass, RunStatus
from lakehouse_operator.planning import names
from lakehouse_operator.planning.failure import RetryPolicy, Verdict, classify, grown, pause_after
from lakehouse_operator.planning.ledger import FINAL
from lakehouse_operator.planning.observed import Application, RunObject
from lakehouse_operator.planning.schedule import instant, parse_instant

# The only final states: FAILING and SUBMISSION_FAILED may still be retried by the Spark operator.
_SUCCEEDED, _FAILED = "COMPLETED", "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """How the attempts of a stage's runs are made and limited."""

    retry: RetryPolicy
    timeout: timedelta
    driver_memory_mib: int
    executor_memory_mib: int


@dataclass(frozen=True, slots=True)
class Start:
    """The attempt to start: its number from 1, and the heaps in MiB."""

    number: int
    driver_memory_mib: int
    executor_memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a run's status should say now, the attempt to start, the application to stop, and when to look again."""

    status: RunStatus
    start: Start | None = None
    stop: Application | None = None
    recheck: timedelta | None = None


def advance(run: RunObject, applications: tuple[Application, ...], policy: RunPolicy, now: datetime) -> Step:
    """Decide a run's next step. A run that has its outcome stays as it is."""
    status = read(run.status)
    if status.phase in FINAL:
        return Step(status=status)
    if not status.attempts:
        return _start(run, status, 1, policy, now)
    latest = status.attempts[-1]
    if latest.outcome == "Failed":
        return _after_failure(run, status, policy, now)
    application = next((each for each in applications if each.name == latest.application), None)
    if application is None:
        return _missing(run, status, policy, now)
    return _watch(run, status, application, policy, now)


def asks_why(run: RunObject, application: Application) -> bool:
    """Whether the next step of a run depends on why this application failed, so that its pods are worth a look."""
    if application.state != _FAILED or application.run != run.name or run.status.get("phase") in FINAL:
        return False
    latest = (run.status.get("attempts") or [{}])[-1]
    return (latest.get("application"), latest.get("outcome", "Running")) == (application.name, "Running")


def left_running(run: RunObject, applications: tuple[Application, ...]) -> tuple[Application, ...]:
    """The applications that go on though their attempt is over: what was to stop them was lost."""
    over = {each.application for each in read(run.status).attempts if each.outcome != "Running"}
    return tuple(each for each in applications if each.name in over and each.state not in (_SUCCEEDED, _FAILED))


def read(raw: Mapping[str, Any]) -> RunStatus:
    """A run's status as it was seen; the empty status of a new run where there is none."""
    return RunStatus.from_raw(dict(raw)) if raw else RunStatus()


def _start(run: RunObject, status: RunStatus, number: int, policy: RunPolicy, now: datetime) -> Step:
    history = _history(status)
    start = Start(
        number,
        grown(policy.driver_memory_mib, policy.retry, history),
        grown(policy.executor_memory_mib, policy.retry, history),
    )
    attempt = Attempt(
        number=number,
        application=names.attempt(run.name, number),
        started_at=instant(now),
        driver_memory=f"{start.driver_memory_mib}Mi",
        executor_memory=f"{start.executor_memory_mib}Mi",
    )
    changes = {"phase": "Pending", "attempts": (*status.attempts, attempt), "next_attempt_at": None}
    if status.started_at is None:
        changes["started_at"] = instant(now)
    return Step(status=status.model_copy(update=changes), start=start, recheck=policy.timeout)


def _missing(run: RunObject, status: RunStatus, policy: RunPolicy, now: datetime) -> Step:
    """The application of the latest attempt is not there: it was never created, or it was deleted while it ran."""
    latest = status.attempts[-1]
    if status.phase == "Pending":
        driver, executor = _mib(latest.driver_memory), _mib(latest.executor_memory)
        return Step(status=status, start=Start(latest.number, driver, executor), recheck=policy.timeout)
    verdict = Verdict("Infrastructure", "the SparkApplication was deleted while it ran")
    return _after_failure(run, _failed(status, verdict, now), policy, now)


def _mib(memory: str | None) -> int:
    return int((memory or "0Mi").removesuffix("Mi"))


def _watch(run: RunObject, status: RunStatus, application: Application, policy: RunPolicy, now: datetime) -> Step:
    if application.state == _SUCCEEDED:
        return Step(status=_succeeded(status, instant(application.finished_at or now)))
    if application.state == _FAILED:
        failed = _failed(status, classify(application), application.finished_at or now)
        return _after_failure(run, failed, policy, now)
    left = parse_instant(status.attempts[-1].started_at) + policy.timeout - now
    if left <= timedelta(0):
        verdict = Verdict("Timeout", f"it took longer than {policy.timeout} and was stopped")
        step = _after_failure(run, _failed(status, verdict, now), policy, now)
        return Step(status=step.status, stop=application, recheck=timedelta(seconds=1))
    return Step(status=status.model_copy(update={"phase": "Running"}), recheck=left)


def _succeeded(status: RunStatus, finished: str) -> RunStatus:
    latest = status.attempts[-1].model_copy(update={"outcome": "Succeeded", "finished_at": finished})
    return status.model_copy(
        update={"phase": "Succeeded", "attempts": (*status.attempts[:-1], latest), "finished_at": finished}
    )


def _failed(status: RunStatus, verdict: Verdict, at: datetime) -> RunStatus:
    changes = {
        "outcome": "Failed",
        "finished_at": instant(at),
        "failure_class": verdict.failure,
        "message": verdict.message[:1000],
        "exit_code": verdict.exit_code,
    }
    latest = status.attempts[-1].model_copy(update=changes)
    return status.model_copy(update={"phase": "Pending", "attempts": (*status.attempts[:-1], latest)})


def _after_failure(run: RunObject, status: RunStatus, policy: RunPolicy, now: datetime) -> Step:
    latest = status.attempts[-1]
    finished = latest.finished_at or instant(now)
    pause = pause_after(policy.retry, _history(status))
    if pause is None:
        ended = {"phase": "Failed", "finished_at": finished, "next_attempt_at": None}
        return Step(status=status.model_copy(update=ended))
    due = parse_instant(finished) + pause
    if now < due:
        waiting = status.model_copy(update={"phase": "Pending", "next_attempt_at": instant(due)})
        return Step(status=waiting, recheck=due - now)
    return _start(run, status, latest.number + 1, policy, now)


def _history(status: RunStatus) -> tuple[FailureClass, ...]:
    return tuple(attempt.failure_class for attempt in status.attempts if attempt.failure_class)


def cancel(run: RunObject, applications: tuple[Application, ...], now: datetime) -> Step:
    """End a run before its outcome: its application, if one is under way, is stopped."""
    status = read(run.status)
    changes: dict[str, object] = {"phase": "Cancelled", "finished_at": instant(now), "next_attempt_at": None}
    if not status.attempts:
        return Step(status=status.model_copy(update=changes))
    latest = status.attempts[-1]
    running = next((each for each in applications if each.name == latest.application), None)
    if latest.outcome == "Running":
        ended = latest.model_copy(update={"outcome": "Cancelled", "finished_at": instant(now)})
        changes["attempts"] = (*status.attempts[:-1], ended)
    return Step(status=status.model_copy(update=changes), stop=running)
