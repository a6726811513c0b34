r"""Reading the payload: from JSON text to the declared columns, strictly, in the JVM, each payload parsed once.

What counts as JSON: one object as I-JSON (RFC 7493) wants it. Refused are what every strict parser refuses, and besides
that names that occur twice in one object and text that is not Unicode (a lone surrogate such as `\ud83d`), because the
one has no certain meaning and the other no certain bytes. A refused payload breaks the rule `payload_json`.

Types are those of JSON: a number is not a string, `"12"` is not a number. `int` and `long` take a number whose value is
whole, so also `1.0` and `1e3` (with an exponent below 2^53, where a double is still exact); `decimal` takes what fits
without rounding; `double` takes what is finite in it; `timestamp` takes a string in RFC 3339 (digits beyond
microseconds are cut off), `date` one like 2026-01-31, `binary` one in base64. JSON's null is the same as a missing
value. A value of another type becomes NULL and breaks the rule `<column>_type`; a required value that is missing breaks
`<column>_required`.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract.domain import PAYLOAD_RULE, PayloadColumn, required_rule, type_rule
from lakehouse_contract.tables import spark_type

BROKEN = "_broken_by_payload"
"""The column that `parsed` adds: the names of the built-in rules that the payload breaks."""

_JSON = "_json"
_EXACT_BELOW = 2**53
_RFC_3339 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_BASE64 = r"^[A-Za-z0-9+/]*={0,2}$"
_ESCAPED_PAIR = r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE_SURROGATE = r"\\u[dD][89a-fA-F]"


def parsed(rows: DataFrame, columns: tuple[PayloadColumn, ...]) -> DataFrame:
    """Add the declared columns, and `BROKEN`, to rows that have a `payload`.

    The steps are projections of their own, so that what is costly is computed once: Spark does not merge a projection
    into the next one if an expensive expression would be repeated.
    """
    kept = [fn.col(name) for name in rows.columns]
    sources = {column.name: f"_source_{column.name}" for column in columns}
    types = {column.name: f"_type_{column.name}" for column in columns}
    whole = rows.select(*kept, _first_value().alias(_JSON)).select(*kept, _if_alone().alias(_JSON))
    found = whole.select(*kept, _JSON, *(_at(column.path).alias(sources[column.name]) for column in columns))
    typed = found.select(
        "*", *(fn.schema_of_variant(sources[column.name]).alias(types[column.name]) for column in columns)
    )
    valued = typed.select(
        "*", *(_value(column.type, sources[column.name], types[column.name]).alias(column.name) for column in columns)
    )
    return valued.select(*kept, *(column.name for column in columns), _broken(columns, types).alias(BROKEN))


def _first_value() -> Column:
    """The payload as a VARIANT inside of an array, or NULL if it does not begin with one strict JSON object.

    Spark's parser stops after the first value and does not look at what follows. So the payload is read as the first
    element of an array whose second element is a hash of the payload: that only comes second if the payload is one
    value, and no payload can contain its own hash. `_if_alone` looks at it.
    """
    text = fn.col("payload")
    variant = fn.try_parse_json(fn.concat(fn.lit("["), text, fn.lit(',"'), fn.md5(text), fn.lit('"]')))
    lone_surrogate = text.contains("\\u") & fn.regexp_replace(text, _ESCAPED_PAIR, " ").rlike(_LONE_SURROGATE)
    is_object = fn.ltrim(text, fn.lit(" \t\r\n")).startswith("{")
    return fn.when(is_object & ~lone_surrogate, variant)


def _if_alone() -> Column:
    """The same, or NULL if something follows the object."""
    return fn.when(fn.try_variant_get(_JSON, "$[1]", "string") == fn.md5("payload"), fn.col(_JSON))


def _at(path: str) -> Column:
    """The value at a path of the payload, as a VARIANT."""
    return fn.try_variant_get(_JSON, "$[0]" + path.removeprefix("$"), "variant")


def _value(column_type: str, source: str, type_name: str) -> Column:
    """The value as the column's type, or NULL if it is of another JSON type."""
    value, json_type = fn.col(source), fn.col(type_name)

    def get(engine_type: str) -> Column:
        return fn.try_variant_get(value, "$", engine_type)

    if column_type in {"int", "long", "double"} or column_type.startswith("decimal"):
        return _number(column_type, get, json_type)
    text = fn.when(json_type == "STRING", get("string"))
    readings = {
        "string": text,
        "boolean": fn.when(json_type == "BOOLEAN", get("boolean")),
        "timestamp": fn.when(text.rlike(_RFC_3339), fn.upper(text).try_cast("timestamp")),
        "date": fn.when(text.rlike(_ISO_DATE), text.try_cast("date")),
        "binary": fn.when(text.rlike(_BASE64) & (fn.length(text) % 4 == 0), fn.try_to_binary(text, fn.lit("base64"))),
        "list<string>": fn.when(json_type.rlike(r"^ARRAY<(STRING|VOID)>$"), get("array<string>")),
    }
    return readings[column_type]


def _number(column_type: str, get: Callable[[str], Column], json_type: Column) -> Column:
    """A number as the column's type, if it is one that fits."""
    double, is_integer, is_double = get("double"), json_type == "BIGINT", json_type == "DOUBLE"
    digits = fn.regexp_extract(json_type, r"^DECIMAL\([0-9]+,([0-9]+)\)$", 1).try_cast("int")
    if column_type == "double":
        finite = fn.abs(double) < fn.lit(float("inf"))
        return fn.when((is_integer | is_double | digits.isNotNull()) & finite, double)
    if column_type in {"int", "long"}:
        whole = is_double & (fn.rint(double) == double) & (fn.abs(double) < fn.lit(_EXACT_BELOW))
        return fn.when(is_integer | (digits == 0) | whole, get(spark_type(column_type)))
    decimal, scale = get(spark_type(column_type)), int(column_type.removesuffix(")").split(",")[1])
    exact = is_double & (decimal.cast("double") == double)
    return fn.when(is_integer | (digits <= scale) | exact, decimal)


def _broken(columns: tuple[PayloadColumn, ...], types: dict[str, str]) -> Column:
    names = []
    for column in columns:
        json_type = fn.coalesce(fn.col(types[column.name]), fn.lit("VOID"))
        if column.required:
            names.append(fn.when(json_type == "VOID", fn.lit(required_rule(column.name))))
        names.append(fn.when((json_type != "VOID") & fn.col(column.name).isNull(), fn.lit(type_rule(column.name))))
    return fn.when(fn.col(_JSON).isNull(), fn.array(fn.lit(PAYLOAD_RULE))).otherwise(fn.array_compact(fn.array(*names)))
