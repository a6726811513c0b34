"""Is `dim_users` what the valid events say, in whatever order they came?

A user's attributes hold from the event that first told them (inclusive) to the event that tells others (exclusive). Of
several events at one instant the one with the greatest id comes last, and what it says holds.
"""

from duckdb import DuckDBPyConnection

from lakehouse_operator.reference.oracle.verdict import Check, Compared, nothing_wrong, number, same_rows

TRACKED = ("user_plan", "user_country", "user_email_domain")

_VERSIONS = f"""
    WITH last AS (SELECT user_id, epoch_us(event_time) AS at_us, {", ".join(TRACKED)} FROM conversions
                  QUALIFY row_number() OVER (PARTITION BY user_id, event_time ORDER BY event_id DESC) = 1),
         told AS (SELECT *, lag(({", ".join(TRACKED)})) OVER (PARTITION BY user_id ORDER BY at_us) AS before,
                         row_number() OVER (PARTITION BY user_id ORDER BY at_us) AS place
                  FROM last),
         changes AS (SELECT * FROM told WHERE place = 1 OR before IS DISTINCT FROM ({", ".join(TRACKED)}))
    SELECT user_id, {", ".join(TRACKED)}, at_us AS valid_from_us,
           lead(at_us) OVER (PARTITION BY user_id ORDER BY at_us) AS valid_to_us,
           lead(at_us) OVER (PARTITION BY user_id ORDER BY at_us) IS NULL AS is_current
    FROM changes
"""  # noqa: S608

_FOUND = f"""
    SELECT version_id, user_id, {", ".join(TRACKED)}, epoch_us(valid_from) AS valid_from_us,
           epoch_us(valid_to) AS valid_to_us, is_current
    FROM dim_users
"""  # noqa: S608


def check_users(connection: DuckDBPyConnection) -> list[Check]:
    """Check `dim_users` against `conversions`."""
    return [
        same_rows(
            connection,
            "dim-users",
            "dim_users holds the versions that the valid events give",
            Compared(
                expected=_VERSIONS,
                actual=_FOUND,
                key=("user_id", "valid_from_us"),
                exact=(*TRACKED, "valid_to_us", "is_current"),
            ),
        ),
        nothing_wrong(
            connection,
            "dim-users-without-gaps",
            "a user's versions come without gap or overlap, each unlike the one before, and the last is current",
            f"""
            WITH found AS ({_FOUND}),
                 chained AS (
                   SELECT *, lead(valid_from_us) OVER w AS next_us, lag(({", ".join(TRACKED)})) OVER w AS before,
                          row_number() OVER w AS place, count(*) OVER (PARTITION BY version_id) AS times
                   FROM found WINDOW w AS (PARTITION BY user_id ORDER BY valid_from_us, valid_to_us NULLS LAST))
            SELECT * FROM chained
            WHERE valid_to_us IS DISTINCT FROM next_us OR is_current IS DISTINCT FROM (next_us IS NULL)
               OR valid_to_us <= valid_from_us OR user_id IS NULL OR valid_from_us IS NULL OR version_id IS NULL
               OR times > 1 OR (place > 1 AND before IS NOT DISTINCT FROM ({", ".join(TRACKED)}))
            """,  # noqa: S608
            {
                "versions": number(connection, "SELECT count(*) FROM dim_users"),
                "users": number(connection, "SELECT count(DISTINCT user_id) FROM dim_users"),
            },
        ),
    ]
