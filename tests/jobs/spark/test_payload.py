"""What the payload's JSON becomes: strict types, and nothing that fails the job."""

import base64
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract.domain import PayloadColumn
from lakehouse_jobs import payload

TYPES = ("string", "long", "int", "double", "decimal(10,2)", "boolean", "timestamp", "date", "binary", "list<string>")
COLUMNS = tuple(PayloadColumn(name=f"as_{i}", type=kind, path="$.a") for i, kind in enumerate(TYPES))
COLUMNS += (PayloadColumn(name="needed", type="string", path="$.needed", required=True),)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# The JSON text of a value -> what it is in the columns that take it. All others break `<column>_type`.
VALUES: dict[str, dict[str, Any]] = {
    '"x"': {"string": "x"},
    '""': {"string": "", "binary": b""},
    '"12"': {"string": "12"},
    '"true"': {"string": "true", "binary": base64.b64decode("true")},
    '"null"': {"string": "null", "binary": base64.b64decode("null")},
    r'"\u0061\ud83d\ude00"': {"string": "a😀"},
    r'"\\ud83d"': {"string": r"\ud83d"},
    r'"\u0000x"': {"string": "\x00x"},
    "12": {"long": 12, "int": 12, "double": 12.0, "decimal(10,2)": Decimal("12.00")},
    "-0": {"long": 0, "int": 0, "double": 0.0, "decimal(10,2)": Decimal("0.00")},
    "1.0": {"long": 1, "int": 1, "double": 1.0, "decimal(10,2)": Decimal("1.00")},
    "1.50": {"double": 1.5, "decimal(10,2)": Decimal("1.50")},
    "1.255": {"double": 1.255},
    "1e3": {"long": 1000, "int": 1000, "double": 1000.0, "decimal(10,2)": Decimal("1000.00")},
    "125e-2": {"double": 1.25, "decimal(10,2)": Decimal("1.25")},
    "1255e-3": {"double": 1.255},
    "1e300": {"double": 1e300},
    "1e999": {},
    "2147483648": {"long": 2**31, "double": 2.0**31},
    "-9223372036854775808": {"long": -(2**63), "double": -(2.0**63)},
    "9223372036854775808": {"double": 2.0**63},
    "9007199254740993e0": {"double": 2.0**53},  # a double is not exact there
    "9" * 40: {"double": 1e40},
    "123456789.12": {"double": 123456789.12},
    "12345678.12": {"double": 12345678.12, "decimal(10,2)": Decimal("12345678.12")},
    "true": {"boolean": True},
    "false": {"boolean": False},
    '{"b":1}': {},
    "[]": {"list<string>": []},
    '["p",null]': {"list<string>": ["p", None]},
    '["p",1]': {},
    "[[1]]": {},
    '"2026-01-31T05:00:00Z"': {"string": "2026-01-31T05:00:00Z", "timestamp": at("2026-01-31T05:00:00")},
    '"2026-01-31t05:00:00.1234569z"': {
        "string": "2026-01-31t05:00:00.1234569z",
        "timestamp": at("2026-01-31T05:00:00.123456"),
    },
    '"2026-01-31T05:00:00+05:30"': {"string": "2026-01-31T05:00:00+05:30", "timestamp": at("2026-01-30T23:30:00")},
    '"2026-02-30T05:00:00Z"': {"string": "2026-02-30T05:00:00Z"},
    '"2026-01-31T05:00:00"': {"string": "2026-01-31T05:00:00"},
    '"2026-01-31 05:00:00Z"': {"string": "2026-01-31 05:00:00Z"},
    '"2026-01-31"': {"string": "2026-01-31", "date": date(2026, 1, 31)},
    '"2026-02-31"': {"string": "2026-02-31"},
    '"aGk="': {"string": "aGk=", "binary": b"hi"},
}
UNREADABLE: dict[str, str] = {
    "nothing": "",
    "blanks": " \n ",
    "a text": '"x"',
    "a number": "5",
    "null": "null",
    "an array": '[{"a":1}]',
    "cut off": '{"a":"x","needed":',
    "bytes after it": '{"a":1} x',
    "a second object": '{"a":1}{"a":2}',
    "a second element": '{"a":1},{"a":2}',
    "a bracket after it": '{"a":1}]',
    "a comma after it": '{"a":1},',
    "a name twice": '{"a":1,"a":2}',
    "a name twice, once in escapes": r'{"a":1,"\u0061":2}',
    "a name twice inside": '{"a":1,"o":{"b":1,"b":1}}',
    "NaN": '{"a":NaN}',
    "Infinity": '{"a":-Infinity}',
    "single quotes": "{'a':1}",
    "a bare name": "{a:1}",
    "a comment": '{"a":1/*x*/}',
    "a comma too many": '{"a":1,}',
    "a leading zero": '{"a":012}',
    "a leading plus": '{"a":+1}',
    "no digit after the point": '{"a":1.}',
    "a control character": '{"a":"x\ty"}',
    "an unknown escape": r'{"a":"\x"}',
    "a byte order mark": '\ufeff{"a":1}',
    "a blank that JSON does not know": '{\u00a0"a":1}',
    "half a surrogate pair": r'{"a":1,"note":"\ud83d"}',
    "a surrogate pair the wrong way round": r'{"a":1,"note":"\ude00\ud83d"}',
    "half a pair after a backslash": r'{"a":1,"note":"\\\ud83d"}',
    "1100 levels": '{"a":' + "[" * 1100 + "]" * 1100 + "}",
    "100000 levels": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a number of 1001 digits": '{"a":' + "9" * 1001 + "}",
}
READABLE: dict[str, str] = {
    "blanks around": ' \r\n\t{"a":"x","needed":"y"}\n ',
    "other fields": '{"":0,"$.a":1,"a.b":2,"A":3,"note":"\\\\\\"\\ud83d\\ude00","a":"x","needed":"y","deep":'
    + "[" * 500
    + "]" * 500
    + "}",
    "a large number elsewhere": '{"a":"x","needed":"y","n":' + "9" * 500 + "}",
    "a hundred kilobytes": '{"a":"x","needed":"y","n":"' + "z" * 100_000 + '"}',
}


@pytest.fixture(scope="module")
def read(spark: SparkSession) -> dict[str, Row]:
    """Every payload of this file, parsed in one query."""
    texts = {f"value {text}": f'{{"needed":"y","a":{text}}}' for text in (*VALUES, "null")}
    texts |= {"value missing": '{"needed":"y"}', "needed null": '{"needed":null}', "needed 1": '{"needed":1}'}
    texts |= {f"unreadable {name}": text for name, text in UNREADABLE.items()}
    texts |= {f"readable {name}": text for name, text in READABLE.items()}
    rows = spark.createDataFrame(list(texts.items()), "name string, payload string")
    moment = next(column.name for column in COLUMNS if column.type == "timestamp")
    parsed = payload.parsed(rows, COLUMNS).withColumn(moment, fn.unix_micros(moment))
    return {row["name"]: row for row in parsed.collect()}


def values(row: Row) -> dict[str, Any]:
    found = {column.type: row[column.name] for column in COLUMNS[:-1] if row[column.name] is not None}
    if "timestamp" in found:
        found["timestamp"] = datetime.fromtimestamp(found["timestamp"] / 1e6, tz=UTC)
    return found


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_taken_by_the_columns_of_its_type_and_by_no_other(read: dict[str, Row], text: str) -> None:
    row = read[f"value {text}"]
    assert values(row) == VALUES[text]
    broken = [f"{column.name}_type" for column in COLUMNS[:-1] if column.type not in VALUES[text]]
    assert sorted(row[payload.BROKEN]) == sorted(broken)


@pytest.mark.parametrize("name", ["value null", "value missing"])
def test_null_and_a_missing_value_are_the_same_and_no_fault(read: dict[str, Row], name: str) -> None:
    assert (values(read[name]), read[name][payload.BROKEN]) == ({}, [])


def test_a_required_value_may_not_be_missing(read: dict[str, Row]) -> None:
    assert read["needed null"][payload.BROKEN] == ["needed_required"]
    assert read["needed 1"][payload.BROKEN] == ["needed_type"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_one_strict_json_object_breaks_one_rule_and_no_job(read: dict[str, Row], name: str) -> None:
    row = read[f"unreadable {name}"]
    assert (values(row), row["needed"], row[payload.BROKEN]) == ({}, None, ["payload_json"])


@pytest.mark.parametrize("name", READABLE)
def test_what_stands_beside_the_declared_values_makes_no_difference(read: dict[str, Row], name: str) -> None:
    row = read[f"readable {name}"]
    assert (values(row)["string"], row["needed"]) == ("x", "y")


def test_a_payload_is_parsed_once_however_many_columns_are_read(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("{}",)], "payload string")
    plan = payload.parsed(rows, COLUMNS)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("parseJson") == 1
    assert "Python" not in plan
