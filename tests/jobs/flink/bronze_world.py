"""One bronze pipeline on the shared broker and cluster: topics and a table of its own, and what came out of it."""

import base64
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow.parquet
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse_contract import decoding
from lakehouse_contract.settings import BronzeSettings, CatalogSettings, CheckpointSettings, KafkaSettings
from lakehouse_jobs import bronze, iceberg_catalog
from lakehouse_operator.local.flink import FlinkCluster
from lakehouse_operator.local.topics import Topics

_SECONDS = 90.0


@dataclass(frozen=True)
class Record:
    """A record to produce. `arrival` is its Kafka timestamp in milliseconds, where the topic lets producers say it."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    arrival: int = 0


@dataclass(frozen=True)
class DeadLetter:
    partition: int
    offset: int
    payload: bytes | None
    key: bytes | None
    record_key: bytes | None
    error_type: str
    error_message: str
    fields: dict[str, Any] = field(compare=False, repr=False)


@dataclass(frozen=True)
class World:
    """A pipeline's settings and where it runs."""

    name: str
    directory: Path
    bootstrap_servers: str
    cluster: FlinkCluster
    jvm: Any
    settings: BronzeSettings

    def create_topics(self, partitions: int = 1, *, timestamps: str = "CreateTime", **of_dead_letters: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        wanted = [
            NewTopic(self.settings.kafka.topic, partitions, 1,
                     config={"message.timestamp.type": timestamps, "max.message.bytes": "20000000"}),
            NewTopic(self.settings.dead_letter_topic, 1, 1,
                     config={key.replace("_", "."): value for key, value in of_dead_letters.items()}),
        ]  # fmt: skip
        for answer in admin.create_topics(wanted, operation_timeout=30).values():
            answer.result(30)

    def produce(self, records: Iterable[Record]) -> None:
        """Send records; within a partition they keep their order."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap_servers, "linger.ms": 20, "message.max.bytes": 20_000_000,
             "queue.buffering.max.kbytes": 1_000_000, "enable.idempotence": True}
        )  # fmt: skip
        failures: list[Any] = []
        for record in records:
            producer.produce(
                self.settings.kafka.topic, record.value, record.key, record.partition, timestamp=record.arrival,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )  # fmt: skip
            producer.poll(0)
        producer.flush(60)
        assert not failures, failures

    def change(self, **changes: Any) -> "World":
        return replace(self, settings=replace(self.settings, **changes))

    def submit(self, *, from_savepoint: str | None = None) -> str:
        """Start the job, and answer its id once all its tasks run."""
        job = bronze.submit(self.settings, os.environ, target=self.cluster.address, from_savepoint=from_savepoint)
        self.until(lambda: self.cluster.rest.all_tasks_running(job), "all tasks run", job=job)
        return job

    def caught_up(self) -> bool:
        topics = Topics(self.bootstrap_servers)
        ends = topics.ends(self.settings.kafka.topic)
        return topics.committed(self.settings.kafka.consumer_group, self.settings.kafka.topic) == ends

    def checkpoints(self, job: str) -> int:
        """How many checkpoints the job has completed."""
        return int(self.cluster.rest.get(f"/jobs/{job}/checkpoints")["counts"]["completed"])

    def stop(self, job: str) -> str:
        """Stop with a savepoint, which commits everything that was read; answers where it lies."""
        return self.cluster.rest.stop_with_savepoint(job, self.settings.checkpoint.savepoint_directory)

    def run(self) -> str:
        """Ingest everything that is in the topic, and stop; answers where the savepoint lies."""
        job = self.submit()
        self.until(self.caught_up, "everything is read", job=job)
        return self.stop(job)

    def until(
        self, condition: Callable[[], Any], what: str, *, job: str | None = None, seconds: float = _SECONDS
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if job is not None and (state := self.cluster.rest.state(job)) in ("FAILED", "CANCELED"):
                raise AssertionError(f"the job is {state}: {self.cluster.rest.root_exception(job)}")
            if time.monotonic() > deadline:
                why = self.cluster.rest.root_exception(job) if job else None
                raise AssertionError(f"not within {seconds:g} s: {what}. {why or ''}")
            time.sleep(0.1)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the bronze table's current snapshot, read from the files that Iceberg's metadata names."""
        return [row for path in self._files() for row in pyarrow.parquet.ParquetFile(path).read().to_pylist()]

    def _files(self) -> Iterator[str]:
        with iceberg_catalog.opened(self.jvm, self.settings.catalog, {}) as catalog:
            identifier = self.jvm.org.apache.iceberg.catalog.TableIdentifier.parse(self.settings.table)
            tasks = catalog.loadTable(identifier).newScan().planFiles().iterator()
            while tasks.hasNext():
                yield urlparse(tasks.next().file().location()).path

    def dead_letters(self, isolation: str = "read_committed") -> list[DeadLetter]:
        return [_dead_letter(key, value) for key, value in _read_all(
            self.bootstrap_servers, self.settings.dead_letter_topic, isolation)]  # fmt: skip

    def places(self) -> Counter[tuple[int, int]]:
        """How often each (partition, offset) of the source has come out, in bronze or as a dead letter."""
        return Counter(
            [(row["kafka_partition"], row["kafka_offset"]) for row in self.rows()]
            + [(letter.partition, letter.offset) for letter in self.dead_letters()]
        )


def settings_for(name: str, directory: Path, bootstrap_servers: str) -> BronzeSettings:
    return BronzeSettings(
        pipeline=name,
        kafka=KafkaSettings(
            bootstrap_servers=bootstrap_servers, topic=f"{name}-events", consumer_group=f"{name}-bronze"
        ),
        catalog=CatalogSettings(
            type="jdbc", uri=f"jdbc:sqlite:{directory / 'catalog.db'}", warehouse=(directory / "warehouse").as_uri()
        ),
        checkpoint=CheckpointSettings(
            directory=(directory / "checkpoints").as_uri(),
            savepoint_directory=(directory / "savepoints").as_uri(),
            interval_seconds=1,
        ),
        table="bronze.events",
        dead_letter_topic=f"{name}-dlq",
        parallelism=1,
    )


def command_line(settings: BronzeSettings) -> list[str]:
    return ["--settings", decoding.to_json(settings)]


def _dead_letter(key: bytes | None, value: bytes) -> DeadLetter:
    fields = json.loads(value)
    return DeadLetter(
        partition=fields["kafka_partition"],
        offset=fields["kafka_offset"],
        payload=_bytes(fields["original_payload"]),
        key=_bytes(fields["original_key"]),
        record_key=key,
        error_type=fields["error_type"],
        error_message=fields["error_message"],
        fields=fields,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _read_all(bootstrap_servers: str, topic: str, isolation: str) -> Sequence[tuple[bytes | None, bytes]]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "reader", "enable.auto.commit": False,
         "isolation.level": isolation, "enable.partition.eof": True, "fetch.message.max.bytes": 20_000_000}
    )  # fmt: skip
    found: list[tuple[bytes | None, bytes]] = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = consumer.poll(30)
            assert message is not None, "the broker does not answer"
            if message.error() is None:
                found.append((message.key(), message.value()))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise AssertionError(message.error())
    finally:
        consumer.close()
