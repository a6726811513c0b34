"""A change that the stream's state can't follow is refused before anything is stopped, with what would work instead."""

import pytest

from lakehouse_contract import state
from lakehouse_operator.planning.situation import START_FRESH_ANNOTATION
from planning.examples import changed, problems
from planning.stream_scenes import at_rest, stalled, until
from planning.world import World


@pytest.fixture
def made() -> World:
    return at_rest()


def runs_on(made: World) -> bool:
    """Whether nothing was stopped, however long everybody goes on."""
    deployed, job = made.record.deployed, made.cluster.job.id if made.cluster and made.cluster.job else None
    for _ in range(10):
        made.produce(1)
        made.go()
    now = made.cluster.job.id if made.cluster and made.cluster.job else None
    return made.record.deployed == deployed and now == job is not None


def test_a_job_that_keeps_other_state_is_not_started_and_nothing_is_stopped(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "VERSION", 2)  # the operator was upgraded
    assert stalled(made) == "NeedsNewState"
    assert runs_on(made)
    message = made.condition("Stalled")["message"]
    assert "keeps state of version 2, and the stream's is of version 1" in message
    assert START_FRESH_ANNOTATION in message

    monkeypatch.setattr(state, "VERSION", 1)  # and set back
    made.go(rounds=2)
    assert made.condition("Ready")["status"] == "True"


def test_it_is_started_without_state_if_a_person_says_so(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "VERSION", 2)
    before = made.record.deployed
    made.annotations[START_FRESH_ANNOTATION] = "1"
    until(made, "Soaking")
    assert made.record.deployed != before
    assert len(made.stateless_starts) == 1


def test_a_stream_that_fails_meanwhile_is_started_again_as_it_was(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "VERSION", 2)
    before = made.record.deployed
    made.fail_job(for_good=True)
    until(made, "Recovering")
    for _ in range(20):
        made.go()
    assert made.record.deployed == before
    assert made.condition("StreamRunning")["status"] == "True"
    assert not made.stateless_starts


@pytest.mark.parametrize(("version", "reason"), [("v2_0", "NeedsNewState"), ("v1_20", "NeedsNewState"), ("v2_1", "")])
def test_an_older_flink_is_not_given_the_state_of_a_newer_one(made: World, version: str, reason: str) -> None:
    made.edit(flinkVersion=version)
    assert stalled(made) == reason
    if reason:
        assert f"Flink {version} can't read the state of v2_1" in made.condition("Stalled")["message"]
        assert runs_on(made)


def test_without_a_person_the_request_to_start_without_state_does_nothing_to_a_state_that_fits(made: World) -> None:
    made.annotations[START_FRESH_ANNOTATION] = "1"
    assert runs_on(made)
    assert not made.stateless_starts


def test_more_tasks_than_state_has_groups_are_refused() -> None:
    [problem] = problems(changed("minimal", spec__bronze__parallelism=state.MAX_PARALLELISM + 1))
    assert problem.startswith("spec.bronze.parallelism")
    [problem] = problems(changed("minimal", spec__bronze__flinkConfiguration={"pipeline.max-parallelism": "4096"}))
    assert "part of what savepoints are made of" in problem


OF_TABLES = (
    "table.exec.mini-batch.enabled",
    "table.exec.sink.upsert-materialize",
    "table.exec.uid.format",
    "table.exec.source.cdc-events-duplicate",
    "table.optimizer.distinct-agg.split.enabled",
    "table.optimizer.reuse-source-enabled",
    "table.plan.force-recompile",
    "table.rtas-ctas.atomicity-enabled",
)


@pytest.mark.parametrize("key", OF_TABLES)
def test_options_that_decide_the_plan_are_refused_by_their_path(key: str) -> None:
    [problem] = problems(changed("minimal", spec__bronze__flinkConfiguration={key: "true"}))
    assert problem.startswith(f"spec.bronze.flinkConfiguration.{key}: can't be set here")
    assert "what its savepoints hold" in problem


@pytest.mark.parametrize(
    ("key", "field"),
    [("table.exec.state.ttl", "spec.bronze.dedupTtl"), ("table.exec.source.idle-timeout", "spec.bronze.idleTimeout")],
)
def test_options_of_tables_that_a_field_sets_name_that_field(key: str, field: str) -> None:
    [problem] = problems(changed("minimal", spec__bronze__flinkConfiguration={key: "1 d"}))
    assert f"set {field}" in problem


def test_the_stream_runs_on_when_an_option_would_change_its_plan(made: World) -> None:
    made.edit(flinkConfiguration={"table.exec.mini-batch.enabled": "true"})
    assert runs_on(made)
    assert not made.record.operation
    [problem] = made.status["problems"]
    assert problem["path"] == "spec.bronze.flinkConfiguration.table.exec.mini-batch.enabled"
