"""Is every record of the source topic in exactly one place, with its bytes, for the right reason?

Loss and duplication are proven by offsets: *bronze + dead letters + duplicates = produced, each exactly once*.
"""

from duckdb import DuckDBPyConnection

from lakehouse_operator.reference.oracle.verdict import Check, nothing_wrong, number
from lakehouse_operator.reference.traffic import Lateness


def prepare(connection: DuckDBPyConnection, lateness: Lateness, *, timestamps_are_sent: bool = True) -> None:
    """Create the table `sent`: one row per record of the topic, what it was meant to be, what should become of it.

    Reads `truth` and `produced`. A record is found by how many came before it in its partition. Lateness follows from
    the Kafka timestamp, whoever set it.

    Args:
        connection: Holds `truth` and `produced`.
        lateness: The pipeline's settings.
        timestamps_are_sent: Whether the topic keeps the sender's timestamps (CreateTime), so that they can be compared.
    """
    too_late_us = (lateness.watermark_delay_ms + lateness.allowed_lateness_ms) * 1000
    keep = "true" if lateness.keep_too_late else "false"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE sent AS
        WITH t AS (SELECT *, row_number() OVER (PARTITION BY "partition" ORDER BY ordinal) AS place FROM truth),
             p AS (SELECT *, row_number() OVER (PARTITION BY kafka_partition ORDER BY kafka_offset) AS place
                   FROM produced),
             joined AS (
               SELECT t.* EXCLUDE (place), p.kafka_partition, p.kafka_offset, p.kafka_timestamp_ms,
                      p.kafka_timestamp_ms * 1000 - t.event_time_us AS delay_us,
                      p.kafka_partition IS NOT NULL AND t.kind IS NOT NULL
                        AND p.value_sha256 IS NOT DISTINCT FROM t.value_sha256
                        AND p.kafka_key IS NOT DISTINCT FROM t.key
                        AND {"p.kafka_timestamp_ms = t.arrival_ms" if timestamps_are_sent else "true"} AS as_sent
               FROM t FULL OUTER JOIN p ON t."partition" = p.kafka_partition AND t.place = p.place),
             timed AS (
               SELECT *, CASE WHEN -delay_us > {lateness.future_tolerance_ms * 1000} THEN 'FUTURE_EVENT_TIME'
                              WHEN delay_us > {too_late_us} AND NOT {keep} THEN 'TOO_LATE'
                              ELSE 'event' END AS by_time,
                      delay_us > {lateness.watermark_delay_ms * 1000} AS late
               FROM joined),
             judged AS (SELECT *, coalesce(flaw, by_time) AS outcome FROM timed)
        SELECT *,
               coalesce(event_id, kafka_partition || '/' || kafka_offset) AS event,
               -- Within a partition the first copy that can be placed wins; between partitions any of those may.
               CASE WHEN also_event THEN true
                    WHEN outcome <> 'event' THEN false
                    ELSE row_number() OVER (PARTITION BY event_id, kafka_partition, outcome ORDER BY kafka_offset) = 1
               END AS may_win
        FROM judged
    """)  # noqa: S608
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE places AS
        SELECT 'bronze' AS place, kafka_partition, kafka_offset FROM bronze
        UNION ALL SELECT 'dead letters', kafka_partition, kafka_offset FROM dead_letters
    """)


def check_bronze(connection: DuckDBPyConnection) -> list[Check]:
    """Check `bronze` and `dead_letters` against `sent`; `prepare` comes first."""
    return [
        _sent(connection),
        _exactly_once(connection),
        _one_row_per_event(connection),
        _bytes(connection),
        _dead_letter_bytes(connection),
        _error_types(connection),
        _late_flags(connection),
        _identities(connection),
    ]


def _sent(connection: DuckDBPyConnection) -> Check:
    """An empty topic proves nothing, so it fails."""
    sent = number(connection, "SELECT count(*) FROM truth")
    produced = number(connection, "SELECT count(*) FROM produced")
    return nothing_wrong(
        connection,
        "kafka-holds-what-was-sent",
        "each record of the topic is the one that the truth names, with its bytes, key and timestamp",
        """SELECT "partition", ordinal, kafka_partition, kafka_offset, kind, arrival_ms, kafka_timestamp_ms
           FROM sent WHERE NOT as_sent
           UNION ALL SELECT NULL, NULL, NULL, NULL, 'the topic is empty', NULL, NULL
           WHERE NOT EXISTS (SELECT 1 FROM produced)""",
        {"sent": sent, "produced": produced},
    )


def _exactly_once(connection: DuckDBPyConnection) -> Check:
    counts = {
        "produced": number(connection, "SELECT count(*) FROM produced"),
        "bronze": number(connection, "SELECT count(*) FROM bronze"),
        "dead letters": number(connection, "SELECT count(*) FROM dead_letters"),
        "duplicates": number(
            connection,
            """SELECT count(*) FROM sent ANTI JOIN places USING (kafka_partition, kafka_offset)
               WHERE kafka_offset IS NOT NULL""",
        ),
    }
    return nothing_wrong(
        connection,
        "each-offset-exactly-once",
        "bronze + dead letters + duplicates = produced, each (partition, offset) exactly once",
        """
        WITH taken AS (SELECT kafka_partition, kafka_offset, list(place ORDER BY place) AS found
                       FROM places GROUP BY ALL),
             placed AS (SELECT DISTINCT s.event FROM sent s SEMI JOIN bronze USING (kafka_partition, kafka_offset))
        SELECT kafka_partition, kafka_offset, 'in more than one place' AS problem, found, NULL AS kind
        FROM taken WHERE len(found) > 1
        UNION ALL
        SELECT kafka_partition, kafka_offset, 'never produced', found, NULL
        FROM taken ANTI JOIN produced USING (kafka_partition, kafka_offset)
        UNION ALL
        SELECT s.kafka_partition, s.kafka_offset, 'lost', [], s.kind
        FROM sent s ANTI JOIN taken USING (kafka_partition, kafka_offset)
        WHERE s.kafka_offset IS NOT NULL
          AND (s.outcome <> 'event' OR s.event NOT IN (SELECT event FROM placed))
        """,
        counts,
    )


def _one_row_per_event(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "one-bronze-row-per-event",
        "the copies of an event give one row of bronze, and it is a copy that may win",
        """
        WITH rows AS (SELECT s.*, count(*) OVER (PARTITION BY s.event) AS times
                      FROM sent s JOIN bronze USING (kafka_partition, kafka_offset))
        SELECT kafka_partition, kafka_offset, kind, event, outcome, times, may_win FROM rows
        WHERE times > 1 OR (outcome = 'event' AND NOT may_win)
        """,
        {
            "events": number(connection, "SELECT count(DISTINCT event) FROM sent WHERE outcome = 'event'"),
            "copies": number(connection, "SELECT count(*) FROM sent WHERE outcome = 'event'"),
            "rows": number(connection, "SELECT count(*) FROM bronze"),
        },
    )


def _bytes(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "bronze-keeps-the-bytes",
        "payload and key of each row are those of its record, byte for byte",
        """
        SELECT b.kafka_partition, b.kafka_offset, s.kind, b.payload[:200] AS payload
        FROM bronze b JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE unhex(sha256(b.payload)) IS DISTINCT FROM s.value_sha256 OR b.kafka_key IS DISTINCT FROM s.key
        """,
        {"rows": number(connection, "SELECT count(*) FROM bronze")},
    )


def _dead_letter_bytes(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "dead-letters-keep-the-bytes",
        "original payload, key and timestamp of each dead letter are those of its record",
        """
        SELECT d.kafka_partition, d.kafka_offset, s.kind, d.original_payload[:200] AS payload, d.kafka_timestamp
        FROM dead_letters d JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE unhex(sha256(d.original_payload)) IS DISTINCT FROM s.value_sha256
           OR d.original_key IS DISTINCT FROM s.key
           OR epoch_ms(try_cast(rtrim(d.kafka_timestamp, 'Z') AS TIMESTAMP)) IS DISTINCT FROM s.kafka_timestamp_ms
        """,
        {"dead letters": number(connection, "SELECT count(*) FROM dead_letters")},
    )


def _error_types(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "dead-letters-for-the-right-reason",
        "each record that can't be placed, and no other, is a dead letter with the error type that it deserves",
        """
        SELECT s.kafka_partition, s.kafka_offset, s.kind, s.outcome AS expected, d.error_type AS found
        FROM dead_letters d JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE d.error_type IS DISTINCT FROM s.outcome AND NOT (s.also_event AND d.error_type = s.by_time)
           OR d.error_type = 'event' OR coalesce(d.error_message, '') = ''
        UNION ALL
        SELECT s.kafka_partition, s.kafka_offset, s.kind, s.outcome, 'a row of bronze'
        FROM bronze JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE s.outcome <> 'event' AND NOT (s.also_event AND s.by_time = 'event')
        """,
        {
            "expected": number(connection, "SELECT count(*) FROM sent WHERE outcome <> 'event' AND NOT also_event"),
            "dead letters": number(connection, "SELECT count(*) FROM dead_letters"),
        },
    )


def _late_flags(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "late-flags",
        "is_late_arrival says whether a record arrived more than the watermark delay after it happened",
        """
        SELECT b.kafka_partition, b.kafka_offset, s.kind, s.delay_us, s.late AS expected, b.is_late_arrival AS found
        FROM bronze b JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE b.is_late_arrival IS NULL OR (s.late IS NOT NULL AND b.is_late_arrival <> s.late)
        """,
        {
            "rows": number(connection, "SELECT count(*) FROM bronze"),
            "late": number(connection, "SELECT count(*) FROM bronze WHERE is_late_arrival"),
        },
    )


def _identities(connection: DuckDBPyConnection) -> Check:
    return nothing_wrong(
        connection,
        "bronze-ids-and-times",
        "event_id and event_time are those of the payload, kafka_timestamp that of the record",
        """
        SELECT b.kafka_partition, b.kafka_offset, s.kind, s.event_id AS expected_id, b.event_id AS found_id,
               s.event_time_text AS expected_time, epoch_us(b.event_time) AS found_us,
               s.kafka_timestamp_ms AS expected_timestamp_ms, epoch_us(b.kafka_timestamp) AS found_timestamp_us
        FROM bronze b JOIN sent s USING (kafka_partition, kafka_offset)
        WHERE b.event_id IS NULL OR b.event_time IS NULL
           OR (s.event_id IS NOT NULL AND b.event_id <> s.event_id)
           OR (s.event_time_us IS NOT NULL AND epoch_us(b.event_time) <> s.event_time_us)
           OR epoch_us(b.kafka_timestamp) IS DISTINCT FROM s.kafka_timestamp_ms * 1000
        """,
        {"rows": number(connection, "SELECT count(*) FROM bronze")},
    )
