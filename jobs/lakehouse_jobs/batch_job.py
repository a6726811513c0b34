"""The command line of a batch job: settings in, one line of JSON out, an exit code that tells how it ended."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_contract import decoding
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import GoldSettings, MaintenanceSettings, SilverSettings
from lakehouse_jobs import java_failures
from lakehouse_jobs.expressions import first_sentence
from lakehouse_jobs.iceberg_commits import Conflict, Missing
from lakehouse_jobs.quality import BadData
from lakehouse_jobs.spark_session import open_session

_DATA_EXCEPTION = "SQLSTATE: 22"
"""The class of SQLSTATE that stands for a value that the SQL can't compute with."""
TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where a container leaves its last words: Kubernetes shows them in the pod's status, at most 4096 bytes."""
_LAST_WORDS: Final = 1000
Settings = TypeVar("Settings", SilverSettings, GoldSettings, MaintenanceSettings)
Result = dict[str, Any]


def run_from_command_line(
    kind: type[Settings],
    stage: str,
    run: Callable[[SparkSession, Settings, datetime], Result],
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Run a job as its command line says; answer its exit code (`commits.ExitCode`)."""
    parser = argparse.ArgumentParser(prog=f"lakehouse_jobs.{stage}")
    parser.add_argument("--settings", required=True, help="the settings of the job, as JSON")
    parser.add_argument("--date", metavar="DAY", help="recompute this event day (UTC), such as 2026-01-31")
    parser.add_argument("--from", dest="first", metavar="DAY", help="recompute the event days from this one ...")
    parser.add_argument("--to", dest="last", metavar="DAY", help="... to this one")
    options = parser.parse_args(arguments)
    return execute(stage, lambda: _with_days(decoding.from_json(kind, options.settings), options), run, environment)


def execute(
    stage: str,
    read: Callable[[], Settings],
    run: Callable[[SparkSession, Settings, datetime], Result],
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Read a job's settings and run it, report how it ended, and answer its exit code (`commits.ExitCode`)."""
    started = datetime.now(tz=UTC)  # noqa: TID251 - this is the edge
    try:
        settings = read()
        session = open_session(settings.catalog, environment, f"{settings.pipeline}-{stage}")
        result = run(session, settings, started)
    except SettingsRefused as refused:
        return _ended(ExitCode.SETTINGS_REFUSED, stage, *map(str, refused.problems))
    except BadData as bad:
        return _ended(ExitCode.BAD_DATA, stage, str(bad))
    except (Conflict, Missing) as unavailable:
        return _ended(ExitCode.UNAVAILABLE, stage, str(unavailable))
    except (PySparkException, Py4JJavaError) as error:
        return _ended(*_classed(error, stage))
    _report({"stage": stage, "outcome": "succeeded", **result})
    return ExitCode.SUCCEEDED


def _classed(error: PySparkException | Py4JJavaError, stage: str) -> tuple[ExitCode, str, str]:
    """The exit code of a failure that came from the JVM, and what it says."""
    java = isinstance(error, Py4JJavaError)
    trace = str(error) if java else f"{error}\n{getattr(error, '_stackTrace', '')}"
    said = str(error.java_exception.toString()).split("\n", 1)[0] if java else first_sentence(error)
    if java_failures.is_out_of_memory(trace):
        return ExitCode.OUT_OF_MEMORY, stage, said
    if what := java_failures.unreachable(trace):
        return ExitCode.UNAVAILABLE, stage, f"can't be reached: {what}"
    return ExitCode.BAD_DATA if _DATA_EXCEPTION in trace else ExitCode.CODE, stage, said


def _with_days(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings with the days of the command line, which stand in the place of those in the settings."""
    if options.date and (options.first or options.last):
        raise SettingsRefused((Problem("--date", "give either --date, or --from and --to"),))
    first, last = options.date or options.first, options.date or options.last
    if first is None and last is None:
        return settings
    if first is None or last is None:
        raise SettingsRefused((Problem("--from", "--from and --to go together"),))
    raw = decoding.encode(settings)
    pinned = {"atSnapshot": settings.run.days.at_snapshot} if settings.run.days else {}
    raw["run"]["days"] = {"first": first, "last": last, **pinned}
    return decoding.decode(type(settings), raw)


def _ended(code: ExitCode, stage: str, *sentences: str) -> int:
    for sentence in sentences:
        print(f"{code.name.lower().replace('_', ' ')}: {sentence}", file=sys.stderr)
    _report({"stage": stage, "outcome": code.name.lower(), "problems": sentences})
    _leave_last_words("; ".join(sentences))
    return code


def _leave_last_words(said: str) -> None:
    """Tell the operator why, who reads the status of the driver's pod. Outside a container there is no such file."""
    if TERMINATION_LOG.exists():
        with suppress(OSError):  # what is in the log says it too
            TERMINATION_LOG.write_text(said[:_LAST_WORDS], encoding="utf-8")


def _report(result: Mapping[str, Any]) -> None:
    print(json.dumps(result, sort_keys=True), flush=True)
