"""The oracle passes a pipeline without fault and fails each fault, naming the check that it belongs to."""

import copy
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from typing_extensions import override

from lakehouse_operator.reference import oracle
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.record import DUPLICATE, EVENT, EVENT_OR_DUPLICATE, QUARANTINE, Record, is_late
from lakehouse_operator.reference.traffic import HOUR_MS, Lateness, Traffic
from reference.synthetic import (
    OFFSET_STEP,
    Row,
    Tables,
    arrow,
    bronze_row,
    gold,
    is_of,
    layers_above,
    pipeline,
    versions,
)

TRAFFIC = Traffic(
    end_ms=1_780_000_000_000, events=2_500, users=40, changes_per_user=3, repeated=0.1, malformed=0.1,
    rule_breaking=0.1, unusual=0.2, late=0.05, too_late=0.03, oversized_bytes=500,
)  # fmt: skip
Spoiler = Callable[[Tables, list[Record]], None]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
MILLISECOND = dt.timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def stream() -> list[Record]:
    return list(records(TRAFFIC))


@pytest.fixture(scope="module")
def good(stream: list[Record]) -> Tables:
    return pipeline(stream)


def judge(tables: Tables, stream: list[Record], lateness: Lateness | None = None, **how: Any) -> list[oracle.Check]:
    with oracle.connect() as connection:
        oracle.load(connection, **arrow(tables, stream))
        return oracle.check_everything(connection, lateness, **how)


class Spoiled(dict[str, list[Row]]):
    """Tables that may be changed: a copy is made of each that is looked at."""

    def __init__(self, good: Tables) -> None:
        super().__init__(good)
        self.read: set[str] = set()

    @override
    def __getitem__(self, name: str) -> list[Row]:
        if name not in self.read:
            self.read.add(name)
            super().__setitem__(name, [dict(row) for row in super().__getitem__(name)])
        return super().__getitem__(name)

    @override
    def __setitem__(self, name: str, rows: list[Row]) -> None:
        self.read.add(name)
        super().__setitem__(name, rows)


class Judge:
    """Judges spoiled tables faster: only what a fault changed is loaded, and only its layer is checked."""

    LAYERS: Mapping[str, Callable[[DuckDBPyConnection], list[oracle.Check]]] = {
        "silver": oracle.check_silver,
        "quarantined": oracle.check_silver,
        "payloads": oracle.check_silver,
        "dim": oracle.check_users,
    }

    def __init__(self, good: Tables, stream: list[Record]) -> None:
        self.good = good
        self.tables = arrow(good, stream)
        self.connection = oracle.connect()
        oracle.load(self.connection, **self.tables)
        oracle.prepare(self.connection, Lateness())

    def check(self, name: str, spoiled: Spoiled) -> oracle.Check:
        """The verdict of one check about tables of which some are spoiled."""
        other = {table: arrow({table: spoiled[table]}, [])[table] for table in spoiled.read}
        oracle.load(self.connection, **other)
        again = bool(other.keys() & {"produced", "bronze", "dead_letters"})
        try:
            if again:
                oracle.prepare(self.connection, Lateness())
            checks = self._layer(name)
        finally:
            oracle.load(self.connection, **{table: self.tables[table] for table in other})
            if again:
                oracle.prepare(self.connection, Lateness())
        return next(check for check in checks if check.name == name)

    def _layer(self, name: str) -> list[oracle.Check]:
        layer, _, rest = name.partition("-")
        if layer == "gold":
            return oracle.check_gold(self.connection, [rest.replace("-", "_")])
        return self.LAYERS.get(layer, oracle.check_bronze)(self.connection)


@pytest.fixture(scope="module")
def bench(good: Tables, stream: list[Record]) -> Iterator[Judge]:
    bench = Judge(good, stream)
    yield bench
    bench.connection.close()


def failed(checks: list[oracle.Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def test_a_pipeline_without_fault_passes_every_check(stream: list[Record], good: Tables) -> None:
    checks = judge(good, stream)
    assert [check.report() for check in checks if not check.passed] == []
    assert len({check.name for check in checks}) == len(checks) == 15 + len(oracle.GOLD_TABLES)
    assert all(count > 0 for check in checks for name, count in check.counts.items() if name != "wrong")


def test_the_oracle_computes_the_same_outcomes_as_the_generator(stream: list[Record], good: Tables) -> None:
    with oracle.connect() as connection:
        oracle.load(connection, **arrow(good, stream))
        oracle.prepare(connection, Lateness())
        rows = connection.execute(
            'SELECT "partition", ordinal, expected, outcome, may_win, is_late, late, also_event FROM sent'
        ).fetchall()
    assert len(rows) == len(stream)
    for *where, expected, outcome, may_win, meant_late, late, also_event in rows:
        wins = expected in (EVENT, EVENT_OR_DUPLICATE)
        assert outcome == (EVENT if wins or expected == DUPLICATE else expected), where
        assert may_win == (wins or also_event), where
        assert bool(late) == meant_late, where


def test_the_truth_is_an_error_type_apart_when_too_late_events_are_kept(stream: list[Record]) -> None:
    keep = Lateness(keep_too_late=True)
    kept = pipeline(stream, keep)
    assert failed(judge(kept, stream, keep)) == set()
    assert failed(judge(kept, stream)) >= {"dead-letters-for-the-right-reason"}


def test_lateness_follows_the_broker_where_it_sets_the_timestamps(stream: list[Record]) -> None:
    """With LogAppendTime a stream of three days arrives at once: everything is as late as its event time is old."""
    at_once = [record._replace(timestamp_ms=TRAFFIC.end_ms) for record in stream]
    lateness = Lateness(allowed_lateness_ms=24 * HOUR_MS)
    tables = pipeline(at_once, lateness)
    late = {
        (record.partition, record.ordinal * OFFSET_STEP) for record in at_once if is_late(record.intent, TRAFFIC.end_ms)
    }
    for row in tables["bronze"]:
        row["is_late_arrival"] = (row["kafka_partition"], row["kafka_offset"]) in late
    intents = {(record.partition, record.ordinal * OFFSET_STEP): record.intent for record in at_once}
    tables |= layers_above(tables["bronze"], intents)
    assert failed(judge(tables, stream, lateness, timestamps_are_sent=False)) == set()
    assert "kafka-holds-what-was-sent" in failed(judge(tables, stream, lateness))


def test_an_empty_topic_proves_nothing() -> None:
    nothing = list(records(replace(TRAFFIC, events=0)))
    assert "kafka-holds-what-was-sent" in failed(judge(pipeline(nothing), nothing))


# Faults, one by one. Each names the check that must notice it; others may notice it too.

FAULTS: list[tuple[str, str, Spoiler]] = []


def fault(check: str) -> Callable[[Spoiler], Spoiler]:
    """Mark a function as a fault that a check must notice."""

    def add(spoil: Spoiler) -> Spoiler:
        FAULTS.append((check, spoil.__name__.replace("_", " "), spoil))
        return spoil

    return add


def anything(_row: Row) -> bool:
    return True


def fault_in(
    check: str, table: str, column: str, value: Callable[[Any], Any], where: Callable[[Row], bool] = anything
) -> None:
    """A fault: one row of a table has another value in a column."""

    def spoil(tables: Tables, _stream: list[Record]) -> None:
        row = next(row for row in tables[table] if row[column] is not None and where(row))
        row[column] = value(row[column])

    FAULTS.append((check, f"{table}.{column} is another", spoil))


def settled(row: Row) -> bool:
    """Whether the event format says what silver does with an event, and why."""
    return row.get("broken_rules") not in (["left_open"], ["some_rule"])


def lost(check: str, table: str) -> None:
    """A fault: a row is lost."""

    def spoil(tables: Tables, _stream: list[Record]) -> None:
        del tables[table][len(tables[table]) // 2]

    FAULTS.append((check, f"a row of {table} is lost", spoil))


def doubled(check: str, table: str) -> None:
    """A fault: a row is there twice."""

    def spoil(tables: Tables, _stream: list[Record]) -> None:
        tables[table].append(dict(tables[table][0]))

    FAULTS.append((check, f"a row of {table} is doubled", spoil))


lost("kafka-holds-what-was-sent", "produced")
doubled("kafka-holds-what-was-sent", "produced")
fault_in("kafka-holds-what-was-sent", "produced", "value_sha256", lambda found: bytes(reversed(found)))
fault_in("kafka-holds-what-was-sent", "produced", "kafka_key", lambda key: key + b"!")
fault_in("kafka-holds-what-was-sent", "produced", "kafka_timestamp_ms", lambda timestamp: timestamp + 1)

for table in ("bronze", "dead_letters"):
    lost("each-offset-exactly-once", table)
    doubled("each-offset-exactly-once", table)
    fault_in("each-offset-exactly-once", table, "kafka_offset", lambda offset: offset + 1)
    fault_in("each-offset-exactly-once", table, "kafka_partition", lambda partition: partition + 10)


@fault("each-offset-exactly-once")
def a_dead_letter_is_also_a_row_of_bronze(tables: Tables, _stream: list[Record]) -> None:
    tables["dead_letters"].append(letter(tables["bronze"][0]))


@fault("each-offset-exactly-once")
def every_copy_of_an_event_is_taken_for_a_duplicate(tables: Tables, stream: list[Record]) -> None:
    copy = a_duplicate(stream)
    tables["bronze"] = [row for row in tables["bronze"] if row["event_id"] != copy.intent.event_id]


@fault("one-bronze-row-per-event")
def both_copies_of_an_event_are_rows(tables: Tables, stream: list[Record]) -> None:
    tables["bronze"].append(bronze_row(a_duplicate(stream)))


@fault("one-bronze-row-per-event")
def the_second_copy_in_a_partition_wins(tables: Tables, stream: list[Record]) -> None:
    second = bronze_row(a_duplicate(stream))
    tables["bronze"] = [second if row["event_id"] == second["event_id"] else row for row in tables["bronze"]]


def a_duplicate(stream: list[Record]) -> Record:
    return next(record for record in stream if record.expected == DUPLICATE)


def letter(row: Row) -> Row:
    """A row of bronze as a dead letter."""
    stamp = row["kafka_timestamp"].isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + "Z"
    return {
        "kafka_partition": row["kafka_partition"],
        "kafka_offset": row["kafka_offset"],
        "kafka_timestamp": stamp,
        "original_payload": row["payload"].encode(),
        "original_key": row["kafka_key"],
        "error_type": "INVALID_JSON",
        "error_message": "because",
        "failed_at": stamp,
    }


fault_in("bronze-keeps-the-bytes", "bronze", "payload", lambda payload: payload + " ")
fault_in("bronze-keeps-the-bytes", "bronze", "payload", lambda payload: payload.replace(",", ", ", 1))
fault_in("bronze-keeps-the-bytes", "bronze", "kafka_key", lambda key: key + b"\x00")
fault_in(
    "dead-letters-keep-the-bytes",
    "dead_letters",
    "original_payload",
    lambda payload: payload[:-1],
    lambda row: bool(row["original_payload"]),
)
fault_in(
    "dead-letters-keep-the-bytes",
    "dead_letters",
    "original_payload",
    lambda payload: payload.decode(errors="replace").encode(),
    lambda row: row["error_type"] == "INVALID_ENCODING",
)
fault_in("dead-letters-keep-the-bytes", "dead_letters", "original_key", lambda key: None)
fault_in("dead-letters-keep-the-bytes", "dead_letters", "kafka_timestamp", lambda stamp: stamp.replace("20", "19", 1))


@fault("dead-letters-keep-the-bytes")
def a_null_payload_becomes_an_empty_one(tables: Tables, _stream: list[Record]) -> None:
    next(row for row in tables["dead_letters"] if row["error_type"] == "NULL_PAYLOAD")["original_payload"] = b""


for error_type, other in {
    "NULL_PAYLOAD": "INVALID_JSON", "INVALID_ENCODING": "INVALID_JSON", "INVALID_JSON": "MISSING_FIELD",
    "MISSING_FIELD": "INVALID_FIELD", "INVALID_FIELD": "MISSING_FIELD", "FUTURE_EVENT_TIME": "INVALID_FIELD",
    "TOO_LATE": "FUTURE_EVENT_TIME",
}.items():  # fmt: skip
    fault_in(
        "dead-letters-for-the-right-reason",
        "dead_letters",
        "error_type",
        {error_type: other}.get,
        lambda row, error_type=error_type: bool(row["error_type"] == error_type),  # type: ignore[misc]
    )
fault_in("dead-letters-for-the-right-reason", "dead_letters", "error_message", lambda _: "")


@fault("dead-letters-for-the-right-reason")
def a_good_event_is_a_dead_letter(tables: Tables, _stream: list[Record]) -> None:
    tables["dead_letters"].append(letter(tables["bronze"].pop()))


@fault("dead-letters-for-the-right-reason")
def a_late_event_is_kept_that_should_not_be(tables: Tables, stream: list[Record]) -> None:
    record = next(record for record in stream if record.expected == "TOO_LATE")
    tables["dead_letters"] = [row for row in tables["dead_letters"] if not is_of(row, record)]
    tables["bronze"].append(bronze_row(record))


fault_in("late-flags", "bronze", "is_late_arrival", lambda late: not late)
fault_in("late-flags", "bronze", "is_late_arrival", lambda late: not late, lambda row: bool(row["is_late_arrival"]))
fault_in("late-flags", "bronze", "is_late_arrival", lambda late: None)
fault_in("bronze-ids-and-times", "bronze", "event_id", str.upper)
fault_in("bronze-ids-and-times", "bronze", "event_time", lambda time: time + MICROSECOND)
fault_in("bronze-ids-and-times", "bronze", "kafka_timestamp", lambda time: time + MILLISECOND)


@fault("payloads-say-what-was-meant")
def a_payload_says_something_else(tables: Tables, stream: list[Record]) -> None:
    plain = next(record for record in stream if record.intent.kind == "plain" and record.expected == EVENT)
    row = next(row for row in tables["bronze"] if is_of(row, plain))
    row["payload"] = row["payload"].replace('"event_type":"CONVERSION"', '"event_type":"REFUND"')


for table in ("conversions", "conversions_quarantine"):
    lost("silver-loses-nothing", table)
    doubled("silver-loses-nothing", table)
    fault_in("silver-loses-nothing", table, "kafka_offset", lambda offset: offset + 1)


@fault("silver-says-what-was-meant")
def a_row_is_in_silver_and_in_the_quarantine(tables: Tables, _stream: list[Record]) -> None:
    row = next(row for row in tables["conversions_quarantine"] if "known_plan" in row["broken_rules"])
    tables["conversions"].append(
        tables["conversions"][0] | {name: row[name] for name in row if name in tables["conversions"][0]}
    )


for table, check in (("conversions", "silver-rows"), ("conversions_quarantine", "quarantined-rows")):
    fault_in(check, table, "is_late_arrival", lambda late: not late, settled)
    fault_in(check, table, "event_time", lambda time: time + MICROSECOND, settled)
    fault_in(check, table, "kafka_timestamp", lambda time: time + MICROSECOND, settled)
for column in (
    "user_id",
    "user_plan",
    "user_country",
    "user_email_domain",
    "output_numeral",
    "status",
    "error_code",
    "channel",
    "client_version",
):
    fault_in("silver-rows", "conversions", column, lambda text: text + "x")
    fault_in("silver-says-what-was-meant", "conversions", column, lambda text: None)
for column in ("input_number", "duration_ms", "schema_version"):
    fault_in("silver-rows", "conversions", column, lambda number: number + 1)
    fault_in("silver-says-what-was-meant", "conversions", column, lambda number: number + 1)
fault_in("quarantined-rows", "conversions_quarantine", "payload", lambda payload: payload + " ", settled)
fault_in("quarantined-rows", "conversions_quarantine", "broken_rules", lambda rules: [*rules, "another_rule"], settled)
fault_in(
    "quarantined-rows",
    "conversions_quarantine",
    "broken_rules",
    lambda rules: rules[:-1],
    lambda row: len(row["broken_rules"]) > 1,
)
fault_in("silver-says-what-was-meant", "conversions_quarantine", "broken_rules", lambda rules: [], settled)

lost("dim-users", "dim_users")
doubled("dim-users", "dim_users")
for column in ("user_plan", "user_country", "user_email_domain", "user_id"):
    fault_in("dim-users", "dim_users", column, lambda text: text + "x")
fault_in("dim-users", "dim_users", "valid_from", lambda time: time + MICROSECOND)
fault_in("dim-users", "dim_users", "valid_to", lambda time: time + MICROSECOND)
fault_in("dim-users", "dim_users", "is_current", lambda current: not current)
fault_in("dim-users-without-gaps", "dim_users", "valid_to", lambda time: time + MICROSECOND)
fault_in("dim-users-without-gaps", "dim_users", "valid_to", lambda time: time - MICROSECOND)
fault_in(
    "dim-users-without-gaps",
    "dim_users",
    "valid_from",
    lambda time: time - MICROSECOND,
    lambda row: row["valid_to"] is None,
)
fault_in(
    "dim-users-without-gaps", "dim_users", "is_current", lambda current: not current, lambda row: row["is_current"]
)
fault_in(
    "dim-users-without-gaps", "dim_users", "is_current", lambda current: not current, lambda row: not row["is_current"]
)
fault_in("dim-users-without-gaps", "dim_users", "version_id", lambda version_id: None)
doubled("dim-users-without-gaps", "dim_users")


@fault("dim-users-without-gaps")
def a_version_is_cut_in_two_alike(tables: Tables, _stream: list[Record]) -> None:
    version = next(row for row in tables["dim_users"] if row["is_current"])
    middle = version["valid_from"] + MICROSECOND
    tables["dim_users"].append(version | {"valid_from": middle, "version_id": "0" * 64})
    version |= {"valid_to": middle, "is_current": False}


@fault("dim-users")
def of_two_events_at_one_instant_the_smaller_id_wins(tables: Tables, _stream: list[Record]) -> None:
    greatest = "\U0010ffff"
    upside_down = [row | {"event_id": _complement(row["event_id"], greatest)} for row in tables["conversions"]]
    tables["dim_users"] = versions(upside_down)


def _complement(event_id: str, greatest: str) -> str:
    """An id that sorts the other way round."""
    return "".join(chr(0x2000 - min(ord(character), 0x1FFF)) for character in event_id) + greatest


@fault("dim-users")
def the_order_of_arrival_decides(tables: Tables, _stream: list[Record]) -> None:
    by_arrival = sorted(tables["conversions"], key=lambda row: row["kafka_timestamp"])
    wrong = versions([row | {"event_time": row["kafka_timestamp"]} for row in by_arrival])
    tables["dim_users"] = wrong


for name, definition in oracle.GOLD_TABLES.items():
    check = f"gold-{name.replace('_', '-')}"
    lost(check, f"gold_{name}")
    doubled(check, f"gold_{name}")
    for column in (*definition.key, *definition.exact, *definition.close):
        fault_in(
            check, f"gold_{name}", column,
            lambda value: (
                not value if isinstance(value, bool)
                else value + MICROSECOND if isinstance(value, dt.datetime)
                else value - dt.timedelta(days=400) if isinstance(value, dt.date)
                else value + "x" if isinstance(value, str)
                else value * 1.001 + 0.001 if isinstance(value, float)
                else value + 5_000
            ),
        )  # fmt: skip


@fault("gold-daily-metrics")
def late_arrivals_are_not_counted(tables: Tables, _stream: list[Record]) -> None:
    kept = [row for row in tables["conversions"] if not row["is_late_arrival"]]
    tables["gold_daily_metrics"] = gold(kept, tables["dim_users"])["daily_metrics"]


@pytest.mark.parametrize(
    ("check", "spoil"),
    [pytest.param(check, spoil, id=f"{check}: {what} {number}") for number, (check, what, spoil) in enumerate(FAULTS)],
)
def test_a_fault_is_noticed(stream: list[Record], good: Tables, bench: Judge, check: str, spoil: Spoiler) -> None:
    spoiled = Spoiled(good)
    spoil(spoiled, stream)
    assert any(spoiled[name] != good[name] for name in tuple(spoiled.read))
    verdict = bench.check(check, spoiled)
    assert not verdict.passed
    assert verdict.examples


def test_every_check_has_a_fault_that_it_must_notice(stream: list[Record], good: Tables) -> None:
    assert {check for check, _, _ in FAULTS} == {check.name for check in judge(good, stream)}


def test_open_questions_may_be_answered_either_way(stream: list[Record], good: Tables) -> None:
    """What the format leaves open may be valid or not, and what only a strict parser notices may be left to silver."""
    tables = copy.deepcopy(good)
    open_rows = [row for row in tables["conversions_quarantine"] if row["broken_rules"] == ["left_open"]]
    assert open_rows
    tables["conversions_quarantine"] = [row for row in tables["conversions_quarantine"] if row not in open_rows]
    template = tables["conversions"][0]
    tables["conversions"] += [template | {name: row[name] for name in row if name in template} for row in open_rows]
    lenient = [
        record for record in stream if record.intent.also_event and record.intent.silver == QUARANTINE and record.value
    ]
    assert lenient
    for record in lenient:
        take(tables, record)
    tables["dim_users"] = versions(tables["conversions"])
    tables |= {f"gold_{name}": rows for name, rows in gold(tables["conversions"], tables["dim_users"]).items()}
    assert [check.report() for check in judge(tables, stream) if not check.passed] == []


def take(tables: Tables, record: Record) -> None:
    """Move a record from the dead letters to bronze, and on to the quarantine."""
    tables["dead_letters"] = [row for row in tables["dead_letters"] if not is_of(row, record)]
    row = bronze_row(record)
    tables["bronze"].append(row)
    tables["conversions_quarantine"].append(
        {name: row[name] for name in row if name != "kafka_key"} | {"broken_rules": ["readable"]}
    )


def test_what_silver_was_left_to_notice_must_not_be_valid(stream: list[Record], good: Tables) -> None:
    tables = copy.deepcopy(good)
    record = next(record for record in stream if record.intent.kind == "not_a_number")
    take(tables, record)
    row = tables["conversions_quarantine"].pop()
    template = tables["conversions"][0]
    tables["conversions"].append(template | {name: row[name] for name in row if name in template})
    assert "silver-says-what-was-meant" in failed(judge(tables, stream))
