"""Reads Kafka itself, bronze and the dead letters, and answers whether everything that Kafka holds has arrived.

Partition by partition, in slices of offsets, so that memory does not grow with the range; dead letters in the range
are kept as 20 bytes each. A table is asked only for the rows with the offsets of a slice, and for the events of records
that are in neither place. The dead letters are read from when the first record of the range arrived, where the broker
set that time; a producer's time tells nothing about when a letter was written, so then they are read whole.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from pyiceberg import expressions
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, BooleanExpression

from lakehouse_contract.settings import BronzeSettings
from lakehouse_operator.observation.kafka import KafkaObserver, KafkaUnreadable
from lakehouse_operator.observation.observe import Look, Observer, kafka_connection
from lakehouse_operator.planning.placement import event_id
from lakehouse_operator.planning.verification import (
    Comparison,
    Copy,
    Letter,
    PartitionVerdict,
    Range,
    Record,
    Row,
    Verdict,
    compare,
    explain,
    joined,
    plan_range,
)

SLICE = 200_000
"""How many offsets are looked at at once: their records, rows and ids take some 100 MB."""
_SILENCE_SECONDS = 60.0
_SECONDS = 15.0
_AGAIN_SECONDS = 2.0
_POLL_SECONDS = 0.1
_CLOCKS_DIFFER_MS = 3_600_000
"""How far the clocks of brokers and of the stream may be apart: a dead letter is not older than its record by more."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which records of the source are meant: by offsets in each partition, or by arrival; all without any."""

    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a verification reads."""

    settings: BronzeSettings
    source: "_Source"
    catalog: Catalog
    letters: "_DeadLetters"
    compacted: bool
    deadline: float


def verify(
    look: Look,
    asked: Asked,
    *,
    grace: float,
    say: Callable[[str], None] = lambda _: None,
    lost: Callable[[int, Record], None] = lambda _partition, _record: None,
) -> Verdict:
    """Prove that each record of a range is in bronze, in the dead letters, or a repeat of an event in bronze.

    Args:
        look: The bronze job's settings, and the values of the secrets that they name.
        asked: The range; without an end it goes up to what the consumer group has committed.
        grace: For how many seconds what seems to be lost is looked for again: Flink commits offsets, table and dead
            letters of a checkpoint in no fixed order.
        say: Takes a line about how far it has come.
        lost: Takes each record that is lost, with its partition.

    Raises:
        KafkaUnreadable: Kafka did not answer, or has no such topic or partition.
        NoSuchTableError: There is no bronze table; as other errors of the catalog.
    """
    settings = look.settings
    deadline = time.monotonic() + grace
    connection = kafka_connection(look)
    ranges = _ranges(connection, settings, asked)
    catalog = Observer().catalog(look)
    catalog.load_table(settings.table)  # says at once what is wrong with it
    source = _Source(connection, settings)
    letters = _DeadLetters(connection, settings.dead_letter_topic, ranges, source.arrived(ranges))
    try:
        letters.read_on()
        compacted = source.is_compacted()
        sources = _Sources(settings, source, catalog, letters, compacted is not False, deadline)
        verdicts = []
        for where in ranges:
            say(f"partition {where.partition}: offsets {where.start} to {where.end}")
            verdicts.append(_verdict(sources, where, lost))
        return Verdict(tuple(verdicts), (*_notes(letters, compacted), *_unaccounted(sources, asked, ranges)))
    finally:
        letters.close()


def _ranges(connection: Mapping[str, str], settings: BronzeSettings, asked: Asked) -> list[Range]:
    moments = [moment for moment in (asked.since, asked.until) if moment is not None]
    kafka = settings.kafka
    progress = KafkaObserver(connection).progress(kafka.topic, kafka.consumer_group, moments)
    chosen = [each for each in progress if asked.partition in (None, each.partition)]
    if not chosen:
        raise KafkaUnreadable(f"topic {kafka.topic} has no partition {asked.partition}")
    return [
        plan_range(
            each.partition,
            log=(each.start, each.end),
            committed=each.committed,
            asked_from=each.end_at[asked.since] if asked.since else asked.from_offset,
            asked_to=each.end_at[asked.until] if asked.until else asked.to_offset,
        )
        for each in chosen
    ]


def _verdict(sources: _Sources, where: Range, lost: Callable[[int, Record], None]) -> PartitionVerdict:
    def slices() -> Iterator[Comparison]:
        for part, records in sources.source.slices(where):
            compared, explained = _settled(sources, part, records)
            for record in explained.unplaced:
                lost(part.partition, record)
            yield from (compared, explained)

    return joined(where, slices())


def _settled(sources: _Sources, part: Range, records: list[Record]) -> tuple[Comparison, Comparison]:
    """The comparison of a slice, and what became of the records in neither place; asked again during the grace."""
    while True:
        compared = compare(
            part,
            records,
            _rows(sources, part),
            sources.letters.between(part),
            compacted=sources.compacted,
        )
        explained = explain(
            part.partition,
            compared.unplaced,
            _copies(sources, part.partition, compared.unplaced),
            1000 * sources.settings.dedup_ttl_seconds,
        )
        # Rows are always read after the letters, so with these both have been looked for until the deadline.
        if not explained.counts.lost or sources.letters.read_at > sources.deadline:
            return compared, explained
        if time.monotonic() < sources.deadline:
            time.sleep(_AGAIN_SECONDS)
        sources.letters.read_on()


def _rows(sources: _Sources, part: Range) -> Iterator[Row]:
    here = And(
        _between("kafka_partition", part.partition, part.partition),
        _between("kafka_offset", part.start, part.end - 1),
    )
    for batch in _batches(sources, here, ("kafka_offset", "kafka_timestamp", "event_id")):
        columns = (batch["kafka_offset"].to_pylist(), _milliseconds(batch), batch["event_id"].to_pylist())
        yield from map(Row, *columns)


def _copies(sources: _Sources, partition: int, unplaced: Sequence[Record]) -> list[Copy]:
    """The rows that hold the events of some records: first by when they came, which prunes files; then anywhere."""
    ttl_ms = 1000 * sources.settings.dedup_ttl_seconds
    arrived = [record.arrived_ms for record in unplaced]
    near = _window(min(arrived) - ttl_ms, max(arrived) + ttl_ms) if arrived else None
    found = _with_ids(sources, unplaced, near)
    if near is not None:
        found += _with_ids(sources, explain(partition, unplaced, found, ttl_ms).unplaced, None)
    return found


def _window(first_ms: int, last_ms: int) -> BooleanExpression | None:
    try:
        begin, end = (_EPOCH + timedelta(milliseconds=moment) for moment in (first_ms, last_ms))
    except OverflowError:  # a producer's timestamp is any number
        return None
    return _between("kafka_timestamp", begin.isoformat(), end.isoformat())


# What mypy says of these constructors depends on what it has read before: pydantic's plugin takes their fields for
# their arguments.
_expressions: Any = expressions


def _between(column: str, first: int | str, last: int | str) -> BooleanExpression:
    return And(_expressions.GreaterThanOrEqual(column, first), _expressions.LessThanOrEqual(column, last))


def _with_ids(sources: _Sources, records: Sequence[Record], near: BooleanExpression | None) -> list[Copy]:
    ids = {record.event_id for record in records if record.event_id is not None}
    if not ids:
        return []
    among = _expressions.In("event_id", ids)
    columns = ("event_id", "kafka_partition", "kafka_offset", "kafka_timestamp")
    found: list[Copy] = []
    for batch in _batches(sources, among if near is None else And(among, near), columns):
        plain = [batch[name].to_pylist() for name in columns[:3]]
        found += map(Copy, *plain, _milliseconds(batch))
    return found


def _batches(sources: _Sources, condition: BooleanExpression, columns: tuple[str, ...]) -> Iterable[Any]:
    table = sources.catalog.load_table(sources.settings.table)
    return table.scan(row_filter=condition, selected_fields=columns).to_arrow_batch_reader()  # type: ignore[no-any-return]


def _milliseconds(batch: Any) -> list[int]:
    micros = batch["kafka_timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    return [value // 1000 for value in micros]


def _notes(letters: "_DeadLetters", compacted: bool | None) -> Iterator[str]:
    if letters.foreign:
        yield f"{letters.foreign} records of {letters.topic} are no dead letters; the first: {letters.first_foreign}"
    if letters.begins:
        yield f"{letters.topic} has lost its oldest letters to retention: a record whose letter is gone counts as lost"
    if compacted:
        yield "the source is compacted: rows of bronze without a record in Kafka are not called wrong"
    if compacted is None:
        yield "the broker does not say whether the source is compacted: rows without a record are not called wrong"


def _unaccounted(sources: _Sources, asked: Asked, ranges: Iterable[Range]) -> Iterator[str]:
    """What may have expired unread, where everything is asked for: nothing else shows it once bronze has gone on."""
    if asked.since is not None or asked.from_offset is not None:
        return
    for where in ranges:
        before = Range(partition=where.partition, start=max(where.start - SLICE, 0), end=where.start)
        if before.end == before.start:
            continue
        newest = max((row.offset for row in _rows(sources, before)), default=before.start - 1)
        if count := before.end - 1 - newest:
            yield (
                f"partition {where.partition}: Kafka holds nothing before offset {before.end}, and bronze nothing of "
                f"the {count} offsets before it: they were dead letters or repeats, or expired before they were read"
            )


class _Source:
    """The source topic's committed records."""

    def __init__(self, connection: Mapping[str, str], settings: BronzeSettings) -> None:
        self._connection = connection
        self._topic, self._event = settings.kafka.topic, settings.event

    def is_compacted(self) -> bool | None:
        """Whether Kafka removes records from the middle of the topic; None where the broker does not say."""
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        admin = AdminClient({**self._connection, "log_level": 2})
        try:
            entry = admin.describe_configs([resource])[resource].result(_SECONDS).get("cleanup.policy")
        except (KafkaException, TimeoutError):
            return None  # without the right to ask, nothing is claimed
        return "compact" in entry.value if entry and entry.value else None

    def arrived(self, ranges: Iterable[Range]) -> int | None:
        """When the first of the records in some ranges were appended, in milliseconds since 1970.

        None where producers have set the time, which may be any.

        Raises:
            KafkaUnreadable: Kafka fell silent or refused.
        """
        found: list[int] = []
        consumer = _consumer(self._connection)
        try:
            for where in ranges:
                if where.end == where.start:
                    continue
                consumer.assign([TopicPartition(self._topic, where.partition, where.start)])
                _, message = next(_messages(consumer, self._topic))
                kind, moment = message.timestamp() if message is not None else (TIMESTAMP_LOG_APPEND_TIME, None)
                if kind != TIMESTAMP_LOG_APPEND_TIME:
                    return None
                found += [moment] if moment is not None else []
        finally:
            consumer.close()
        return min(found, default=None)

    def slices(self, where: Range) -> Iterator[tuple[Range, list[Record]]]:
        """The records of a range, in slices that together cover it.

        Raises:
            KafkaUnreadable: Kafka fell silent, refused, or removed records meanwhile.
        """
        consumer = _consumer(self._connection)
        try:
            part, records = _first_slice(where), list[Record]()
            if part.end == part.start:
                return
            consumer.assign([TopicPartition(self._topic, where.partition, where.start)])
            for offset, message in _messages(consumer, self._topic):
                while offset >= part.end:
                    yield part, records
                    part, records = _next_slice(part, where), []
                    if part.end == part.start:
                        return
                if message is None:
                    raise KafkaUnreadable(
                        f"partition {where.partition} of {self._topic} ends at offset {offset} for readers of "
                        f"committed records, before {where.end}: a transaction is open, or the topic was made again"
                    )
                records.append(Record(offset, message.timestamp()[1], event_id(message.value(), self._event)))
        finally:
            consumer.close()


def _first_slice(where: Range) -> Range:
    return Range(partition=where.partition, start=where.start, end=min(where.start + SLICE, where.end))


def _next_slice(part: Range, where: Range) -> Range:
    return Range(partition=where.partition, start=part.end, end=min(part.end + SLICE, where.end))


class _DeadLetters:
    """The committed dead letters about some ranges of the source, read once and then only on from there.

    Args:
        connection: librdkafka's properties.
        topic: The dead letters.
        ranges: Of the source, one for each partition.
        since: When the first records of the ranges arrived, in milliseconds since 1970; None to read the whole topic.
    """

    def __init__(
        self, connection: Mapping[str, str], topic: str, ranges: Sequence[Range], since: int | None = None
    ) -> None:
        self.topic, self.foreign, self.first_foreign, self.begins, self.read_at = topic, 0, "", 0, 0.0
        self._ranges = {each.partition: each for each in ranges}
        self._since = since
        self._letters = _table([])
        self._consumer = _consumer(connection)
        self._next: dict[int, int] = {}

    def read_on(self) -> None:
        """Read what has come since.

        Raises:
            KafkaUnreadable: Kafka fell silent or refused.
        """
        places, self.read_at = self._places(), time.monotonic()
        self._consumer.assign([TopicPartition(self.topic, number, offset) for number, offset in places.items()])
        unread, batches, batch = set(places), [self._letters], list[tuple[int, int, int | None]]()
        for message in _polled(self._consumer, self.topic):
            number = message.partition()
            self._next[number] = message.offset() + (message.error() is None)
            if message.error() is not None:
                unread.discard(number)
                if not unread:
                    break
            elif (letter := self._letter(message)) is not None:
                batch.append(letter)
                if len(batch) == SLICE:
                    batches.append(_table(batch))
                    batch = []
        self._letters = pa.concat_tables([*batches, _table(batch)]).combine_chunks()

    def _places(self) -> dict[int, int]:
        if not self._next:
            numbers = _partitions(self._consumer, self.topic)
            for number in numbers:
                where = TopicPartition(self.topic, number)
                first, end = _asked(self.topic, lambda: self._consumer.get_watermark_offsets(where, timeout=_SECONDS))  # noqa: B023 - called at once
                self._next[number] = max(first, self._begin(number, end))
                self.begins += first if self._next[number] == first else 0
        return self._next

    def _begin(self, number: int, end: int) -> int:
        """The offset of the first letter that can be about the ranges."""
        if self._since is None:
            return 0
        asked = [TopicPartition(self.topic, number, self._since - _CLOCKS_DIFFER_MS)]
        [found] = _asked(self.topic, lambda: self._consumer.offsets_for_times(asked, timeout=_SECONDS))
        return end if found.offset < 0 else int(found.offset)

    def _letter(self, message: Message) -> tuple[int, int, int | None] | None:
        try:
            letter = json.loads(message.value() or b"")
            partition, offset = int(letter["kafka_partition"]), int(letter["kafka_offset"])
        except (ValueError, TypeError, KeyError):
            self.foreign += 1
            self.first_foreign = self.first_foreign or f"partition {message.partition()}, offset {message.offset()}"
            return None
        wanted = self._ranges.get(partition)
        if wanted is None or not wanted.start <= offset < wanted.end:
            return None
        return partition, offset, _arrival(letter.get("kafka_timestamp"))

    def between(self, part: Range) -> list[Letter]:
        """The letters about the records of a slice."""
        column = self._letters.column
        here = pc.and_(
            pc.equal(column("partition"), part.partition),
            pc.and_(pc.greater_equal(column("offset"), part.start), pc.less(column("offset"), part.end)),
        )
        found = self._letters.filter(here)
        return [*map(Letter, found["offset"].to_pylist(), found["arrived"].to_pylist())]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


_LETTERS = pa.schema([("partition", pa.int32()), ("offset", pa.int64()), ("arrived", pa.int64())])


def _table(letters: list[tuple[int, int, int | None]]) -> Any:
    columns = list(zip(*letters, strict=True)) or [(), (), ()]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, _LETTERS, strict=True)], schema=_LETTERS)


def _arrival(text: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def read_again(look: Look, wanted: Mapping[int, Sequence[int]]) -> Iterator[Message]:
    """The committed records of the source at some offsets, by partition.

    Raises:
        KafkaUnreadable: Kafka fell silent, refused, or no longer holds one of them.
    """
    topic = look.settings.kafka.topic
    consumer = _consumer(kafka_connection(look))
    try:
        for partition, offsets in sorted(wanted.items()):
            left = sorted(offsets)
            while left:
                consumer.assign([TopicPartition(topic, partition, left[0])])
                near = {offset for offset in left if offset < left[0] + SLICE}
                left = [offset for offset in left if offset not in near]
                yield from _those(consumer, topic, near)
    finally:
        consumer.close()


def _those(consumer: Consumer, topic: str, near: set[int]) -> Iterator[Message]:
    last = max(near)
    for offset, message in _messages(consumer, topic):
        if message is not None and offset in near:
            yield message
        if message is None or offset >= last:
            return


def _consumer(connection: Mapping[str, str]) -> Consumer:
    return Consumer(
        {
            **connection,
            "group.id": "lakehouse-verify",  # asked for by the client; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",  # what is gone must not be passed over in silence
            "queued.max.messages.kbytes": 32_768,
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }
    )


def _messages(consumer: Consumer, topic: str) -> Iterator[tuple[int, Message | None]]:
    """The messages of one partition with their offsets; where it ends, that offset without a message."""
    for message in _polled(consumer, topic):
        yield message.offset(), message if message.error() is None else None


def _polled(consumer: Consumer, topic: str) -> Iterator[Message]:
    """Messages, and where a partition ends the event that says so, without end; silence is an error."""
    deadline = time.monotonic() + _SILENCE_SECONDS
    while True:
        batch = consumer.consume(10_000, timeout=_POLL_SECONDS)  # waits for all of them, or that long
        if batch:
            deadline = time.monotonic() + _SILENCE_SECONDS
        elif time.monotonic() > deadline:
            raise KafkaUnreadable(f"topic {topic} fell silent")
        for message in batch:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                yield message
            elif not error.retriable():
                raise KafkaUnreadable(f"topic {topic} can't be read: {error.str()}")


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    metadata = _asked(topic, lambda: consumer.list_topics(topic, timeout=_SECONDS)).topics[topic]
    if metadata.error is not None:
        raise KafkaUnreadable(f"topic {topic} can't be read: {metadata.error.str()}")
    return sorted(metadata.partitions)


def _asked(topic: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except KafkaException as error:
        raise KafkaUnreadable(f"Kafka did not answer for {topic}: {error}") from error
