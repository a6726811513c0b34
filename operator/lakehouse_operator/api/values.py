"""The texts of the API: each with its pattern, its bounds, and words for what is allowed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Text:
    """A string that matches `pattern` as a whole. `meaning` says in words what is allowed.

    The patterns stay within what RE2 can do, because the API server uses it.
    """

    pattern: str
    meaning: str
    max_length: int = 253
    min_length: int = 1

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        bounds: dict[str, Any] = {"minLength": self.min_length, "maxLength": self.max_length}
        return {**handler(schema), **bounds, **({"pattern": f"^({self.pattern})$"} if self.pattern else {})}

    def _check(self, value: str) -> str:
        if not self.min_length <= len(value) <= self.max_length:
            raise PydanticCustomError(
                "length",
                "must have {low} to {high} characters, not {length}; give {meaning}",
                {"low": self.min_length, "high": self.max_length, "length": len(value), "meaning": self.meaning},
            )
        if self.pattern and not re.fullmatch(self.pattern, value):
            shown = json.dumps(value if len(value) <= 60 else value[:57] + "...")
            raise PydanticCustomError("pattern", "{shown} is not {meaning}", {"shown": shown, "meaning": self.meaning})
        return value


def anything(meaning: str, max_length: int) -> Text:
    """A text that may hold anything, up to a length in characters."""
    return Text("", meaning, max_length)


Duration = Annotated[
    str,
    Text(
        r"([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?",
        "a duration such as 30s, 5m, 1h30m or 7d",
        max_length=32,
        min_length=2,
    ),
]
Memory = Annotated[str, Text(r"[1-9][0-9]{0,6}(Mi|Gi)", "an amount of memory such as 1536Mi or 4Gi", max_length=9)]
Cron = Annotated[
    str,
    Text(r"[^ ]+( [^ ]+){4}", "a cron expression of five fields separated by single spaces, such as 0 * * * *", 120),
]
TimeZone = Annotated[str, Text(r"[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*", "a time zone such as UTC or Europe/Berlin", 64)]
Instant = Annotated[
    str, Text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "an instant such as 2026-01-31T05:00:00Z", 20)
]
Day = Annotated[str, Text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "a day such as 2026-01-31", 10)]
SnapshotId = Annotated[str, Text(r"[0-9]{1,19}", "an Iceberg snapshot id, as a string of digits", 19)]
Revision = Annotated[str, Text(r"[0-9a-f]{12}", "a revision: 12 hexadecimal digits", 12)]

Identifier = Annotated[
    str,
    Text(
        r"[a-z_][a-z0-9_]{0,62}",
        "a table or column name: 1 to 63 lower-case letters, digits and underscores, not starting with a digit",
        63,
    ),
]
TableName = Annotated[
    str,
    Text(
        r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}",
        "a table name of the form namespace.table in lower-case letters, digits and underscores",
        127,
    ),
]
Topic = Annotated[str, Text(r"[A-Za-z0-9._-]{1,249}", "a Kafka topic name: 1 to 249 of A-Z a-z 0-9 . _ -", 249)]
JsonPath = Annotated[
    str,
    Text(
        r"\$(\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,4}\])+",
        "a JSON path such as $.user.plan or $.items[0].price",
        512,
    ),
]
ColumnType = Annotated[
    str,
    Text(
        r"string|boolean|int|long|double|date|timestamp|binary|list<string>"
        r"|decimal\(([1-9]|[12][0-9]|3[0-8]),([0-9]|[12][0-9]|3[0-8])\)",
        "a column type; known: string, boolean, int, long, double, date, timestamp, binary, list<string>, decimal(P,S)",
        14,
    ),
]
FlinkVersion = Annotated[str, Text(r"v[1-9]_[0-9]{1,2}", "a Flink version such as v2_1", 6)]
ObjectName = Annotated[
    str,
    Text(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "the name of an object of this namespace", 253),
]
SecretKey = Annotated[str, Text(r"[-._A-Za-z0-9]{1,253}", "a key of a Secret or ConfigMap", 253)]
Image = Annotated[str, Text(r"[^ ]+", "a container image such as registry.example/lakehouse-flink:1.4.2", 512)]
Uri = Annotated[str, Text(r"[A-Za-z][A-Za-z0-9+.-]*:[^ ]+", "a URI such as s3://bucket/folder", 1024)]
Expression = Annotated[str, anything("a Spark SQL expression", 8192)]
Statement = Annotated[str, anything("one SELECT in Spark SQL", 65_536)]

PropertyValue = Annotated[str, Text("", "a text", 4096, min_length=0)]
Properties = Annotated[Mapping[str, PropertyValue], Field(max_length=64)]
Labels = Annotated[Mapping[str, Annotated[str, Text("", "a text", 1024, min_length=0)]], Field(max_length=32)]


def seconds(duration: str) -> int:
    """The number of seconds in a checked `Duration`: `1h30m` is 5400."""
    factors = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    return sum(int(count) * factors[unit] for count, unit in re.findall(r"([0-9]+)([dhms])", duration))


def mebibytes(memory: str) -> int:
    """The number of MiB in a checked `Memory`: `2Gi` is 2048."""
    return int(memory[:-2]) * (1024 if memory.endswith("Gi") else 1)
