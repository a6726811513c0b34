"""Iceberg's sink in a worker of Kafka Connect: a JVM of its own, told over REST what to do."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import Column, PartitionField, Table
from lakehouse_jobs.iceberg_catalog import catalog_properties
from lakehouse_operator.local import ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Process, Processes
from lakehouse_operator.local.topics import Topics

Shape = Literal["raw", "parsed"]
_READY_SECONDS = 90.0
_LOG4J = """\
status = error
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %m (%c)%n
"""
_FIELDS = (
    Column("event_id", "string", "From the payload."),
    Column("event_type", "string", "From the payload."),
    Column("event_time", "timestamp", "From the payload."),
    Column("user_id", "string", "From the payload."),
    Column("user_plan", "string", "From the payload."),
    Column("user_country", "string", "From the payload."),
    Column("user_email_domain", "string", "From the payload."),
    Column("input_number", "long", "From the payload."),
    Column("output_numeral", "string", "From the payload."),
    Column("status", "string", "From the payload."),
    Column("error_code", "string", "From the payload."),
    Column("duration_ms", "double", "From the payload."),
    Column("channel", "string", "From the payload."),
    Column("client_version", "string", "From the payload."),
    Column("schema_version", "int", "From the payload."),
)
_ORIGIN = (
    Column("kafka_partition", "int", "Where it came from."),
    Column("kafka_offset", "long", "Its offset there."),
    Column("kafka_timestamp", "timestamp", "When it arrived."),
)


def table(name: str, shape: Shape, properties: Mapping[str, str]) -> Table:
    """The table that a connector writes.

    `raw` keeps the payload, but a connector does not look into it, so it can only be laid out by the day of arrival.
    `parsed` has the payload's fields as columns, and the payload itself is gone.
    """
    columns: tuple[Column, ...]
    if shape == "raw":
        columns, day = (Column("payload", "string", "The record's value."), *_ORIGIN), "kafka_timestamp"
    else:
        columns, day = (*_FIELDS, *_ORIGIN), "event_time"
    return Table(
        name=name, meaning="For a benchmark.", columns=columns, partitions=(PartitionField(day, "day"),),
        properties=properties,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has been started."""

    process: Process
    url: str
    bootstrap_servers: str

    def wait_until_ready(self) -> None:
        """Wait until it takes connectors."""
        self.process.until(lambda: self._answers("/connectors"), what="ready", seconds=_READY_SECONDS)

    def _answers(self, path: str) -> bool:
        try:
            self._ask("GET", path)
        except OSError:
            return False
        return True

    def start_connector(
        self, name: str, topic: str, shape: Shape, table_name: str, catalog: CatalogSettings, *, commit_seconds: int,
        tasks: int, dead_letter_topic: str | None = None,
    ) -> None:  # fmt: skip
        """Create a connector that reads a topic from its beginning, and wait until its tasks run."""
        control = f"control-{name}"
        Topics(self.bootstrap_servers).create(control, partitions=1, timestamps="CreateTime")
        self._ask(
            "PUT",
            f"/connectors/{name}/config",
            {
                "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
                "tasks.max": str(tasks),
                "topics": topic,
                "iceberg.tables": table_name,
                "iceberg.catalog": catalog.name,
                **{f"iceberg.catalog.{key}": value for key, value in catalog_properties(catalog, {}).items()},
                "iceberg.control.topic": control,
                "iceberg.control.commit.interval-ms": str(1000 * commit_seconds),
                "iceberg.kafka.bootstrap.servers": self.bootstrap_servers,
                "consumer.override.auto.offset.reset": "earliest",
                "consumer.override.isolation.level": "read_committed",
                "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
                **_conversion(shape),
                **_dead_letters(dead_letter_topic),
            },
        )
        deadline = time.monotonic() + _READY_SECONDS
        while [task["state"] for task in self.status(name)["tasks"]] != ["RUNNING"] * tasks:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not run: {self.status(name)}")
            time.sleep(0.2)

    def status(self, name: str) -> Any:
        """What the worker says of a connector and its tasks."""
        try:
            return self._ask("GET", f"/connectors/{name}/status")
        except urllib.error.HTTPError:  # not there yet
            return {"tasks": []}

    def failure(self, name: str) -> str | None:
        """Why a task of a connector has failed: the chain of causes; None if none has."""
        for task in self.status(name)["tasks"]:
            if task["state"] == "FAILED":
                lines = str(task["trace"]).splitlines()
                return " <- ".join(line for line in lines if not line.startswith(("\t", " ")))
        return None

    def remove(self, name: str) -> None:
        """Delete a connector."""
        self._ask("DELETE", f"/connectors/{name}")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")


def _conversion(shape: Shape) -> dict[str, str]:
    """Converter and transformations: the origin is added, a raw value becomes the field `payload`."""
    insert = "org.apache.kafka.connect.transforms.InsertField$Value"
    origin = {
        "transforms.origin.type": insert,
        "transforms.origin.partition.field": "kafka_partition",
        "transforms.origin.offset.field": "kafka_offset",
        "transforms.origin.timestamp.field": "kafka_timestamp",
    }
    if shape == "raw":
        return {
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "transforms": "payload,origin",
            "transforms.payload.type": "org.apache.kafka.connect.transforms.HoistField$Value",
            "transforms.payload.field": "payload",
            **origin,
        }
    return {
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "transforms": "origin",
        **origin,
    }


def _dead_letters(topic: str | None) -> dict[str, str]:
    if topic is None:
        return {}
    return {
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": topic,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    }


def start(processes: Processes, engines: Engines, bootstrap_servers: str, directory: Path) -> Worker:
    """Start a standalone worker, without waiting for it to be ready."""
    directory.mkdir(parents=True)
    port = ports.choose()
    url = f"http://127.0.0.1:{port}"
    properties = {
        "bootstrap.servers": bootstrap_servers,
        "listeners": url,
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "offset.storage.file.filename": str(directory / "offsets"),
        "connector.client.config.override.policy": "All",
        # What is on the class path is found without a search for it.
        "plugin.discovery": "service_load",
    }
    configuration = directory / "connect-standalone.properties"
    configuration.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    logging = directory / "log4j2.properties"
    logging.write_text(_LOG4J)
    (directory / "tmp").mkdir()
    process = processes.start(
        "connect",
        [
            engines.java, "-Xms1g", "-Xmx2g", "-XX:+UseG1GC", "-Xshare:auto", f"-Djava.io.tmpdir={directory / 'tmp'}",
            f"-Dlog4j2.configurationFile={logging}", "-cp", f"{engines.home / 'engines' / 'kafka-connect'}/*",
            "org.apache.kafka.connect.cli.ConnectStandalone", configuration,
        ],
    )  # fmt: skip
    return Worker(process, url, bootstrap_servers)
