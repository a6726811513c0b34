"""Tables as data: one definition from which Flink's columns, Spark's columns and the Iceberg schema all come."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from lakehouse_contract.decoding import Check, matches
from lakehouse_contract.names import quoted_identifier

_ENGINE_TYPES: Mapping[str, tuple[str, str, Any]] = MappingProxyType(
    {  # ours: (Flink SQL, Spark SQL, Iceberg)
        "string": ("STRING", "STRING", "string"),
        "boolean": ("BOOLEAN", "BOOLEAN", "boolean"),
        "int": ("INT", "INT", "int"),
        "long": ("BIGINT", "BIGINT", "long"),
        "double": ("DOUBLE", "DOUBLE", "double"),
        "date": ("DATE", "DATE", "date"),
        "timestamp": ("TIMESTAMP_LTZ(6)", "TIMESTAMP", "timestamptz"),
        "binary": ("BYTES", "BINARY", "binary"),
        "list<string>": ("ARRAY<STRING>", "ARRAY<STRING>", "list<string>"),
    }
)
_DECIMAL = r"decimal\(([1-9]|[12][0-9]|3[0-8]),([0-9]|[12][0-9]|3[0-8])\)"
COLUMN_TYPES = (*_ENGINE_TYPES, "decimal(P,S)")

column_type: Check = matches(
    "|".join((*(name.replace("(", r"\(") for name in _ENGINE_TYPES), _DECIMAL)),
    "a column type; known: " + ", ".join(COLUMN_TYPES),
)


def widens(old: str, new: str) -> bool:
    """Whether every value of one column type is one of another and Iceberg reads old files so, without a rewrite."""
    if (old, new) == ("int", "long"):
        return True
    before, after = re.fullmatch(_DECIMAL, old), re.fullmatch(_DECIMAL, new)
    if before is None or after is None:
        return False
    return before[2] == after[2] and int(after[1]) > int(before[1])


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `type` is one of `COLUMN_TYPES`. A `timestamp` is an instant in UTC with microseconds. A `required` column is never
    null.
    """

    name: str
    type: str
    meaning: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One partition of a table: `transform` is Iceberg's, over a column."""

    column: str
    transform: Literal["identity", "day", "month", "bucket[16]"] = "identity"

    @property
    def name(self) -> str:
        """The partition's name, as Iceberg's own SQL would give it."""
        return self.column if self.transform == "identity" else f"{self.column}_{self.transform.split('[')[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The definition of an Iceberg table: `name` is `namespace.table`, `key` identifies a row in it."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partitions: tuple[PartitionField, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def flink_type(column_type: str) -> str:
    """The Flink SQL type of a column type."""
    return _engine_type(column_type, 0)


def spark_type(column_type: str) -> str:
    """The Spark SQL type of a column type."""
    return _engine_type(column_type, 1)


def _engine_type(name: str, engine: int) -> str:
    if name.startswith("decimal"):
        return name if engine == 2 else name.upper()
    return str(_ENGINE_TYPES[name][engine])


def flink_columns(table: Table) -> str:
    """The column list of a Flink `CREATE TABLE`."""
    return ",\n  ".join(
        f"{quoted_identifier(column.name)} {flink_type(column.type)}{' NOT NULL' if column.required else ''}"
        for column in table.columns
    )


def spark_schema(table: Table) -> str:
    """The table's columns as a Spark DDL schema string."""
    return ", ".join(
        f"{quoted_identifier(column.name)} {spark_type(column.type)}{' NOT NULL' if column.required else ''}"
        for column in table.columns
    )


def iceberg_schema(table: Table) -> str:
    """The table's Iceberg schema as JSON (the Iceberg table spec's appendix C): fields are numbered in order."""
    nested_ids = iter(range(len(table.columns) + 1, 10_000))
    fields = [
        {
            "id": number,
            "name": column.name,
            "required": column.required,
            "type": _iceberg_type(column.type, nested_ids),
            "doc": column.meaning,
        }
        for number, column in enumerate(table.columns, start=1)
    ]
    return json.dumps({"type": "struct", "schema-id": 0, "fields": fields})


def _iceberg_type(name: str, nested_ids: Any) -> Any:
    if name == "list<string>":
        return {"type": "list", "element-id": next(nested_ids), "element": "string", "element-required": False}
    return _engine_type(name, 2)


def iceberg_partition_spec(table: Table) -> str:
    """The table's partition spec as JSON (the Iceberg table spec's appendix C)."""
    numbers = {column.name: number for number, column in enumerate(table.columns, start=1)}
    return json.dumps(
        {
            "spec-id": 0,
            "fields": [
                {
                    "source-id": numbers[partition.column],
                    "field-id": 1000 + index,
                    "transform": partition.transform,
                    "name": partition.name,
                }
                for index, partition in enumerate(table.partitions)
            ],
        }
    )
