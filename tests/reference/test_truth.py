"""The truth is written whole, is read back as it was meant, and comes from the generator's intent."""

import dataclasses
import itertools
import json
import threading
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.produce import generate_to_files
from lakehouse_operator.reference.record import Typed
from lakehouse_operator.reference.traffic import Traffic
from lakehouse_operator.reference.truth import TRUTH_SCHEMA, PartFiles, part_files

TRAFFIC = Traffic(
    end_ms=1_780_000_000_000, events=2_500, users=50, repeated=0.1, malformed=0.2, rule_breaking=0.2, unusual=0.2,
    oversized_bytes=500,
)  # fmt: skip


def test_files_hold_the_records_and_the_truth_about_them(tmp_path: Path) -> None:
    sent = generate_to_files(TRAFFIC, tmp_path)
    expected = list(records(TRAFFIC))
    assert (sent.records, sent.stopped) == (len(expected), False)
    rows = pq.read_table(tmp_path / "records-00000.parquet").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (record.partition, record.ordinal, record.timestamp_ms, record.key, record.value) for record in expected
    ]
    truth = pq.read_table(tmp_path / "truth-00000.parquet")
    assert truth.schema.equals(TRUTH_SCHEMA)
    for row, record in zip(truth.to_pylist(), expected, strict=True):
        intent = record.intent
        typed = intent.typed or Typed(*(None,) * len(Typed._fields))  # type: ignore[arg-type]
        assert {name: row[name] for name in Typed._fields} == typed._asdict()
        assert (row["kind"], row["event_id"], row["event_time_us"]) == (
            intent.kind,
            intent.event_id,
            intent.event_time_us,
        )
        assert (row["expected"], row["is_late"], row["flaw"]) == (record.expected, record.is_late, intent.flaw)
        assert row["broken"] == (None if intent.broken is None else list(intent.broken))


def test_the_hashes_are_those_of_the_values(tmp_path: Path) -> None:
    generate_to_files(TRAFFIC, tmp_path)
    wrong = duckdb.sql(f"""
        SELECT count(*)
        FROM '{tmp_path}/truth-*.parquet' t JOIN '{tmp_path}/records-*.parquet' r USING ("partition", ordinal)
        WHERE unhex(sha256(r.value)) IS DISTINCT FROM t.value_sha256
           OR octet_length(r.value) IS DISTINCT FROM t.value_length
    """).fetchall()
    assert wrong == [(0,)]


def test_the_note_says_how_to_make_the_stream_again(tmp_path: Path) -> None:
    generate_to_files(TRAFFIC, tmp_path)
    note = json.loads((tmp_path / "traffic.json").read_text())
    assert Traffic(**note["traffic"]) == TRAFFIC


def test_parts_together_are_the_stream(tmp_path: Path) -> None:
    with part_files(tmp_path, "truth", rows_per_part=1_000) as files:
        for record in records(TRAFFIC):
            files.add(record)
    parts = sorted(tmp_path.glob("truth-*.parquet"))
    assert [part.name for part in parts] == ["truth-00000.parquet", "truth-00001.parquet", "truth-00002.parquet"]
    assert sum(pq.read_metadata(part).num_rows for part in parts) == len(list(records(TRAFFIC)))
    assert list(tmp_path.glob("*.partial")) == []


def test_what_was_sent_before_a_failure_is_written_down(tmp_path: Path) -> None:
    def fail() -> None:
        with part_files(tmp_path, "truth") as files:
            for record in itertools.islice(records(TRAFFIC), 7):
                files.add(record)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert pq.read_metadata(tmp_path / "truth-00000.parquet").num_rows == 7


def test_a_stream_without_events_can_be_read(tmp_path: Path) -> None:
    generate_to_files(dataclasses.replace(TRAFFIC, events=0), tmp_path)
    assert pq.read_table(tmp_path / "truth-00000.parquet").num_rows == 0


def test_a_stream_is_never_written_over_another(tmp_path: Path) -> None:
    generate_to_files(TRAFFIC, tmp_path)
    with pytest.raises(FileExistsError, match="already holds truth files; name another directory"):
        PartFiles(tmp_path, ["truth"])


def test_the_generator_stops_when_asked_and_the_truth_says_what_was_sent(tmp_path: Path) -> None:
    stop = threading.Event()
    sent = generate_to_files(TRAFFIC, tmp_path, stop=stop, progress=lambda count: stop.set())
    assert sent.stopped
    assert sent.records == pq.read_metadata(tmp_path / "truth-00000.parquet").num_rows == 1_000
