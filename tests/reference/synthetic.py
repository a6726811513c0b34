"""A pipeline in plain Python: what every table would hold if all went well, made from the truth alone.

It is slow, small and a third opinion beside the jobs and the oracle. Tests spoil its tables to see the oracle notice.
"""

import datetime as dt
import hashlib
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import roman

from lakehouse_operator.reference.record import EVENT, EVENT_OR_DUPLICATE, QUARANTINE, VALID, Record, outcome
from lakehouse_operator.reference.topics import DEAD_LETTER_SCHEMA, PRODUCED_SCHEMA
from lakehouse_operator.reference.traffic import Lateness
from lakehouse_operator.reference.truth import truth_table

Row = dict[str, Any]
Tables = dict[str, list[Row]]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
INSTANT = pa.timestamp("us", tz="UTC")
OFFSET_STEP = 3
"""Offsets have gaps, as after aborted transactions: nobody may take ordinals for offsets."""

ORIGIN = {"kafka_partition": pa.int32(), "kafka_offset": pa.int64(), "kafka_timestamp": INSTANT}
VALUES = {
    "user_id": pa.string(), "user_plan": pa.string(), "user_country": pa.string(), "user_email_domain": pa.string(),
    "input_number": pa.int64(), "output_numeral": pa.string(), "status": pa.string(), "error_code": pa.string(),
    "duration_ms": pa.float64(), "channel": pa.string(), "client_version": pa.string(), "schema_version": pa.int32(),
}  # fmt: skip
TRACKED = ("user_plan", "user_country", "user_email_domain")
EVENT_COLUMNS = {"event_id": pa.string(), "event_time": INSTANT, "is_late_arrival": pa.bool_(), **ORIGIN}
VERSION = {"user_id": pa.string(), **dict.fromkeys(TRACKED, pa.string()), "valid_from": INSTANT, "valid_to": INSTANT}

SCHEMAS: dict[str, pa.Schema] = {
    "produced": PRODUCED_SCHEMA,
    "dead_letters": DEAD_LETTER_SCHEMA,
    **{
        name: pa.schema(list(columns.items()))
        for name, columns in {
            "bronze": {**EVENT_COLUMNS, "payload": pa.string(), "kafka_key": pa.binary()},
            "conversions": {**EVENT_COLUMNS, **VALUES},
            "conversions_quarantine": {**EVENT_COLUMNS, "payload": pa.string(), "broken_rules": pa.list_(pa.string())},
            "dim_users": {"version_id": pa.string(), **VERSION, "is_current": pa.bool_()},
            "gold_dim_user": {"user_key": pa.string(), **VERSION, "is_current": pa.bool_()},
            "gold_dim_numeral": {"input_number": pa.int32(), "numeral": pa.string(), "is_even": pa.bool_()},
            "gold_dim_time": {"hour": pa.int32(), "part_of_day": pa.string()},
            "gold_dim_date": {
                "event_date": pa.date32(), "year": pa.int32(), "month": pa.int32(), "day": pa.int32(),
                "weekday": pa.int32(), "is_weekend": pa.bool_(),
            },
            "gold_fact_conversions": {
                "event_id": pa.string(), "event_time": INSTANT, "event_date": pa.date32(), "hour": pa.int32(),
                "user_key": pa.string(), "is_late_arrival": pa.bool_(),
                **{name: kind for name, kind in VALUES.items() if name not in (*TRACKED, "schema_version")},
            },
            "gold_daily_metrics": {
                "event_date": pa.date32(), "conversions": pa.int64(), "succeeded": pa.int64(), "failed": pa.int64(),
                "users": pa.int64(), "late_arrivals": pa.int64(), "avg_duration_ms": pa.float64(),
                "p95_duration_ms": pa.float64(),
            },
            "gold_hourly_metrics": {
                "event_date": pa.date32(), "hour": pa.int32(), "conversions": pa.int64(), "failed": pa.int64(),
                "users": pa.int64(), "avg_duration_ms": pa.float64(),
            },
            "gold_plan_metrics": {
                "event_date": pa.date32(), "user_plan": pa.string(), "user_country": pa.string(),
                "conversions": pa.int64(), "users": pa.int64(), "failed": pa.int64(),
            },
            "gold_popular_numbers": {"input_number": pa.int64(), "numeral": pa.string(), "conversions": pa.int64()},
        }.items()
    },
}  # fmt: skip


def arrow(tables: Tables, records: Sequence[Record]) -> dict[str, pa.Table]:
    """All tables, and the truth, as the oracle takes them."""
    return {"truth": truth_table(records)} | {
        name: pa.Table.from_pylist(rows, schema=SCHEMAS[name]) for name, rows in tables.items()
    }


def pipeline(records: Sequence[Record], lateness: Lateness | None = None) -> Tables:
    """What every table would hold. With `lateness`, the outcomes are those under other settings than the usual ones."""
    tables: Tables = {"produced": [], "bronze": [], "dead_letters": []}
    placed: set[str] = set()
    for record in records:
        origin = _origin(record)
        tables["produced"].append(
            {
                **origin,
                "kafka_timestamp_ms": record.timestamp_ms,
                "kafka_key": record.key,
                "value_sha256": None if record.value is None else hashlib.sha256(record.value).digest(),
            }
        )
        what = outcome(record.intent, record.timestamp_ms, lateness) if lateness else record.expected
        if what in (EVENT, EVENT_OR_DUPLICATE) and record.intent.event_id not in placed:
            placed.add(str(record.intent.event_id))
            tables["bronze"].append(bronze_row(record))
        elif what not in (EVENT, EVENT_OR_DUPLICATE, "duplicate"):
            tables["dead_letters"].append(_dead_letter(record, origin, what))
    intents = {(record.partition, record.ordinal * OFFSET_STEP): record.intent for record in records}
    return tables | layers_above(tables["bronze"], intents)


def is_of(row: Row, record: Record) -> bool:
    """Whether a row tells of a record."""
    return bool(row["kafka_partition"] == record.partition and row["kafka_offset"] == record.ordinal * OFFSET_STEP)


def bronze_row(record: Record) -> Row:
    """A record as a row of bronze."""
    assert record.value is not None
    assert record.intent.event_time_us is not None
    return {
        **_origin(record),
        "event_id": record.intent.event_id,
        "event_time": EPOCH + dt.timedelta(microseconds=record.intent.event_time_us),
        "kafka_timestamp": EPOCH + dt.timedelta(milliseconds=record.timestamp_ms),
        "is_late_arrival": record.is_late,
        "payload": record.value.decode(),
        "kafka_key": record.key,
    }


def _origin(record: Record) -> Row:
    return {"kafka_partition": record.partition, "kafka_offset": record.ordinal * OFFSET_STEP}


def _dead_letter(record: Record, origin: Row, error_type: str) -> Row:
    arrival = EPOCH + dt.timedelta(milliseconds=record.timestamp_ms)
    return {
        **origin,
        "kafka_timestamp": arrival.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + "Z",
        "original_payload": record.value,
        "original_key": record.key,
        "error_type": error_type,
        "error_message": "because",
        "failed_at": "2026-01-01 00:00:00Z",
    }


def layers_above(bronze: Iterable[Row], intents: dict[tuple[int, int], Any]) -> Tables:
    """Silver and gold of some rows of bronze."""
    conversions, quarantine = [], []
    for row in bronze:
        intent = intents[row["kafka_partition"], row["kafka_offset"]]
        common = {name: row[name] for name in EVENT_COLUMNS}
        if intent.silver == VALID:
            conversions.append(common | intent.typed._asdict())
        else:
            broken = intent.broken or (("some_rule",) if intent.silver == QUARANTINE else ("left_open",))
            quarantine.append(common | {"payload": row["payload"], "broken_rules": list(broken)})
    users = versions(conversions)
    return {
        "conversions": conversions,
        "conversions_quarantine": quarantine,
        "dim_users": users,
        **{f"gold_{name}": rows for name, rows in gold(conversions, users).items()},
    }


def versions(conversions: Iterable[Row]) -> list[Row]:
    """The versions of each user."""
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(conversions, key=lambda row: (row["event_time"], row["event_id"].encode())):
        history = by_user[row["user_id"]]
        if history and history[-1]["valid_from"] == row["event_time"]:
            history.pop()  # the greater id speaks last
        if history and all(history[-1][name] == row[name] for name in TRACKED):
            continue
        history.append(
            {"user_id": row["user_id"], "valid_from": row["event_time"]} | {name: row[name] for name in TRACKED}
        )
    found = []
    for history in by_user.values():
        for version, following in zip(history, [*history[1:], None], strict=True):
            text = f"{version['user_id']}|{version['valid_from'].isoformat()}"
            found.append(
                version
                | {
                    "version_id": hashlib.sha256(text.encode()).hexdigest(),
                    "valid_to": following and following["valid_from"],
                    "is_current": following is None,
                }
            )
    return found


def gold(conversions: Iterable[Row], users: Sequence[Row]) -> Tables:
    """The tables of gold."""
    by_user = defaultdict(list)
    for version in users:
        by_user[version["user_id"]].append(version)
    facts, plans = [], []
    for row in conversions:
        version = next(
            version
            for version in by_user[row["user_id"]]
            if version["valid_from"] <= row["event_time"]
            and (version["valid_to"] is None or row["event_time"] < version["valid_to"])
        )
        fact = {name: row[name] for name in SCHEMAS["gold_fact_conversions"].names if name in row}
        facts.append(
            fact
            | {
                "event_date": row["event_time"].date(),
                "hour": row["event_time"].hour,
                "user_key": version["version_id"],
            }
        )
        plans.append((version["user_plan"], version["user_country"] or "??"))
    return {
        "dim_user": [{**version, "user_key": version["version_id"]} for version in users],
        "dim_numeral": [
            {"input_number": number, "numeral": roman.toRoman(number), "is_even": number % 2 == 0}
            for number in range(1, 4000)
        ],
        "dim_time": [
            {"hour": hour, "part_of_day": part}
            for start, part in ((0, "night"), (6, "morning"), (12, "afternoon"), (18, "evening"))
            for hour in range(start, start + 6)
        ],
        "dim_date": [
            {
                "event_date": day, "year": day.year, "month": day.month, "day": day.day, "weekday": day.weekday(),
                "is_weekend": day.weekday() in (5, 6),
            }
            for day in sorted({fact["event_date"] for fact in facts})
        ],
        "fact_conversions": facts,
        "daily_metrics": [
            {
                "event_date": day, **_counts(group), "succeeded": sum(fact["status"] == "OK" for fact in group),
                "late_arrivals": sum(fact["is_late_arrival"] for fact in group), "avg_duration_ms": _mean(group),
                "p95_duration_ms": _percentile([fact["duration_ms"] for fact in group], 0.95),
            }
            for day, group in _grouped(facts, [fact["event_date"] for fact in facts])
        ],
        "hourly_metrics": [
            {"event_date": day, "hour": hour, **_counts(group), "avg_duration_ms": _mean(group)}
            for (day, hour), group in _grouped(facts, [(fact["event_date"], fact["hour"]) for fact in facts])
        ],
        "plan_metrics": [
            {"event_date": day, "user_plan": plan, "user_country": country, **_counts(group)}
            for (day, plan, country), group in _grouped(
                facts, [(fact["event_date"], *plan) for fact, plan in zip(facts, plans, strict=True)]
            )
        ],
        "popular_numbers": [
            {
                "input_number": number, "numeral": roman.toRoman(number),
                "conversions": sum(fact["status"] == "OK" for fact in group),
            }
            for number, group in _grouped(facts, [fact["input_number"] for fact in facts])
            if 0 < number < 4000 and any(fact["status"] == "OK" for fact in group)
        ],
    }  # fmt: skip


def _grouped(facts: Iterable[Row], keys: Iterable[Any]) -> Iterable[tuple[Any, list[Row]]]:
    groups = defaultdict(list)
    for fact, key in zip(facts, keys, strict=True):
        groups[key].append(fact)
    return groups.items()


def _counts(group: Sequence[Row]) -> Row:
    return {
        "conversions": len(group),
        "failed": sum(fact["status"] == "ERROR" for fact in group),
        "users": len({fact["user_id"] for fact in group}),
    }


def _mean(group: Sequence[Row]) -> float:
    return statistics.fmean(fact["duration_ms"] for fact in group)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
