"""Is gold what silver gives? Each table of the reference pipeline, computed again by DuckDB.

A gold table `gold.x` is expected as the relation `gold_x`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from lakehouse_operator.reference.oracle.silver import numerals
from lakehouse_operator.reference.oracle.verdict import Check, Compared, same_rows


@dataclass(frozen=True, slots=True)
class GoldTable:
    """A gold table: how to compute it again, how to read it, its key and the columns to compare."""

    expected: str
    key: tuple[str, ...]
    exact: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    instants: tuple[str, ...] = ()
    """Columns of `exact` that are instants: they are compared as microseconds since 1970."""


_CONVERSIONS = (
    """(SELECT *, epoch_us(event_time) AS at_us, make_timestamp(epoch_us(event_time)) AS moment FROM conversions)"""
)

_FACT = f"""
    SELECT c.event_id, c.at_us AS event_time, CAST(c.moment AS DATE) AS event_date, hour(c.moment) AS hour,
           u.version_id AS user_key, c.user_id, c.input_number, c.output_numeral, c.status, c.error_code, c.duration_ms,
           c.channel, c.client_version, c.is_late_arrival, u.user_plan, coalesce(u.user_country, '??') AS user_country
    FROM {_CONVERSIONS} c
    ASOF LEFT JOIN (SELECT *, epoch_us(valid_from) AS at_us FROM dim_users) u
      ON u.user_id = c.user_id AND c.at_us >= u.at_us
"""  # noqa: S608

TABLES: Mapping[str, GoldTable] = {
    "dim_user": GoldTable(
        """SELECT version_id AS user_key, user_id, user_plan, user_country, user_email_domain,
                  epoch_us(valid_from) AS valid_from, epoch_us(valid_to) AS valid_to, is_current FROM dim_users""",
        key=("user_key",),
        exact=("user_id", "user_plan", "user_country", "user_email_domain", "valid_from", "valid_to", "is_current"),
        instants=("valid_from", "valid_to"),
    ),
    "dim_numeral": GoldTable(
        "SELECT number AS input_number, numeral, number % 2 = 0 AS is_even FROM numerals",
        key=("input_number",),
        exact=("numeral", "is_even"),
    ),
    "dim_time": GoldTable(
        """SELECT hour, ['night', 'morning', 'afternoon', 'evening'][hour // 6 + 1] AS part_of_day
           FROM (SELECT unnest(range(24)) AS hour)""",
        key=("hour",),
        exact=("part_of_day",),
    ),
    "dim_date": GoldTable(
        f"""SELECT DISTINCT CAST(moment AS DATE) AS event_date, year(moment) AS year, month(moment) AS month,
                   day(moment) AS day, isodow(moment) - 1 AS weekday, isodow(moment) IN (6, 7) AS is_weekend
            FROM {_CONVERSIONS}""",  # noqa: S608
        key=("event_date",),
        exact=("year", "month", "day", "weekday", "is_weekend"),
    ),
    "fact_conversions": GoldTable(
        _FACT,
        key=("event_id",),
        exact=(
            "event_time", "event_date", "hour", "user_key", "user_id", "input_number", "output_numeral", "status",
            "error_code", "duration_ms", "channel", "client_version", "is_late_arrival",
        ),
        instants=("event_time",),
    ),
    "daily_metrics": GoldTable(
        f"""SELECT event_date, count(*) AS conversions, count(*) FILTER (status = 'OK') AS succeeded,
                   count(*) FILTER (status = 'ERROR') AS failed, count(DISTINCT user_id) AS users,
                   count(*) FILTER (is_late_arrival) AS late_arrivals, avg(duration_ms) AS avg_duration_ms,
                   quantile_cont(duration_ms, 0.95) AS p95_duration_ms
            FROM ({_FACT}) GROUP BY event_date""",  # noqa: S608
        key=("event_date",),
        exact=("conversions", "succeeded", "failed", "users", "late_arrivals"),
        close=("avg_duration_ms", "p95_duration_ms"),
    ),
    "hourly_metrics": GoldTable(
        f"""SELECT event_date, hour, count(*) AS conversions, count(*) FILTER (status = 'ERROR') AS failed,
                   count(DISTINCT user_id) AS users, avg(duration_ms) AS avg_duration_ms
            FROM ({_FACT}) GROUP BY event_date, hour""",  # noqa: S608
        key=("event_date", "hour"),
        exact=("conversions", "failed", "users"),
        close=("avg_duration_ms",),
    ),
    "plan_metrics": GoldTable(
        f"""SELECT event_date, user_plan, user_country, count(*) AS conversions, count(DISTINCT user_id) AS users,
                   count(*) FILTER (status = 'ERROR') AS failed
            FROM ({_FACT}) WHERE user_key IS NOT NULL GROUP BY event_date, user_plan, user_country""",  # noqa: S608
        key=("event_date", "user_plan", "user_country"),
        exact=("conversions", "users", "failed"),
    ),
    "popular_numbers": GoldTable(
        f"""SELECT f.input_number, n.numeral, count(*) AS conversions
            FROM ({_FACT}) f JOIN numerals n ON n.number = f.input_number
            WHERE f.status = 'OK' GROUP BY f.input_number, n.numeral""",  # noqa: S608
        key=("input_number",),
        exact=("numeral", "conversions"),
    ),
}  # fmt: skip
"""The gold tables of `examples/roman-numerals.yaml`, without their namespace."""


def check_gold(connection: DuckDBPyConnection, names: Iterable[str] = tuple(TABLES)) -> list[Check]:
    """Check tables of `TABLES` (each as `gold_<name>`), by default all, against `conversions` and `dim_users`."""
    numerals(connection)
    return [_check(connection, name, TABLES[name]) for name in names]


def _check(connection: DuckDBPyConnection, name: str, table: GoldTable) -> Check:
    columns = ", ".join(
        f"epoch_us({column}) AS {column}" if column in table.instants else column
        for column in (*table.key, *table.exact, *table.close)
    )
    return same_rows(
        connection,
        f"gold-{name.replace('_', '-')}",
        f"gold.{name} is what silver gives",
        Compared(
            expected=table.expected,
            actual=f"SELECT {columns} FROM gold_{name}",  # noqa: S608
            key=table.key,
            exact=table.exact,
            close=table.close,
        ),
    )
