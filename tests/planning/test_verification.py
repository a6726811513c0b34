"""The verdict on a range of a source: what is proven, what is lost, what is there too often."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse_contract.settings import EventSettings
from lakehouse_operator.planning.placement import event_id
from lakehouse_operator.planning.verification import (
    MOST_FINDINGS,
    Comparison,
    Copy,
    Counts,
    Finding,
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

EVENT = EventSettings()
TTL_MS = 100


def verdict(
    records: Sequence[Record], rows: Sequence[Row] = (), letters: Sequence[Letter] = (), copies: Sequence[Copy] = ()
) -> PartitionVerdict:
    """The verdict on offsets 0 to 9 of partition 0; the rows are copies too, as they are in the table."""
    where = Range(partition=0, start=0, end=10)
    compared = compare(where, records, rows, letters)
    own = [Copy(row.event_id, 0, row.offset, row.arrived_ms) for row in rows]
    return joined(where, [compared, explain(0, compared.unplaced, [*copies, *own], TTL_MS)])


def problems(found: PartitionVerdict) -> list[tuple[int, str]]:
    return [(finding.offset, finding.problem) for finding in found.findings]


def test_a_record_in_bronze_in_the_dead_letters_or_a_repeat_is_accounted_for() -> None:
    records = [Record(0, 5, "a"), Record(1, 5, None), Record(3, 6, "a")]
    found = verdict(records, [Row(0, 5, "a")], [Letter(1, 5)])
    assert found.counts == Counts(records=3, gaps=7, bronze=1, dead_letters=1, repeats=1)
    assert found.findings == ()


def test_a_record_that_is_nowhere_is_lost_and_the_sentence_says_what_is_known_of_it() -> None:
    records = [Record(0, 5, "a"), Record(1, 5, None), Record(2, 5, "b"), Record(3, 6, "b")]
    found = verdict(records, [Row(3, 6, "b")])
    assert problems(found) == [(0, "lost"), (1, "lost"), (2, "lost")]
    told = [finding.message.removeprefix("neither in bronze nor in the dead letters") for finding in found.findings]
    assert told == [
        ", nor is its event in bronze",
        ", and no event can be read from it",
        "; its event is in bronze only from a later offset",
    ]


def test_between_partitions_either_copy_may_have_come_first() -> None:
    assert verdict([Record(0, 5, "a")], copies=[Copy("a", 1, 900, 80)]).counts.repeats == 1


@pytest.mark.parametrize(("arrived", "repeats", "late"), [(105, 1, 0), (106, 0, 1)])
def test_a_repeat_beyond_the_time_to_live_is_told_apart(arrived: int, repeats: int, late: int) -> None:
    found = verdict([Record(0, arrived, "a")], copies=[Copy("a", 1, 0, 5)])
    assert (found.counts.repeats, found.counts.late_repeats, found.counts.lost) == (repeats, late, 0)


def test_a_row_twice_and_a_record_in_both_places_are_wrong_and_a_letter_twice_is_not() -> None:
    records = [Record(0, 5, "a"), Record(1, 5, "b"), Record(2, 5, None)]
    rows = [Row(0, 5, "a"), Row(0, 5, "a"), Row(1, 5, "b")]
    found = verdict(records, rows, [Letter(1, 5), Letter(2, 5), Letter(2, None)])
    assert problems(found) == [(0, "doubled"), (1, "inBothPlaces")]
    assert found.counts.letters_again == 1


def test_what_an_earlier_topic_of_that_name_left_covers_nothing() -> None:
    """In a topic that was made again, offsets start at 0 again."""
    records = [Record(0, 50, "new"), Record(1, 50, None), Record(2, 50, "here"), Record(3, 50, None)]
    rows = [Row(0, 5, "old"), Row(2, 5, "older"), Row(2, 50, "here"), Row(3, 5, "oldest")]
    found = verdict(records, rows, [Letter(1, 5)])
    assert problems(found) == [(0, "lost"), (1, "lost"), (3, "lost")]
    assert found.counts.strangers == 4


def test_an_event_that_an_earlier_topic_of_that_name_held_at_the_same_offset_is_a_repeat() -> None:
    assert verdict([Record(4, 50, "a")], [Row(4, 5, "a")]).counts == Counts(records=1, gaps=9, repeats=1, strangers=1)


def test_a_row_at_an_offset_without_a_record_is_wrong_unless_the_topic_is_compacted() -> None:
    where = Range(partition=0, start=0, end=3)
    rows = [Row(1, 5, "aborted")]
    assert [each.problem for each in compare(where, [], rows, []).findings] == ["neverProduced"]
    assert compare(where, [], rows, [], compacted=True) == Comparison(Counts(gaps=3, strangers=1), (), ())


def test_of_many_findings_the_first_are_named_and_all_are_counted() -> None:
    where = Range(partition=0, start=0, end=100)
    lost = explain(0, [Record(offset, 0, None) for offset in range(100)], [], TTL_MS)
    found = joined(where, [lost])
    assert (len(found.findings), found.findings[-1].offset, found.counts.lost) == (
        MOST_FINDINGS,
        MOST_FINDINGS - 1,
        100,
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None), Range(partition=0, start=10, end=30, behind=10)),
        ((5, None), Range(partition=0, start=10, end=30, gone=5, behind=10)),
        ((20, 25), Range(partition=0, start=20, end=25)),
        ((20, 35), Range(partition=0, start=20, end=30, unread=5)),
        ((20, 99), Range(partition=0, start=20, end=30, unread=10)),
        ((2, 6), Range(partition=0, start=10, end=10, gone=4)),
        ((32, None), Range(partition=0, start=32, end=32, behind=8)),
        ((32, 35), Range(partition=0, start=32, end=32, unread=3)),
        ((99, None), Range(partition=0, start=40, end=40)),
    ],
)
def test_only_what_kafka_holds_and_bronze_has_read_is_judged(
    asked: tuple[int | None, int | None], expected: Range
) -> None:
    assert plan_range(0, log=(10, 40), committed=30, asked_from=asked[0], asked_to=asked[1]) == expected


@pytest.mark.parametrize(
    ("where", "counts", "outcome"),
    [
        (Range(partition=0, start=0, end=5), Counts(records=5, bronze=5), "proven"),
        (Range(partition=0, start=0, end=5, behind=9), Counts(records=5, bronze=5), "proven"),
        (Range(partition=0, start=0, end=5, gone=1), Counts(records=5, bronze=5), "open"),
        (Range(partition=0, start=0, end=5, unread=1), Counts(records=5, bronze=5), "open"),
        (Range(partition=0, start=0, end=5, unread=1), Counts(records=5, lost=1), "wrong"),
        (Range(partition=0, start=0, end=0, behind=9), Counts(), "open"),
        (Range(partition=0, start=0, end=0), Counts(), "proven"),
    ],
)
def test_what_can_not_be_judged_is_never_called_proven(where: Range, counts: Counts, outcome: str) -> None:
    assert Verdict((PartitionVerdict(where, counts, ()),)).outcome == outcome


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"event_id": "a", "event_time": "t"}', "a"),
        (b' {"event_id": "a", "event_id": "\\u0061", "event_time": "t", "x": 1, "x": 2}\n', "a"),
        ('{"event_id": "\U0001f600", "event_time": "t"}'.encode(), "\U0001f600"),
        (b'{"event_id": "a", "event_time": "t", "n": ' + b"9" * 5000 + b"}", "a"),
        (b'{"deep": ' + b"[" * 9000 + b"]" * 9000 + b', "event_id": "a", "event_time": "t"}', "a"),
        (b'{"deep": ' + b'{"event_id":' * 9000 + b'"b"' + b"}" * 9000 + b', "event_id": "a", "event_time": "t"}', "a"),
        (b'{"event_id": "a", "event_id": "b", "event_time": "t"}', None),
        (b'{"event_id": "a"}', None),
        (b'{"event_id": "a", "event_time": null}', None),
        (b'{"event_id": 7, "event_time": "t"}', None),
        (b'{"event_id": "", "event_time": "t"}', None),
        (b'{"event_id": "' + b"a" * 128 + b'", "event_time": "t"}', "a" * 128),
        (b'{"event_id": "' + b"a" * 129 + b'", "event_time": "t"}', None),
        (b'{"event_id": "\\ud800", "event_time": "t"}', None),
        (b'{"event_id": "a", "event_time": "t", "n": NaN}', None),
        (b'{"event_id": "a", "event_time": "t"} x', None),
        (b'\xef\xbb\xbf{"event_id": "a", "event_time": "t"}', None),
        (b'["event_id"]', None),
        (b'{"event_id": "\xff", "event_time": "t"}', None),
        (b"", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_id_is_read_as_bronze_reads_it(payload: bytes | None, expected: str | None) -> None:
    assert event_id(payload, EVENT) == expected


@dataclass(frozen=True)
class Sent:
    """A record as it was sent, and how often it is in bronze and in the dead letters."""

    gap: bool
    event_id: str | None
    arrived_ms: int
    rows: int
    letters: int


SENT = st.builds(
    Sent,
    gap=st.sampled_from([False, False, False, True]),
    event_id=st.sampled_from(["a", "b", "c", None]),
    arrived_ms=st.integers(0, 3 * TTL_MS),
    rows=st.integers(0, 2),
    letters=st.integers(0, 2),
)
COPIES = st.lists(
    st.builds(
        Copy, st.sampled_from("abc"), partition=st.just(1), offset=st.integers(0, 9), arrived_ms=st.integers(0, 300)
    ),
    max_size=3,
)


@given(sent=st.lists(SENT, max_size=12), elsewhere=COPIES, cuts=st.sets(st.integers(1, 11), max_size=3))
@example(sent=[Sent(False, "a", 0, 0, 0), Sent(False, "a", 0, 1, 0)], elsewhere=[], cuts={1})
def test_the_verdict_is_that_of_looking_at_each_offset_by_itself_in_whatever_slices(
    sent: list[Sent], elsewhere: list[Copy], cuts: set[int]
) -> None:
    rows = [
        Row(offset, each.arrived_ms, each.event_id or "unreadable")
        for offset, each in enumerate(sent)
        for _ in range(each.rows)
    ]
    letters = [Letter(offset, each.arrived_ms) for offset, each in enumerate(sent) for _ in range(each.letters)]
    copies = [*elsewhere, *(Copy(row.event_id, 0, row.offset, row.arrived_ms) for row in rows)]

    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    slices: list[Comparison] = []
    for start, end in itertools.pairwise(edges):
        here = [
            Record(offset, each.arrived_ms, each.event_id)
            for offset, each in enumerate(sent)
            if start <= offset < end and not each.gap
        ]
        compared = compare(
            Range(partition=0, start=start, end=end),
            here,
            [row for row in rows if start <= row.offset < end],
            [letter for letter in letters if start <= letter.offset < end],
        )
        slices += [compared, explain(0, compared.unplaced, copies, TTL_MS)]
    found = joined(Range(partition=0, start=0, end=len(sent)), slices)

    expected = [(offset, problem) for offset in range(len(sent)) for problem in wrong_with(offset, sent, elsewhere)]
    assert sorted(problems(found)) == sorted(expected)
    told = Counter(problem for _, problem in expected)
    counts = found.counts
    rows_at_gaps = sum(each.rows for each in sent if each.gap)
    assert (counts.lost, counts.doubled, counts.in_both_places, counts.never_produced) == (
        told["lost"], told["doubled"], told["inBothPlaces"], rows_at_gaps
    )  # fmt: skip
    assert counts.records == counts.bronze + counts.dead_letters + counts.repeats + counts.late_repeats + counts.lost
    assert counts.records + counts.gaps == len(sent)


def wrong_with(offset: int, sent: list[Sent], elsewhere: list[Copy]) -> list[str]:
    """The oracle: one offset, by itself."""
    this = sent[offset]
    if this.gap:
        return ["neverProduced"] if this.rows else []
    wrong = ["doubled"] if this.rows > 1 else []
    if this.rows and this.letters:
        wrong.append("inBothPlaces")
    if not this.rows and not this.letters:
        before = any(
            each.rows and each.event_id == this.event_id and (number < offset or each.arrived_ms < this.arrived_ms)
            for number, each in enumerate(sent)
        )
        other = any(copy.event_id == this.event_id for copy in elsewhere)
        if this.event_id is None or not (before or other):
            wrong.append("lost")
    return wrong


def test_findings_come_in_the_order_of_offsets() -> None:
    where = Range(partition=0, start=0, end=10)
    late, early = (Comparison(Counts(), (Finding(0, offset, "lost", ""),), ()) for offset in (7, 3))
    assert [finding.offset for finding in joined(where, [late, early]).findings] == [3, 7]
