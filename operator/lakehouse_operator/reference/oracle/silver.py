"""Does silver hold what the payloads of bronze say? They are judged again here, by DuckDB's JSON and PyPI's `roman`.

The rules are those of `examples/roman-numerals.yaml`, written down a second time in another dialect.
"""

from collections.abc import Sequence

import roman
from duckdb import DuckDBPyConnection

from lakehouse_operator.reference.oracle.verdict import Check, Compared, nothing_wrong, number, same_rows

STRINGS = (
    "event_type", "user_id", "user_plan", "user_country", "user_email_domain", "output_numeral", "status", "error_code",
    "channel", "client_version",
)  # fmt: skip
INTEGERS = ("input_number", "schema_version")
NUMBERS = ("duration_ms",)
FIELDS = (*STRINGS, *INTEGERS, *NUMBERS)
REQUIRED = ("event_type", "user_id", "user_plan", "input_number", "status", "duration_ms")
VALUES = tuple(name for name in FIELDS if name != "event_type")
"""The value columns of `silver.conversions`."""
ORIGIN = ("event_time_us", "is_late_arrival", "kafka_partition", "kafka_offset", "kafka_timestamp_us")

_SEMANTIC_VERSION = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)

# What is wrong with a row, by the name of the rule. A missing value breaks whatever needs it.
RULES: dict[str, str] = {
    "known_type": "event_type IS DISTINCT FROM 'CONVERSION'",
    "known_schema_version": "coalesce(schema_version, 1) <> 1",
    "user_id_length": "user_id IS NULL OR length(user_id) = 0 OR length(user_id) > 128",
    "known_plan": "user_plan IS NULL OR user_plan NOT IN ('free', 'pro', 'enterprise')",
    "country_code": "user_country IS NOT NULL AND NOT regexp_full_match(user_country, '[A-Z][A-Z]')",
    "known_status": "status IS NULL OR status NOT IN ('OK', 'ERROR')",
    "known_channel": "channel IS NOT NULL AND channel NOT IN ('web', 'api', 'mobile')",
    "client_version_semantic": (
        f"client_version IS NOT NULL AND NOT regexp_full_match(client_version, '{_SEMANTIC_VERSION}')"
    ),
    "duration_not_negative": "duration_ms IS NULL OR duration_ms < 0",
    "error_has_code": "status = 'ERROR' AND error_code IS NULL",
    "ok_has_numeral": "status = 'OK' AND output_numeral IS NULL",
    "number_in_range": "status = 'OK' AND (input_number IS NULL OR input_number < 1 OR input_number > 3999)",
    "numeral_matches_number": """status = 'OK' AND output_numeral IS NOT NULL
        AND (input_number IS NULL
             OR (input_number BETWEEN 1 AND 3999 AND numeral IS DISTINCT FROM output_numeral))""",
}


def check_silver(connection: DuckDBPyConnection) -> list[Check]:
    """Check `conversions` and `conversions_quarantine` against `bronze` and `sent`; `bronze.prepare` comes first."""
    _judge(connection)
    return [
        _oracle_agrees_with_truth(connection),
        _exactly_one_place(connection),
        _valid_rows(connection),
        _quarantined_rows(connection),
        _truth_rows(connection),
    ]


def numerals(connection: DuckDBPyConnection) -> None:
    """Create the table `numerals`: 1 to 3999, by PyPI's `roman`."""
    connection.execute("CREATE OR REPLACE TEMP TABLE numerals (number BIGINT, numeral VARCHAR)")
    rows = [(value, roman.toRoman(value)) for value in range(1, 4000)]
    connection.execute(
        "INSERT INTO numerals SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[])",
        [[value for value, _ in rows], [text for _, text in rows]],
    )


def _judge(connection: DuckDBPyConnection) -> None:
    """Create `judged`: one row per event of bronze, its values, and the sorted names of the rules that it breaks.

    `readable` is false where DuckDB can't read the payload. `settled` is false where the event format leaves open what
    silver does with it (see `record.OPEN`).
    """
    numerals(connection)
    paths = ", ".join(f"'$.{name}'" for name in FIELDS)
    values = ", ".join(f"{_value(name, at)} AS {name}" for at, name in enumerate(FIELDS, start=1))
    present = ", ".join(f"{_broken_shape(name, at)}" for at, name in enumerate(FIELDS, start=1))
    broken = ", ".join(f"CASE WHEN {wrong} THEN '{name}' END" for name, wrong in RULES.items())
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE judged AS
        WITH first AS MATERIALIZED (
               SELECT event_id, epoch_us(event_time) AS event_time_us, payload, is_late_arrival, kafka_partition,
                      kafka_offset, epoch_us(kafka_timestamp) AS kafka_timestamp_us, json_valid(payload) AS readable
               FROM bronze
               QUALIFY row_number() OVER
                 (PARTITION BY event_id ORDER BY kafka_timestamp, kafka_partition, kafka_offset) = 1),
             parsed AS MATERIALIZED (
               SELECT *, json_extract(CASE WHEN readable THEN payload ELSE '{{}}' END, [{paths}]) AS j FROM first),
             typed AS (SELECT * EXCLUDE (j), {values}, [{present}] AS shape FROM parsed)
        SELECT t.* EXCLUDE (shape) REPLACE (coalesce(t.schema_version, 1) AS schema_version),
               list_sort(list_filter(list_concat(shape, [{broken}]), lambda x: x IS NOT NULL)) AS broken,
               s.kind, s.silver,
               s.silver IS DISTINCT FROM 'open' AND NOT coalesce(s.also_event, false) AS settled,
               coalesce(s.silver = 'quarantine' AND s.meant IS NULL, false) AS any_rule
        FROM typed t LEFT JOIN numerals n ON n.number = t.input_number
        LEFT JOIN (SELECT kafka_partition, kafka_offset, kind, silver, also_event, broken AS meant FROM sent) s
          USING (kafka_partition, kafka_offset)
    """)  # noqa: S608


def _value(name: str, at: int) -> str:
    """A field, read strictly: a value of another JSON type is no value."""
    kind = f"json_type(j[{at}])"
    if name in STRINGS:
        return f"CASE WHEN {kind} = 'VARCHAR' THEN j[{at}]->>'$' END"
    if name in INTEGERS:
        return f"CASE WHEN {kind} IN ('BIGINT', 'UBIGINT') THEN try_cast(j[{at}] AS BIGINT) END"
    return f"CASE WHEN {kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN try_cast(j[{at}] AS DOUBLE) END"


def _broken_shape(name: str, at: int) -> str:
    kind = f"json_type(j[{at}])"
    required = f"WHEN coalesce({kind}, 'NULL') = 'NULL' THEN '{name}_required' " if name in REQUIRED else ""
    return f"CASE {required}WHEN {kind} <> 'NULL' AND ({_value(name, at)}) IS NULL THEN '{name}_type' END"


def _oracle_agrees_with_truth(connection: DuckDBPyConnection) -> Check:
    """Guards the oracle itself: two independent opinions about the payloads, neither of them silver's."""
    differs = _differs(VALUES, "j", "t")
    return nothing_wrong(
        connection,
        "payloads-say-what-was-meant",
        "what DuckDB reads in the payloads of bronze is what the generator meant",
        f"""
        SELECT j.kafka_partition, j.kafka_offset, j.kind, j.silver, j.broken AS read, t.broken AS meant
        FROM judged j JOIN sent t USING (kafka_partition, kafka_offset)
        WHERE j.settled AND (NOT j.readable
          OR (j.silver = 'valid' AND (len(j.broken) > 0 OR {differs}))
          OR (j.silver = 'quarantine' AND (len(j.broken) = 0 OR (NOT j.any_rule AND j.broken <> t.broken))))
        """,  # noqa: S608
        {"events": number(connection, "SELECT count(*) FROM judged WHERE settled")},
    )


def _exactly_one_place(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "silver-loses-nothing",
        "each event of bronze is exactly once either in silver or in its quarantine, and nothing else is there",
        """
        WITH rows AS (SELECT 'silver' AS place, event_id, kafka_partition, kafka_offset FROM conversions
                      UNION ALL
                      SELECT 'quarantine', event_id, kafka_partition, kafka_offset FROM conversions_quarantine),
             placed AS (SELECT event_id, kafka_partition, kafka_offset, list(place) AS found FROM rows GROUP BY ALL)
        SELECT event_id, kafka_partition, kafka_offset, j.kind, coalesce(p.found, []) AS found
        FROM judged j FULL OUTER JOIN placed p USING (event_id, kafka_partition, kafka_offset)
        WHERE j.event_id IS NULL OR p.event_id IS NULL OR len(p.found) > 1
        """,
        {
            "events": number(connection, "SELECT count(*) FROM judged"),
            "silver": number(connection, "SELECT count(*) FROM conversions"),
            "quarantine": number(connection, "SELECT count(*) FROM conversions_quarantine"),
        },
    )


def _valid_rows(connection: DuckDBPyConnection) -> Check:
    columns = ", ".join(VALUES)
    settled = (
        "(kafka_partition, kafka_offset) IN (SELECT (kafka_partition, kafka_offset) FROM judged WHERE NOT settled)"
    )
    return same_rows(
        connection,
        "silver-rows",
        "silver holds the valid events with the values that DuckDB reads in their payloads",
        Compared(
            expected=f"""SELECT event_id, {", ".join(ORIGIN)}, {columns} FROM judged
                         WHERE settled AND len(broken) = 0""",  # noqa: S608
            actual=f"""SELECT event_id, epoch_us(event_time) AS event_time_us, is_late_arrival, kafka_partition,
                              kafka_offset, epoch_us(kafka_timestamp) AS kafka_timestamp_us, {columns}
                       FROM conversions WHERE NOT {settled}""",  # noqa: S608
            key=("event_id",),
            exact=(*ORIGIN, *VALUES),
        ),
    )


def _quarantined_rows(connection: DuckDBPyConnection) -> Check:
    settled = (
        "(kafka_partition, kafka_offset) IN (SELECT (kafka_partition, kafka_offset) FROM judged WHERE NOT settled)"
    )
    any_rule = "(kafka_partition, kafka_offset) IN (SELECT (kafka_partition, kafka_offset) FROM judged WHERE any_rule)"
    return same_rows(
        connection,
        "quarantined-rows",
        "the quarantine holds the events that break a rule, as they came, with the names of all rules that they break",
        Compared(
            expected=f"""SELECT event_id, {", ".join(ORIGIN)}, payload, CASE WHEN NOT any_rule THEN broken END AS broken
                         FROM judged WHERE settled AND len(broken) > 0""",  # noqa: S608
            actual=f"""SELECT event_id, epoch_us(event_time) AS event_time_us, is_late_arrival, kafka_partition,
                              kafka_offset, epoch_us(kafka_timestamp) AS kafka_timestamp_us, payload,
                              CASE WHEN NOT {any_rule} OR len(broken_rules) = 0 THEN broken_rules END AS broken
                       FROM conversions_quarantine WHERE NOT {settled}""",  # noqa: S608
            key=("event_id",),
            exact=(*ORIGIN, "payload", "broken"),
        ),
    )


def _truth_rows(connection: DuckDBPyConnection) -> Check:
    differs = _differs(VALUES, "c", "t")
    return nothing_wrong(
        connection,
        "silver-says-what-was-meant",
        "valid events are in silver with the values that were meant, events meant to break a rule in the quarantine",
        f"""
        SELECT t.kafka_partition, t.kafka_offset, t.kind, t.silver AS meant, t.broken, q.broken_rules,
               c.event_id IS NOT NULL AS in_silver, q.event_id IS NOT NULL AS in_quarantine
        FROM sent t JOIN judged j USING (kafka_partition, kafka_offset)
        LEFT JOIN conversions c USING (kafka_partition, kafka_offset)
        LEFT JOIN conversions_quarantine q USING (kafka_partition, kafka_offset)
        WHERE (t.silver = 'valid' AND (c.event_id IS NULL OR q.event_id IS NOT NULL OR {differs}))
           OR (t.silver = 'quarantine' AND (q.event_id IS NULL OR c.event_id IS NOT NULL OR len(q.broken_rules) = 0
                                            OR (t.broken IS NOT NULL AND q.broken_rules <> t.broken)))
        """,  # noqa: S608
        {
            "valid": number(connection, "SELECT count(*) FROM judged WHERE silver = 'valid'"),
            "rule-breaking": number(connection, "SELECT count(*) FROM judged WHERE silver = 'quarantine'"),
        },
    )


def _differs(columns: Sequence[str], one: str, other: str) -> str:
    return " OR ".join(f"{one}.{column} IS DISTINCT FROM {other}.{column}" for column in columns)
