"""A broker that lets nobody in unknown: the job comes in by each way, and its secrets go nowhere else."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from jobs.flink.bronze_world import Record, World, settings_for
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import SettingsRefused, to_json
from lakehouse_contract.settings import BronzeSettings, KafkaLogin
from lakehouse_jobs import bronze, kafka_client
from lakehouse_operator.local import engines
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import Topics
from local import secured

WAYS = ("SCRAM-SHA-256", "SCRAM-SHA-512 over TLS", "PLAIN over TLS", "mTLS")


@pytest.fixture(scope="module")
def secured_broker(
    installed: engines.Engines, tmp_path_factory: pytest.TempPathFactory, certificates: Mapping[str, str]
) -> Iterator[secured.SecuredBroker]:
    directory = tmp_path_factory.mktemp("secured")
    with Processes(directory / "records", directory / "logs") as started:
        yield secured.start(started, installed, directory, certificates)


@pytest.fixture
def worlds(world: World, secured_broker: secured.SecuredBroker) -> dict[str, World]:
    """The same pipeline for each way in, with topics that it may read and write; tests see them as administrators."""
    name = f"{secured.PREFIX}{world.name}"
    return {
        way: replace(world, bootstrap_servers=secured_broker.plain.bootstrap_servers).change(
            pipeline=name,
            dead_letter_topic=f"{name}-dlq",
            kafka=replace(secured_broker.ways[way].kafka, topic=f"{name}-events", consumer_group=f"{name}-bronze"),
        )
        for way in WAYS
    }


def test_the_job_comes_in_by_each_way_and_its_secrets_stay_in_its_environment(
    worlds: dict[str, World], processes: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Over many partitions of which most are idle, each way going on from the savepoint of the one before it."""
    worlds[WAYS[0]].create_topics(partitions=24)
    savepoint, told = None, ""
    for number, way in enumerate(WAYS):
        world = worlds[way]
        world.produce([Record(event(f"id-{number}"), partition=5 * number, arrival=ARRIVAL),
                       Record(b"bad", partition=7, arrival=ARRIVAL)])  # fmt: skip
        job = world.submit(from_savepoint=savepoint)
        world.until(world.caught_up, "everything is read", job=job)
        told += "".join(json.dumps(world.cluster.rest.get(f"/jobs/{job}{of}")) for of in ("", "/config", "/plan"))
        savepoint = world.stop(job)
    assert len(world.rows()) == len(WAYS)
    assert [letter.offset for letter in world.dead_letters()] == [*range(len(WAYS))]
    assert secrets_in(world, processes, told + "".join(capfd.readouterr())) == []


def secrets_in(world: World, processes: Processes, told: str) -> list[str]:
    """Where a secret stands: in what was said, or in any file of Flink, its logs, its state and the job's clients."""
    wanted = re.compile("|".join([re.escape(secured.PASSWORD), *key_lines()]).encode())
    folders = (world.cluster.directory, processes.logs, world.directory)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found = [str(path) for path in files if wanted.search(path.read_bytes())]
    return found + (["said"] if wanted.search(told.encode()) else [])


def key_lines() -> list[str]:
    """The lines of the client's key between its marks."""
    return [re.escape(line) for line in os.environ["KAFKA_SSL_KEYSTORE_KEY"].splitlines() if "-----" not in line]


def test_dead_letters_whose_transaction_kafka_ended_are_noticed_named_and_written_again(
    worlds: dict[str, World], secured_broker: secured.SecuredBroker, tmp_path: Path
) -> None:
    """Kafka is killed between a checkpoint and its commit, and stays away for longer than the transaction may take."""
    way = "SCRAM-SHA-512 over TLS"
    world = worlds[way].change(transaction_timeout_seconds=3)
    world = world.change(checkpoint=replace(world.settings.checkpoint, interval_seconds=600))
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL), Record(b"bad", key=b"k", arrival=ARRIVAL)])
    job = world.submit()
    world.until(lambda: len(world.dead_letters("read_uncommitted")) == 1, "the letter is written", job=job)
    rest, directory = world.cluster.rest, world.settings.checkpoint.savepoint_directory
    savepoint = rest.savepoint(job, directory)  # one in passing commits nothing
    rest.cancel(job)
    world.until(lambda: rest.state(job) == "CANCELED", "the job is cancelled")
    secured_broker.plain.process.kill()
    secured_broker.again()
    topics = Topics(world.bootstrap_servers)
    world.until(lambda: topics.ends(world.settings.dead_letter_topic) == {0: 2}, "Kafka has ended the transaction")

    world = world.change(checkpoint=replace(world.settings.checkpoint, interval_seconds=1))
    job = world.submit(from_savepoint=savepoint)
    operator = Operator(world, secured_broker.ways[way], tmp_path / "pipeline.yaml")
    world.until(lambda: operator.lost_transactions(job) == 1, "the operator notices it", job=job)
    world.until(world.caught_up, "its offsets are committed: a stop alone commits none", job=job)
    world.stop(job)
    assert [row["kafka_offset"] for row in world.rows()] == [0]
    assert world.dead_letters() == []

    code, answer = operator.verify()
    assert (code, [(each["offset"], each["problem"]) for each in answer["findings"]]) == (1, [(1, "lost")])
    code, answer = operator.verify("--repair")
    assert (code, answer["deadLetters"]) == (0, 1)
    [letter] = world.dead_letters()
    assert (letter.offset, letter.payload, letter.key, letter.error_type) == (1, b"bad", b"k", "INVALID_JSON")


@dataclass(frozen=True)
class Operator:
    """The operator's own programs, which live in another environment."""

    world: World
    way: secured.Way
    manifest: Path

    def lost_transactions(self, job: str) -> int:
        asked = f"print(job_health('{self.world.cluster.url}', '{job}').lost_transactions)"
        return int(self._run("-c", f"from lakehouse_operator.observation.flink import job_health; {asked}").stdout)

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        self.manifest.write_text(json.dumps(self._pipeline()))
        command = ("-m", "lakehouse_operator.cli", "verify", "-f", str(self.manifest), "-o", "json", "--grace", "0")
        done = self._run(*command, *arguments)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)

    def _pipeline(self) -> dict[str, Any]:
        settings = self.world.settings
        kafka, catalog, checkpoint = settings.kafka, settings.catalog, settings.checkpoint
        return {
            "apiVersion": "lakehouse.dev/v1alpha1",
            "kind": "LakehousePipeline",
            "metadata": {"name": "secured"},
            "spec": {
                "source": {
                    "bootstrapServers": kafka.bootstrap_servers,
                    "topic": kafka.topic,
                    "consumerGroup": kafka.consumer_group,
                    "security": {**self.way.security, "secretRef": {"name": "kafka-user"}},
                },
                "catalog": {"type": catalog.type, "uri": catalog.uri, "warehouse": catalog.warehouse},
                "bronze": {
                    "image": "lakehouse-flink:0.1.0",
                    "table": settings.table,
                    "deadLetterTopic": settings.dead_letter_topic,
                    "checkpoint": {
                        "directory": checkpoint.directory,
                        "savepointDirectory": checkpoint.savepoint_directory,
                    },
                },
            },
        }

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        python = Path(sys.executable).parents[2] / "operator" / "bin" / "python"
        return subprocess.run(
            [str(python), *arguments], env={**os.environ, **self.way.environment}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip


def test_a_wrong_password_is_told_in_a_sentence_without_it(
    worlds: dict[str, World], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_PASSWORD", "hunter2")
    world = worlds[WAYS[0]]
    wrong = KafkaLogin(mechanism="SCRAM-SHA-512", username="KAFKA_USERNAME", password="KAFKA_USERNAME")
    world = world.change(kafka=replace(world.settings.kafka, login=wrong))
    code = bronze.main(["--settings", to_json(world.settings), "--target", world.cluster.address])
    said = capfd.readouterr().err
    assert code == ExitCode.SETTINGS_REFUSED
    assert "refused: kafka: Kafka refused the login" in said
    assert secured.USER not in said.replace(world.settings.pipeline, "")


@pytest.fixture
def settings(tmp_path: Path) -> BronzeSettings:
    settings = settings_for("p", tmp_path, "127.0.0.1:1")
    login = KafkaLogin(mechanism="PLAIN", username="USER_NAME", password="PASS_WORD")
    key = {"ssl.keystore.key": "THE_KEY"}
    return replace(settings, kafka=replace(settings.kafka, login=login, secret_properties=key))


GOOD = {"USER_NAME": "me", "PASS_WORD": "it's fine", "THE_KEY": "-----BEGIN PRIVATE KEY-----\nx"}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({**GOOD, "PASS_WORD": 'a"b'}, "kafka.login.password: the value of PASS_WORD holds a double quote"),
        ({**GOOD, "PASS_WORD": "from a file\n"}, "a line break"),
        ({**GOOD, "USER_NAME": "DOMAIN\\me"}, "kafka.login.username: the value of USER_NAME holds"),
        ({**GOOD, "THE_KEY": "-----BEGIN RSA PRIVATE KEY-----"}, "kafka.secretProperties.ssl.keystore.key"),
        ({}, "kafka.login.password: the environment has no variable PASS_WORD"),
    ],
)
def test_a_secret_that_kafka_could_not_read_is_refused_by_its_name(
    settings: BronzeSettings, environment: Mapping[str, str], told: str
) -> None:
    kafka_client.check_secrets(settings.kafka, GOOD)
    with pytest.raises(SettingsRefused) as refused:
        kafka_client.check_secrets(settings.kafka, environment)
    said = "; ".join(map(str, refused.value.problems))
    assert told in said
    assert not any(value in said for value in environment.values() if value not in GOOD.values())


def test_of_the_environment_clients_see_what_the_settings_name_and_nothing_else(settings: BronzeSettings) -> None:
    made = kafka_client.properties(settings.kafka)
    allowed = re.compile(made["config.providers.env.param.allowlist.pattern"])
    assert [name for name in (*GOOD, "AWS_SECRET_ACCESS_KEY", "PASS_WORD_2") if allowed.fullmatch(name)] == [*GOOD]
    sneaky = replace(settings.kafka, properties={"client.id": "${env:PASS_WORD}"})
    with pytest.raises(SettingsRefused, match=r"must not hold \$\{"):
        kafka_client.properties(sneaky)
