"""Send a stream: to files or to Kafka, with the truth beside it. The only clock of the room is read here."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer

from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.record import Record
from lakehouse_operator.reference.topics import partition_ends
from lakehouse_operator.reference.traffic import Traffic
from lakehouse_operator.reference.truth import PartFiles, part_files

RECORDS_BETWEEN_LOOKS = 1_000
"""How often the sender looks up: serves Kafka's callbacks, reports progress, notices that it should stop."""
FLUSH_TIMEOUT_SECONDS = 60.0


class SendingFailed(RuntimeError):
    """Kafka did not take every record: the truth that was written says more than was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a run sent. `stopped` says that it ended early because it was asked to."""

    records: int
    stopped: bool


Progress = Callable[[int], None]
"""Is told, from time to time, how many records were sent so far."""


def generate_to_files(
    traffic: Traffic,
    directory: Path,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> Sent:
    """Write a stream and its truth to `directory` as `records-*.parquet` and `truth-*.parquet`.

    Raises:
        FileExistsError: The directory already holds a stream.
    """
    stop = stop or threading.Event()
    with part_files(directory, "records", "truth") as files:
        count = 0
        for record in _until(records(traffic), stop, progress):
            files.add(record)
            count += 1
    return _finish(Sent(records=count, stopped=stop.is_set()), traffic, directory)


def generate_to_kafka(
    traffic: Traffic,
    *,
    bootstrap_servers: str,
    topic: str,
    truth_directory: Path,
    client: Mapping[str, str] | None = None,
    rate: float = 0.0,
    real_time: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> Sent:
    """Send a stream to a topic, to the partitions and with the timestamps that the truth names.

    Nothing is lost, doubled or reordered by the sender (acks=all, idempotent). The topic must have
    `message.timestamp.type=CreateTime` to keep the timestamps; with `LogAppendTime` the oracle takes the broker's.
    Ordinals go on from what the topic holds.

    Args:
        traffic: What to send.
        bootstrap_servers: Kafka's addresses.
        topic: An existing topic with at least `traffic.partitions` partitions.
        truth_directory: Where `truth-*.parquet` goes.
        client: Further librdkafka properties, such as those for security.
        rate: Records per second; 0 is as fast as possible.
        real_time: Send each record when the clock reaches its arrival, for streams that end in the future.
        stop: When set, the sender stops after the record in hand.
        progress: Told the number of records sent.

    Raises:
        SendingFailed: Kafka is out of reach, or did not take a record.
        ValueError: The topic has too few partitions.
        FileExistsError: The directory already holds a stream.
    """
    stop = stop or threading.Event()
    connection = {"bootstrap.servers": bootstrap_servers, **(client or {})}
    ends = partition_ends(connection, topic)
    if len(ends) < traffic.partitions:
        raise ValueError(f"topic {topic} has {len(ends)} partitions, fewer than the {traffic.partitions} asked for")
    stream: Iterable[Record] = records(traffic, ends[: traffic.partitions])
    if real_time:
        stream = _when_due(stream, stop)
    elif rate > 0:
        stream = _limited(stream, rate, stop)
    with part_files(truth_directory, "truth") as files:
        count = _send(_until(stream, stop, progress), connection, topic, files)
    return _finish(Sent(records=count, stopped=stop.is_set()), traffic, truth_directory)


def _send(stream: Iterable[Record], connection: Mapping[str, str], topic: str, truth: PartFiles) -> int:
    failures: list[KafkaError] = []
    producer = Producer(
        {
            "acks": "all",
            "enable.idempotence": True,
            # A broker that is killed may remember only the last batch of a producer, and takes one before it twice.
            "max.in.flight.requests.per.connection": 1,
            "compression.type": "lz4",
            "linger.ms": 20,
            **connection,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _message: failures.append(error),
        }
    )
    count = 0
    try:
        for record in stream:
            _produce(producer, topic, record)
            truth.add(record)
            count += 1
            if count % RECORDS_BETWEEN_LOOKS == 0:
                producer.poll(0)
            if failures:
                break
    finally:
        left = producer.flush(FLUSH_TIMEOUT_SECONDS)
    if failures or left:
        why = failures[0].str() if failures else "no acknowledgement in time"
        raise SendingFailed(f"{max(len(failures), left)} of {count} records did not reach topic {topic}: {why}")
    return count


def _produce(producer: Producer, topic: str, record: Record) -> None:
    while True:
        try:
            producer.produce(
                topic, value=record.value, key=record.key, partition=record.partition, timestamp=record.timestamp_ms
            )
        except BufferError:  # the sender's own queue is full: wait for acknowledgements
            producer.poll(0.1)
        except KafkaException as error:
            raise SendingFailed(f"a record was refused by the Kafka client: {error}") from error
        else:
            return


def _until(stream: Iterable[Record], stop: threading.Event, progress: Progress | None) -> Iterator[Record]:
    """The stream, cut off when `stop` is set."""
    count = 0
    for record in stream:
        if stop.is_set():
            break
        yield record
        count += 1
        if progress and count % RECORDS_BETWEEN_LOOKS == 0:
            progress(count)
    if progress:
        progress(count)


def _limited(stream: Iterable[Record], rate: float, stop: threading.Event) -> Iterator[Record]:
    """The stream at `rate` records per second; what was slow is caught up."""
    started = time.monotonic()
    for index, record in enumerate(stream):
        early = started + index / rate - time.monotonic()
        if early > 0:
            stop.wait(early)
        yield record


def _when_due(stream: Iterable[Record], stop: threading.Event) -> Iterator[Record]:
    """The stream, each record when the clock shows its arrival."""
    for record in stream:
        early_ms = record.timestamp_ms - time.time_ns() // 1_000_000
        if early_ms > 0:
            stop.wait(early_ms / 1000)
        yield record


def _finish(sent: Sent, traffic: Traffic, directory: Path) -> Sent:
    """Leave a note of what the files are, for people."""
    note = {"traffic": asdict(traffic), **asdict(sent)}
    (directory / "traffic.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    return sent
