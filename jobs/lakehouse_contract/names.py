"""Names that reach SQL: what is allowed, and how it is quoted.

Everything a resource says that becomes part of a statement goes through here, either as an identifier of a narrow
alphabet or as a quoted literal.
"""

from dataclasses import dataclass

from lakehouse_contract.decoding import Check, matches

identifier: Check = matches(
    r"[a-z_][a-z0-9_]{0,62}",
    "a table or column name: 1 to 63 lower-case letters, digits and underscores, not starting with a digit",
)
qualified: Check = matches(
    r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}",
    "a table name of the form namespace.table in lower-case letters, digits and underscores",
)
topic: Check = matches(r"[A-Za-z0-9._-]{1,249}", "a Kafka topic name: 1 to 249 of A-Z a-z 0-9 . _ -")
json_path: Check = matches(
    r"\$(\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,4}\])+", "a JSON path such as $.user.plan or $.items[0].price"
)
environment_variable: Check = matches(r"[A-Z_][A-Z0-9_]*", "the name of an environment variable")


@dataclass(frozen=True, slots=True)
class TableName:
    """`namespace.table`, split."""

    namespace: str
    table: str


def split(name: str) -> TableName:
    """Split a checked `namespace.table`."""
    namespace, table = name.split(".")
    return TableName(namespace, table)


def quoted_identifier(name: str) -> str:
    """Quote one identifier with backticks, as Flink SQL and Spark SQL do."""
    return "`" + name.replace("`", "``") + "`"


def quoted_name(*parts: str) -> str:
    """Quote a name of several parts: catalog, namespace, table."""
    return ".".join(quoted_identifier(part) for part in parts)


def flink_literal(text: str) -> str:
    """Quote text for Flink SQL: standard SQL, where a quote is doubled and a backslash is itself."""
    return "'" + text.replace("'", "''") + "'"


def spark_literal(text: str) -> str:
    """Quote text for Spark SQL, where a backslash escapes (`spark.sql.parser.escapedStringLiterals` is off)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
