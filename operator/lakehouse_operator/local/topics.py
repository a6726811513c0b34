"""What the local world asks and tells a Kafka broker: topics, their ends, and what a consumer group has committed."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

TimestampType = Literal["CreateTime", "LogAppendTime"]
_SECONDS = 15.0
_ONLY_CRITICAL = 2
"""Of librdkafka's syslog levels: a broker that is being stopped is no news."""
_NOT_YET = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class Topics:
    """A broker's topics, seen by an administrator."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._connection = {"bootstrap.servers": bootstrap_servers, "log_level": _ONLY_CRITICAL}
        self._admin = AdminClient(self._connection)

    def create(self, topic: str, *, partitions: int, timestamps: TimestampType) -> None:
        """Create a topic that keeps everything, unless it exists.

        Args:
            topic: Its name.
            partitions: How many.
            timestamps: `LogAppendTime` for arrival by the broker's clock; `CreateTime` where the producer says when a
                record arrived, as a generator with a simulated clock does.
        """
        settings = {"message.timestamp.type": timestamps, "retention.ms": "-1", "retention.bytes": "-1"}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        try:
            self._admin.create_topics([new], operation_timeout=_SECONDS)[topic].result(_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions."""
        return sorted(self._admin.list_topics(topic, timeout=_SECONDS).topics[topic].partitions)

    def ends(self, topic: str) -> dict[int, int]:
        """For each partition the offset after the last record."""

        def ask() -> dict[int, int]:
            asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in self.partitions(topic)}
            level = IsolationLevel.READ_UNCOMMITTED
            answers = self._admin.list_offsets(asked, isolation_level=level, request_timeout=_SECONDS)
            return {where.partition: answer.result(_SECONDS).offset for where, answer in answers.items()}

        return _settled(ask)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """For each partition the offset that a consumer group has committed; 0 where it has not yet."""

        def ask() -> dict[int, int]:
            # Not by the AdminClient: see `observation.kafka`.
            consumer = Consumer({**self._connection, "group.id": group, "enable.auto.commit": False})
            try:
                wanted = [TopicPartition(topic, number) for number in self.partitions(topic)]
                found = consumer.committed(wanted, timeout=_SECONDS)
            finally:
                consumer.close()
            return {where.partition: max(where.offset, 0) for where in found}

        return _settled(ask)


def _settled(ask: Callable[[], dict[int, int]]) -> dict[int, int]:
    """Ask again while the broker says "not yet": partitions and groups get their leaders after their topics exist."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def lag(ends: Mapping[int, int], committed: Mapping[int, int]) -> int:
    """How many records lie between what a group has committed and the ends."""
    return sum(end - committed.get(partition, 0) for partition, end in ends.items())


class LiveCount:
    """Counts the committed records of a topic as they come."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "lakehouse-live-count",  # asked for by the client; nothing is committed under it
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "log_level": _ONLY_CRITICAL,
            }
        )
        numbers = self._consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        self._count = 0

    def now(self) -> int:
        """How many have been seen, without waiting."""
        while batch := self._consumer.consume(1_000, timeout=0):
            self._count += sum(1 for message in batch if message.error() is None)
        return self._count

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
