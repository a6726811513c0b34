"""A Flink session cluster on this machine: one JobManager with REST, and one TaskManager.

The JVMs are started directly, without Flink's scripts: those start two more JVMs to work out the memory, which is fixed
here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from lakehouse_contract.flink_logging import SECRETS_KEPT
from lakehouse_operator.local import ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import FlinkRest
from lakehouse_operator.local.processes import Process, Processes

_HOST = "127.0.0.1"
UI_PORT = 8092
_READY_SECONDS = 90.0
_SUBMIT_SECONDS = 120.0
_JOB_ID = re.compile(r"^([0-9a-f]{32})$", re.MULTILINE)
_MIB = 1 << 20
_JOBMANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASKMANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TaskManagerMemory:
    """The parts of a TaskManager's memory in MiB; 1728 in all, which is Flink's own default."""

    framework_heap: int = 128
    task_heap: int = 576
    framework_off_heap: int = 128
    network: int = 96
    managed: int = 352
    metaspace: int = 256
    overhead: int = 192

    def settings(self) -> dict[str, str]:
        """Flink's settings: each part fixed, as a TaskManager wants them that no script has prepared."""
        fixed = {
            "memory.framework.heap.size": self.framework_heap,
            "memory.task.heap.size": self.task_heap,
            "memory.framework.off-heap.size": self.framework_off_heap,
            "memory.task.off-heap.size": 0,
            "memory.network.min": self.network,
            "memory.network.max": self.network,
            "memory.managed.size": self.managed,
            "memory.jvm-metaspace.size": self.metaspace,
            "memory.jvm-overhead.min": self.overhead,
            "memory.jvm-overhead.max": self.overhead,
        }
        return {f"taskmanager.{key}": f"{value}m" for key, value in fixed.items()}

    def jvm(self) -> list[str]:
        """The JVM's options that fit them."""
        heap = self.framework_heap + self.task_heap
        return [
            f"-Xms{heap // 2}m",
            f"-Xmx{heap}m",
            f"-XX:MaxDirectMemorySize={(self.framework_off_heap + self.network) * _MIB}",
            f"-XX:MaxMetaspaceSize={self.metaspace}m",
        ]


@dataclass(frozen=True, slots=True)
class FlinkCluster:
    """A session cluster that has been started.

    Attributes:
        port: The port of REST and the web UI on 127.0.0.1.
        slots: How many parallel pipelines it runs.
    """

    engines: Engines
    directory: Path
    port: int
    slots: int
    memory: TaskManagerMemory
    jobmanager: Process
    taskmanager: Process

    @property
    def address(self) -> str:
        """Host and port of REST, as a job's `--target` has it."""
        return f"{_HOST}:{self.port}"

    @property
    def url(self) -> str:
        """REST and the web UI."""
        return f"http://{self.address}"

    @property
    def rest(self) -> FlinkRest:
        """The cluster's REST interface."""
        return FlinkRest(self.url)

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until every slot can take work.

        Raises:
            ProcessFailed: A process ended, or the cluster was not ready in time.
        """
        self.jobmanager.until(lambda: ports.listening(_HOST, self.port), what="listening", seconds=seconds)
        self.taskmanager.until(
            lambda: self.rest.free_slots() == self.slots, what="registered with the JobManager", seconds=seconds
        )

    def client_environment(self) -> dict[str, str]:
        """Variables for a Python process that submits a job to this cluster."""
        return {
            **self.engines.java_environment(),
            "FLINK_HOME": str(self.engines.flink_home),
            "FLINK_CONF_DIR": str(self.directory / "conf"),
            "FLINK_LOG_DIR": str(self.directory / "log"),
            # The client compiles one plan and ends: the optimizing compiler would cost more than it gains.
            "JVM_ARGS": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx512m -Djava.io.tmpdir={self.directory / 'tmp'}",
        }


@dataclass(frozen=True, slots=True)
class Submission:
    """A Python process that submits a job to a cluster."""

    process: Process
    output: Path

    def job_id(self) -> str | None:
        """The id of the job, or None while the process runs.

        Raises:
            ProcessFailed: The job was not submitted.
        """
        code = self.process.exit_code()
        if code is None:
            return None
        found = _JOB_ID.findall(self.output.read_text(errors="replace"))
        if code or not found:
            raise self.process.failure(f"ended with exit code {code} and submitted no job")
        return str(found[-1])

    def wait(self, seconds: float = _SUBMIT_SECONDS) -> str:
        """Wait for the job's id; raises as `job_id`, and also after `seconds`."""
        self.process.wait(seconds)
        return self.job_id() or ""


def submit(
    processes: Processes,
    cluster: FlinkCluster,
    name: str,
    settings: str,
    *,
    from_savepoint: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Submission:
    """Start to submit the bronze job, without waiting for it.

    Args:
        processes: Who ends the submitting process; the job itself belongs to the cluster.
        cluster: Where the job runs.
        name: Names the process and its log.
        settings: `BronzeSettings` as JSON.
        from_savepoint: The savepoint or retained checkpoint that the job goes on from.
        environment: Variables for the submitting process, where secrets travel.
    """
    output = cluster.directory / f"{name}.result"
    command: list[str | Path] = [cluster.engines.flink_python, "-m", "lakehouse_jobs.bronze", "--settings", settings]
    command += ["--target", cluster.address]
    if from_savepoint:
        command += ["--from-savepoint", from_savepoint]
    process = processes.start(
        name,
        command,
        environment={
            **cluster.client_environment(),
            "PYTHONPATH": str(cluster.engines.jobs),
            **(environment or {}),
        },
        directory=cluster.directory,
        output=output,
    )
    return Submission(process, output)


def start(
    processes: Processes,
    engines: Engines,
    directory: Path,
    *,
    port: int | None = UI_PORT,
    slots: int = 2,
    memory: TaskManagerMemory | None = None,
    options: Mapping[str, str] = _NO_OPTIONS,
) -> FlinkCluster:
    """Start a cluster, without waiting for it to be ready.

    Args:
        processes: Who ends it.
        engines: Where Flink is.
        directory: Its configuration, logs and temporary files.
        port: Preferred port of REST and the web UI; another one is chosen if it is taken.
        slots: How many parallel pipelines it runs.
        memory: Of the TaskManager.
        options: Further options of Flink; what makes the cluster local wins over them.
    """
    memory = memory or TaskManagerMemory()
    for name in ("conf", "log", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    port = ports.choose(port)
    _configure(engines, directory, port, slots=slots, memory=memory, options=options)
    jobmanager = processes.start(
        "flink-jobmanager",
        # It only coordinates: without the optimizing compiler it starts in half the CPU time.
        _java(engines, directory, _JOBMANAGER, ["-Xmx512m", "-XX:MaxMetaspaceSize=256m", "-XX:TieredStopAtLevel=1"]),
        environment=_environment(engines, directory),
    )
    taskmanager = _start_taskmanager(processes, engines, directory, memory)
    return FlinkCluster(engines, directory, port, slots, memory, jobmanager, taskmanager)


def replace_taskmanager(processes: Processes, cluster: FlinkCluster) -> FlinkCluster:
    """Start another TaskManager in the place of one that has ended, as Kubernetes does."""
    taskmanager = _start_taskmanager(processes, cluster.engines, cluster.directory, cluster.memory)
    return replace(cluster, taskmanager=taskmanager)


def _start_taskmanager(processes: Processes, engines: Engines, directory: Path, memory: TaskManagerMemory) -> Process:
    command = _java(engines, directory, _TASKMANAGER, memory.jvm())
    return processes.start("flink-taskmanager", command, environment=_environment(engines, directory))


def _environment(engines: Engines, directory: Path) -> dict[str, str]:
    return {
        **engines.java_environment(),
        "FLINK_HOME": str(engines.flink_home),
        "FLINK_CONF_DIR": str(directory / "conf"),
        "FLINK_LIB_DIR": str(engines.flink_home / "lib"),
        "FLINK_OPT_DIR": str(engines.flink_home / "opt"),
        "FLINK_PLUGINS_DIR": str(engines.flink_home / "plugins"),
    }


def _configure(
    engines: Engines,
    directory: Path,
    port: int,
    *,
    slots: int,
    memory: TaskManagerMemory,
    options: Mapping[str, str],
) -> None:
    rpc_port = ports.choose(taken=frozenset({port}))
    settings = {
        **options,
        "jobmanager.rpc.address": _HOST,
        "jobmanager.rpc.port": str(rpc_port),
        "jobmanager.bind-host": _HOST,
        "rest.address": _HOST,
        "rest.bind-address": _HOST,
        "rest.port": str(port),
        "rest.bind-port": str(port),
        "taskmanager.host": _HOST,
        "taskmanager.bind-host": _HOST,
        "taskmanager.numberOfTaskSlots": str(slots),
        "taskmanager.cpu.cores": str(slots),
        **memory.settings(),
        # A local TaskManager that is killed should be missed in seconds, not in Flink's minute.
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "20 s",
        "io.tmp.dirs": str(directory / "tmp"),
        # As in a cluster (`planning/flink_manifest.py`).
        "classloader.check-leaked-classloader": "false",
        "env.java.opts.all": _module_options(engines.flink_home),
    }
    # YAML reads JSON; keys with dots are what Flink makes of nested ones anyway.
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
    configuration = directory / "conf"
    (configuration / "config.yaml").write_text("".join(lines))
    for name in ("log4j-console.properties", "log4j-cli.properties", "log4j.properties"):
        (configuration / name).write_text((engines.flink_home / "conf" / name).read_text() + SECRETS_KEPT)


def _java(engines: Engines, directory: Path, main: str, options: list[str]) -> list[str | Path]:
    configuration = directory / "conf"
    return [
        engines.java,
        *options,
        "-XX:+UseG1GC",
        "-Xshare:auto",
        f"-Djava.io.tmpdir={directory / 'tmp'}",
        f"-Dlog4j.configurationFile={configuration / 'log4j-console.properties'}",
        f"-Dlog.file={directory / 'log' / main.rpartition('.')[2]}.log",
        *_module_options(engines.flink_home).split(),
        "-cp",
        _class_path(engines.flink_home),
        main,
        "--configDir",
        configuration,
    ]


def _class_path(flink_home: Path) -> str:
    """All of `lib`, with flink-dist at the end, as Flink's scripts have it."""
    jars = sorted((flink_home / "lib").glob("*.jar"), key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))
    return ":".join(map(str, jars))


def _module_options(flink_home: Path) -> str:
    """What the distribution's own configuration opens of the JDK's modules (`env.java.opts.all`)."""
    text = (flink_home / "conf" / "config.yaml").read_text()
    return " ".join(re.findall(r"--add-(?:exports|opens)=\S+", text))
