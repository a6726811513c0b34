"""A lakehouse of a test: bronze made from lists, the jobs, and what the tables hold then, as plain Python.

The domain is small: people with a plan and a city who spend an amount. `expected` says a second time, without Spark and
without the jobs' code, what silver and gold must hold.
"""

import json
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract import decoding, layout
from lakehouse_contract.settings import CatalogSettings, GoldSettings, SilverSettings
from lakehouse_contract.tables import spark_type
from lakehouse_jobs import gold, silver
from lakehouse_jobs.iceberg_commits import Lakehouse
from lakehouse_jobs.spark_session import open_session
from lakehouse_jobs.table_history import History

BRONZE = "bronze.purchases"
PURCHASES = "silver.purchases"
QUARANTINE = "silver.purchases_quarantine"
PEOPLE = "silver.dim_people"
START = datetime(2026, 1, 30, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PLANS = ("free", "pro")

COLUMNS: list[dict[str, Any]] = [
    {"name": "who", "type": "string", "path": "$.who", "required": True},
    {"name": "plan", "type": "string", "path": "$.plan"},
    {"name": "city", "type": "string", "path": "$.address.city"},
    {"name": "amount", "type": "long", "path": "$.amount"},
]
TABLE: dict[str, Any] = {
    "name": PURCHASES,
    "columns": [
        {"name": "who", "type": "string", "expression": "who"},
        {"name": "plan", "type": "string", "expression": "plan"},
        {"name": "city", "type": "string", "expression": "city"},
        {"name": "amount", "type": "long", "expression": "coalesce(amount, 0)"},
    ],
    "rules": [
        {"name": "amount_not_negative", "expression": "amount is null or amount >= 0"},
        {"name": "known_plan", "expression": "plan in ('free', 'pro')"},
    ],
}
DIMENSION: dict[str, Any] = {"name": PEOPLE, "source": PURCHASES, "key": "who", "tracked": ["plan", "city"]}
MODELS: list[dict[str, Any]] = [
    {"name": "gold.person", "kind": "full", "sql": f"SELECT version_id AS person_key, who, plan FROM {PEOPLE}"},
    {
        "name": "gold.fact",
        "kind": "incrementalByDay",
        "dayColumn": "day",
        "sql": f"""SELECT p.event_id, cast(p.event_time AS date) AS day, p.who, p.amount, d.version_id AS person_key
                   FROM {PURCHASES} p LEFT JOIN {PEOPLE} d ON d.who = p.who AND p.event_time >= d.valid_from
                    AND (d.valid_to IS NULL OR p.event_time < d.valid_to)""",
    },
    {
        "name": "gold.daily",
        "kind": "incrementalByDay",
        "dayColumn": "day",
        "sql": """SELECT f.day, p.plan, count(*) AS purchases, sum(f.amount) AS amount
                  FROM gold.fact f JOIN gold.person p ON p.person_key = f.person_key GROUP BY f.day, p.plan""",
    },
    {"name": "gold.totals", "kind": "full", "sql": "SELECT who, sum(amount) AS amount FROM gold.fact GROUP BY who"},
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """A row of bronze. The payload is made of the values, or is `text`."""

    id: str
    at: datetime
    who: str | None = "ann"
    plan: str | None = "free"
    city: str | None = None
    amount: Any = 1
    text: str | None = None
    partition: int = 0
    offset: int = 0
    arrived: datetime | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def payload(self) -> str:
        if self.text is not None:
            return self.text
        values = {"event_id": self.id, "event_time": self.at.isoformat(), "amount": self.amount, **self.more}
        given = {"who": self.who, "plan": self.plan}
        return json.dumps(
            values
            | {key: value for key, value in given.items() if value is not None}
            | {"address": {"city": self.city}}
        )

    @property
    def kafka_timestamp(self) -> datetime:
        return self.arrived or self.at + timedelta(seconds=1)

    @property
    def rank(self) -> tuple[datetime, int, int]:
        return (self.kafka_timestamp, self.partition, self.offset)

    @property
    def day(self) -> str:
        return self.at.date().isoformat()

    def row(self) -> tuple[Any, ...]:
        """Bronze's columns, with instants in microseconds since 1970."""
        at, arrived = (microseconds(instant) for instant in (self.at, self.kafka_timestamp))
        late = self.kafka_timestamp - self.at > timedelta(minutes=5)
        return (self.id, at, self.payload, None, self.partition, self.offset, arrived, late, arrived)

    def broken_rules(self) -> list[str]:
        """The rules of `TABLE` that it breaks, sorted. Only for events without a text of their own."""
        wrong = []
        if self.who is None:
            wrong.append("who_required")
        if self.amount is not None and not isinstance(self.amount, int):
            wrong.append("amount_type")
        elif self.amount is not None and self.amount < 0:
            wrong.append("amount_not_negative")
        if self.plan not in PLANS:
            wrong.append("known_plan")
        return sorted(wrong)


def microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def event(number: int, at: datetime, **values: Any) -> Event:
    """An event whose id and offset follow from its number."""
    return Event(id=f"e{number:05d}", at=at, offset=number, **values)


@dataclass(frozen=True)
class Expected:
    """What silver must hold: rows by event id and day, quarantine as rules by event id and day, versions, and gold."""

    purchases: Mapping[tuple[str, str], Event]
    quarantine: Mapping[tuple[str, str], list[str]]
    versions: list[tuple[Any, ...]]

    @property
    def fact(self) -> list[tuple[Any, ...]]:
        """(event id, day, who, amount, valid_from of the version)"""
        rows = []
        for one in self.purchases.values():
            begins = [
                v[3] for v in self.versions if v[0] == one.who and v[3] <= one.at and (v[4] is None or one.at < v[4])
            ]
            assert len(begins) == 1, (one, begins)
            rows.append((one.id, one.day, one.who, one.amount or 0, begins[0]))
        return sorted(rows)

    @property
    def daily(self) -> list[tuple[Any, ...]]:
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        plans = {(version[0], version[3]): version[1] for version in self.versions}
        for _, day, who, amount, begins in self.fact:
            found[day, plans[who, begins]].append(amount)
        return sorted((*key, len(amounts), sum(amounts)) for key, amounts in found.items())

    @property
    def totals(self) -> list[tuple[Any, ...]]:
        found: dict[str, int] = defaultdict(int)
        for one in self.purchases.values():
            assert one.who is not None
            found[one.who] += one.amount or 0
        return sorted(found.items())


def expected(events: Iterable[Event]) -> Expected:
    """What silver and gold hold after these rows of bronze, in whatever order they came."""
    firsts: dict[tuple[str, str], Event] = {}
    for one in events:
        key = (one.id, one.day)
        if key not in firsts or one.rank < firsts[key].rank:
            firsts[key] = one
    good = {key: one for key, one in firsts.items() if not one.broken_rules()}
    bad = {key: one.broken_rules() for key, one in firsts.items() if one.broken_rules()}
    return Expected(good, bad, sorted(_versions(good.values()), key=lambda version: (version[0], version[3])))


def _versions(purchases: Iterable[Event]) -> Iterator[tuple[Any, ...]]:
    """(who, plan, city, valid_from, valid_to)"""
    ordered = sorted(purchases, key=lambda one: (one.who or "", one.at, one.id))
    for who, own in groupby(ordered, key=lambda one: one.who):
        at_instant = {one.at: (one.plan, one.city) for one in own}  # of several at one instant the last id stays
        changes: list[tuple[datetime, tuple[str | None, str | None]]] = []
        for at, values in at_instant.items():
            if not changes or changes[-1][1] != values:
                changes.append((at, values))
        ends = [at for at, _ in changes[1:]] + [None]
        for (at, values), end in zip(changes, ends, strict=True):
            yield (who, *values, at, end)


def catalog_in(directory: Path, name: str) -> CatalogSettings:
    """A catalog in a SQLite file."""
    directory.mkdir(exist_ok=True)
    return CatalogSettings(
        type="jdbc", uri=f"jdbc:sqlite:{directory}/catalog.db", warehouse=f"file:{directory}/warehouse", name=name
    )


def _database(catalog: CatalogSettings) -> Path:
    return Path(catalog.uri.removeprefix("jdbc:sqlite:"))


_BEGINNINGS: dict[str, CatalogSettings] = {}
"""What `World.begin` has computed, for as long as the process lives."""


class World:
    """A catalog of its own, with bronze, and the jobs over it."""

    def __init__(self, spark: SparkSession, catalog: CatalogSettings) -> None:
        self.spark = spark
        self.catalog = catalog
        self.lakehouse = Lakehouse(spark, catalog.name)
        self._runs = count(1)
        self.lakehouse.ensure(layout.bronze(BRONZE))

    # --- what is put in

    def arrive(self, *events: Event) -> int:
        """Append rows to bronze in one commit; answer the snapshot."""
        self.bronze_rows(*events).writeTo(self.lakehouse.identifier(BRONZE)).append()
        return self.head(BRONZE)

    def bronze_rows(self, *events: Event) -> DataFrame:
        """Rows as bronze holds them."""
        columns = layout.bronze(BRONZE).columns
        instants = {column.name for column in columns if column.type == "timestamp"}
        kinds = {column.name: "bigint" if column.name in instants else spark_type(column.type) for column in columns}
        schema = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        rows = self.lakehouse.few_rows(schema, [one.row() for one in events])
        return rows.withColumns({name: fn.timestamp_micros(name) for name in instants})

    def begin(self, *events: Event, gold: bool = False) -> int:
        """Bronze with these rows, and silver, and perhaps gold, computed from them; answer bronze's snapshot.

        The same beginning is computed once: this catalog then names the metadata of the tables that are there already.
        Their files belong to all who began so, so nothing may remove any: Iceberg refuses it (`gc.enabled`).
        """
        assert self.history(BRONZE).head is None, "something has begun here already"
        key = repr((events, gold))
        if key not in _BEGINNINGS:
            _BEGINNINGS[key] = self._computed(len(_BEGINNINGS), events, gold=gold)
        with closing(sqlite3.connect(_database(self.catalog))) as database:
            database.execute("ATTACH ? AS beginning", (str(_database(_BEGINNINGS[key])),))
            for table, rows in (("iceberg_tables", "iceberg_type = 'TABLE'"), ("iceberg_namespace_properties", "true")):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                others = ", ".join(name for name in columns if name != "catalog_name")
                database.execute(
                    f"INSERT OR REPLACE INTO {table} (catalog_name, {others}) "
                    f"SELECT ?, {others} FROM beginning.{table} WHERE {rows}",
                    (self.catalog.name,),
                )
            database.commit()
        return self.head(BRONZE)

    def _computed(self, number: int, events: Sequence[Event], *, gold: bool) -> CatalogSettings:
        """A catalog with a beginning."""
        folder = Path(tempfile.mkdtemp(prefix="beginning", dir=Path(_database(self.catalog)).parents[1]))
        catalog = catalog_in(folder, f"beginning{number}")
        current = self.spark.catalog.currentCatalog()
        world = World(open_session(catalog, {}, "tests"), catalog)
        world.arrive(*events)
        world.silver("beginning-silver")
        if gold:
            world.gold("beginning-gold")
        with closing(sqlite3.connect(_database(catalog))) as database:
            named = "SELECT table_namespace || '.' || table_name FROM iceberg_tables WHERE iceberg_type = 'TABLE'"
            tables = [row[0] for row in database.execute(named)]
        for table in tables:
            world.lakehouse.loaded(table).updateProperties().set("gc.enabled", "false").commit()
        self.spark.catalog.setCurrentCatalog(current)
        return catalog

    def sql(self, text: str) -> Any:
        return self.spark.sql(text.replace("lakehouse.", f"{self.catalog.name}."))

    # --- the jobs

    def silver_settings(self, run: str | None = None, **changes: Any) -> SilverSettings:
        raw = {
            "pipeline": "purchases",
            "catalog": decoding.encode(self.catalog),
            "run": {"id": run or f"run-{next(self._runs)}", **changes.pop("run_more", {})},
            "bronzeTable": BRONZE,
            "columns": COLUMNS,
            "tables": [TABLE],
            "dimensions": [DIMENSION],
            **changes,
        }
        return decoding.decode(SilverSettings, raw)

    def gold_settings(self, run: str | None = None, **changes: Any) -> GoldSettings:
        raw = {
            "pipeline": "purchases",
            "catalog": decoding.encode(self.catalog),
            "run": {"id": run or f"run-{next(self._runs)}", **changes.pop("run_more", {})},
            "sources": [PURCHASES, PEOPLE],
            "models": MODELS,
            **changes,
        }
        return decoding.decode(GoldSettings, raw)

    def silver(self, run: str | None = None, **changes: Any) -> dict[str, Any]:
        return silver.run(self.spark, self.silver_settings(run, **changes), NOW)

    def gold(self, run: str | None = None, **changes: Any) -> dict[str, Any]:
        return gold.run(self.spark, self.gold_settings(run, **changes), NOW)

    # --- what came out

    def history(self, table: str) -> History:
        return self.lakehouse.history(table)

    def head(self, table: str) -> int:
        head = self.history(table).head
        assert head is not None
        return head

    def snapshots(self, table: str) -> list[int]:
        """The table's own commits, oldest first."""
        return [snapshot.id for snapshot in self.history(table).ancestors()][::-1]

    def files(self, table: str) -> dict[str, set[str]]:
        """The data files by partition, as text."""
        found: dict[str, set[str]] = defaultdict(set)
        for row in self.sql(f"SELECT partition, file_path FROM lakehouse.{table}.files").collect():
            found[str(row["partition"][0])].add(row["file_path"])
        return found

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Rows as sorted tuples; timestamps as instants, dates as text."""
        found = (
            self.spark.table(self.lakehouse.identifier(table)).select(*map(_readable(self, table), columns)).collect()
        )
        return sorted((tuple(map(_python, row)) for row in found), key=repr)

    def purchases(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        columns = ("event_id", "event_time", "who", "plan", "city", "amount", "kafka_partition", "kafka_offset")
        found = [(row[0], row[1].date().isoformat(), row[2:]) for row in self.rows(PURCHASES, *columns)]
        assert len({row[:2] for row in found}) == len(found), "an event is there twice"
        return {(id_, day): values for id_, day, values in found}

    def quarantine(self) -> dict[tuple[str, str], list[str]]:
        found = self.rows(QUARANTINE, "event_id", "event_time", "broken_rules")
        assert len({(row[0], row[1].date()) for row in found}) == len(found), "an event is there twice"
        return {(id_, at.date().isoformat()): rules for id_, at, rules in found}

    def versions(self) -> list[tuple[Any, ...]]:
        found = self.rows(PEOPLE, "who", "plan", "city", "valid_from", "valid_to", "is_current")
        assert all(row[5] == (row[4] is None) for row in found)
        return sorted((row[:5] for row in found), key=lambda version: (version[0], version[3]))

    def check_silver(self, events: Sequence[Event]) -> Expected:
        """Compare silver with what it must hold."""
        wanted = expected(events)
        assert self.purchases() == {
            key: (one.who, one.plan, one.city, one.amount or 0, one.partition, one.offset)
            for key, one in wanted.purchases.items()
        }
        assert self.quarantine() == wanted.quarantine
        assert self.versions() == wanted.versions
        return wanted

    def check_gold(self, wanted: Expected) -> None:
        """Compare gold with what it must hold."""
        begins = {row[0]: row[1] for row in self.rows(PEOPLE, "version_id", "valid_from")}
        fact = self.rows("gold.fact", "event_id", "day", "who", "amount", "person_key")
        assert sorted((*row[:4], begins[row[4]]) for row in fact) == wanted.fact
        assert sorted(self.rows("gold.daily", "day", "plan", "purchases", "amount")) == wanted.daily
        assert sorted(self.rows("gold.totals", "who", "amount")) == wanted.totals
        assert {row[0] for row in self.rows("gold.person", "person_key")} == set(begins)


class Killed(BaseException):
    """Nothing in the jobs catches it."""


def kill(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool, number: int = 1) -> None:
    """Stop the run at the n-th call of a function, before or after it did its work."""
    original, calls = getattr(owner, name), iter(range(1, 100))

    def killing(*arguments: Any, **named: Any) -> Any:
        if next(calls) != number:
            return original(*arguments, **named)
        if after:
            original(*arguments, **named)
        raise Killed

    monkeypatch.setattr(owner, name, killing)


def _readable(world: World, table: str) -> Any:
    types = {
        field.name: field.dataType.simpleString()
        for field in world.spark.table(world.lakehouse.identifier(table)).schema
    }

    def column(name: str) -> Any:
        return fn.unix_micros(name).alias(name) if types[name] == "timestamp" else fn.col(name)

    def marked(name: str) -> Any:
        return fn.struct(fn.lit(types[name]).alias("type"), column(name).alias("value")).alias(name)

    return marked


def _python(cell: Any) -> Any:
    value = cell["value"]
    if cell["type"] == "timestamp" and value is not None:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    return value.isoformat() if isinstance(value, date) else value


__all__ = [
    "DAY",
    "HOUR",
    "NOW",
    "START",
    "Event",
    "Expected",
    "Killed",
    "World",
    "event",
    "expected",
    "kill",
    "replace",
]
