"""Reading and moving Iceberg metadata, on real tables in a SQLite catalog."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_contract import layout
from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import iceberg_schema
from lakehouse_operator.tables import observe as observing
from lakehouse_operator.tables.catalog import open_catalog, sqlalchemy_url
from lakehouse_operator.tables.move import MoveRefused, drop_tag, roll_back, tag_snapshot
from lakehouse_operator.tables.observe import TableObserver

NAME = "bronze.events"
Append = Callable[..., int]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    settings = CatalogSettings(
        type="jdbc", uri=f"jdbc:sqlite:{tmp_path}/catalog.db?journal_mode=WAL", warehouse=f"file://{tmp_path}/warehouse"
    )
    catalog = open_catalog(settings, {})
    table = layout.bronze(NAME)
    catalog.create_namespace("bronze")
    catalog.create_table(
        NAME,
        Schema.model_validate_json(iceberg_schema(table)),
        properties=dict(table.properties),
    )
    return catalog


@pytest.fixture
def append(catalog: Catalog) -> Append:
    def append(*arrivals: datetime, **properties: str) -> int:
        """Commit one row for each arrival; answers the snapshot's id."""
        table = catalog.load_table(NAME)
        rows = [
            {
                "event_id": f"e{arrival}",
                "event_time": datetime(2026, 3, 1 + number, tzinfo=UTC),
                "payload": "{}",
                "kafka_key": None,
                "kafka_partition": 0,
                "kafka_offset": number,
                "kafka_timestamp": arrival,
                "is_late_arrival": False,
                "ingested_at": arrival,
            }
            for number, arrival in enumerate(arrivals)
        ]
        data = pa.Table.from_pylist(rows, schema=table.schema().as_arrow())
        table.append(data, snapshot_properties={key.replace("_", "."): value for key, value in properties.items()})
        head = catalog.load_table(NAME).current_snapshot()
        assert head is not None
        return head.snapshot_id

    return append


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 10, hour, minute, tzinfo=UTC)


def head(catalog: Catalog) -> int | None:
    snapshot = catalog.load_table(NAME).current_snapshot()
    return snapshot.snapshot_id if snapshot else None


def tags(catalog: Catalog) -> dict[str, int]:
    return dict(TableObserver(catalog).observe([NAME])[NAME].tags)


def test_a_commit_tells_the_event_days_of_its_rows(catalog: Catalog, append: Append) -> None:
    append(at(5))
    append(at(6), at(7), at(8))
    append()
    commits = TableObserver(catalog).observe([NAME])[NAME].commits
    assert [(each.event_days, each.kafka_timestamp_max) for each in commits] == [
        (("2026-03-01",), at(5)),
        (("2026-03-01", "2026-03-02", "2026-03-03"), at(8)),
        ((), None),
    ]


def test_commits_come_oldest_first_with_their_properties_and_newest_arrival(catalog: Catalog, append: Append) -> None:
    first = append(at(5, 1), at(5, 30), lakehouse_run="r1")
    second = append(at(5, 10), lakehouse_run="r2")
    commits = TableObserver(catalog).observe([NAME])[NAME].commits
    assert [(c.id, c.parent, c.kafka_timestamp_max, c.properties["lakehouse.run"]) for c in commits] == [
        (first, None, at(5, 30), "r1"),
        (second, first, at(5, 10), "r2"),
    ]


def test_a_table_that_does_not_exist_is_left_out(catalog: Catalog) -> None:
    assert TableObserver(catalog).observe([NAME, "bronze.nothing", "nowhere.at_all"]).keys() == {NAME}


def test_an_empty_table_has_no_head(catalog: Catalog) -> None:
    assert TableObserver(catalog).observe([NAME])[NAME].head is None


def test_each_commit_s_files_are_looked_at_once(
    catalog: Catalog, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(at(5))
    looked = []
    real = observing.added_rows
    monkeypatch.setattr(observing, "added_rows", lambda *args: looked.append(args) or real(*args))
    observer = TableObserver(catalog)
    observer.observe([NAME])
    observer.observe([NAME])
    append(at(6))
    observer.observe([NAME])
    assert len(looked) == 2


def test_what_is_known_is_not_looked_at(catalog: Catalog, append: Append) -> None:
    first, second = append(at(5)), append(at(6))
    commits = TableObserver(catalog).observe([NAME], known={NAME: first})[NAME].commits
    assert [(c.id, c.kafka_timestamp_max) for c in commits] == [(first, None), (second, at(6))]


def test_of_a_long_history_the_newest_commits_are_looked_at_and_older_ones_that_are_asked_for(
    catalog: Catalog, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [append(at(hour)) for hour in range(6)]
    stray = append(at(7))
    roll_back(catalog, NAME, to=made[-1], expected_head=stray, discarded_tag="discarded-1")
    looked: list[int] = []
    real = observing.added_rows
    monkeypatch.setattr(observing, "added_rows", lambda *args: looked.append(args[1].snapshot_id) or real(*args))
    monkeypatch.setattr(observing, "MOST_COMMITS", 2)
    asked = {NAME: (made[3], made[1], made[5], stray, 42)}
    view = TableObserver(catalog).observe([NAME], asked=asked)[NAME]
    assert [each.id for each in view.commits] == made[4:]
    assert [(each.id, each.kafka_timestamp_max) for each in view.older] == [(made[1], at(1)), (made[3], at(3))]
    assert sorted(looked) == sorted([made[1], *made[3:]]), "of the others no file is read"
    assert TableObserver(catalog).observe([NAME])[NAME].older == ()


def test_so_many_commits_are_looked_at_as_are_made_in_three_days_at_one_a_minute() -> None:
    assert observing.MOST_COMMITS >= 3 * 24 * 60


def test_the_branch_is_followed_no_farther_than_to_what_is_asked_for(
    catalog: Catalog, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [append(at(hour)) for hour in range(6)]
    followed: list[int] = []
    real = observing.main_branch

    def counted(table: Table) -> Iterator[Snapshot]:
        for snapshot in real(table):
            followed.append(snapshot.snapshot_id)
            yield snapshot

    monkeypatch.setattr(observing, "main_branch", counted)
    monkeypatch.setattr(observing, "MOST_COMMITS", 2)
    TableObserver(catalog).observe([NAME], asked={NAME: (made[3], made[5])})
    assert followed == [made[5], made[4], made[3]]


def test_tagging_twice_is_one_write(catalog: Catalog, append: Append) -> None:
    first = append(at(5))
    append(at(6))
    assert tag_snapshot(catalog, NAME, "point-1", first) is True
    written = catalog.load_table(NAME).metadata_location
    assert tag_snapshot(catalog, NAME, "point-1", first) is False
    assert (catalog.load_table(NAME).metadata_location, tags(catalog)) == (written, {"point-1": first})


def test_a_tag_for_a_snapshot_that_is_gone_is_refused(catalog: Catalog, append: Append) -> None:
    append(at(5))
    with pytest.raises(MoveRefused, match="has no snapshot 42"):
        tag_snapshot(catalog, NAME, "point-1", 42)


def test_dropping_a_tag_twice_is_one_write(catalog: Catalog, append: Append) -> None:
    tag_snapshot(catalog, NAME, "point-1", append(at(5)))
    assert (drop_tag(catalog, NAME, "point-1"), drop_tag(catalog, NAME, "point-1"), tags(catalog)) == (True, False, {})


def test_rolling_back_keeps_what_it_discards_under_a_tag(catalog: Catalog, append: Append) -> None:
    first, second = append(at(5)), append(at(6))
    assert roll_back(catalog, NAME, to=first, expected_head=second, discarded_tag="discarded-1") is True
    assert (head(catalog), tags(catalog)) == (first, {"discarded-1": second})
    assert catalog.load_table(NAME).scan().to_arrow().num_rows == 1


def test_a_repeated_roll_back_changes_nothing(catalog: Catalog, append: Append) -> None:
    first, second = append(at(5)), append(at(6))
    for expected in (True, False):
        done = roll_back(catalog, NAME, to=first, expected_head=second, discarded_tag="discarded-1")
        assert done is expected
    assert head(catalog) == first


def test_a_roll_back_is_refused_when_somebody_has_committed(catalog: Catalog, append: Append) -> None:
    first, second = append(at(5)), append(at(6))
    third = append(at(7))
    with pytest.raises(MoveRefused, match=f"expected to have the head {second}, but has {third}"):
        roll_back(catalog, NAME, to=first, expected_head=second, discarded_tag="d")
    assert (head(catalog), tags(catalog)) == (third, {})


def test_a_commit_that_wins_the_race_stays(catalog: Catalog, append: Append, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = append(at(5)), append(at(6))
    stale = catalog.load_table(NAME)
    third = append(at(7))
    monkeypatch.setattr(catalog, "load_table", lambda _: stale)
    with pytest.raises((MoveRefused, CommitFailedException)):
        roll_back(catalog, NAME, to=first, expected_head=second, discarded_tag="d")
    monkeypatch.undo()
    assert (head(catalog), tags(catalog)) == (third, {})


def test_only_an_ancestor_can_be_rolled_back_to(catalog: Catalog, append: Append) -> None:
    first, second = append(at(5)), append(at(6))
    roll_back(catalog, NAME, to=first, expected_head=second, discarded_tag="d")
    third = append(at(7))
    with pytest.raises(MoveRefused, match="no ancestor"):
        roll_back(catalog, NAME, to=second, expected_head=third, discarded_tag="e")


@pytest.mark.parametrize(
    ("jdbc", "expected"),
    [
        ("jdbc:sqlite:/data/catalog.db?journal_mode=WAL", "sqlite:////data/catalog.db"),
        ("jdbc:postgresql://db:5432/catalog", "postgresql+psycopg2://me:p%40ss@db:5432/catalog"),
        (
            "jdbc:postgresql://db/catalog?sslmode=verify-full&sslrootcert=/ca.crt&tcpKeepAlive=true",
            "postgresql+psycopg2://me:p%40ss@db/catalog?sslmode=verify-full&sslrootcert=%2Fca.crt",
        ),
        (
            "jdbc:postgresql://db/catalog?currentSchema=lake",
            "postgresql+psycopg2://me:p%40ss@db/catalog?options=-csearch_path%3Dlake",
        ),
        (
            "jdbc:postgresql://one:5432,two:5433/catalog",
            "postgresql+psycopg2://me:p%40ss@/catalog?host=one%3A5432&host=two%3A5433",
        ),
    ],
)
def test_a_jdbc_address_becomes_sqlalchemy_s(jdbc: str, expected: str) -> None:
    assert sqlalchemy_url(jdbc, {"jdbc.user": "me", "jdbc.password": "p@ss"}) == expected


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="PostgreSQL or SQLite, not mysql"):
        sqlalchemy_url("jdbc:mysql://db/catalog", {})


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        ("rest", "http://catalog:8181"),
        ("hive", "thrift://metastore:9083"),
        ("jdbc", "jdbc:postgresql://db/catalog"),
    ],
)
def test_every_kind_of_catalog_gets_the_store_s_keys_and_address(
    kind: Any, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "lakehouse_operator.tables.catalog.load_catalog", lambda name, **own: given.update(own, name=name)
    )
    settings = CatalogSettings(
        type=kind,
        uri=uri,
        warehouse="s3://lake/warehouse",
        properties={"io-impl": "a.java.Class", "s3.endpoint": "http://store:9000", "s3.path-style-access": "true"},
    )
    open_catalog(settings, {"s3.access-key-id": "me", "credential": "id:secret"})
    assert given.items() >= {
        ("name", "lakehouse"),
        ("type", {"jdbc": "sql"}.get(kind, kind)),
        ("warehouse", "s3://lake/warehouse"),
        ("s3.access-key-id", "me"),
        ("s3.endpoint", "http://store:9000"),
        ("s3.force-virtual-addressing", "false"),
    }
    assert "io-impl" not in given
