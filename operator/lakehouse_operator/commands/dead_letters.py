"""Writes dead letters again whose transaction Kafka ended before Flink could commit it."""

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from lakehouse_operator.observation.observe import Look, kafka_connection
from lakehouse_operator.planning.placement import dead_letter_type

_SECONDS = 60.0
_LARGEST = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGAIN = "Written again by lakehouse verify --repair: the transaction with its first letter was lost."
_TOO_LARGE = f"{_AGAIN} It does not fit into a dead letter: read it in the source, at this partition and offset."


class WritingFailed(Exception):
    """Kafka did not take a dead letter; the message says why."""


def write_again(look: Look, records: Iterable[Message], now: datetime) -> int:
    """Write the dead letters of records that are in neither place, and answer how many those are.

    Records that bronze would put into its table are left alone. A letter that is there twice in the end does no harm:
    readers count each partition and offset once.

    Args:
        look: The pipeline's settings, and the values of the secrets that they name.
        records: Records of the source, with their bytes.
        now: When they are judged.

    Raises:
        WritingFailed: Kafka did not take one of them.
    """
    # How large a letter may be the topic decides, not the client.
    settings = {"enable.idempotence": True, "message.max.bytes": _LARGEST, "log_level": 2}
    producer = Producer({**kafka_connection(look), **settings})
    writer = _Writer(producer, look.settings.dead_letter_topic)
    for record in records:
        error_type = dead_letter_type(record.value(), record.timestamp()[1], look.settings)
        if error_type is not None:
            writer.write(record, _letter(record, error_type, now))
    writer.finish()
    return writer.written


class _Writer:
    """A producer that remembers what was not taken; a letter that is too large is written without its bytes."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._too_large: list[dict[str, Any]] = []
        self._failure: str | None = None
        self.written = 0

    def write(self, record: Message, letter: dict[str, Any]) -> None:
        self.written += 1
        self._send(record.key(), letter)
        self._producer.poll(0)

    def finish(self) -> None:
        self._flush()
        for letter in self._too_large:
            self._send(None, {**letter, "original_payload": None, "original_key": None, "error_message": _TOO_LARGE})
        self._too_large = []
        self._flush()
        if self._too_large:
            raise WritingFailed(f"dead letters can't be written to {self._topic}: it takes none of their size")

    def _send(self, key: bytes | None, letter: dict[str, Any]) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:  # within it the producer can't be used
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._too_large.append(letter)
            elif error is not None:
                self._failure = error.str()

        value = json.dumps(letter).encode()
        try:
            self._producer.produce(self._topic, value, key, on_delivery=delivered)
        except BufferError:  # its queue is full: let it empty
            self._flush()
            self._producer.produce(self._topic, value, key, on_delivery=delivered)

    def _flush(self) -> None:
        """Wait until Kafka has taken what was sent.

        Raises:
            WritingFailed: It did not take a letter.
        """
        if self._producer.flush(_SECONDS):
            self._failure = self._failure or "Kafka did not answer"
        if self._failure is not None:
            raise WritingFailed(f"dead letters can't be written to {self._topic}: {self._failure}")


def _letter(record: Message, error_type: str, now: datetime) -> dict[str, Any]:
    """A dead letter as the stream writes it (`lakehouse_contract.layout.DEAD_LETTER_COLUMNS`)."""
    return {
        "original_payload": _base64(record.value()),
        "original_key": _base64(record.key()),
        "error_type": error_type,
        "error_message": _AGAIN,
        "failed_at": _text(now),
        "kafka_partition": record.partition(),
        "kafka_offset": record.offset(),
        "kafka_timestamp": _text(_EPOCH + timedelta(milliseconds=record.timestamp()[1])),
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
