"""The statements and the plan that Flink makes of them: one parse, one scan, inserts only, one deduplication."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.flink.bronze_world import settings_for
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_contract.settings import BronzeSettings, EventSettings
from lakehouse_jobs import bronze_sql, flink_options, iceberg_catalog, plan_check
from lakehouse_jobs.flink_session import FlinkSession

LARGEST = 1_048_588


@pytest.fixture
def settings(tmp_path: Path) -> BronzeSettings:
    return settings_for("pipeline", tmp_path, "127.0.0.1:1")


def statements(settings: BronzeSettings) -> bronze_sql.BronzeStatements:
    return bronze_sql.statements(
        settings,
        source_options=bronze_sql.kafka_source(settings),
        dead_letter_options=bronze_sql.kafka_dead_letters(settings, LARGEST),
        catalog_options=iceberg_catalog.flink_catalog_options(iceberg_catalog.catalog_properties(settings.catalog, {})),
        largest_dead_letter=LARGEST,
    )


@pytest.fixture
def session(jvm: Any, settings: BronzeSettings) -> FlinkSession:
    """A session in which everything is defined; the cluster that it names is never asked."""
    from lakehouse_contract import layout

    iceberg_catalog.ensure_table(jvm, settings.catalog, {}, layout.bronze(settings.table))
    opened = FlinkSession(flink_options.job_options(settings), target="127.0.0.1:1")
    opened.define(statements(settings).definitions)
    return opened


def test_the_plan_scans_once_parses_nothing_and_deduplicates_by_arrival(
    session: FlinkSession, settings: BronzeSettings
) -> None:
    explained = session.explain(statements(settings).inserts)
    plan_check.check(explained)
    executed = explained.partition("== Optimized Execution Plan ==")[2]
    assert executed.count("TableSourceScan(") == 1
    assert executed.count("Reused(reference_id=[1])") == 2
    assert "JSON" not in executed  # the record is parsed by the format, before there is a plan
    assert executed.count("DECODE") == 4  # only to measure dead letters
    assert executed.count("Deduplicate(") == 1


def test_the_state_of_the_deduplication_lives_as_long_as_the_settings_say(
    session: FlinkSession, settings: BronzeSettings
) -> None:
    session._environment.get_config().set("table.plan.compile.catalog-objects", "IDENTIFIER")
    statement_set = session._statement_set(statements(settings).inserts)._j_statement_set
    plan = json.loads(statement_set.compilePlan().asJsonString())
    [states] = [node["state"] for node in plan["nodes"] if node["type"].startswith("stream-exec-deduplicate")]
    assert [(state["ttl"], state["name"]) for state in states] == [("1 d", "deduplicateState")]
    sinks = [node for node in plan["nodes"] if node["type"].startswith("stream-exec-sink")]
    assert len(sinks) == 2
    assert all(sink["inputChangelogMode"] == ["INSERT"] for sink in sinks)


SPOILED: list[tuple[str, Callable[[str], str], str]] = [
    ("the last arrival", lambda sql: sql.replace("arrival ASC", "arrival DESC"), "changes other than inserts flow"),
    (
        "no deduplication",
        lambda sql: sql.replace("WHERE arrival_number = 1", "WHERE arrival_number < 9"),
        r"by \[\]",
    ),
    ("by event time", lambda sql: sql.replace("ORDER BY arrival", "ORDER BY event_time"), r"by \[\]"),
    ("by another key", lambda sql: sql.replace("PARTITION BY event_id", "PARTITION BY kafka_partition"), "event_id"),
]


@pytest.mark.parametrize(("spoil", "named"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_a_spoiled_plan_is_refused(
    session: FlinkSession, settings: BronzeSettings, spoil: Callable[[str], str], named: str
) -> None:
    inserts = [spoil(insert) for insert in statements(settings).inserts]
    assert tuple(inserts) != statements(settings).inserts
    with pytest.raises(plan_check.PlanRefused, match=named):
        plan_check.check(session.explain(inserts))


def test_a_second_scan_is_refused(session: FlinkSession, settings: BronzeSettings) -> None:
    first, second = statements(settings).inserts
    session._environment.get_config().set("table.optimizer.reuse-source-enabled", "false")
    session._environment.get_config().set("table.optimizer.reuse-sub-plan-enabled", "false")
    with pytest.raises(plan_check.PlanRefused, match="reads the source 2 times"):
        plan_check.check(session.explain([first, second]))


def test_text_that_is_no_plan_is_refused() -> None:
    with pytest.raises(plan_check.PlanRefused):
        plan_check.check("")


@pytest.mark.parametrize("name", ["group.id", "isolation.level", "transaction.timeout.ms", "bootstrap.servers"])
@pytest.mark.parametrize("section", ["properties", "secret_properties"])
def test_a_kafka_property_that_the_job_sets_itself_is_refused_by_its_path(
    settings: BronzeSettings, section: str, name: str
) -> None:
    changed = replace(settings, kafka=replace(settings.kafka, **{section: {name: "X"}}))
    for options in (
        lambda: bronze_sql.kafka_source(changed),
        lambda: bronze_sql.kafka_dead_letters(changed, LARGEST),
    ):
        with pytest.raises(SettingsRefused) as refused:
            options()
        [problem] = refused.value.problems
        assert problem.path == f"kafka.{'properties' if section == 'properties' else 'secretProperties'}.{name}"


def test_two_pipelines_of_one_name_do_not_share_transactions(settings: BronzeSettings) -> None:
    """Kafka lets the writer that came last end the transactions of the one before it with the same id."""
    here, there = (replace(settings, namespace=name) for name in ("here", "there"))
    prefixes = {bronze_sql.kafka_dead_letters(each, LARGEST)["sink.transactional-id-prefix"] for each in (here, there)}
    assert len(prefixes) == 2


def test_nothing_from_the_settings_can_leave_its_quotes(jvm: Any, settings: BronzeSettings) -> None:
    nasty = "x' = 'y'), (`z`) -- \\"
    changed = replace(
        settings,
        event=EventSettings(id_field=nasty, time_field="it's"),
        kafka=replace(settings.kafka, consumer_group=nasty, properties={nasty: nasty}),
    )
    session = FlinkSession(flink_options.job_options(changed), target="127.0.0.1:1")
    session.define(statements(changed).definitions[:1])
    created = session._environment.get_current_catalog(), session._environment.get_current_database()
    identifier = jvm.org.apache.flink.table.catalog.ObjectIdentifier.of(*created, "events")
    table = session._environment._j_tenv.getCatalogManager().getTable(identifier).get().getTable()
    options = dict(table.getOptions())
    assert options["value.lakehouse-envelope.id-field"] == nasty
    assert options["properties.group.id"] == nasty
    assert options[f"properties.{nasty}"] == nasty


@pytest.mark.parametrize(
    ("column", "said"),
    [("nonsense STRING", "has no column nonsense"), ("event_time TIMESTAMP_LTZ(3)", "TIMESTAMP_LTZ")],
)
def test_a_column_that_the_format_does_not_have_is_refused(
    session: FlinkSession, settings: BronzeSettings, column: str, said: str
) -> None:
    options = ", ".join(
        f"'{key}'='{value}'" for key, value in bronze_sql.kafka_source(settings).items() if "key." not in key
    )
    nowhere = "CREATE TEMPORARY TABLE nowhere WITH ('connector'='blackhole') LIKE other (EXCLUDING OPTIONS)"
    session.define([f"CREATE TEMPORARY TABLE other ({column}) WITH ({options})", nowhere])
    with pytest.raises(Exception, match=said):
        session.explain(["INSERT INTO nowhere SELECT * FROM other"])


def test_intervals_are_exact_for_any_number_of_seconds() -> None:
    assert bronze_sql._interval(0) == "INTERVAL '0 00:00:00' DAY(1) TO SECOND"
    assert bronze_sql._interval(86_400 * 400 + 3661) == "INTERVAL '400 01:01:01' DAY(3) TO SECOND"
