"""A Kafka broker of one node (KRaft: it is its own controller) on the loopback interface."""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lakehouse_operator.local import ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Process, Processes

_HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_JVM = ("-XX:+UseSerialGC", "-Xshare:auto")
_QUICK_JVM = ("-XX:TieredStopAtLevel=1", *_JVM)
"""Without the optimizing compiler a broker starts in half the CPU time, and is still faster than one machine needs."""

_NONE: Mapping[str, Any] = MappingProxyType({})

_LOG4J = """\
status = error
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %m (%c)%n
"""


class BrokerFailed(Exception):
    """The broker's directory could not be made."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that has been started.

    Attributes:
        port: Where clients connect, on 127.0.0.1.
        process: The JVM.
    """

    port: int
    process: Process

    @property
    def bootstrap_servers(self) -> str:
        """The address for Kafka clients."""
        return f"{_HOST}:{self.port}"

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until the broker serves clients.

        Raises:
            ProcessFailed: It ended, or was not ready in time.
        """
        self.process.until_logged("Kafka Server started", what="ready", seconds=seconds)


def start(
    processes: Processes,
    engines: Engines,
    directory: Path,
    *,
    port: int | None = None,
    optimized: bool = False,
    listeners: Mapping[str, int] = _NONE,
    properties: Mapping[str, str] = _NONE,
) -> Broker:
    """Format `directory` unless it is a broker's already, and start a broker on it, without waiting for it to be ready.

    Args:
        processes: Who ends it.
        engines: Where the jars are.
        directory: Its data and configuration; what is there is kept.
        port: Preferred port; another one is chosen if it is taken.
        optimized: Use the JVM's optimizing compiler, as a benchmark should: slower to start, faster when warm.
        listeners: Further listeners and their ports; what each asks of clients is up to `properties`.
        properties: Further properties of the broker; they win over ours.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = ports.choose(port)
    controller_port = ports.choose(taken=frozenset({port}))
    configuration = directory / "server.properties"
    wanted = {**_properties(directory / "data", port, controller_port, listeners), **properties}
    configuration.write_text("".join(f"{key}={value}\n" for key, value in wanted.items()))
    configuration.chmod(0o600)
    logging = directory / "log4j2.properties"
    logging.write_text(_LOG4J)
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    java = (engines.java, f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={logging}",
            "-cp", f"{engines.kafka_libraries}/*")  # fmt: skip
    if not (directory / "data" / "meta.properties").exists():
        _format(java, configuration)
    process = processes.start(
        "kafka",
        [
            java[0],
            "-Xms128m",
            "-Xmx512m",
            *(_JVM if optimized else _QUICK_JVM),
            *java[1:],
            "kafka.Kafka",
            configuration,
        ],
    )
    return Broker(port, process)


def _format(java: tuple[str | Path, ...], configuration: Path) -> None:
    command = [
        java[0],
        *_QUICK_JVM,
        *java[1:],
        "kafka.tools.StorageTool",
        "format",
        "-t",
        _cluster_id(),
        "-c",
        configuration,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise BrokerFailed(f"the Kafka directory {configuration.parent} can't be formatted: {done.stdout}{done.stderr}")


def _cluster_id() -> str:
    """A random id as Kafka writes them: a UUID in URL-safe base 64; a leading dash would look like an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _properties(data: Path, port: int, controller_port: int, listeners: Mapping[str, int]) -> dict[str, str]:
    clients = [f"{name}://{_HOST}:{where}" for name, where in {"PLAINTEXT": port, **listeners}.items()]
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{_HOST}:{controller_port}",
        "listeners": ",".join([*clients, f"CONTROLLER://{_HOST}:{controller_port}"]),
        "advertised.listeners": ",".join(clients),
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        # One broker can keep one copy; few partitions of the internal topics make it start and stop faster.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A broker that was killed comes back once the session is over that it left behind: 9 seconds by default.
        "broker.heartbeat.interval.ms": "1000",
        "broker.session.timeout.ms": "4000",
        "auto.create.topics.enable": "false",
        # Topics with a simulated clock: "too old" by the real clock must not mean deleted or refused.
        "log.retention.ms": "-1",
        "log.message.timestamp.after.max.ms": str(2**63 - 1),
    }
