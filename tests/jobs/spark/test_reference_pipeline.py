"""The reference pipeline, `examples/roman-numerals.yaml`, over every kind of event that the generator knows.

Expectations come from what the generator meant and from PyPI's `roman`; gold's are computed here in Python.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import roman
import yaml
from pyspark.sql import Row, SparkSession

from jobs.spark.lakehouse_world import NOW, catalog_in
from lakehouse_contract import decoding, layout
from lakehouse_contract.settings import GoldSettings, SilverSettings
from lakehouse_contract.tables import spark_schema
from lakehouse_jobs import gold, silver, spark_session
from lakehouse_jobs.iceberg_commits import Lakehouse
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.record import DUPLICATE, EVENT, OPEN, QUARANTINE, VALID, Record
from lakehouse_operator.reference.traffic import Traffic

SPEC = yaml.safe_load((Path(__file__).parents[3] / "examples/roman-numerals.yaml").read_text())["spec"]
TRAFFIC = Traffic(
    end_ms=int(datetime(2026, 2, 2, 18, tzinfo=UTC).timestamp() * 1000),
    seed=7,
    events=1_500,
    span_ms=40 * 3_600_000,
    users=60,
    changes_per_user=3.0,
    repeated=0.05,
    malformed=0.0,
    rule_breaking=0.15,
    unusual=0.2,
    late=0.1,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Values = dict[str, Any]
TRACKED = ("user_plan", "user_country", "user_email_domain")


def instant(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def taken(sent: Sequence[Record]) -> list[Record]:
    """What bronze would take, and the repeats that its dedup may let through."""
    return [record for record in sent if record.expected in {EVENT, DUPLICATE} and record.intent.flaw is None]


def bronze_row(record: Record) -> tuple[Any, ...]:
    arrived = instant(record.timestamp_ms * 1000)
    assert record.value is not None
    assert record.intent.event_time_us is not None
    at = instant(record.intent.event_time_us)
    origin = (record.partition, record.ordinal, arrived)
    return (record.intent.event_id, at, record.value.decode(), record.key, *origin, record.is_late, arrived)


@pytest.fixture(scope="module")
def sent() -> list[Record]:
    return taken(list(records(TRAFFIC)))


@pytest.fixture(scope="module")
def firsts(sent: list[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in sorted(sent, key=lambda record: (record.timestamp_ms, record.partition, record.ordinal)):
        assert record.intent.event_id is not None
        found.setdefault(record.intent.event_id, record)
    return found


@pytest.fixture(scope="module")
def as_in_production(spark: SparkSession) -> Iterator[None]:
    """Spark's own ways of planning, which the other tests do without."""
    production = {"spark.sql.adaptive.enabled": "true", "spark.sql.shuffle.partitions": "8"}
    before = {key: spark.conf.get(key) for key in production}
    for key, value in production.items():
        spark.conf.set(key, value)
    yield
    for key, value in before.items():
        spark.conf.set(key, value)


@pytest.fixture(scope="module")
def tables(
    as_in_production: None, tmp_path_factory: pytest.TempPathFactory, sent: list[Record]
) -> dict[str, list[Values]]:
    """Silver and gold after three batches, the middle one before the first: the tables' rows."""
    catalog = catalog_in(tmp_path_factory.mktemp("reference"), "reference")
    session = spark_session.open_session(catalog, {}, "reference")
    lakehouse = Lakehouse(session, catalog.name)
    table = layout.bronze(SPEC["bronze"]["table"], "snappy")
    lakehouse.ensure(table)
    part = len(sent) // 3
    for number, batch in enumerate((sent[part : 2 * part], sent[:part], sent[2 * part :])):
        frame = session.createDataFrame(list(map(bronze_row, batch)), spark_schema(table).replace(" NOT NULL", ""))
        frame.coalesce(1).writeTo(lakehouse.identifier(table.name)).append()
        common = {"pipeline": "roman-numerals", "catalog": decoding.encode(catalog), "run": {"id": f"run-{number}"}}
        definition = {key: SPEC["silver"][key] for key in ("columns", "tables", "dimensions")}
        raw = {**common, "bronzeTable": table.name, "compression": "snappy", **definition}
        silver.run(session, decoding.decode(SilverSettings, raw), NOW)
        if number != 1:
            sources = [each["name"] for each in (*definition["tables"], *definition["dimensions"])]
            raw = {**common, "compression": "snappy", "sources": sources, "models": SPEC["gold"]["models"]}
            gold.run(session, decoding.decode(GoldSettings, raw), NOW)
    names = ["silver.conversions", "silver.conversions_quarantine", "silver.dim_users"]
    names += [model["name"] for model in SPEC["gold"]["models"]]
    return {name: [_utc(row) for row in session.table(lakehouse.identifier(name)).collect()] for name in names}


def _utc(row: Row) -> Values:
    """A row whose instants are in UTC: Spark gives them in the driver's own time zone, without saying so."""
    instants = {name: value.astimezone(UTC) for name, value in row.asDict().items() if isinstance(value, datetime)}
    return {**row.asDict(), **instants}


def test_every_valid_event_is_there_as_it_was_meant(tables: dict[str, list[Values]], firsts: dict[str, Record]) -> None:
    found = {row["event_id"]: row for row in tables["silver.conversions"]}
    assert len(found) == len(tables["silver.conversions"])
    valid = {id_: record for id_, record in firsts.items() if record.intent.silver == VALID}
    open_ones = {id_ for id_, record in firsts.items() if record.intent.silver == OPEN}
    assert found.keys() - open_ones == valid.keys()
    for id_, record in valid.items():
        assert record.intent.typed is not None
        wanted = record.intent.typed._asdict()
        assert {name: found[id_][name] for name in wanted} == wanted, record.intent.kind
        assert (found[id_]["kafka_partition"], found[id_]["kafka_offset"]) == (record.partition, record.ordinal)
        assert found[id_]["is_late_arrival"] == record.is_late


def test_every_broken_event_is_set_aside_with_the_rules_it_breaks(
    tables: dict[str, list[Values]], firsts: dict[str, Record]
) -> None:
    found = {row["event_id"]: row for row in tables["silver.conversions_quarantine"]}
    broken = {id_: record for id_, record in firsts.items() if record.intent.silver == QUARANTINE}
    open_ones = {id_ for id_, record in firsts.items() if record.intent.silver == OPEN}
    assert found.keys() - open_ones == broken.keys()
    assert len({record.intent.kind for record in broken.values()}) > 60
    for id_, record in broken.items():
        assert record.value is not None
        assert found[id_]["payload"] == record.value.decode()
        if record.intent.broken is not None:
            assert found[id_]["broken_rules"] == list(record.intent.broken), record.intent.kind


def test_no_event_is_lost(tables: dict[str, list[Values]], firsts: dict[str, Record]) -> None:
    there = [*tables["silver.conversions"], *tables["silver.conversions_quarantine"]]
    assert sorted(row["event_id"] for row in there) == sorted(firsts)


def version_of(tables: dict[str, list[Values]]) -> dict[str, Values]:
    """The version of the user that each event saw."""
    versions: dict[str, list[Values]] = defaultdict(list)
    for row in tables["silver.dim_users"]:
        versions[row["user_id"]].append(row)
    found = {}
    for row in tables["silver.conversions"]:
        own = [
            version
            for version in versions[row["user_id"]]
            if version["valid_from"] <= row["event_time"]
            and (version["valid_to"] is None or row["event_time"] < version["valid_to"])
        ]
        assert len(own) == 1
        found[row["event_id"]] = own[0]
    return found


def test_each_user_has_one_version_at_any_time_and_the_events_agree_with_it(tables: dict[str, list[Values]]) -> None:
    seen = version_of(tables)
    last_at_instant: dict[tuple[str, datetime], Values] = {}
    for row in sorted(tables["silver.conversions"], key=lambda row: row["event_id"]):
        last_at_instant[row["user_id"], row["event_time"]] = row
    for row in last_at_instant.values():
        assert [row[name] for name in TRACKED] == [seen[row["event_id"]][name] for name in TRACKED]
    current = Counter(row["user_id"] for row in tables["silver.dim_users"] if row["is_current"])
    assert set(current.values()) == {1}
    assert current.keys() == {row["user_id"] for row in tables["silver.conversions"]}
    for user, versions in _by_user(tables["silver.dim_users"]).items():
        for before, after in pairwise(versions):
            assert before["valid_to"] == after["valid_from"], user
            assert [before[name] for name in TRACKED] != [after[name] for name in TRACKED], user


def _by_user(rows: list[Values]) -> dict[str, list[Values]]:
    found: dict[str, list[Values]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["valid_from"]):
        found[row["user_id"]].append(row)
    return found


def test_the_star_holds_what_silver_holds(tables: dict[str, list[Values]]) -> None:
    seen = version_of(tables)
    silver_rows = {row["event_id"]: row for row in tables["silver.conversions"]}
    fact = {row["event_id"]: row for row in tables["gold.fact_conversions"]}
    assert fact.keys() == silver_rows.keys()
    assert len(fact) == len(tables["gold.fact_conversions"])
    for id_, row in fact.items():
        assert row["user_key"] == seen[id_]["version_id"]
        assert (row["event_date"], row["hour"]) == (row["event_time"].date(), row["event_time"].hour)
    numerals = {row["input_number"]: row["numeral"] for row in tables["gold.dim_numeral"]}
    assert numerals == {number: roman.toRoman(number) for number in range(1, 4000)}
    assert {row["event_date"] for row in tables["gold.dim_date"]} == {row["event_date"] for row in fact.values()}
    assert {row["user_key"] for row in tables["gold.dim_user"]} == {
        row["version_id"] for row in tables["silver.dim_users"]
    }


def test_the_metrics_are_those_of_the_events(tables: dict[str, list[Values]]) -> None:
    seen = version_of(tables)
    days: dict[Any, list[Values]] = defaultdict(list)
    plans: dict[Any, list[Values]] = defaultdict(list)
    for row in tables["silver.conversions"]:
        day, version = row["event_time"].date(), seen[row["event_id"]]
        days[day].append(row)
        plans[day, version["user_plan"], version["user_country"] or "??"].append(row)
    assert len(days) >= 2
    daily = {row["event_date"]: row for row in tables["gold.daily_metrics"]}
    assert daily.keys() == days.keys()
    for day, rows in days.items():
        statuses = Counter(row["status"] for row in rows)
        wanted = (len(rows), statuses["OK"], statuses["ERROR"], len({row["user_id"] for row in rows}))
        assert (*[daily[day][name] for name in ("conversions", "succeeded", "failed", "users")],) == wanted
        assert daily[day]["avg_duration_ms"] == pytest.approx(fmean(row["duration_ms"] for row in rows))
    assert {
        (row["event_date"], row["user_plan"], row["user_country"]): row["conversions"]
        for row in tables["gold.plan_metrics"]
    } == {key: len(rows) for key, rows in plans.items()}
    popular = Counter(row["input_number"] for row in tables["silver.conversions"] if row["status"] == "OK")
    assert {row["input_number"]: row["conversions"] for row in tables["gold.popular_numbers"]} == popular
    assert sum(row["conversions"] for row in tables["gold.hourly_metrics"]) == len(tables["silver.conversions"])
