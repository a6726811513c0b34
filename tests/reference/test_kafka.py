"""Records reach Kafka as the truth says. The broker here is librdkafka's own mock; the demo's tests use a real one."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from lakehouse_operator.reference import oracle
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.produce import SendingFailed, generate_to_kafka
from lakehouse_operator.reference.topics import ReadingFailed, partition_ends, read_dead_letters, read_produced
from lakehouse_operator.reference.traffic import Lateness, Traffic

TRAFFIC = Traffic(
    end_ms=1_780_000_000_000, events=1_500, users=50, repeated=0.1, malformed=0.2, rule_breaking=0.1, unusual=0.2,
    oversized_bytes=5_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The address of a mock cluster; its topics have four partitions."""
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "made.up:1"})
    address = next(iter(cluster.list_topics(timeout=10).brokers.values()))
    yield f"{address.host}:{address.port}"
    cluster.flush(1)


def _touch(broker: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker})
    producer.list_topics(topic, timeout=10)


def test_a_topic_holds_what_was_sent(broker: str, tmp_path: Path) -> None:
    _touch(broker, "sent")
    sent = generate_to_kafka(TRAFFIC, bootstrap_servers=broker, topic="sent", truth_directory=tmp_path)
    expected = list(records(TRAFFIC))
    assert sent.records == len(expected)
    produced = read_produced({"bootstrap.servers": broker}, "sent")
    assert produced.num_rows == len(expected)
    with oracle.connect() as connection:
        oracle.load(connection, truth=tmp_path / "truth-*.parquet", produced=produced)
        oracle.load(connection, bronze=produced.slice(0, 0), dead_letters=produced.slice(0, 0))
        oracle.prepare(connection, Lateness())
        assert (
            connection.execute("SELECT count(*), count(*) FILTER (as_sent) FROM sent").fetchone()
            == (len(expected),) * 2
        )


def test_null_and_empty_are_told_apart(broker: str, tmp_path: Path) -> None:
    _touch(broker, "nothing")
    generate_to_kafka(TRAFFIC, bootstrap_servers=broker, topic="nothing", truth_directory=tmp_path)
    rows = read_produced({"bootstrap.servers": broker}, "nothing").to_pylist()
    of_nothing = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert sum(row["value_sha256"] is None for row in rows) > 0
    assert sum(row["value_sha256"] == of_nothing for row in rows) > 0
    assert sum(row["kafka_key"] is None for row in rows) > 0
    assert sum(row["kafka_key"] == b"" for row in rows) > 0


def test_a_second_stream_goes_on_where_the_first_ended(broker: str, tmp_path: Path) -> None:
    _touch(broker, "twice")
    for run in ("first", "second"):
        traffic = replace(TRAFFIC, seed=len(run), events=300)
        generate_to_kafka(traffic, bootstrap_servers=broker, topic="twice", truth_directory=tmp_path / run)
    ends = partition_ends({"bootstrap.servers": broker}, "twice")
    rows = [
        (row["partition"], row["ordinal"])
        for run in ("first", "second")
        for row in pq.read_table(tmp_path / run / "truth-00000.parquet").to_pylist()
    ]
    assert sorted(rows) == [(partition, offset) for partition, end in enumerate(ends) for offset in range(end)]


def test_the_rate_is_kept(broker: str, tmp_path: Path) -> None:
    _touch(broker, "slow")
    started = time.monotonic()
    generate_to_kafka(
        replace(TRAFFIC, events=100, repeated=0),
        bootstrap_servers=broker,
        topic="slow",
        truth_directory=tmp_path,
        rate=200,
    )
    assert time.monotonic() - started >= 0.49


def test_a_live_stream_is_sent_when_its_records_are_due(broker: str, tmp_path: Path) -> None:
    _touch(broker, "live")
    end_ms = time.time_ns() // 1_000_000 + 1_500
    live = replace(TRAFFIC, end_ms=end_ms, span_ms=1_000, events=50, repeated=0)
    generate_to_kafka(live, bootstrap_servers=broker, topic="live", truth_directory=tmp_path, real_time=True)
    last_ms = max(pq.read_table(tmp_path / "truth-00000.parquet")["arrival_ms"].to_pylist())
    assert last_ms <= time.time_ns() // 1_000_000


def test_a_stopped_stream_has_the_truth_about_what_was_sent(broker: str, tmp_path: Path) -> None:
    _touch(broker, "stopped")
    stop = threading.Event()
    sent = generate_to_kafka(
        TRAFFIC,
        bootstrap_servers=broker,
        topic="stopped",
        truth_directory=tmp_path,
        stop=stop,
        progress=lambda count: stop.set(),
    )
    assert (sent.records, sent.stopped) == (1_000, True)
    assert sum(partition_ends({"bootstrap.servers": broker}, "stopped")) == sent.records
    assert pq.read_metadata(tmp_path / "truth-00000.parquet").num_rows == sent.records


def test_too_few_partitions_are_refused(broker: str, tmp_path: Path) -> None:
    _touch(broker, "narrow")
    with pytest.raises(ValueError, match="topic narrow has 4 partitions, fewer than the 5 asked for"):
        generate_to_kafka(
            replace(TRAFFIC, partitions=5), bootstrap_servers=broker, topic="narrow", truth_directory=tmp_path
        )


def test_a_record_that_kafka_refuses_is_not_passed_over(broker: str, tmp_path: Path) -> None:
    _touch(broker, "small")
    with pytest.raises(SendingFailed, match=r"refused by the Kafka client: .*MSG_SIZE_TOO_LARGE"):
        generate_to_kafka(
            TRAFFIC,
            bootstrap_servers=broker,
            topic="small",
            truth_directory=tmp_path,
            client={"message.max.bytes": "2000"},
        )


def test_dead_letters_are_read_with_their_bytes(broker: str) -> None:
    letter = {
        "original_payload": base64.b64encode(b"\xff{").decode(), "original_key": None, "error_type": "INVALID_ENCODING",
        "error_message": "not UTF-8", "failed_at": "2026-01-01 00:00:00Z", "kafka_partition": 1, "kafka_offset": 2**40,
        "kafka_timestamp": "2026-01-01 00:00:00.123Z",
    }  # fmt: skip
    producer = Producer({"bootstrap.servers": broker})
    producer.produce("dead", json.dumps(letter))
    producer.flush(10)
    assert read_dead_letters({"bootstrap.servers": broker}, "dead").to_pylist() == [
        letter | {"original_payload": b"\xff{"}
    ]


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("no-json", b"hello"),
        ("no-origin", b'{"error_type": "INVALID_JSON"}'),
        ("no-base64", b'{"kafka_partition": 0, "kafka_offset": 0, "original_payload": "eyJ9*"}'),
        ("no-value", None),
    ],
)
def test_what_is_no_dead_letter_is_named(broker: str, topic: str, value: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, value, partition=0)
    producer.flush(10)
    with pytest.raises(ReadingFailed, match=f"partition 0, offset 0 of {topic} is not a dead letter"):
        read_dead_letters({"bootstrap.servers": broker}, topic)
