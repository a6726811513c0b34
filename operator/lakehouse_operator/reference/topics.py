"""Read back from Kafka what the oracle compares: what a topic holds, and what was dead-lettered."""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

METADATA_TIMEOUT_SECONDS = 15.0
SILENCE_TIMEOUT_SECONDS = 60.0

PRODUCED_SCHEMA = pa.schema(
    [
        pa.field("kafka_partition", pa.int32(), nullable=False),
        pa.field("kafka_offset", pa.int64(), nullable=False),
        pa.field("kafka_timestamp_ms", pa.int64(), nullable=False),
        pa.field("kafka_key", pa.binary()),
        pa.field("value_sha256", pa.binary()),
    ]
)
"""One row for each record of the source topic; `value_sha256` is null for a null value."""

DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("kafka_partition", pa.int32(), nullable=False),
        pa.field("kafka_offset", pa.int64(), nullable=False),
        pa.field("kafka_timestamp", pa.string()),
        pa.field("original_payload", pa.binary()),
        pa.field("original_key", pa.binary()),
        pa.field("error_type", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("failed_at", pa.string()),
    ]
)
"""One row for each dead letter, its bytes decoded; partition and offset are those of the source."""


class ReadingFailed(RuntimeError):
    """Kafka could not be read to the end, or holds something that can't be a dead letter."""


def partition_ends(connection: Mapping[str, str], topic: str) -> list[int]:
    """The next offset of each partition of a topic.

    Raises:
        ReadingFailed: Kafka is out of reach, or has no such topic.
    """
    consumer = _consumer(connection)
    try:
        return [
            consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=METADATA_TIMEOUT_SECONDS)[1]
            for partition in _partitions(consumer, topic)
        ]
    except KafkaException as error:
        raise ReadingFailed(f"topic {topic} can't be read: {error}") from error
    finally:
        consumer.close()


def read_produced(connection: Mapping[str, str], topic: str) -> pa.Table:
    """Everything that a topic holds now, with `PRODUCED_SCHEMA`.

    Args:
        connection: librdkafka properties; `bootstrap.servers` at least.
        topic: The source topic.

    Raises:
        ReadingFailed: Kafka is out of reach, has no such topic, or fell silent.
    """
    return _table(
        [
            (
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                None if (value := message.value()) is None else hashlib.sha256(value).digest(),
            )
            for message in _messages(connection, topic, "read_uncommitted")
        ],
        PRODUCED_SCHEMA,
    )


def read_dead_letters(connection: Mapping[str, str], topic: str) -> pa.Table:
    """Every committed dead letter, with `DEAD_LETTER_SCHEMA`.

    Raises:
        ReadingFailed: Kafka is out of reach, has no such topic, fell silent, or a record is no dead letter.
    """
    return _table(
        [_dead_letter(message) for message in _messages(connection, topic, "read_committed")], DEAD_LETTER_SCHEMA
    )


def first_of_each(dead_letters: pa.Table) -> pa.Table:
    """The dead letters with one for each source offset: a stream that went back sends those after the point again."""
    numbered = dead_letters.append_column("row", pa.array(range(dead_letters.num_rows), pa.int64()))
    first = numbered.group_by(["kafka_partition", "kafka_offset"]).aggregate([("row", "min")])
    return dead_letters.take(first.column("row_min").sort())


def _dead_letter(message: Message) -> tuple[Any, ...]:
    try:
        letter = json.loads(message.value() or b"")
        return (
            letter["kafka_partition"],
            letter["kafka_offset"],
            letter.get("kafka_timestamp"),
            _decoded(letter.get("original_payload")),
            _decoded(letter.get("original_key")),
            letter.get("error_type"),
            letter.get("error_message"),
            letter.get("failed_at"),
        )
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        where = f"partition {message.partition()}, offset {message.offset()} of {message.topic()}"
        raise ReadingFailed(f"{where} is not a dead letter: {error!r}") from error


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _messages(connection: Mapping[str, str], topic: str, isolation: str) -> Iterator[Message]:
    """All messages of a topic, up to where it ends when they are read."""
    consumer = _consumer({**connection, "isolation.level": isolation})
    try:
        unread = set(_partitions(consumer, topic))
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        deadline = time.monotonic() + SILENCE_TIMEOUT_SECONDS
        while unread:
            batch = consumer.consume(10_000, timeout=1.0)
            if batch:
                deadline = time.monotonic() + SILENCE_TIMEOUT_SECONDS
            elif time.monotonic() > deadline:
                raise ReadingFailed(
                    f"topic {topic} fell silent before partitions {sorted(unread)} were read to the end"
                )
            for message in batch:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                elif not error.retriable():
                    raise ReadingFailed(f"topic {topic} can't be read: {error.str()}")
    finally:
        consumer.close()


def _consumer(connection: Mapping[str, str]) -> Consumer:
    return Consumer(
        {
            **connection,
            "group.id": "lakehouse-oracle",  # asked for by the client; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    try:
        metadata = consumer.list_topics(topic, timeout=METADATA_TIMEOUT_SECONDS).topics[topic]
    except KafkaException as error:
        raise ReadingFailed(f"Kafka is out of reach: {error}") from error
    if metadata.error is not None:
        raise ReadingFailed(f"topic {topic} can't be read: {metadata.error.str()}")
    return sorted(metadata.partitions)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
