"""What the generator sends is deterministic, complete, and what its truth says it is."""

import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.kinds import MALFORMED, RULE_BREAKING, UNUSUAL
from lakehouse_operator.reference.record import DUPLICATE, EVENT, EVENT_OR_DUPLICATE, OPEN, Record, Typed
from lakehouse_operator.reference.traffic import DAY_MS, HOUR_MS, MINUTE_MS, Traffic
from reference.classifier import Opinion, classify

END_MS = 1_780_000_000_000
ROUGH = Traffic(
    end_ms=END_MS, events=6_000, users=80, repeated=0.05, malformed=0.1, rule_breaking=0.1, unusual=0.2, late=0.05,
    too_late=0.03, oversized_bytes=2_000,
)  # fmt: skip
"""Mostly trouble, so that few events hold a lot of it."""
PLACED = (EVENT, EVENT_OR_DUPLICATE, DUPLICATE)
DIGEST = """
import hashlib
from lakehouse_operator.reference.events import records
from lakehouse_operator.reference.traffic import Traffic
digest = hashlib.sha256()
for record in records(Traffic(end_ms=1_780_000_000_000, events=3_000, malformed=0.2, unusual=0.3, oversized_bytes=99)):
    digest.update(repr(record).encode())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def rough() -> list[Record]:
    return list(records(ROUGH))


@pytest.fixture(scope="module")
def opinions(rough: list[Record]) -> list[Opinion]:
    return [classify(record.value, record.timestamp_ms) for record in rough]


@pytest.fixture(scope="module")
def usual() -> list[Record]:
    return list(records(Traffic(end_ms=END_MS, events=60_000)))


def test_the_same_seed_gives_the_same_bytes_in_every_process() -> None:
    def digest(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    digests = {digest(hash_seed) for hash_seed in ("0", "1", "random")}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


@pytest.mark.parametrize("other", [{"seed": 1}, {"end_ms": END_MS + 1}, {"partitions": 3}, {"users": 81}])
def test_another_parameter_gives_other_events(rough: list[Record], other: dict[str, int]) -> None:
    ids = {record.intent.event_id for record in rough} - {None}
    assert ids.isdisjoint({record.intent.event_id for record in records(replace(ROUGH, **other))} - {None})  # type: ignore[arg-type]


def test_every_kind_of_record_occurs(rough: list[Record]) -> None:
    kinds = [kind.name for kind in (*MALFORMED, *RULE_BREAKING, *UNUSUAL)]
    assert len(set(kinds)) == len(kinds)
    assert {record.intent.kind for record in rough} == {*kinds, "plain"}


def test_every_outcome_occurs(rough: list[Record]) -> None:
    assert {record.expected for record in rough} == {
        *PLACED, "NULL_PAYLOAD", "INVALID_ENCODING", "INVALID_JSON", "MISSING_FIELD", "INVALID_FIELD",
        "FUTURE_EVENT_TIME", "TOO_LATE",
    }  # fmt: skip


def test_the_truth_agrees_with_a_strict_reader_of_the_bytes(rough: list[Record], opinions: list[Opinion]) -> None:
    wrong = []
    for record, opinion in zip(rough, opinions, strict=True):
        intent = record.intent
        if intent.also_event and intent.silver == OPEN:
            continue  # here the format leaves the answer open
        expected = EVENT if record.expected in PLACED else record.expected
        late = record.is_late if expected == EVENT else opinion.late
        silver = intent.silver if expected == EVENT and intent.silver != OPEN else opinion.silver
        if (expected, late, silver) != (opinion.outcome, opinion.late, opinion.silver):
            wrong.append((intent.kind, expected, late, silver, opinion))
    assert wrong == []


def test_the_typed_values_of_the_truth_are_those_of_the_payload(rough: list[Record], opinions: list[Opinion]) -> None:
    checked = 0
    for record, opinion in zip(rough, opinions, strict=True):
        typed, event = record.intent.typed, opinion.event
        if typed is None or event is None:
            continue
        assert {
            name: event.get(name, 1 if name == "schema_version" else None) for name in Typed._fields
        } == typed._asdict()
        assert event["event_id"] == record.intent.event_id
        assert event["event_time"] == record.intent.event_time_text
        checked += 1
    assert checked > 3_000


def test_records_come_in_the_order_of_arrival_within_the_span(rough: list[Record]) -> None:
    arrivals = [record.timestamp_ms for record in rough]
    assert arrivals == sorted(arrivals)
    assert ROUGH.start_ms <= arrivals[0]
    assert arrivals[-1] <= ROUGH.end_ms
    assert ROUGH.end_ms - arrivals[-1] < HOUR_MS


def test_ordinals_count_the_records_of_each_partition(rough: list[Record]) -> None:
    for partition in range(ROUGH.partitions):
        ordinals = [record.ordinal for record in rough if record.partition == partition]
        assert ordinals == list(range(len(ordinals)))
        assert len(ordinals) > 500


def test_ordinals_go_on_from_what_was_sent_before() -> None:
    first = {record.partition: record.ordinal for record in reversed(list(records(ROUGH, (10, 20, 30, 40))))}
    assert first == {0: 10, 1: 20, 2: 30, 3: 40}


def test_copies_are_the_same_event_and_one_of_them_wins(rough: list[Record]) -> None:
    copies = defaultdict(list)
    for record in rough:
        if record.intent.event_id is not None:
            copies[record.intent.event_id].append(record)
    repeated = [group for group in copies.values() if len(group) > 1]
    for group in repeated:
        assert len({record.value for record in group}) == 1
        assert len({record.key for record in group}) == 1
        placed = [record for record in group if record.expected in PLACED]
        seen: set[int] = set()
        for record in placed:
            assert (record.expected == DUPLICATE) == (record.partition in seen)
            seen.add(record.partition)
        winners = {record.expected for record in placed if record.expected != DUPLICATE}
        assert winners == ({EVENT} if len(seen) == 1 else {EVENT_OR_DUPLICATE} if seen else set())
    assert any(len(group) == 3 for group in repeated)
    assert any(len({record.partition for record in group}) > 1 for group in repeated)
    assert any(len({record.is_late for record in group if record.expected in PLACED}) > 1 for group in repeated)
    assert any(
        record.expected == "TOO_LATE" and group[0].expected in PLACED for group in repeated for record in group[1:]
    )


def test_repeats_stay_within_the_longest_gap_and_follow_what_can_be_placed(rough: list[Record]) -> None:
    first: dict[str, Record] = {}
    gaps = []
    for record in rough:
        if record.intent.event_id is None:
            continue
        original = first.setdefault(record.intent.event_id, record)
        if original is not record:
            gaps.append(record.timestamp_ms - original.timestamp_ms)
            assert original.expected != "TOO_LATE"
    assert max(gaps) <= ROUGH.max_repeat_gap_ms
    assert sum(gap < 5_000 for gap in gaps) > len(gaps) / 4
    assert sum(gap > HOUR_MS for gap in gaps) > 0


def test_parameters_allow_what_nobody_promises_to_notice() -> None:
    far = list(records(replace(ROUGH, max_repeat_gap_ms=40 * HOUR_MS, repeats_of_too_late=True, repeated=0.5)))
    first: dict[str | None, Record] = {}
    found = set()
    for record in far:
        original = first.setdefault(record.intent.event_id, record)
        if original is not record and record.intent.event_id:
            found.add((original.expected == "TOO_LATE", record.timestamp_ms - original.timestamp_ms > DAY_MS))
    assert {(True, False), (False, True)} <= found


def test_rates_are_near_what_was_asked(usual: list[Record]) -> None:
    traffic = Traffic(end_ms=END_MS, events=60_000)
    malformed, rule_breaking, unusual = ({kind.name for kind in kinds} for kinds in (MALFORMED, RULE_BREAKING, UNUSUAL))
    seen: set[str] = set()
    count: Counter[str] = Counter()
    for record in usual:
        intent = record.intent
        if intent.event_id in seen:
            count["repeats"] += 1
            continue
        seen.update([intent.event_id] if intent.event_id else [])
        count["events"] += 1
        count["malformed"] += intent.kind in malformed
        count["rule_breaking"] += intent.kind in rule_breaking
        count["unusual"] += intent.kind in unusual
        count["late"] += record.expected in PLACED and record.is_late
        count["too_late"] += record.expected == "TOO_LATE" and intent.kind not in malformed
        count["without_key"] += record.key is None
    siblings = sum(record.intent.kind == "same_instant_another_plan" for record in usual) // 2
    assert abs(count["events"] - traffic.events - siblings) <= siblings
    for name in ("malformed", "rule_breaking", "unusual", "late", "too_late", "without_key"):
        assert count[name] / traffic.events == pytest.approx(getattr(traffic, name), rel=0.3), name
    assert count["repeats"] / traffic.events == pytest.approx(traffic.repeated * 1.15, rel=0.3)


def test_shares_of_zero_give_plain_events_alone() -> None:
    none = dict.fromkeys(("repeated", "malformed", "rule_breaking", "unusual", "late", "too_late", "without_key"), 0.0)
    sent = list(records(replace(ROUGH, **none)))  # type: ignore[arg-type]
    assert len(sent) == ROUGH.events
    assert {(record.expected, record.is_late, record.intent.kind) for record in sent} == {(EVENT, False, "plain")}
    assert all(record.key is not None for record in sent)


def test_events_come_out_of_order(usual: list[Record]) -> None:
    times = [record.intent.event_time_us for record in usual if record.intent.event_time_us is not None]
    assert sum(later < earlier for earlier, later in itertools.pairwise(times)) > len(times) / 20


def test_the_load_follows_the_day(usual: list[Record]) -> None:
    hours = Counter(record.timestamp_ms // HOUR_MS % 24 for record in usual)
    assert hours[15] > 4 * hours[3] > 0


def test_few_users_make_most_of_the_load(usual: list[Record]) -> None:
    users = Counter(record.intent.typed.user_id for record in usual if record.intent.typed)
    assert sum(count for _, count in users.most_common(20)) > sum(users.values()) / 4
    assert len(users) > 1_500


def test_users_change_over_time_and_go_back(usual: list[Record]) -> None:
    told = defaultdict(list)
    for record in usual:
        if record.intent.typed and record.intent.kind == "plain":
            told[record.intent.typed.user_id].append((record.intent.event_time_us, record.intent.typed[1:4]))
    histories = [
        [attributes for attributes, _ in itertools.groupby(attributes for _, attributes in sorted(events))]
        for events in told.values()
    ]
    assert sum(len(history) > 1 for history in histories) > len(histories) / 4
    assert any(len(set(history)) < len(history) for history in histories)
    for place in range(3):
        assert any(history[0][place] != history[-1][place] for history in histories)


def test_a_key_goes_to_one_partition_and_most_records_have_one(usual: list[Record]) -> None:
    partitions: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for record in usual:
        if record.key is not None and record.intent.kind == "plain":
            partitions[record.key][record.partition] += 1
    elsewhere = sum(sum(count.values()) - max(count.values()) for count in partitions.values())
    assert elsewhere < len(usual) * Traffic(end_ms=END_MS).repeated  # only repeats go elsewhere


def test_millions_are_not_held_in_memory() -> None:
    stream = records(Traffic(end_ms=END_MS, events=100_000_000))
    assert len(list(itertools.islice(stream, 1_000))) == 1_000


def test_a_short_span_works() -> None:
    traffic = Traffic(end_ms=END_MS, events=500, span_ms=MINUTE_MS // 2, repeated=0.2)
    sent = list(records(traffic))
    assert len(sent) > 550
    assert all(traffic.start_ms <= record.timestamp_ms <= traffic.end_ms for record in sent)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"late": 1.5}, "late is a share from 0 to 1, not 1.5"),
        ({"malformed": 0.5, "rule_breaking": 0.6}, "malformed, rule_breaking and unusual together"),
        ({"late": 0.6, "too_late": 0.6}, "late and too_late together"),
        ({"partitions": 0}, "partitions must be at least 1, not 0"),
        ({"events": -1}, "must not be negative"),
        ({"end_ms": 1_780_000_000}, "end_ms must be an instant after 1990, in milliseconds"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ROUGH, **wrong)  # type: ignore[arg-type]


def test_first_ordinals_must_fit_the_partitions() -> None:
    with pytest.raises(ValueError, match="2 first ordinals were given for 4 partitions"):
        next(records(ROUGH, (1, 2)))
