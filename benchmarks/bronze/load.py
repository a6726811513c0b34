"""What is ingested: the reference traffic in a topic, and how much of it should come out where."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from lakehouse_operator.local.topics import Topics
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.traffic import MINUTE_MS, Traffic

_END_MS = 1_769_900_000_000
_POLL_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Load:
    """A topic that has been filled.

    Attributes:
        topic: Its name.
        records: How many records it holds.
        bytes: How large their values are together.
        dead_letters: How many of them can't be placed.
        open: How many of these another reader of JSON might place all the same.
        ids: How many distinct ids the others have.
    """

    topic: str
    records: int
    bytes: int
    dead_letters: int
    open: int
    ids: int


def fill(
    bootstrap_servers: str,
    topic: str,
    *,
    events: int,
    partitions: int,
    progress: Callable[[int], None],
    clean: bool = False,
) -> Load:
    """Create a topic and send the reference traffic to it, lz4-compressed.

    With `clean` it has its repeats, but nothing else that one reader would take and another would not.
    """
    Topics(bootstrap_servers).create(topic, partitions=partitions, timestamps="CreateTime")
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 100, "batch.size": 200_000, "compression.type": "lz4",
         "queue.buffering.max.messages": 500_000, "enable.idempotence": True}
    )  # fmt: skip
    outcomes: Counter[bool] = Counter()
    ids: set[str] = set()
    size = undecided = 0
    traffic = Traffic(end_ms=_END_MS, events=events, partitions=partitions, users=20_000)
    if clean:
        flawless = {"malformed": 0.0, "rule_breaking": 0.0, "unusual": 0.0, "late": 0.0, "too_late": 0.0}
        traffic = replace(traffic, max_repeat_gap_ms=55 * MINUTE_MS, **flawless)
    for number, record in enumerate(records(traffic)):
        if number % _POLL_EVERY == 0:
            producer.poll(0)
            progress(number)
        while True:
            try:
                producer.produce(topic, record.value, record.key, record.partition, timestamp=record.timestamp_ms)
                break
            except BufferError:
                producer.poll(0.1)
        size += len(record.value or b"")
        placed = record.expected in ("event", "duplicate", "event_or_duplicate")
        outcomes[placed] += 1
        undecided += record.intent.also_event
        if placed and record.intent.event_id is not None:
            ids.add(record.intent.event_id)
    if left := producer.flush(120):
        raise RuntimeError(f"Kafka did not take {left} records")
    return Load(topic, outcomes.total(), size, outcomes[False], undecided, len(ids))


def count_committed(bootstrap_servers: str, topic: str) -> int:
    """How many records of a topic with one partition a reader of committed transactions sees."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "count", "enable.auto.commit": False,
         "isolation.level": "read_committed", "enable.partition.eof": True}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, 0)])
    count = 0
    try:
        while (message := consumer.poll(30)) is not None:
            if message.error() is None:
                count += 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return count
            else:
                raise KafkaException(message.error())
        raise TimeoutError(f"{topic} could not be read to its end")
    finally:
        consumer.close()
