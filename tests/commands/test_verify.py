"""`lakehouse verify` against a real broker and a real Iceberg table: what it proves, and what it names."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from typer.testing import CliRunner, Result

from lakehouse_contract import layout
from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import iceberg_schema
from lakehouse_operator.cli import app
from lakehouse_operator.local import engines as find_engines
from lakehouse_operator.local import kafka
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.observation import verify as reading
from lakehouse_operator.reference.topics import read_dead_letters
from lakehouse_operator.tables.catalog import open_catalog

START_MS = 1_769_904_000_000
DAY_MS = 24 * 3_600_000
GROUP = "clicks-bronze"


@pytest.fixture(scope="module")
def bootstrap_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("verify")
    with Processes(directory / "records", directory / "logs") as processes:
        broker = kafka.start(processes, find_engines.find(), directory / "kafka")
        broker.wait_until_ready()
        yield broker.bootstrap_servers


@dataclass
class Pipeline:
    """A pipeline whose bronze job is played by the test: it puts each record where the test says."""

    name: str
    bootstrap_servers: str
    directory: Path
    catalog: Catalog
    rows: list[dict[str, Any]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def letters(self) -> str:
        return f"{self.name}-letters"

    def send(
        self, *values: bytes | None, partition: int = 0, after_ms: int = 0, transaction: bool | None = None
    ) -> int:
        """Send records, if asked for in a transaction that is committed (or not); answers the first one's offset."""
        own = {} if transaction is None else {"transactional.id": self.name}
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "log_level": 2, **own})
        if transaction is not None:
            producer.init_transactions(30)
            producer.begin_transaction()
        offsets: list[int] = []
        for value in values:
            producer.produce(
                self.name, value, partition=partition, timestamp=START_MS + after_ms,
                on_delivery=lambda _, message: offsets.append(message.offset()),
            )  # fmt: skip
        assert producer.flush(30) == 0
        if transaction is not None:
            (producer.commit_transaction if transaction else producer.abort_transaction)(30)
        return offsets[0]

    def place(self, event_id: str, offset: int, *, partition: int = 0, after_ms: int = 0) -> None:
        """Put a row into bronze, with the next `write`."""
        arrived = datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(milliseconds=after_ms)
        self.rows.append(
            {
                "event_id": event_id,
                "event_time": arrived,
                "payload": "{}",
                "kafka_key": None,
                "kafka_partition": partition,
                "kafka_offset": offset,
                "kafka_timestamp": arrived,
                "is_late_arrival": False,
                "ingested_at": arrived,
            }
        )

    def write(self) -> None:
        table = self.catalog.load_table(f"bronze.{self.name}")
        table.append(pa.Table.from_pylist(self.rows, schema=table.schema().as_arrow()))
        self.rows.clear()

    def set_aside(self, offset: int, times: int = 1, after_ms: int = 0) -> None:
        """Send a dead letter, some times."""
        arrived = datetime.fromtimestamp((START_MS + after_ms) / 1000, UTC).isoformat().replace("+00:00", "Z")
        letter = {"kafka_partition": 0, "kafka_offset": offset, "kafka_timestamp": arrived, "error_type": "X"}
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "log_level": 2})
        for _ in range(times):
            producer.produce(self.letters, json.dumps(letter).encode())
        assert producer.flush(30) == 0

    def commit(self, *offsets: int) -> None:
        """Commit how far bronze has read, partition by partition."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": GROUP + self.name, "log_level": 2}
        )
        places = [TopicPartition(self.name, number, offset) for number, offset in enumerate(offsets)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def manifest(self, **source: Any) -> Path:
        document = {
            "apiVersion": "lakehouse.dev/v1alpha1",
            "kind": "LakehousePipeline",
            "metadata": {"name": self.name},
            "spec": {
                "source": {
                    "bootstrapServers": self.bootstrap_servers,
                    "topic": self.name,
                    "consumerGroup": GROUP + self.name,
                    **source,
                },
                "catalog": {
                    "type": "jdbc",
                    "uri": f"jdbc:sqlite:{self.directory / 'catalog.db'}",
                    "warehouse": f"file://{self.directory / 'warehouse'}",
                },
                "bronze": {
                    "image": "lakehouse-flink:0.1.0",
                    "table": f"bronze.{self.name}",
                    "deadLetterTopic": self.letters,
                    "checkpoint": {
                        "directory": f"file://{self.directory}/checkpoints",
                        "savepointDirectory": f"file://{self.directory}/savepoints",
                    },
                },
            },
        }
        path = self.directory / "pipeline.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def verify(self, *arguments: str, code: int) -> dict[str, Any]:
        """What the command answers, which must end with an exit code."""
        done = self.run("-o", "json", *arguments)
        assert done.exit_code == code, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def run(self, *arguments: str, **source: Any) -> Result:
        return CliRunner().invoke(app, ["verify", "-f", str(self.manifest(**source)), "--grace", "0", *arguments])


@pytest.fixture
def pipeline(bootstrap_servers: str, tmp_path: Path, request: pytest.FixtureRequest) -> Pipeline:
    name = f"t{abs(hash(request.node.name))}"
    settings = CatalogSettings(
        type="jdbc", uri=f"jdbc:sqlite:{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    catalog = open_catalog(settings, {})
    table = layout.bronze(f"bronze.{name}")
    catalog.create_namespace("bronze")
    schema = Schema.model_validate_json(iceberg_schema(table))
    catalog.create_table(table.name, schema, properties=dict(table.properties))
    topics = Topics(bootstrap_servers)
    topics.create(name, partitions=2, timestamps="CreateTime")
    topics.create(f"{name}-letters", partitions=1, timestamps="LogAppendTime")
    return Pipeline(name, bootstrap_servers, tmp_path, catalog)


def event(event_id: str) -> bytes:
    return json.dumps({"event_id": event_id, "event_time": "2026-02-01T00:00:00Z"}).encode()


def problems(answer: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(each["partition"], each["offset"], each["problem"]) for each in answer["findings"]]


def test_everything_in_its_place_is_proven(pipeline: Pipeline) -> None:
    pipeline.send(event("a"), event("b"), b"broken", event("a"))
    pipeline.send(event("c"), event("a"), partition=1, after_ms=5)
    pipeline.place("a", 0)
    pipeline.place("b", 1)
    pipeline.place("c", 0, partition=1, after_ms=5)
    pipeline.write()
    pipeline.set_aside(2, times=2)
    pipeline.commit(4, 2)
    answer = pipeline.verify(code=0)
    counted = {
        name: answer[name] for name in ("outcome", "records", "bronze", "deadLetters", "repeats", "lettersAgain")
    }
    assert counted == {
        "outcome": "proven", "records": 6, "bronze": 3, "deadLetters": 1, "repeats": 2, "lettersAgain": 1
    }  # fmt: skip
    assert answer["remarks"] == ["1 dead letters are there again: a stream that goes back to a savepoint repeats them"]


def test_what_is_lost_or_doubled_is_named_in_whatever_slices(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send(event("a"), event("b"), event("c"), b"broken", b'{"event_id": "a"}')
    pipeline.place("a", 0)
    pipeline.place("c", 2)
    pipeline.write()
    pipeline.place("c", 2)
    pipeline.write()
    pipeline.commit(5)
    wrong = [(0, 1, "lost"), (0, 2, "doubled"), (0, 3, "lost"), (0, 4, "lost")]
    for length in (2, 200_000):
        monkeypatch.setattr(reading, "SLICE", length)
        assert problems(pipeline.verify(code=1)) == wrong
    done = pipeline.run()
    assert done.exit_code == 1
    assert "partition 0, offset 1: neither in bronze nor in the dead letters" in done.stdout
    assert problems(pipeline.verify("--to-offset", "1", code=0)) == []
    assert problems(pipeline.verify("--from-offset", "2", "--to-offset", "3", code=1)) == [(0, 2, "doubled")]


def test_the_markers_and_the_aborted_records_of_transactions_are_no_losses(pipeline: Pipeline) -> None:
    pipeline.send(event("a"), transaction=True)
    pipeline.send(event("never"), event("neither"), transaction=False)
    last = pipeline.send(event("b"), transaction=True)
    pipeline.place("a", 0)
    pipeline.place("b", last)
    pipeline.write()
    pipeline.commit(last + 2)
    answer = pipeline.verify(code=0)
    assert (answer["records"], answer["gaps"], last) == (2, 5, 5)
    pipeline.place("never", 2)
    pipeline.write()
    assert problems(pipeline.verify(code=1)) == [(0, 2, "neverProduced")]


def test_what_kafka_no_longer_holds_or_bronze_has_not_read_is_not_called_proven(pipeline: Pipeline) -> None:
    pipeline.send(event("a"), event("b"), event("c"), event("d"))
    assert pipeline.verify(code=2)["outcome"] == "open"  # nothing is committed
    for offset, event_id in enumerate("abc"):
        pipeline.place(event_id, offset)
    pipeline.write()
    pipeline.commit(3)
    assert pipeline.verify(code=0)["records"] == 3
    assert pipeline.verify("--to-offset", "4", code=2)["remarks"] == [
        "1 offsets that were asked for have not been read by bronze yet: ask again later"
    ]
    pipeline.commit(4)
    assert problems(pipeline.verify(code=1)) == [(0, 3, "lost")]
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap_servers})
    [done] = admin.delete_records([TopicPartition(pipeline.name, 0, 2)]).values()
    done.result(30)
    gone = pipeline.verify("--from-offset", "0", "--to-offset", "3", code=2)
    assert next((each["start"], each["end"], each["gone"]) for each in gone["partitions"]) == (2, 3, 2)
    assert pipeline.verify("--to-offset", "3", code=0)["records"] == 1


def test_what_may_have_expired_unread_is_told_though_bronze_has_gone_on(pipeline: Pipeline) -> None:
    pipeline.send(event("a"), event("b"), event("c"), event("d"))
    pipeline.place("a", 0)
    pipeline.place("d", 3)
    pipeline.write()
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap_servers})
    [done] = admin.delete_records([TopicPartition(pipeline.name, 0, 3)]).values()
    done.result(30)
    pipeline.commit(4)
    told = (
        "partition 0: Kafka holds nothing before offset 3, and bronze nothing of the 2 offsets before it: "
        "they were dead letters or repeats, or expired before they were read"
    )
    assert pipeline.verify(code=0)["remarks"] == [told]
    assert next(each["gone"] for each in pipeline.verify("--from-offset", "0", code=2)["partitions"]) == 3
    pipeline.place("b", 1)
    pipeline.place("c", 2)
    pipeline.write()
    assert pipeline.verify(code=0)["remarks"] == []


def test_of_the_dead_letters_only_those_since_the_range_began_are_read_where_the_broker_sets_the_times(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap_servers})
    by_broker = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, pipeline.name, incremental_configs=[by_broker])

    def junk_before(what: bytes) -> None:
        """Something in front of the letters that says whether it was read."""
        producer = Producer({"bootstrap.servers": pipeline.bootstrap_servers, "log_level": 2})
        producer.produce(pipeline.letters, what)
        assert producer.flush(30) == 0

    junk_before(b"no letter")
    until_the_clock_moves()
    monkeypatch.setattr(reading, "_CLOCKS_DIFFER_MS", 0)
    pipeline.send(b"broken")
    pipeline.set_aside(0)
    pipeline.commit(1)
    whole = pipeline.verify(code=0)
    assert (whole["deadLetters"], len(whole["remarks"])) == (1, 1), "a producer's time tells nothing"

    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(30)
    junk_before(b"no letter either")
    until_the_clock_moves()
    pipeline.send(b"broken")
    pipeline.set_aside(1, after_ms=arrival(pipeline, 1) - START_MS)
    pipeline.commit(2)
    part = pipeline.verify("--from-offset", "1", code=0)
    assert (part["deadLetters"], part["remarks"]) == (1, [])


def until_the_clock_moves() -> None:
    began = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= began + 1:
        time.sleep(0.001)


def arrival(pipeline: Pipeline, offset: int) -> int:
    """When the broker says that a record came, in milliseconds since 1970."""
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap_servers, "group.id": "looker", "log_level": 2})
    consumer.assign([TopicPartition(pipeline.name, 0, offset)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return int(message.timestamp()[1])


def test_an_open_transaction_is_no_end(pipeline: Pipeline) -> None:
    producer = Producer({"bootstrap.servers": pipeline.bootstrap_servers, "transactional.id": "open", "log_level": 2})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(pipeline.name, event("a"), partition=0)
    assert producer.flush(30) == 0
    pipeline.commit(1)
    done = pipeline.run()
    assert (done.exit_code, "a transaction is open" in done.output) == (2, True)
    producer.abort_transaction(30)
    assert pipeline.verify(code=0)["gaps"] == 1


def test_a_range_can_be_told_by_arrival(pipeline: Pipeline) -> None:
    pipeline.send(event("a"))
    pipeline.send(event("b"), after_ms=DAY_MS)
    pipeline.send(event("c"), event("a"), after_ms=2 * DAY_MS)
    pipeline.place("a", 0)
    pipeline.place("c", 2, after_ms=2 * DAY_MS)
    pipeline.write()
    pipeline.commit(4)
    assert problems(pipeline.verify(code=1)) == [(0, 1, "lost")]
    midnights = ["2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"]
    assert pipeline.verify("--until", midnights[1], code=0)["records"] == 1
    assert pipeline.verify("--since", midnights[1], "--until", midnights[2], code=1)["lost"] == 1
    newest = pipeline.verify("--since", midnights[2], code=0)
    assert (newest["records"], newest["lateRepeats"]) == (2, 1)


class Clock:
    """Stands in for `time`: it goes on by itself, and sleeping takes no time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("seconds_of_reading", [0, 1_000])
def test_what_is_being_committed_is_looked_for_again_however_long_reading_took(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seconds_of_reading: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(reading, "time", clock)
    pipeline.send(event("a"), b"broken")
    pipeline.commit(2)
    pipeline.place("a", 0)
    rows = reading._rows

    def then_commit(*arguments: Any) -> Any:
        found = list(rows(*arguments))
        if pipeline.rows:
            clock.now += seconds_of_reading
            pipeline.write()
            pipeline.set_aside(1)
        return found

    monkeypatch.setattr(reading, "_rows", then_commit)
    assert pipeline.verify("--grace", "60", code=0)["deadLetters"] == 1


def test_lost_dead_letters_are_written_again_and_nothing_else_is(pipeline: Pipeline) -> None:
    """Each is judged as bronze does; a record that belongs into the table is no dead letter."""
    too_late = json.dumps({"event_id": "old", "event_time": "2025-01-01T00:00:00Z"}).encode()
    large = b"x" * 900_000  # in base64 it is larger than the dead letters' topic takes
    pipeline.send(event("a"), b"broken", None, too_late, large)
    pipeline.send(event("lost"), b"\xff", partition=1)
    pipeline.place("a", 0)
    pipeline.write()
    pipeline.set_aside(1)
    pipeline.commit(5, 2)
    missing = [(0, 2, "lost"), (0, 3, "lost"), (0, 4, "lost"), (1, 0, "lost"), (1, 1, "lost")]
    assert problems(pipeline.verify(code=1)) == missing
    answer = pipeline.verify("--repair", code=1)
    assert problems(answer) == [(1, 0, "lost")]
    assert answer["remarks"] == ["4 dead letters were lost, and were written again"]
    again = read_dead_letters({"bootstrap.servers": pipeline.bootstrap_servers}, pipeline.letters).to_pylist()[1:]
    found = {(each["kafka_partition"], each["kafka_offset"]): each for each in again}
    assert {place: each["error_type"] for place, each in found.items()} == {
        (0, 2): "NULL_PAYLOAD", (0, 3): "TOO_LATE", (0, 4): "INVALID_JSON", (1, 1): "INVALID_ENCODING"
    }  # fmt: skip
    assert found[0, 3]["original_payload"] == too_late
    assert (found[0, 4]["original_payload"], "does not fit" in found[0, 4]["error_message"]) == (None, True)
    assert {each["kafka_timestamp"] for each in again} == {"2026-02-01T00:00:00.000Z"}

    pipeline.place("lost", 0, partition=1)
    pipeline.write()
    assert pipeline.verify("--repair", code=0)["deadLetters"] == 5
    assert len(read_dead_letters({"bootstrap.servers": pipeline.bootstrap_servers}, pipeline.letters)) == 5


def test_what_can_not_be_read_ends_with_2_and_a_sentence(pipeline: Pipeline) -> None:
    login = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "secretRef": {"name": "login"}}
    for told, done in (
        ("set these environment variables: KAFKA_USERNAME (username of Secret login)", pipeline.run(security=login)),
        ("Kafka has no topic nothing", pipeline.run(topic="nothing")),
        ("has no partition 7", pipeline.run("--partition", "7")),
        ("--since must be a time", pipeline.run("--since", "yesterday")),
        ("nothing runs in", pipeline.run("--world", "a-world-that-is-not-there")),
        ("not both", pipeline.run("--since", "2026-01-01", "--from-offset", "0")),
    ):
        assert (done.exit_code, told in done.output) == (2, True), done.output
    pipeline.catalog.drop_table(f"bronze.{pipeline.name}")
    done = pipeline.run()
    assert (done.exit_code, "the catalog has no table bronze." in done.output) == (2, True), done.output
