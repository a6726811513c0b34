"""One definition of each table: Flink's columns, Spark's columns and the Iceberg schema say the same."""

import re

import pytest
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestamptzType,
)

from lakehouse_contract import layout
from lakehouse_contract.decoding import decode
from lakehouse_contract.domain import Dimension, KeyedTable
from lakehouse_contract.tables import (
    Table,
    flink_columns,
    iceberg_partition_spec,
    iceberg_schema,
    spark_schema,
)

EVERY_TYPE = (
    "string",
    "boolean",
    "int",
    "long",
    "double",
    "date",
    "timestamp",
    "binary",
    "list<string>",
    "decimal(12,2)",
)
KEYED = decode(
    KeyedTable,
    {
        "name": "silver.everything",
        "columns": [{"name": f"c_{number}", "type": kind, "expression": "x"} for number, kind in enumerate(EVERY_TYPE)],
    },
)
DIMENSION = decode(
    Dimension, {"name": "silver.dim", "source": "silver.everything", "key": "c_0", "tracked": ["c_2", "c_9"]}
)
TABLES = (
    layout.bronze("bronze.events"),
    layout.silver(KEYED),
    layout.quarantine(KEYED),
    layout.quality("silver"),
    layout.dimension(DIMENSION, KEYED),
    layout.refreshes("gold"),
)

# What each engine calls the same type, written down a second time.
ENGINES: dict[str, tuple[str, str]] = {
    "string": ("STRING", "STRING"),
    "boolean": ("BOOLEAN", "BOOLEAN"),
    "int": ("INT", "INT"),
    "long": ("BIGINT", "BIGINT"),
    "double": ("DOUBLE", "DOUBLE"),
    "date": ("DATE", "DATE"),
    "timestamptz": ("TIMESTAMP_LTZ(6)", "TIMESTAMP"),
    "binary": ("BYTES", "BINARY"),
    "list<string>": ("ARRAY<STRING>", "ARRAY<STRING>"),
    "decimal(12, 2)": ("DECIMAL(12,2)", "DECIMAL(12,2)"),
}


def name_of(kind: IcebergType) -> str:
    return "list<string>" if isinstance(kind, ListType) else str(kind)


def columns(ddl: str) -> list[tuple[str, str, bool]]:
    """Name, type and whether it is required, of each column of a list in SQL."""
    found = re.findall(r"`(\w+)` ([A-Z_]+(?:\([0-9,]+\)|<[A-Z]+>)?)( NOT NULL)?", ddl)
    return [(name, kind, bool(required)) for name, kind, required in found]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_three_schemas_of_a_table_agree(table: Table) -> None:
    iceberg = Schema.model_validate_json(iceberg_schema(table))
    expected = [(each.name, ENGINES[name_of(each.field_type)], each.required) for each in iceberg.fields]
    assert columns(flink_columns(table)) == [(name, kinds[0], required) for name, kinds, required in expected]
    assert columns(spark_schema(table)) == [(name, kinds[1], required) for name, kinds, required in expected]


def test_every_column_type_has_its_iceberg_type() -> None:
    iceberg = Schema.model_validate_json(iceberg_schema(layout.silver(KEYED)))
    kinds = [type(iceberg.find_field(f"c_{number}").field_type) for number in range(len(EVERY_TYPE))]
    assert kinds == [
        StringType,
        BooleanType,
        IntegerType,
        LongType,
        DoubleType,
        DateType,
        TimestamptzType,
        BinaryType,
        ListType,
        DecimalType,
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_field_numbers_are_given_once(table: Table) -> None:
    iceberg = Schema.model_validate_json(iceberg_schema(table))
    assert len(iceberg.field_ids) == len(set(iceberg.field_ids))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_partitions_and_keys_name_columns(table: Table) -> None:
    names = {column.name for column in table.columns}
    spec = PartitionSpec.model_validate_json(iceberg_partition_spec(table))
    iceberg = Schema.model_validate_json(iceberg_schema(table))
    assert {iceberg.find_column_name(each.source_id) for each in spec.fields} <= names
    assert set(table.key) <= names


def test_events_are_partitioned_by_their_day() -> None:
    for table in TABLES[:3]:
        (field,) = PartitionSpec.model_validate_json(iceberg_partition_spec(table)).fields
        assert (field.name, str(field.transform)) == ("event_time_day", "day")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_and_column_says_what_it_means(table: Table) -> None:
    assert all(text.strip() for text in (table.meaning, *(column.meaning for column in table.columns)))
    assert table.properties["format-version"] == "2"


def test_the_codec_is_a_setting() -> None:
    assert layout.bronze("b.e", "snappy").properties["write.parquet.compression-codec"] == "snappy"
    assert layout.bronze("b.e").properties["write.parquet.compression-codec"] == "zstd"
