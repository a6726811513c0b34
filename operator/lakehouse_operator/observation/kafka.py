"""How far bronze has come in its topic: the broker's offsets, and those that the consumer group has committed."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from lakehouse_operator.planning.observed import PartitionProgress

_SECONDS = 10.0
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
_NOT_LET_IN = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE})
T = TypeVar("T")


class KafkaUnreadable(Exception):
    """Kafka did not answer, or refused; the message says what was asked."""


class KafkaObserver:
    """Asks one cluster again and again, over one connection but for the offsets of groups.

    Args:
        connection: librdkafka's properties, `bootstrap.servers` and, where needed, the security ones.
    """

    def __init__(self, connection: Mapping[str, str]) -> None:
        self._refused: str | None = None
        self._connection: dict[str, Any] = {
            **connection,
            "log_level": 2,
            "socket.timeout.ms": int(_SECONDS * 1000),
            "error_cb": self._note,
        }
        self._admin = AdminClient(self._connection)

    def progress(self, topic: str, group: str, boundaries: Iterable[datetime] = ()) -> tuple[PartitionProgress, ...]:
        """The progress of each partition.

        Args:
            topic: The source topic.
            group: The consumer group whose committed offsets are bronze's.
            boundaries: Moments of arrival; for each, the first offset at or after it is asked for.

        Raises:
            KafkaUnreadable: Kafka did not answer, or has no such topic.
        """
        numbers = self._partitions(topic)
        starts = self._offsets(topic, numbers, OffsetSpec.earliest())
        ends = self._offsets(topic, numbers, OffsetSpec.latest())
        committed = self._committed(topic, numbers, group)
        at: dict[datetime, dict[int, int]] = {
            boundary: self._offsets(topic, numbers, OffsetSpec.for_timestamp(int(boundary.timestamp() * 1000)))
            for boundary in boundaries
        }
        return tuple(
            PartitionProgress(
                partition=number,
                # A group that has committed nothing begins where the log begins (auto.offset.reset=earliest).
                committed=max(committed[number], starts[number]),
                gone=max(starts[number] - committed[number], 0) if committed[number] >= 0 else 0,
                start=starts[number],
                end=ends[number],
                # Without a record at or after the boundary the broker answers -1: all that there is lies before it.
                end_at={when: ends[number] if found[number] < 0 else found[number] for when, found in at.items()},
            )
            for number in numbers
        )

    def timestamp_type(self, topic: str) -> str | None:
        """`LogAppendTime` or `CreateTime`; None where the broker does not say.

        Raises:
            KafkaUnreadable: Kafka did not answer, or one may not read a topic's configuration.
        """
        resource = ConfigResource(ResourceType.TOPIC, topic)
        answer = self._ask("the topic's configuration", lambda: self._admin.describe_configs([resource]))
        configuration = self._ask("the topic's configuration", lambda: answer[resource].result(_SECONDS))
        entry = configuration.get("message.timestamp.type")
        return entry.value if entry else None

    def topic_id(self, topic: str) -> str | None:
        """The id that Kafka gave a topic when it was made; None where the broker has no such ids (before 2.8).

        Raises:
            KafkaUnreadable: Kafka did not answer, or has no such topic.
        """

        def ask() -> str:
            answer = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_SECONDS)[topic]
            return str(answer.result(_SECONDS).topic_id)

        found = self._ask("the topic", ask)
        return None if found == _NO_ID else found

    def _partitions(self, topic: str) -> list[int]:
        found = self._ask("the topic", lambda: self._admin.list_topics(topic, timeout=_SECONDS)).topics[topic]
        if found.error is not None or not found.partitions:
            raise KafkaUnreadable(f"Kafka has no topic {topic} that can be read: {found.error or 'no partitions'}")
        return sorted(found.partitions)

    def _offsets(self, topic: str, numbers: list[int], spec: OffsetSpec) -> dict[int, int]:
        def ask() -> dict[int, int]:
            answers = self._admin.list_offsets(
                {TopicPartition(topic, number): spec for number in numbers},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=_SECONDS,
            )
            return {where.partition: answer.result(_SECONDS).offset for where, answer in answers.items()}

        return self._ask("offsets", ask)

    def _committed(self, topic: str, numbers: list[int], group: str) -> dict[int, int]:
        """The group's committed offsets, negative where it has none.

        Not by `AdminClient.list_consumer_group_offsets`: that ends the whole process by a segmentation fault when the
        broker that it asks is not the group's coordinator, as after a restart of one (confluentinc/librdkafka #5040).
        The consumer subscribes to nothing, so it does not join the group.
        """

        def ask() -> dict[int, int]:
            consumer = Consumer({**self._connection, "group.id": group, "enable.auto.commit": False})
            try:
                found = consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=_SECONDS)
            finally:
                consumer.close()
            failed = next((where.error for where in found if where.error is not None), None)
            if failed is not None:
                raise KafkaException(failed)
            return {where.partition: where.offset for where in found}

        return self._ask("the offsets of the consumer group", ask)

    def _note(self, error: KafkaError) -> None:
        """Remember why a broker lets nobody in: what is asked only says that no answer came."""
        if error.code() in _NOT_LET_IN:
            self._refused = error.str()

    def _ask(self, what: str, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except (KafkaException, TimeoutError) as error:
            self._admin.poll(0)  # hands over what is to be noted
            raise KafkaUnreadable(f"Kafka did not answer for {what}: {self._refused or error}") from error
        self._refused = None
        return answer
