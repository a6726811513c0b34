"""The oracle: computes every layer again, from the truth and with other engines, and says where the pipeline differs.

    with connect() as connection:
        load(connection, truth="run/truth-*.parquet", produced=read_produced(...), bronze=table.scan().to_arrow(), ...)
        checks = check_everything(connection)

It shares no code with the jobs: DuckDB does the SQL and the JSON, PyPI's `roman` the numerals. Each layer is checked
against the layer below, so together the checks reach from the sent bytes to gold.

Relations, with the columns that are read (others may be there):

- `truth`: `truth.TRUTH_SCHEMA`; `produced`: `topics.PRODUCED_SCHEMA`; `dead_letters`: `topics.DEAD_LETTER_SCHEMA`
- `bronze`: event_id, event_time, payload, kafka_key, kafka_partition, kafka_offset, kafka_timestamp, is_late_arrival
- `conversions` (silver.conversions): event_id, event_time, is_late_arrival, kafka_partition, kafka_offset,
  kafka_timestamp and `silver.VALUES`
- `conversions_quarantine`: the same without values; broken_rules, payload
- `dim_users`: version_id, user_id, user_plan, user_country, user_email_domain, valid_from, valid_to, is_current
- `gold_<name>` for each name in `gold.TABLES`
"""

from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from lakehouse_operator.reference.oracle.bronze import check_bronze, prepare
from lakehouse_operator.reference.oracle.gold import TABLES as GOLD_TABLES
from lakehouse_operator.reference.oracle.gold import check_gold
from lakehouse_operator.reference.oracle.silver import check_silver
from lakehouse_operator.reference.oracle.users import check_users
from lakehouse_operator.reference.oracle.verdict import Check
from lakehouse_operator.reference.traffic import Lateness

__all__ = [
    "GOLD_TABLES",
    "Check",
    "check_bronze",
    "check_everything",
    "check_gold",
    "check_silver",
    "check_users",
    "connect",
    "load",
    "prepare",
]


def connect() -> DuckDBPyConnection:
    """A DuckDB in memory, in UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def load(connection: DuckDBPyConnection, **sources: Any) -> None:
    """Name relations: each source is a Parquet file or glob (str or Path), an Arrow table, or what DuckDB registers.

    An Iceberg table comes as `table.scan().to_arrow()`.
    """
    for name, source in sources.items():
        if isinstance(source, (str, Path)):
            connection.read_parquet(str(source)).create_view(name, replace=True)
        else:
            connection.register(name, source)


def check_everything(
    connection: DuckDBPyConnection, lateness: Lateness | None = None, *, timestamps_are_sent: bool = True
) -> list[Check]:
    """All checks of all layers; every relation must be loaded.

    Args:
        connection: Holds the relations.
        lateness: The pipeline's settings; by default those of the event format.
        timestamps_are_sent: False for a topic with LogAppendTime, where the broker sets the timestamps.
    """
    prepare(connection, lateness or Lateness(), timestamps_are_sent=timestamps_are_sent)
    return [
        *check_bronze(connection),
        *check_silver(connection),
        *check_users(connection),
        *check_gold(connection),
    ]
