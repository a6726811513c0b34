"""Bronze on a real broker and a real Flink cluster: what comes out, where, and with what."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from jobs.flink.bronze_world import Record, World
from jobs.flink.classifier import Placed, Refused, classify
from lakehouse_contract.settings import EventSettings

ARRIVAL = 1_769_900_000_000
"""2026-01-31T22:53:20Z in milliseconds: when everything arrives that does not say otherwise."""
SECOND = 1_000_000


def now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


def event(event_id: str, micros_before_arrival: int = 0, arrival: int = ARRIVAL, **more: object) -> bytes:
    micros = 1000 * arrival - micros_before_arrival
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    text = instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps({"event_id": event_id, "event_time": text, **more}, ensure_ascii=False).encode()


def verdict(record: Record, *, keep: bool = False) -> str | bool:
    """Why a record is a dead letter, or whether it is late: from the event format's own words."""
    found = classify(record.value)
    if isinstance(found, Refused):
        return found.error_type
    arrival = 1000 * record.arrival
    if found.micros > arrival + 300 * SECOND:
        return "FUTURE_EVENT_TIME"
    if arrival > found.micros + 3900 * SECOND and not keep:
        return "TOO_LATE"
    return arrival > found.micros + 300 * SECOND


MALFORMED: Sequence[bytes | None] = (
    None,
    b"",
    b"\xff\xfe\x00broken",
    b'{"event_id":"cut","event_time":"2026-01-',
    b"[1,2,3]",
    event("trailing") + b" xyz",
    b"{}",
    b'{"event_id":"no-time"}',
    b'{"event_id":null,"event_time":"2026-01-31T22:53:20Z"}',
    b'{"event_id":7,"event_time":"2026-01-31T22:53:20Z"}',
    b'{"event_id":"impossible","event_time":"2026-02-30T22:53:20Z"}',
    b'{"event_id":"one","event_id":"other","event_time":"2026-01-31T22:53:20Z"}',
    event("x" * 129),
    b'{"event_id":"deep","event_time":"2026-01-31T22:53:20Z","x":' + b"[" * 400,
    bytes(range(256)),
)
BOUNDARIES: Sequence[bytes] = tuple(
    event(f"at{micros:+}", micros)
    for edge in (-300 * SECOND, 300 * SECOND, 3900 * SECOND)
    for micros in (edge - 1, edge, edge + 1)
)
FORMS: Sequence[bytes] = (
    b'{"event_id":"offset","event_time":"2026-02-01T00:53:20.1234567+02:00","x":"\xc3\xbc \\u00fc"}',
    b' {"event_time":"2026-01-31t22:53:20z","event_id":"lower"} \n',
    '{"event_id":"ümläut \U0001f600","event_time":"2026-01-31T22:53:20-00:00"}'.encode(),
    b'{"event_id":"deep","event_time":"2026-01-31T22:53:20Z","x":' + b"[" * 400 + b"]" * 400 + b"}",
    b'{"event_id":"nul \\u0000","event_time":"2026-01-31T22:53:20Z"}',
    event("large", text="ß" * 1_500_000),
)
KEYS = (None, b"", b"user-1", b"\x00\xff\xfe", "schlüssel".encode())


def every_kind() -> list[Record]:
    values = [*MALFORMED, *BOUNDARIES, *FORMS]
    records = [
        Record(value, key=KEYS[index % len(KEYS)], partition=index % 2, arrival=ARRIVAL)
        for index, value in enumerate(values)
    ]
    # Where producers say when a record arrived, they may say anything.
    return [*records, Record(event("eternal"), arrival=2**63 - 1), Record(event("ancient"), arrival=1)]


def located(records: Iterable[Record]) -> dict[tuple[int, int], Record]:
    """Each record by its partition and offset."""
    ends: dict[int, int] = {}
    places = {}
    for record in records:
        offset = ends.setdefault(record.partition, 0)
        places[record.partition, offset] = record
        ends[record.partition] += 1
    return places


def test_each_record_comes_out_once_with_its_bytes_its_key_and_its_verdict(world: World) -> None:
    places = located(every_kind())
    world.create_topics(2, max_message_bytes="8000000")
    world.produce(places.values())
    world.run()

    assert world.places() == dict.fromkeys(places, 1)
    letters = {(letter.partition, letter.offset): letter for letter in world.dead_letters()}
    rows = {(row["kafka_partition"], row["kafka_offset"]): row for row in world.rows()}
    for place, record in places.items():
        expected = verdict(record)
        if isinstance(expected, str):
            letter = letters[place]
            assert (letter.error_type, letter.payload, letter.key) == (expected, record.value, record.key)
            assert letter.record_key == record.key
            assert letter.error_message.endswith(".")
        else:
            row = rows[place]
            found = classify(record.value)
            assert isinstance(found, Placed)
            assert record.value is not None
            assert row["payload"].encode() == record.value
            assert (row["event_id"], row["kafka_key"], row["is_late_arrival"]) == (found.event_id, record.key, expected)
            assert (row["event_time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == found.micros
            assert row["kafka_timestamp"] == datetime.fromtimestamp(record.arrival / 1000, UTC)
            assert now() - timedelta(minutes=10) < row["ingested_at"] <= now()
    kinds = {letter.error_type for letter in letters.values()}
    assert kinds == {
        "NULL_PAYLOAD", "INVALID_ENCODING", "INVALID_JSON", "MISSING_FIELD", "INVALID_FIELD",
        "FUTURE_EVENT_TIME", "TOO_LATE",
    }  # fmt: skip


def test_a_dead_letter_says_when_it_failed_and_when_it_arrived(world: World) -> None:
    world.create_topics(timestamps="LogAppendTime")
    before = now()
    world.produce([Record(b"nonsense")])
    world.run()
    [letter] = world.dead_letters()
    arrived, failed = (datetime.fromisoformat(letter.fields[name]) for name in ("kafka_timestamp", "failed_at"))
    assert before - timedelta(seconds=1) < arrived <= failed <= now()


def test_too_late_events_are_kept_and_flagged_where_the_switch_says_so(world: World) -> None:
    world = world.change(too_late="keep", allowed_lateness_seconds=0)
    world.create_topics()
    records = [Record(value, arrival=ARRIVAL) for value in (*BOUNDARIES, event("a year", 365 * 86_400 * SECOND))]
    world.produce(records)
    world.run()
    expected = {offset: verdict(record, keep=True) for offset, record in enumerate(records)}
    assert {letter.offset: letter.error_type for letter in world.dead_letters()} == {
        offset: found for offset, found in expected.items() if isinstance(found, str)
    }
    assert {row["kafka_offset"]: row["is_late_arrival"] for row in world.rows()} == {
        offset: found for offset, found in expected.items() if isinstance(found, bool)
    }


def test_delays_and_tolerances_are_settings(world: World) -> None:
    world = world.change(watermark_delay_seconds=0, allowed_lateness_seconds=90_061, future_tolerance_seconds=0)
    world.create_topics()
    world.produce(
        Record(event(str(micros), micros), arrival=ARRIVAL)
        for micros in (-1, 0, 1, 90_061 * SECOND, 90_061 * SECOND + 1)
    )
    world.run()
    assert [(letter.offset, letter.error_type) for letter in world.dead_letters()] == [
        (0, "FUTURE_EVENT_TIME"), (4, "TOO_LATE"),
    ]  # fmt: skip
    assert {row["kafka_offset"]: row["is_late_arrival"] for row in world.rows()} == {1: False, 2: True, 3: True}


def test_events_of_another_domain_say_their_id_and_time_in_fields_of_their_own(world: World) -> None:
    """Those of `examples/orders.yaml`, whose payload silver reads in `tests/jobs/spark/test_orders.py`."""
    world = world.change(event=EventSettings(id_field="order_id", time_field="placed_at"))
    world.create_topics()
    placed = {"order_id": "o-1", "placed_at": "2026-01-31T22:53:19+00:00", "event_id": 7, "event_time": "never"}
    orders = [placed, placed, {**placed, "order_id": "o-2"}, {"event_id": "o-3", "event_time": placed["placed_at"]}]
    world.produce(Record(json.dumps(order).encode(), arrival=ARRIVAL) for order in orders)
    world.run()
    assert [(row["event_id"], row["kafka_offset"]) for row in world.rows()] == [("o-1", 0), ("o-2", 2)]
    assert {row["event_time"] for row in world.rows()} == {datetime(2026, 1, 31, 22, 53, 19, tzinfo=UTC)}
    assert [(letter.offset, letter.error_type) for letter in world.dead_letters()] == [(3, "MISSING_FIELD")]


def test_the_first_arrival_of_an_id_stays_and_its_repeats_are_dropped(world: World) -> None:
    world.create_topics(3)
    within = [Record(event(f"id-{number % 40}", copy=number), partition=0, arrival=ARRIVAL) for number in range(200)]
    across = [
        Record(event(f"shared-{number}", copy=partition), partition=partition, arrival=ARRIVAL)
        for number in range(40)
        for partition in (1, 2)
    ]
    # A late repeat of an event that was on time says nothing new. One that is too late is a dead letter all the same.
    late = [Record(event("id-0", 400 * SECOND), arrival=ARRIVAL), Record(event("id-1", 4000 * SECOND), arrival=ARRIVAL)]
    world.produce([*within, *across, *late])
    world.run()

    rows = world.rows()
    assert {row["event_id"]: row["kafka_offset"] for row in rows if row["kafka_partition"] == 0} == {
        f"id-{number}": number for number in range(40)
    }
    assert not any(row["is_late_arrival"] for row in rows)
    shared = [row["event_id"] for row in rows if row["kafka_partition"] != 0]
    assert sorted(shared) == sorted(f"shared-{number}" for number in range(40))
    assert [letter.error_type for letter in world.dead_letters()] == ["TOO_LATE"]


def test_a_repeat_is_let_through_once_the_time_to_live_has_passed(world: World) -> None:
    world = world.change(dedup_ttl_seconds=1)
    world.create_topics()
    world.produce([Record(event("again"), arrival=ARRIVAL)] * 2)
    job = world.submit()
    world.until(lambda: len(world.rows()) == 1, "the first is there", job=job)
    first = world.rows()[0]["ingested_at"]
    world.until(lambda: now() > first + timedelta(seconds=2), "the time to live has passed")
    world.produce([Record(event("again"), arrival=ARRIVAL)])
    world.until(lambda: len(world.rows()) == 2, "the later repeat is there", job=job)
    assert sorted(row["kafka_offset"] for row in world.rows()) == [0, 2]


def test_neither_bad_rows_nor_an_idle_partition_move_or_hold_the_watermark(world: World) -> None:
    world = world.change(idle_timeout_seconds=1)
    world.create_topics(2)  # the second partition stays empty
    bad = [
        Record(value, arrival=ARRIVAL)
        for value in (*MALFORMED, event("future", -301 * SECOND), event("9999", -(10**15)))
    ]
    world.produce([*bad, Record(event("good", 7 * SECOND), arrival=ARRIVAL), *bad])
    job = world.submit()
    world.until(world.caught_up, "everything is read", job=job)
    expected = ARRIVAL - 7_000 - 300_000
    world.until(lambda: world.cluster.rest.watermark(job) == expected, "the watermark is the good row's", job=job)
    seen = world.checkpoints(job)
    world.until(lambda: world.checkpoints(job) > seen + 2, "a while has passed", job=job)
    assert world.cluster.rest.watermark(job) == expected


def test_a_payload_that_is_too_large_for_a_dead_letter_is_left_where_it_is(world: World) -> None:
    world.create_topics()  # the dead letters' topic takes Kafka's default, a little over 1 MB
    payloads = [b"a" * 600_000, b"b" * 800_000, b"c" * 5_000_000, b"d"]
    keys = [b"k" * 60_000, None, b"k" * 3_000_000, b"k" * 70_000]
    world.produce(Record(payload, key, arrival=ARRIVAL) for payload, key in zip(payloads, keys, strict=True))
    world.run()
    letters = world.dead_letters()
    assert [letter.offset for letter in letters] == [0, 1, 2, 3]
    assert [letter.payload for letter in letters] == [payloads[0], None, None, payloads[3]]
    assert [letter.key for letter in letters] == [keys[0], None, None, None]
    assert ["does not fit" in letter.error_message for letter in letters] == [False, True, True, True]
    assert {letter.error_type for letter in letters} == {"INVALID_JSON"}


def test_the_dead_letter_topic_may_take_more_than_kafkas_default(world: World) -> None:
    world.create_topics(max_message_bytes="15000000")
    payload = bytes(range(256)) * 30_000
    world.produce([Record(payload, arrival=ARRIVAL)])
    world.run()
    assert [letter.payload for letter in world.dead_letters()] == [payload]


def test_the_job_runs_with_the_checkpoints_and_restarts_of_its_settings(world: World) -> None:
    world = world.change(checkpoint=replace(world.settings.checkpoint, interval_seconds=7, timeout_seconds=99))
    world.create_topics()
    job = world.submit()
    checkpoints = world.cluster.rest.get(f"/jobs/{job}/checkpoints/config")
    assert checkpoints["mode"] == "exactly_once"
    assert (checkpoints["interval"], checkpoints["timeout"]) == (7_000, 99_000)
    assert checkpoints["unaligned_checkpoints"] is False
    assert checkpoints["externalization"] == {"enabled": True, "delete_on_cancellation": False}
    assert "RocksDB" in checkpoints["state_backend"]
    execution = world.cluster.rest.get(f"/jobs/{job}/config")["execution-config"]
    assert "fixed delay" in execution["restart-strategy"].lower()
    assert "#3" in execution["restart-strategy"]
    assert "30000" in execution["restart-strategy"] or "PT30S" in execution["restart-strategy"]
    assert execution["object-reuse-mode"] is True


def test_two_pipelines_of_one_broker_do_not_disturb_each_other(make_world: Callable[[], World]) -> None:
    worlds = [make_world(), make_world()]
    jobs = []
    for world in worlds:
        world.create_topics()
        world.produce([Record(event(world.name), arrival=ARRIVAL), Record(b"bad", arrival=ARRIVAL)])
        jobs.append(world.submit())
    for world, job in zip(worlds, jobs, strict=True):
        world.until(world.caught_up, "everything is read", job=job)
        world.stop(job)
        assert [row["event_id"] for row in world.rows()] == [world.name]
        assert [letter.payload for letter in world.dead_letters()] == [b"bad"]
