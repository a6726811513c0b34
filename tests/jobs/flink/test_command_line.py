"""The job as it is started: its arguments, its exit codes, and what it says when it can't start."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.flink.bronze_world import Record, World, settings_for
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_contract import decoding
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs import bronze, bronze_sql, flink_options
from lakehouse_jobs.flink_session import FlinkSession


def arguments(world: World, *more: str) -> list[str]:
    return ["--settings", decoding.to_json(world.settings), "--target", world.cluster.address, *more]


def test_the_command_submits_the_job_and_prints_its_id(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL)])
    assert bronze.main(arguments(world)) == ExitCode.SUCCEEDED
    job = capsys.readouterr().out.split()[-1]
    assert re.fullmatch("[0-9a-f]{32}", job)
    world.until(world.caught_up, "everything is read", job=job)
    savepoint = world.stop(job)

    world.produce([Record(event("a"), arrival=ARRIVAL), Record(event("b"), arrival=ARRIVAL)])
    assert bronze.main(arguments(world, "--from-savepoint", savepoint)) == ExitCode.SUCCEEDED
    job = capsys.readouterr().out.split()[-1]
    world.until(world.caught_up, "everything is read", job=job)
    world.stop(job)
    assert sorted(row["kafka_offset"] for row in world.rows()) == [0, 2]


def test_settings_that_cannot_be_used_are_refused_with_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(decoding.to_json(settings_for("p", tmp_path, "127.0.0.1:1")))
    settings["table"] = "no namespace"
    settings["kafka"]["topics"] = "x"
    assert bronze.main(["--settings", json.dumps(settings)]) == ExitCode.SETTINGS_REFUSED
    said = capsys.readouterr().err
    assert "refused: table:" in said
    assert "refused: kafka.topics:" in said


def test_a_secret_that_the_environment_does_not_hold_is_named_without_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for("p", tmp_path, "127.0.0.1:1")
    settings = replace(settings, kafka=replace(settings.kafka, secret_properties={"sasl.jaas.config": "KAFKA_JAAS"}))
    assert bronze.main(["--settings", decoding.to_json(settings)], {}) == ExitCode.SETTINGS_REFUSED
    assert (
        "kafka.secretProperties.sasl.jaas.config: the environment has no variable KAFKA_JAAS" in capsys.readouterr().err
    )


def test_a_broker_that_does_not_answer_is_unavailable(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_jobs.dead_letter_topic._SECONDS", 2)
    world = world.change(kafka=replace(world.settings.kafka, bootstrap_servers="127.0.0.1:1"))
    assert bronze.main(arguments(world)) == ExitCode.UNAVAILABLE
    assert "unavailable:" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_unavailable(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.create_topics()
    given = ["--settings", decoding.to_json(world.settings), "--target", "127.0.0.1:1"]
    assert bronze.main(given) == ExitCode.UNAVAILABLE
    assert "unavailable:" in capsys.readouterr().err


def test_a_job_whose_plan_is_spoiled_is_not_submitted(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.create_topics()
    monkeypatch.setattr(bronze_sql, "_insert_bronze", _spoiled(bronze_sql._insert_bronze))
    before = world.cluster.rest.jobs()
    assert bronze.main(arguments(world)) == ExitCode.CODE
    assert "refused: the plan is not safe to run" in capsys.readouterr().err
    assert world.cluster.rest.jobs() == before


def _spoiled(build: object) -> object:
    return lambda settings: build(settings).replace("arrival ASC", "arrival DESC")  # type: ignore[operator]


@pytest.fixture
def cluster_configuration(client_configuration: Path) -> Iterator[Path]:
    path = client_configuration / "config.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)


@pytest.mark.parametrize(
    "line", ["execution.checkpointing.unaligned.enabled: true", "execution.checkpointing.unaligned: true",
             "execution:\n  checkpointing:\n    unaligned:\n      enabled: true"],
)  # fmt: skip
def test_a_cluster_that_turns_unaligned_checkpoints_on_is_refused(
    world: World, cluster_configuration: Path, line: str
) -> None:
    cluster_configuration.write_text(f"{cluster_configuration.read_text()}{line}\n")
    with pytest.raises(SettingsRefused, match=r"unaligned.*must not be true"):
        FlinkSession(flink_options.job_options(world.settings), target=world.cluster.address)


def test_a_cluster_may_name_the_savepoint_to_start_from(world: World, cluster_configuration: Path) -> None:
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL)])
    savepoint = world.run()
    cluster_configuration.write_text(f"{cluster_configuration.read_text()}execution.state-recovery.path: {savepoint}\n")
    world.produce([Record(event("a"), arrival=ARRIVAL), Record(event("b"), arrival=ARRIVAL)])
    world.run()
    assert sorted(row["kafka_offset"] for row in world.rows()) == [0, 2]


def test_the_savepoint_stays_the_users(world: World) -> None:
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL)])
    savepoint = world.run()
    job = world.submit(from_savepoint=savepoint)
    restored = world.cluster.rest.get(f"/jobs/{job}/checkpoints")["latest"]["restored"]
    assert restored["external_path"] == savepoint
    world.stop(job)
    assert Path(savepoint.removeprefix("file:")).exists()


def test_without_a_target_the_job_goes_to_the_cluster_of_the_configuration(
    world: World, cluster_configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.create_topics()
    host, port = world.cluster.address.split(":")
    before = cluster_configuration.read_text()
    cluster_configuration.write_text(f"{before}rest.address: {host}\nrest.port: {port}\n")
    assert bronze.main(["--settings", decoding.to_json(world.settings)]) == ExitCode.SUCCEEDED
    job = capsys.readouterr().out.split()[-1]
    assert job in world.cluster.rest.jobs()  # and not in a hidden cluster inside the client
