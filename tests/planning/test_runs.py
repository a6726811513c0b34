"""One run's life, attempt by attempt."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from lakehouse_operator.planning.failure import RetryPolicy
from lakehouse_operator.planning.observed import Application, RunObject
from lakehouse_operator.planning.runs import RunPolicy, Step, advance, asks_why, cancel
from planning.batch_builders import application, at, fresh

POLICY = RunPolicy(retry=RetryPolicy(), timeout=timedelta(hours=6), driver_memory_mib=1024, executor_memory_mib=2048)
NOW = at("03-10 06:00")
RUN = fresh(at("03-10 05:00"))
FIRST = f"{RUN.name}-a1"


def step(run: RunObject, *applications: Application, now: Any = NOW) -> Step:
    return advance(run, applications, POLICY, now)


def after(run: RunObject, done: Step) -> RunObject:
    return replace(run, status=done.status.to_raw())


def started() -> RunObject:
    return after(RUN, step(RUN))


def running() -> RunObject:
    run = started()
    return after(run, step(run, application(FIRST, "RUNNING")))


def failed(**changes: Any) -> tuple[RunObject, Step]:
    run = running()
    ended = step(run, application(FIRST, "FAILED", finished_at=NOW, **changes))
    return after(run, ended), ended


def test_a_new_run_writes_its_first_attempt_down_and_starts_it() -> None:
    done = step(RUN)
    assert (done.start is not None, done.status.attempts[0].application) == (True, FIRST)


def test_a_crash_before_the_attempt_was_created_creates_the_same_attempt() -> None:
    again = step(started())
    assert again.start is not None
    assert (again.start.number, again.start.driver_memory_mib) == (1, 1024)
    assert again.status == step(RUN).status


def test_an_attempt_that_runs_changes_nothing_the_second_time() -> None:
    run = running()
    again = step(run, application(FIRST, "RUNNING"), now=NOW + timedelta(minutes=5))
    assert (again.status.to_raw(), again.start) == (run.status, None)


def test_failing_is_not_yet_failed() -> None:
    assert step(running(), application(FIRST, "FAILING")).status.phase == "Running"


def test_a_completed_attempt_ends_the_run() -> None:
    done = step(running(), application(FIRST, "COMPLETED", finished_at=NOW))
    assert (done.status.phase, done.status.attempts[0].outcome, done.start) == ("Succeeded", "Succeeded", None)


def test_a_run_that_is_over_stays_as_it_is_even_if_its_application_is_gone() -> None:
    run = after(running(), step(running(), application(FIRST, "COMPLETED", finished_at=NOW)))
    assert step(run).status.to_raw() == run.status


def test_after_a_failure_it_waits_and_then_starts_the_next_attempt() -> None:
    run, ended = failed(message="driver container failed with ExitCode: 69")
    assert (ended.status.phase, ended.start, ended.recheck) == ("Pending", None, timedelta(seconds=30))
    later = step(run, now=NOW + timedelta(seconds=30))
    assert later.start is not None
    assert later.status.attempts[-1].application == f"{RUN.name}-a2"
    assert later.status.next_attempt_at is None


def test_out_of_memory_is_tried_again_with_more() -> None:
    run, _ = failed(message="OOMKilled")
    later = step(run, now=NOW + timedelta(minutes=1))
    assert later.start is not None
    assert (later.start.driver_memory_mib, later.start.executor_memory_mib) == (1536, 3072)


def test_bad_data_ends_the_run_at_once() -> None:
    _, ended = failed(message="ExitCode: 65")
    assert (ended.status.phase, ended.status.attempts[-1].failure_class) == ("Failed", "Data")


def test_an_application_deleted_while_it_ran_counts_as_infrastructure() -> None:
    gone = step(running())
    assert gone.status.attempts[-1].failure_class == "Infrastructure"
    assert gone.start is None


def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again() -> None:
    late = step(running(), application(FIRST, "RUNNING"), now=NOW + timedelta(hours=7))
    assert late.stop is not None
    assert (late.status.attempts[-1].failure_class, late.status.phase) == ("Timeout", "Pending")


def test_cancelling_stops_what_runs_and_is_final() -> None:
    run = running()
    done = cancel(run, (application(FIRST, "RUNNING"),), NOW)
    assert done.stop is not None
    assert done.status.phase == "Cancelled"
    assert step(after(run, done), application(FIRST, "FAILED")).status.phase == "Cancelled"


def test_why_an_attempt_failed_is_asked_until_it_is_written_down_and_never_again() -> None:
    ended = application(FIRST, "FAILED")
    assert asks_why(running(), ended)
    assert not asks_why(running(), application(FIRST, "RUNNING"))
    assert not asks_why(running(), application(FIRST, "COMPLETED"))
    for exit_code in (69, 65):  # tried again later; given up
        run, _ = failed(exit_code=exit_code)
        assert not asks_why(run, ended)
        later = after(run, step(run, ended, now=NOW + timedelta(hours=1)))
        assert not asks_why(later, ended), "an earlier attempt"
