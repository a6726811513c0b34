"""Checks and how they are made: each is a query for what is wrong, and passes when it finds nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

EXAMPLES = 5
"""How many rows a failed check shows."""
TOLERANCE = 1e-9
"""The relative difference that two engines may have in a mean: they add in different orders."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `counts` says over how much; `examples` holds some of the rows that are wrong."""

    name: str
    meaning: str
    passed: bool
    counts: Mapping[str, int]
    examples: tuple[Mapping[str, Any], ...] = ()

    def report(self) -> str:
        """The verdict in a line, and the examples below it, for people."""
        counted = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        lines = [f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.meaning} ({counted})"]
        lines += [f"      {dict(example)}" for example in self.examples]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two relations that must hold the same rows.

    `key` must be unique in both. `exact` columns must be equal, null with null; `close` ones up to `TOLERANCE`.
    """

    expected: str
    actual: str
    key: Sequence[str]
    exact: Sequence[str] = ()
    close: Sequence[str] = ()


def number(connection: DuckDBPyConnection, query: str) -> int:
    """The single number that a query gives."""
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def nothing_wrong(
    connection: DuckDBPyConnection, name: str, meaning: str, wrong: str, counts: Mapping[str, int]
) -> Check:
    """A check that passes when the query `wrong` gives no row."""
    found = number(connection, f"SELECT count(*) FROM ({wrong})")  # noqa: S608
    cursor = connection.execute(f"SELECT * FROM ({wrong}) LIMIT {EXAMPLES}")  # noqa: S608
    columns = [column[0] for column in cursor.description or ()]
    examples = tuple(dict(zip(columns, row, strict=True)) for row in cursor.fetchall())
    return Check(name, meaning, found == 0, {**counts, "wrong": found}, examples)


def same_rows(connection: DuckDBPyConnection, name: str, meaning: str, compared: Compared) -> Check:
    """A check that two relations hold the same rows."""
    expected = number(connection, f"SELECT count(*) FROM ({compared.expected})")  # noqa: S608
    actual = number(connection, f"SELECT count(*) FROM ({compared.actual})")  # noqa: S608
    counts = {"expected": expected, "found": actual}
    return nothing_wrong(connection, name, meaning, _differences(compared), counts)


def _differences(compared: Compared) -> str:
    key = ", ".join(compared.key)
    on = " AND ".join(f"e.{column} IS NOT DISTINCT FROM a.{column}" for column in compared.key)
    differs = [f"CASE WHEN e.{column} IS DISTINCT FROM a.{column} THEN '{column}' END" for column in compared.exact]
    differs += [f"CASE WHEN NOT ({_close(column)}) THEN '{column}' END" for column in compared.close]
    shown = [*compared.exact, *compared.close]
    values = "".join(f", e.{column} AS expected_{column}, a.{column} AS found_{column}" for column in shown)
    # A key that comes twice would hide in a join, so it is counted first and must come once on both sides.
    return f"""
        WITH e AS MATERIALIZED (SELECT *, true AS there, count(*) OVER (PARTITION BY {key}) AS times
                                FROM ({compared.expected})),
             a AS MATERIALIZED (SELECT *, true AS there, count(*) OVER (PARTITION BY {key}) AS times
                                FROM ({compared.actual})),
             joined AS (
               SELECT {", ".join(f"coalesce(e.{column}, a.{column}) AS {column}" for column in compared.key)},
                      CASE WHEN a.there IS NULL THEN ['missing'] WHEN e.there IS NULL THEN ['not expected']
                           WHEN a.times > 1 OR e.times > 1 THEN ['more than once']
                           ELSE list_filter([{", ".join(differs) or "NULL"}]::VARCHAR[], lambda x: x IS NOT NULL)
                      END AS differs{values}
               FROM e FULL OUTER JOIN a ON {on})
        SELECT * FROM joined WHERE len(differs) > 0 ORDER BY ALL
    """  # noqa: S608


def _close(column: str) -> str:
    e, a = f"e.{column}", f"a.{column}"
    return f"({e} IS NULL AND {a} IS NULL) OR coalesce(abs({e} - {a}) <= {TOLERANCE} * greatest(1, abs({e})), false)"
