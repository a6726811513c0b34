"""The truth about a stream, as Parquet: one row for each record that was sent, written beside it.

It comes from what the generator meant, never from reading the bytes.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse_operator.reference.record import Record, Typed

_NO_VALUES = (None,) * len(Typed._fields)

TRUTH_SCHEMA = pa.schema(
    [
        # Where and when it was sent.
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value_sha256", pa.binary()),
        pa.field("value_length", pa.int32()),
        # What should become of it; see record.Record and record.Intent.
        pa.field("expected", pa.string(), nullable=False),
        pa.field("is_late", pa.bool_(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("event_id", pa.string()),
        pa.field("event_time_text", pa.string()),
        pa.field("event_time_us", pa.int64()),
        pa.field("flaw", pa.string()),
        pa.field("also_event", pa.bool_(), nullable=False),
        pa.field("silver", pa.string()),
        pa.field("broken", pa.list_(pa.string())),
        # The values of a valid event; see record.Typed.
        pa.field("user_id", pa.string()),
        pa.field("user_plan", pa.string()),
        pa.field("user_country", pa.string()),
        pa.field("user_email_domain", pa.string()),
        pa.field("input_number", pa.int64()),
        pa.field("output_numeral", pa.string()),
        pa.field("status", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("duration_ms", pa.float64()),
        pa.field("channel", pa.string()),
        pa.field("client_version", pa.string()),
        pa.field("schema_version", pa.int32()),
    ]
)
"""`value_sha256` is null for a null value; the values of the last part are null unless `silver` is `valid`."""

RECORD_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
    ]
)
"""The records themselves, for a stream that is written to files."""


def truth_table(records: Sequence[Record]) -> pa.Table:
    """The truth about some records, with `TRUTH_SCHEMA`."""
    return _table([_truth_row(record) for record in records], TRUTH_SCHEMA)


def record_table(records: Sequence[Record]) -> pa.Table:
    """The records themselves, with `RECORD_SCHEMA`."""
    return _table(
        [(record.partition, record.ordinal, record.timestamp_ms, record.key, record.value) for record in records],
        RECORD_SCHEMA,
    )


def _truth_row(record: Record) -> tuple[Any, ...]:
    value, intent = record.value, record.intent
    return (
        record.partition,
        record.ordinal,
        record.timestamp_ms,
        record.key,
        None if value is None else hashlib.sha256(value).digest(),
        None if value is None else len(value),
        record.expected,
        record.is_late,
        *intent[:-1],
        *(intent.typed or _NO_VALUES),
    )


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


WRITERS: Mapping[str, Any] = MappingProxyType({"truth": truth_table, "records": record_table})


class PartFiles:
    """Writes records to `<directory>/<what>-00000.parquet`, `-00001` and so on, as they come.

    A part appears under its name when it is whole. After a kill the records since the last part are missing.
    """

    def __init__(self, directory: Path, what: Sequence[str], rows_per_part: int = 50_000) -> None:
        """Prepare to write `what` ("truth", "records") to a directory that holds none of it yet.

        Raises:
            FileExistsError: The directory already holds such files.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for name in what:
            if any(directory.glob(f"{name}-*.parquet")):
                raise FileExistsError(f"{directory} already holds {name} files; name another directory or empty it")
        self._directory = directory
        self._what = tuple(what)
        self._rows_per_part = rows_per_part
        self._buffer: list[Record] = []
        self._parts = 0

    def add(self, record: Record) -> None:
        """Add a record."""
        self._buffer.append(record)
        if len(self._buffer) >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. The first part is written even if it is empty, so that the files can be read."""
        if not self._buffer and self._parts:
            return
        for name in self._what:
            path = self._directory / f"{name}-{self._parts:05d}.parquet"
            partial = path.with_suffix(".partial")
            pq.write_table(WRITERS[name](self._buffer), partial, compression="zstd")
            partial.replace(path)
        self._buffer.clear()
        self._parts += 1


@contextlib.contextmanager
def part_files(directory: Path, *what: str, rows_per_part: int = 50_000) -> Iterator[PartFiles]:
    """`PartFiles` that are flushed at the end, also when the end is an error: what was sent was sent."""
    files = PartFiles(directory, what, rows_per_part)
    try:
        yield files
    finally:
        files.flush()
