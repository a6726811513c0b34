"""A broker that lets nobody in unknown: the operator and `lakehouse verify` come in by each way that a spec knows."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.schema import Schema
from typer.testing import CliRunner

from lakehouse_contract import layout
from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import iceberg_schema
from lakehouse_operator.cli import app
from lakehouse_operator.local import engines
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.observation.kafka import KafkaObserver, KafkaUnreadable
from lakehouse_operator.observation.observe import Look, Observer, kafka_connection
from lakehouse_operator.planning.job_settings import bronze_settings
from lakehouse_operator.planning.secrets import stream_environment
from lakehouse_operator.tables.catalog import open_catalog
from local import secured
from planning.examples import raw, valid

WAYS = ("SCRAM-SHA-256", "SCRAM-SHA-512 over TLS", "PLAIN over TLS", "mTLS")
TOPIC = f"{secured.PREFIX}events"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secured.SecuredBroker]:
    directory = tmp_path_factory.mktemp("secured")
    with Processes(directory / "records", directory / "logs") as processes:
        started = secured.start(processes, engines.find(), directory, secured.make_certificates(directory))
        topics = Topics(started.plain.bootstrap_servers)
        topics.create(TOPIC, partitions=2, timestamps="LogAppendTime")
        topics.create(f"{TOPIC}-dlq", partitions=1, timestamps="LogAppendTime")
        producer = Producer({"bootstrap.servers": started.plain.bootstrap_servers, "log_level": 2})
        producer.produce(TOPIC, b"{}", partition=0)
        assert producer.flush(30) == 0
        topics.committed(f"{secured.PREFIX}bronze", TOPIC)  # answers once the group has a coordinator
        yield started


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, Any]:
    """A pipeline on that topic with an empty bronze table."""
    made = raw("minimal")
    made["spec"]["source"] |= {"topic": TOPIC, "consumerGroup": f"{secured.PREFIX}bronze"}
    made["spec"]["catalog"] = {
        "type": "jdbc", "uri": f"jdbc:sqlite:{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"
    }  # fmt: skip
    made["spec"]["bronze"]["table"] = "bronze.events"
    catalog = open_catalog(CatalogSettings(**made["spec"]["catalog"]), {})
    catalog.create_namespace("bronze")
    catalog.create_table("bronze.events", Schema.model_validate_json(iceberg_schema(layout.bronze("bronze.events"))))
    return made


def secure(manifest: dict[str, Any], way: secured.Way) -> dict[str, Any]:
    manifest["spec"]["source"] |= {
        "bootstrapServers": way.bootstrap_servers,
        "security": {**way.security, "secretRef": {"name": "kafka-user"}},
    }
    return manifest


@pytest.mark.parametrize("way", WAYS)
def test_the_operator_and_verify_come_in(
    broker: secured.SecuredBroker, manifest: dict[str, Any], tmp_path: Path, way: str
) -> None:
    chosen = broker.ways[way]
    pipeline = valid(secure(manifest, chosen))
    settings = bronze_settings(pipeline)
    assert settings.kafka == chosen.kafka
    from_secret = {entry["name"] for entry in stream_environment(pipeline.spec) if "valueFrom" in entry}
    assert {*chosen.environment} <= from_secret
    observation = Observer().observe(Look(settings=settings, secrets=chosen.environment))
    assert observation.problem is None
    assert [(part.start, part.end) for part in observation.kafka or ()] == [(0, 1), (0, 0)]
    assert observation.timestamps == "LogAppendTime"
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(manifest))
    done = CliRunner().invoke(
        app, ["verify", "-f", str(path), "--to-offset", "1", "--grace", "0"], env=dict(chosen.environment)
    )
    assert (done.exit_code, "have not been read by bronze yet" in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("way", "wrong", "told"),
    [
        ("SCRAM-SHA-512 over TLS", {"KAFKA_PASSWORD": "hunter2"}, "invalid credentials with SASL mechanism SCRAM"),
        ("mTLS", {"KAFKA_SSL_TRUSTSTORE_CERTIFICATES": ""}, "certificate verify failed"),
    ],
)
def test_why_kafka_lets_nobody_in_is_told_without_a_secret(
    broker: secured.SecuredBroker, manifest: dict[str, Any], way: str, wrong: Mapping[str, str], told: str
) -> None:
    chosen = broker.ways[way]
    look = Look(settings=bronze_settings(valid(secure(manifest, chosen))), secrets={**chosen.environment, **wrong})
    if not look.secrets.get("KAFKA_SSL_TRUSTSTORE_CERTIFICATES", "x"):
        other = {name: value for name, value in look.secrets.items() if value}
        look = replace(look, secrets=other)
    problem = Observer().observe(look).problem or ""
    assert told in problem
    assert "hunter2" not in problem


def test_a_broker_whose_name_is_not_to_be_checked_is_not_checked_here_either(manifest: dict[str, Any]) -> None:
    manifest["spec"]["source"]["properties"] = {"ssl.endpoint.identification.algorithm": ""}
    connection = kafka_connection(Look(settings=bronze_settings(valid(manifest))))
    assert connection["ssl.endpoint.identification.algorithm"] == "none"


def id_of(observer: KafkaObserver, topic: str) -> str | None:
    """The id of a topic that has just been made: the broker may say for a moment that there is none."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return observer.topic_id(topic)
        except KafkaUnreadable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_is_gone_before_it_was_read_is_counted_and_a_topic_that_was_made_again_is_another(
    broker: secured.SecuredBroker,
) -> None:
    connection = {"bootstrap.servers": broker.plain.bootstrap_servers}
    observer, admin, topics = KafkaObserver(connection), AdminClient(connection), Topics(broker.plain.bootstrap_servers)
    topics.create("passing", partitions=1, timestamps="LogAppendTime")
    first = id_of(observer, "passing")
    assert first == observer.topic_id("passing") != observer.topic_id(TOPIC)
    producer = Producer({**connection, "log_level": 2})
    for _ in range(9):
        producer.produce("passing", b"{}", partition=0)
    assert producer.flush(30) == 0
    [untouched] = observer.progress("passing", "nobody")
    assert (untouched.committed, untouched.gone) == (0, 0)

    consumer = Consumer({**connection, "group.id": "somebody", "log_level": 2})
    consumer.commit(offsets=[TopicPartition("passing", 0, 2)], asynchronous=False)
    consumer.close()
    for answer in admin.delete_records([TopicPartition("passing", 0, 5)]).values():
        answer.result(30)
    [part] = observer.progress("passing", "somebody")
    assert (part.start, part.committed, part.end, part.gone) == (5, 5, 9, 3)
    [new] = observer.progress("passing", "nobody")  # a group that has read nothing has missed nothing
    assert (new.committed, new.gone) == (5, 0)

    admin.delete_topics(["passing"], operation_timeout=30)["passing"].result(30)
    deadline = time.monotonic() + 60
    while "passing" in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
    topics.create("passing", partitions=1, timestamps="LogAppendTime")
    assert id_of(observer, "passing") not in (None, first)
