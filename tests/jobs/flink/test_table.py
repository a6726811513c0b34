"""The bronze table: made by the job if it is not there, and refused if it is another one."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.flink.bronze_world import CatalogSettings
from lakehouse_contract import layout
from lakehouse_contract.tables import Column, PartitionField, Table
from lakehouse_jobs import iceberg_catalog

BRONZE = layout.bronze("bronze.events", "snappy")


@pytest.fixture
def catalog(tmp_path: Any) -> CatalogSettings:
    return CatalogSettings(
        type="jdbc", uri=f"jdbc:sqlite:{tmp_path / 'catalog.db'}", warehouse=(tmp_path / "warehouse").as_uri()
    )


def ensure(jvm: Any, catalog: CatalogSettings, table: Table = BRONZE) -> None:
    iceberg_catalog.ensure_table(jvm, catalog, {}, table)


def problems(jvm: Any, catalog: CatalogSettings) -> list[str]:
    """What is wrong with the table that is there."""
    with pytest.raises(iceberg_catalog.TableRefused) as refused:
        ensure(jvm, catalog)
    return [str(problem) for problem in refused.value.problems]


def change(table: Table, name: str, **changes: Any) -> Table:
    columns = tuple(replace(column, **changes) if column.name == name else column for column in table.columns)
    return replace(table, columns=columns)


def test_the_table_is_made_as_declared(jvm: Any, catalog: CatalogSettings) -> None:
    ensure(jvm, catalog)
    with iceberg_catalog.opened(jvm, catalog, {}) as opened:
        table = opened.loadTable(jvm.org.apache.iceberg.catalog.TableIdentifier.parse("bronze.events"))
        fields = [
            (field.name(), field.isRequired(), field.type().toString(), field.doc())
            for field in table.schema().columns()
        ]
        assert fields == [
            (column.name, column.required, {"long": "long", "timestamp": "timestamptz"}.get(column.type, column.type),
             column.meaning)
            for column in BRONZE.columns
        ]  # fmt: skip
        assert table.spec().toString() == "[\n  1000: event_time_day: day(2)\n]"
        properties = dict(table.properties())
        assert properties | dict(BRONZE.properties) | {"format-version": ""} == properties | {"format-version": ""}
        assert table.operations().current().formatVersion() == 2


def test_a_table_that_is_there_is_taken_as_it_is(jvm: Any, catalog: CatalogSettings) -> None:
    more = replace(BRONZE, columns=(*BRONZE.columns, Column("added_later", "string", "Someone's own.")))
    ensure(jvm, catalog, change(more, "kafka_timestamp", required=False))
    ensure(jvm, catalog)
    ensure(jvm, catalog)


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (replace(BRONZE, columns=tuple(column for column in BRONZE.columns if column.name != "payload")), "payload"),
        (change(BRONZE, "kafka_offset", type="int"), "kafka_offset"),
        (change(BRONZE, "payload", type="binary"), "payload"),
        (change(BRONZE, "kafka_key", required=True), "kafka_key"),
        (replace(BRONZE, columns=(*BRONZE.columns, Column("extra", "string", "", required=True))), "extra"),
        (replace(BRONZE, partitions=()), "day(event_time)"),
        (replace(BRONZE, partitions=(PartitionField("event_time", "month"),)), "month(event_time)"),
    ],
    ids=["column missing", "narrower", "another type", "may not be null", "one more", "no partitions", "months"],
)
def test_a_table_of_another_shape_is_refused_with_a_sentence(
    jvm: Any, catalog: CatalogSettings, there: Table, named: str
) -> None:
    ensure(jvm, catalog, there)
    [problem] = problems(jvm, catalog)
    assert problem.startswith("table: bronze.events is there already")
    assert named in problem
    assert problem.endswith("name another table, or move that one away")


def test_sqlite_is_opened_in_the_mode_that_several_engines_can_share(jvm: Any, catalog: CatalogSettings) -> None:
    import sqlite3

    ensure(jvm, catalog)
    with sqlite3.connect(catalog.uri.removeprefix("jdbc:sqlite:")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(iceberg_tables)")}
    assert "iceberg_type" in columns  # the schema of version V1, which has views


def test_the_catalogs_own_properties_win_and_every_type_has_its_name() -> None:
    def properties(**changes: Any) -> dict[str, str]:
        settings: dict[str, Any] = {"type": "jdbc", "uri": "jdbc:postgresql://db/x", "warehouse": "s3://b/w"} | changes
        return iceberg_catalog.catalog_properties(CatalogSettings(**settings), {"jdbc.password": "secret"})

    assert properties(properties={"jdbc.user": "me"}) == {
        "uri": "jdbc:postgresql://db/x", "warehouse": "s3://b/w", "jdbc.user": "me", "jdbc.password": "secret",
        "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog", "jdbc.schema-version": "V1",
    }  # fmt: skip
    assert properties(uri="jdbc:sqlite:/x", properties={"jdbc.busy_timeout": "1"})["jdbc.busy_timeout"] == "1"
    rest = properties(type="rest", uri="http://c:8181")
    assert rest["type"] == "rest"
    assert iceberg_catalog.flink_catalog_options(rest)["catalog-type"] == "rest"
    assert iceberg_catalog.flink_catalog_options(rest)["type"] == "iceberg"
