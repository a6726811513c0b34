"""Batch jobs on this machine: real spark-submit runs with a local master."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse_operator.local import ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Process, Processes

UI_PORT = 8090
_HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
"""Without the optimizing compiler a run over little data takes half the CPU time: most of it is starting up."""

_LOG4J = """\
# Spark tells of every task at INFO; what matters is at WARN.
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n%ex
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.local.name = org.apache.spark.SparkConf
logger.local.level = error
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: One of `lakehouse_contract.commits.ExitCode`, or 128 + n after signal n.
        result: What the job says about itself in the last line of its standard output; empty if it says nothing.
        seconds: How long it took, with the start of its JVMs.
    """

    exit_code: int
    result: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class SparkRun:
    """A run that has been started.

    Attributes:
        ui_port: Where its web UI is while it runs, on 127.0.0.1.
    """

    process: Process
    output: Path
    ui_port: int
    began: float

    def outcome(self) -> Outcome | None:
        """How the run ended, or None while it runs."""
        code = self.process.exit_code()
        return None if code is None else self._ended(code)

    def wait(self, seconds: float) -> Outcome:
        """Wait for the end of the run.

        Raises:
            ProcessFailed: It still runs after `seconds`.
        """
        return self._ended(self.process.wait(seconds))

    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self.began

    def _ended(self, code: int) -> Outcome:
        return Outcome(code, result_line(self.output.read_text(errors="replace")), self.seconds())


def submit(
    processes: Processes,
    engines: Engines,
    directory: Path,
    *,
    name: str,
    script: Path,
    arguments: list[str],
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    cores: int = 2,
    memory: str = "1g",
    logged: bool = False,
) -> SparkRun:
    """Start `spark-submit` with a local master, without waiting for it.

    Args:
        processes: Who ends it.
        engines: Where Spark is.
        directory: Its temporary files and its result.
        name: Names the run and its log.
        script: The job's Python file.
        arguments: The job's arguments.
        environment: Variables for the job, where secrets travel.
        options: Spark options.
        cores: How many tasks run at a time.
        memory: The heap of the one JVM that does it all, in Java's notation.
        logged: Whether the history server can show the run afterwards.
    """
    temporary = directory / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    ui_port = ports.choose(UI_PORT)
    logging = write_logging(directory)
    java_options = f"{_QUICK_JVM} -Djava.io.tmpdir={temporary} -Dlog4j2.configurationFile={logging.as_uri()}"
    settings = {
        "spark.driver.extraClassPath": f"{engines.spark_jars}/*",
        "spark.driver.host": _HOST,
        "spark.driver.bindAddress": _HOST,
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": java_options,
        "spark.local.dir": str(temporary),
        "spark.sql.warehouse.dir": str(temporary / "spark-warehouse"),
        "spark.ui.port": str(ui_port),
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": str(2 * cores),
        **(_event_log(directory) if logged else {}),
        **(options or {}),
    }
    home = spark_home(engines)
    command: list[str | Path] = [home / "bin" / "spark-submit", "--master", f"local[{cores}]", "--name", name]
    for key, value in settings.items():
        command += ["--conf", f"{key}={value}"]
    output = _result_file(directory, name)
    process = processes.start(
        name,
        [*command, script, *arguments],
        environment={
            **engines.java_environment(),
            "SPARK_HOME": str(home),
            "PYSPARK_PYTHON": str(engines.spark_python),
            "PYTHONPATH": str(engines.jobs),
            "SPARK_LAUNCHER_OPTS": _QUICK_JVM,
            "SPARK_LOCAL_IP": _HOST,
            **(environment or {}),
        },
        directory=temporary,
        output=output,
    )
    return SparkRun(process, output, ui_port, time.monotonic())


def _event_log(directory: Path) -> dict[str, str]:
    events = directory / "events"
    events.mkdir(exist_ok=True)
    return {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri()}


def start_history_server(processes: Processes, engines: Engines, directory: Path) -> str:
    """Start the web UI that shows `logged` runs, and wait until it is there; answers its address.

    Raises:
        ProcessFailed: It ended, or was not ready in time.
    """
    port = ports.choose(UI_PORT)
    properties = directory / "history-server.conf"
    settings = {
        "spark.history.fs.logDirectory": (directory / "events").as_uri(),
        "spark.history.ui.port": str(port),
        "spark.history.fs.update.interval": "5s",
    }
    properties.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    process = processes.start(
        "spark-history-server",
        [
            engines.java,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            f"-Djava.io.tmpdir={directory / 'tmp'}",
            "-cp",
            f"{spark_home(engines)}/jars/*",
            "org.apache.spark.deploy.history.HistoryServer",
            "--properties-file",
            properties,
        ],
        environment={"SPARK_LOCAL_IP": _HOST},
    )
    process.until(lambda: ports.listening(_HOST, port), what="listening", seconds=_READY_SECONDS)
    return f"http://{_HOST}:{port}"


def write_logging(directory: Path) -> Path:
    """Write the logging configuration of Spark's JVMs."""
    path = directory / "log4j2.properties"
    path.write_text(_LOG4J)
    return path


def spark_home(engines: Engines) -> Path:
    """PySpark's distribution."""
    return next(engines.spark_python.parents[1].glob("lib/python3.*/site-packages/pyspark"))


def result_of(directory: Path, name: str) -> dict[str, Any]:
    """What the job of a run that was submitted has said about itself."""
    file = _result_file(directory, name)
    return result_line(file.read_text(errors="replace")) if file.exists() else {}


def _result_file(directory: Path, name: str) -> Path:
    return directory / f"{name}.result"


def result_line(text: str) -> dict[str, Any]:
    """What a job says about itself: the last line that is a JSON object with an `outcome`; empty if there is none."""
    for line in reversed(text.splitlines()):
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and "outcome" in found:
                return found
    return {}
