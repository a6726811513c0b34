"""What savepoints are made of: fixed parts under fixed ids, whatever lies between them."""

import json
from typing import Any

import pytest

from jobs.flink.bronze_world import Record, World
from jobs.flink.test_ingestion import ARRIVAL, event
from jobs.flink.test_plan import session, settings, statements
from lakehouse_contract import decoding, state
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.settings import BronzeSettings
from lakehouse_jobs import bronze, bronze_sql, iceberg_catalog, plan_ids
from lakehouse_jobs.flink_session import FlinkSession
from lakehouse_jobs.plan_check import PlanRefused

__all__ = ["session", "settings"]


@pytest.fixture
def compiled(session: FlinkSession, settings: BronzeSettings) -> str:
    """The plan as Flink makes it."""
    return str(session._statement_set(statements(settings).inserts)._j_statement_set.compilePlan().asJsonString())


def fixed(compiled: str, settings: BronzeSettings) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(plan_ids.with_fixed_ids(compiled, statements(settings).tables))
    return read


def test_the_parts_that_keep_state_have_the_ids_of_the_contract_and_no_other_part_keeps_any(
    compiled: str, settings: BronzeSettings
) -> None:
    plan, before = fixed(compiled, settings), json.loads(compiled)
    kinds = {node["id"]: node["type"].rpartition("_")[0] for node in plan["nodes"]}
    assert {part.id: part.node for part in state.PARTS}.items() <= kinds.items()
    assert len(kinds) == len(before["nodes"])
    assert [node["id"] for node in plan["nodes"] if "state" in node] == [2]
    # The same graph: each edge joins nodes of the same types as before.
    was = {node["id"]: node["type"].rpartition("_")[0] for node in before["nodes"]}
    assert [(kinds[edge["source"]], kinds[edge["target"]]) for edge in plan["edges"]] == [
        (was[edge["source"]], was[edge["target"]]) for edge in before["edges"]
    ]


def test_a_part_of_which_nobody_knows_whether_it_keeps_state_is_refused(
    compiled: str, settings: BronzeSettings
) -> None:
    for changed in (
        compiled.replace("stream-exec-exchange_", "stream-exec-rank_"),  # one that is not known
        compiled.replace("stream-exec-deduplicate_", "stream-exec-calc_"),  # one that is missing
        compiled.replace("`dead_letters`", "`other`"),  # a sink of another table
    ):
        assert changed != compiled
        with pytest.raises(PlanRefused):
            fixed(changed, settings)


def test_another_version_of_the_job_and_a_wider_table_take_the_state_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are added before and behind the deduplication, from which Flink's own names of its state would follow."""
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL), Record(event("b"), arrival=ARRIVAL)])
    savepoint = world.run()

    checked, rows = bronze_sql._checked, bronze_sql._insert_bronze
    more = "FROM (SELECT *, RAND() AS chance FROM events) WHERE chance + chance >= 0"
    monkeypatch.setattr(bronze_sql, "_checked", lambda given: checked(given).replace("FROM events", more))
    monkeypatch.setattr(bronze_sql, "_insert_bronze", lambda given: f"{rows(given)} AND RAND() >= 0")
    add_a_column(world)
    world.produce(
        [Record(event("a"), arrival=ARRIVAL), Record(b"bad", arrival=ARRIVAL), Record(event("c"), arrival=ARRIVAL)]
    )
    job = world.submit(from_savepoint=savepoint)
    vertices = world.cluster.rest.get(f"/jobs/{job}")["vertices"]
    assert max(vertex["maxParallelism"] for vertex in vertices) == state.MAX_PARALLELISM
    world.until(world.caught_up, "everything is read", job=job)
    world.stop(job)
    assert sorted(row["kafka_offset"] for row in world.rows()) == [0, 1, 4]
    assert [letter.offset for letter in world.dead_letters()] == [3]


def add_a_column(world: World) -> None:
    with iceberg_catalog.opened(world.jvm, world.settings.catalog, {}) as catalog:
        identifier = world.jvm.org.apache.iceberg.catalog.TableIdentifier.parse(world.settings.table)
        text = world.jvm.org.apache.iceberg.types.Types.StringType.get()
        catalog.loadTable(identifier).updateSchema().addColumn("remark", text).commit()


def test_a_job_that_can_not_read_the_state_says_so_before_flink_tries(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.create_topics()
    changed = world.change(state_version=state.VERSION + 1)
    before = world.cluster.rest.jobs()
    code = bronze.main(["--settings", decoding.to_json(changed.settings), "--target", world.cluster.address])
    assert code == ExitCode.SETTINGS_REFUSED
    assert "refused: stateVersion: the stream's state is version 2, and the job" in capsys.readouterr().err
    assert world.cluster.rest.jobs() == before


def test_under_other_ids_flink_refuses_the_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a change of the contract's list needs a new version, which keeps it from ever being tried."""
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL)])
    savepoint = world.run()
    moved = {1: 11, 2: 12}
    keep = plan_ids.with_fixed_ids

    def other(text: str, tables: Any) -> str:
        plan = json.loads(keep(text, tables))
        for node in plan["nodes"]:
            node["id"] = moved.get(node["id"], node["id"])
        for edge in plan["edges"]:
            edge |= {end: moved.get(edge[end], edge[end]) for end in ("source", "target")}
        return json.dumps(plan)

    monkeypatch.setattr(plan_ids, "with_fixed_ids", other)
    with pytest.raises(Exception, match="Cannot map checkpoint/savepoint state for operator"):
        bronze.submit(world.settings, {}, target=world.cluster.address, from_savepoint=savepoint)
