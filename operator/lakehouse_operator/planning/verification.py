"""Is everything there? Whether each record of the source is in bronze, in the dead letters, or a repeat.

A record is told from others by partition, offset and Kafka timestamp: in a topic that was made again the same offsets
mean other records. Offsets at which Kafka holds nothing (transaction markers, aborted or compacted records) are gaps,
not losses. Dead letters can't be rewound, so the same one twice counts once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

Problem = Literal["lost", "doubled", "inBothPlaces", "neverProduced"]
MOST_FINDINGS = 50
"""How many wrong offsets of a partition are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the source; `event_id` is None where bronze could not place it. `arrived_ms`: Kafka's timestamp."""

    offset: int
    arrived_ms: int
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of bronze."""

    offset: int
    arrived_ms: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, by its place in the source; without `arrived_ms` the offset alone must do."""

    offset: int
    arrived_ms: int | None


T = TypeVar("T", Row, Letter)


@dataclass(frozen=True, slots=True)
class Copy:
    """A row of bronze that holds the event of a record that is neither in bronze nor a dead letter itself."""

    event_id: str
    partition: int
    offset: int
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class Finding:
    """An offset with which something is wrong."""

    partition: int
    offset: int
    problem: Problem
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was found, in records unless it says otherwise.

    Attributes:
        records: Committed records that Kafka holds: `bronze + dead_letters + repeats + late_repeats + lost`.
        gaps: Offsets at which Kafka holds no record.
        bronze: In bronze.
        dead_letters: In the dead letters and not in bronze.
        repeats: In neither, and their event is in bronze, arrived within the deduplication's time to live.
        late_repeats: The same, but arrived further apart, as happens when bronze catches up.
        lost: In none of these.
        doubled: More than once in bronze.
        in_both_places: In bronze and in the dead letters.
        never_produced: Rows of bronze at gaps.
        letters_again: Dead letters beyond the first of the same record.
        strangers: Rows and dead letters of no record that Kafka holds: of a topic that was made again, or compacted.
    """

    records: int = 0
    gaps: int = 0
    bronze: int = 0
    dead_letters: int = 0
    repeats: int = 0
    late_repeats: int = 0
    lost: int = 0
    doubled: int = 0
    in_both_places: int = 0
    never_produced: int = 0
    letters_again: int = 0
    strangers: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)})

    @property
    def wrong(self) -> int:
        """How many times something is wrong."""
        return self.lost + self.doubled + self.in_both_places + self.never_produced


@dataclass(frozen=True, slots=True)
class Comparison:
    """What offsets alone can tell of a range of a partition; `unplaced` are records that are in neither place."""

    counts: Counts
    findings: tuple[Finding, ...]
    unplaced: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Offsets of a partition, `start` to before `end`, and those asked for that can't be judged.

    Attributes:
        gone: Offsets before `start` that Kafka no longer holds.
        unread: Offsets from `end` on that bronze has not read yet.
        behind: Offsets from `end` on that nobody asked for: what bronze has still to read.
    """

    partition: int
    start: int
    end: int
    gone: int = 0
    unread: int = 0
    behind: int = 0

    @property
    def not_read(self) -> int:
        """Offsets that Kafka holds, asked for or not, and bronze has not read yet."""
        return self.unread + self.behind


@dataclass(frozen=True, slots=True)
class PartitionVerdict:
    """What was found in a range of a partition; `findings` are the first ones, by offset."""

    range: Range
    counts: Counts
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer over all partitions; `notes` are sentences about what is not wrong and worth knowing."""

    partitions: tuple[PartitionVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Counts:
        """The sums."""
        return sum((each.counts for each in self.partitions), Counts())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all partitions, the first ones of each."""
        return tuple(finding for each in self.partitions for finding in each.findings)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing beside what is wrong, a sentence each."""
        counts, ranges = self.counts, [each.range for each in self.partitions]
        gone, unread = sum(each.gone for each in ranges), sum(each.unread for each in ranges)
        told = (
            (gone, "offsets that were asked for are no longer in Kafka (retention), so nothing is proven for them"),
            (unread, "offsets that were asked for have not been read by bronze yet: ask again later"),
            (counts.gaps, "offsets hold no record: transaction markers, aborted or compacted records"),
            (counts.letters_again, "dead letters are there again: a stream that goes back to a savepoint repeats them"),
            (counts.late_repeats, "repeats came further from their event than dedupTtl, and bronze dropped them still"),
            (counts.strangers, "rows and dead letters are of no record of this topic: it was made again or compacted"),
        )  # fmt: skip
        return (*(f"{number} {meaning}" for number, meaning in told if number), *self.notes)

    @property
    def open(self) -> int:
        """Offsets that were asked for and can't be judged."""
        return sum(each.range.gone + each.range.unread for each in self.partitions)

    @property
    def outcome(self) -> Literal["proven", "wrong", "open"]:
        """`wrong` comes before `open`: what is wrong is so whatever the rest would say."""
        if self.counts.wrong:
            return "wrong"
        ranges = [each.range for each in self.partitions]
        nothing_read = all(each.end == each.start for each in ranges) and any(each.behind for each in ranges)
        return "open" if self.open or nothing_read else "proven"


def plan_range(
    partition: int,
    *,
    log: tuple[int, int],
    committed: int,
    asked_from: int | None,
    asked_to: int | None,
) -> Range:
    """Which offsets of a partition can be judged.

    Args:
        partition: Its number.
        log: The offsets of the first record that Kafka holds and of the next one that it will get.
        committed: How far bronze has read: the consumer group's committed offset.
        asked_from: The first offset that is asked for; by default the first that Kafka holds.
        asked_to: The offset after the last one that is asked for; by default what bronze has read.
    """
    first, last = log
    begin = first if asked_from is None else asked_from
    start = min(max(begin, first), last)
    wanted = max(committed if asked_to is None else min(asked_to, last), start)
    end = max(min(wanted, committed), start)
    return Range(
        partition=partition,
        start=start,
        end=end,
        gone=max(min(first, asked_to if asked_to is not None else first) - begin, 0),
        unread=wanted - end,
        behind=last - wanted if asked_to is None else 0,
    )


def compare(
    where: Range,
    records: Sequence[Record],
    rows: Iterable[Row],
    letters: Iterable[Letter],
    *,
    compacted: bool = False,
) -> Comparison:
    """Compare what Kafka holds in a range with bronze and the dead letters.

    Args:
        where: The range.
        records: Everything that Kafka holds in it.
        rows: The rows of bronze with these offsets.
        letters: The dead letters with these offsets.
        compacted: Whether Kafka removes records from the middle of the topic, so that bronze may hold more than it.
    """
    in_bronze, in_letters = _by_offset(rows), _by_offset(letters)
    tally: dict[str, int] = defaultdict(int)
    findings: list[Finding] = []
    unplaced: list[Record] = []
    for record in records:
        found, told = in_bronze.pop(record.offset, ()), in_letters.pop(record.offset, ())
        own = sum(1 for row in found if _is_row_of(row, record))
        dead = sum(1 for letter in told if letter.arrived_ms in (None, record.arrived_ms))
        tally["strangers"] += len(found) - own + len(told) - dead
        if own == 1 and not dead:
            tally["bronze"] += 1
        elif own or dead:
            tally["bronze" if own else "dead_letters"] += 1
            tally["doubled"] += own > 1
            tally["in_both_places"] += own > 0 and dead > 0
            tally["letters_again"] += max(dead - 1, 0)
            findings += _in_wrong_number(where.partition, record.offset, own, dead)
        else:
            unplaced.append(record)
    extra = sum(len(found) for found in in_bronze.values())
    tally["never_produced"] = 0 if compacted else extra
    tally["strangers"] += sum(len(told) for told in in_letters.values()) + (extra if compacted else 0)
    if not compacted:
        message = "in bronze, and Kafka holds no committed record there"
        findings += [Finding(where.partition, offset, "neverProduced", message) for offset in in_bronze]
    counts = Counts(records=len(records), gaps=where.end - where.start - len(records), **tally)
    return Comparison(counts, tuple(sorted(findings, key=_place)), tuple(unplaced))


def _by_offset(found: Iterable[T]) -> dict[int, list[T]]:
    grouped: dict[int, list[T]] = defaultdict(list)
    for each in found:
        grouped[each.offset].append(each)
    return grouped


def _is_row_of(row: Row, record: Record) -> bool:
    return row.arrived_ms == record.arrived_ms and record.event_id in (None, row.event_id)


def _in_wrong_number(partition: int, offset: int, own: int, dead: int) -> list[Finding]:
    found = []
    if own > 1:
        found.append(Finding(partition, offset, "doubled", f"{own} times in bronze"))
    if own and dead:
        found.append(Finding(partition, offset, "inBothPlaces", "in bronze and in the dead letters"))
    return found


def explain(partition: int, unplaced: Sequence[Record], copies: Iterable[Copy], ttl_ms: int) -> Comparison:
    """Tell repeats from losses; what stays `unplaced` is lost.

    Within a partition the first arrival of an event is the one that bronze keeps, so only a copy before the record
    makes it a repeat. Between partitions any may have come first.

    Args:
        partition: Whose records they are.
        unplaced: Records that are in neither place.
        copies: The rows of bronze with their ids, at least.
        ttl_ms: How long bronze recognizes repeats, in milliseconds.
    """
    known: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        known[copy.event_id].append(copy)
    tally: dict[str, int] = defaultdict(int)
    findings: list[Finding] = []
    lost: list[Record] = []
    for record in unplaced:
        at_hand = known.get(record.event_id, ()) if record.event_id is not None else ()
        earlier = [copy for copy in at_hand if copy.partition != partition or _is_before(copy, record)]
        if any(abs(copy.arrived_ms - record.arrived_ms) <= ttl_ms for copy in earlier):
            tally["repeats"] += 1
        elif earlier:
            tally["late_repeats"] += 1
        else:
            tally["lost"] += 1
            lost.append(record)
            findings.append(Finding(partition, record.offset, "lost", _how_lost(record, bool(at_hand))))
    return Comparison(Counts(**tally), tuple(findings), tuple(lost))


def _is_before(copy: Copy, record: Record) -> bool:
    """In the same partition; a higher offset that arrived before is one of an earlier topic of that name."""
    return copy.offset < record.offset or copy.arrived_ms < record.arrived_ms


def _how_lost(record: Record, came_again: bool) -> str:
    if record.event_id is None:
        return "neither in bronze nor in the dead letters, and no event can be read from it"
    if came_again:
        return "neither in bronze nor in the dead letters; its event is in bronze only from a later offset"
    return "neither in bronze nor in the dead letters, nor is its event in bronze"


def joined(where: Range, slices: Iterable[Comparison]) -> PartitionVerdict:
    """The verdict on a partition of which the slices were looked at in order."""
    counts = Counts()
    findings: list[Finding] = []
    for each in slices:
        counts += each.counts
        findings = sorted((*findings, *each.findings), key=_place)[:MOST_FINDINGS]
    return PartitionVerdict(where, counts, tuple(findings))


def _place(finding: Finding) -> tuple[int, int]:
    return finding.partition, finding.offset
