"""The generator: a stream of conversion events in the order of their arrival, each with the truth about it.

Pure and deterministic: equal `Traffic` gives equal bytes, on every machine and with every hash seed. It holds one
minute of arrivals and the repeats that are still to come, so millions of records need little memory.
"""

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import NamedTuple

from lakehouse_operator.reference.kinds import MALFORMED, RULE_BREAKING, UNUSUAL, Kind
from lakehouse_operator.reference.plain import PlainEvents
from lakehouse_operator.reference.record import (
    DUPLICATE,
    EVENT,
    EVENT_OR_DUPLICATE,
    TOO_LATE,
    Intent,
    Record,
    is_late,
    outcome,
)
from lakehouse_operator.reference.traffic import DAY_MS, HOUR_MS, MINUTE_MS, Traffic
from lakehouse_operator.reference.users import User, partition_of, population

LATE_MS = (5 * MINUTE_MS + 1, 65 * MINUTE_MS)
TOO_LATE_MS = (65 * MINUTE_MS + 1, 30 * HOUR_MS)
REPEAT_GAPS_MS = (
    (0.55, 0, 5_000),  # a producer that did not see the acknowledgement
    (0.80, 5_000, 4 * MINUTE_MS),
    (0.95, 5 * MINUTE_MS, 55 * MINUTE_MS),  # the second arrival is late
    (1.00, 70 * MINUTE_MS, 24 * DAY_MS),  # the second arrival is too late: a dead letter of its own
)
"""(cumulated share, shortest, longest) gap between an event and its repeat; `max_repeat_gap_ms` cuts them off."""


def records(traffic: Traffic, first_ordinals: Sequence[int] = ()) -> Iterator[Record]:
    """Generate a stream.

    Args:
        traffic: What to generate.
        first_ordinals: The ordinal of the first record of each partition, where records were sent before; by default 0.

    Returns:
        An iterator in the order of arrival; within a partition this is the order of offsets.
    """
    return _Stream(traffic, first_ordinals).records()


class _Deck:
    """Kinds in random order, each once before any comes again: so every kind occurs, however rare they are together."""

    def __init__(self, kinds: Sequence[Kind], rng: random.Random) -> None:
        self._kinds = list(kinds)
        self._rng = rng
        self._left: list[Kind] = []

    def draw(self) -> Kind:
        if not self._left:
            self._left = self._kinds.copy()
            self._rng.shuffle(self._left)
        return self._left.pop()


class _Copy(NamedTuple):
    """A record but for its ordinal, which it gets when it is its turn."""

    arrival_ms: int
    partition: int
    key: bytes | None
    value: bytes | None
    expected: str
    intent: Intent


class _Stream:
    """The state of one run of the generator."""

    def __init__(self, traffic: Traffic, first_ordinals: Sequence[int]) -> None:
        self.traffic = traffic
        # A text is hashed with SHA-512 here, not with Python's own hash, which differs from process to process.
        self.rng = random.Random(repr(astuple(traffic)))  # noqa: S311
        self.population = population(traffic, self.rng)
        self.plain = PlainEvents(self.rng)
        self.delays_ms = _delays(self.rng)
        self.malformed = _Deck(MALFORMED, self.rng)
        self.rule_breaking = _Deck(RULE_BREAKING, self.rng)
        self.unusual = _Deck(UNUSUAL, self.rng)
        self.pending: list[tuple[int, int, _Copy]] = []
        """A heap of what arrives later; the number keeps those of one instant in the order of their making."""
        self.pushed = 0
        self.ordinals = list(first_ordinals) or [0] * traffic.partitions
        if len(self.ordinals) != traffic.partitions:
            raise ValueError(f"{len(self.ordinals)} first ordinals were given for {traffic.partitions} partitions")

    def records(self) -> Iterator[Record]:
        for start_ms, length_ms, count in _minutes(self.traffic):
            drawn = sorted([self.rng.random() for _ in range(count)])
            arrivals = [start_ms + int(share * length_ms) for share in drawn]
            users = self.rng.choices(self.population.users, cum_weights=self.population.cumulated_activity, k=count)
            yield from self._minute(arrivals, users)
        while self.pending:
            yield self._sent(heapq.heappop(self.pending)[-1])

    def _minute(self, arrivals: list[int], users: list[User]) -> Iterator[Record]:
        """The records of a minute of arrivals. This is the hot path: plain events are written right here."""
        traffic, random_share, random_bits = self.traffic, self.rng.random, self.rng.getrandbits
        special = traffic.malformed + traffic.rule_breaking + traffic.unusual
        timely = 1 - traffic.late - traffic.too_late
        pending, ordinals = self.pending, self.ordinals
        for arrival_ms, user in zip(arrivals, users, strict=True):
            while pending and pending[0][0] <= arrival_ms:
                yield self._sent(heapq.heappop(pending)[-1])
            share = random_share()
            if share < special:
                yield from self._special(share, arrival_ms, user)
                continue
            bits = random_bits(64)
            when = random_share()
            delay_ms = self.delays_ms[bits & 4095] if when < timely else self._lateness(when)
            value, intent = self.plain.event(arrival_ms - delay_ms, user, bits >> 12)
            key: bytes | None = user.key
            partition = user.partition
            if (bits >> 52) < traffic.without_key * 4096:
                key, partition = None, bits % traffic.partitions
            expected = outcome(intent, arrival_ms)
            if random_share() < traffic.repeated:
                expected = self._repeated(_Copy(arrival_ms, partition, key, value, expected, intent))
            ordinal = ordinals[partition]
            ordinals[partition] = ordinal + 1
            yield Record(partition, ordinal, key, value, arrival_ms, expected, is_late(intent, arrival_ms), intent)

    def _lateness(self, when: float) -> int:
        """How late a late event is; `when` is at least 1 - late - too_late."""
        low, high = LATE_MS if when < 1 - self.traffic.too_late else TOO_LATE_MS
        return self.rng.randint(low, high)

    def _special(self, share: float, arrival_ms: int, user: User) -> Iterator[Record]:
        """A record that is not plain; `share` says from which deck."""
        traffic = self.traffic
        if share < traffic.malformed:
            kind = self.malformed.draw()
        elif share < traffic.malformed + traffic.rule_breaking:
            kind = self.rule_breaking.draw()
        else:
            kind = self.unusual.draw()
        when = self.rng.random()
        timely = kind.flaw is not None or kind.sibling or when < 1 - traffic.late - traffic.too_late
        delay_ms = self.delays_ms[self.rng.getrandbits(12)] if timely else self._lateness(when)
        draft = self.plain.draft(arrival_ms, arrival_ms - delay_ms, user, traffic.oversized_bytes)
        kind.change(draft)
        value = None if draft.is_null else draft.rendered() if draft.value is None else draft.value
        intent = kind.intent(draft)
        if kind.sibling:
            self._push_sibling(arrival_ms, arrival_ms - delay_ms, user)
        if self.rng.random() < traffic.without_key:
            draft.key = None
        partition = (
            self.rng.randrange(traffic.partitions) if draft.key is None else partition_of(draft.key, traffic.partitions)
        )
        copy = _Copy(arrival_ms, partition, draft.key, value, outcome(intent, arrival_ms), intent)
        if intent.event_id is not None and not intent.also_event and self.rng.random() < traffic.repeated:
            copy = copy._replace(expected=self._repeated(copy))
        yield self._sent(copy)

    def _push_sibling(self, arrival_ms: int, time_ms: int, user: User) -> None:
        """Another event of the user at the same instant with another plan: the id decides which of them comes last."""
        value, intent = self.plain.event(time_ms, user.on_another_plan(time_ms), self.rng.getrandbits(52))
        intent = intent._replace(kind="same_instant_another_plan")
        due_ms = min(arrival_ms + self.rng.randrange(2000), self.traffic.end_ms)
        self._push(_Copy(due_ms, user.partition, user.key, value, outcome(intent, due_ms), intent))

    def _repeated(self, first: _Copy) -> str:
        """Plan one or two repeats of an event; answer what is expected of its first copy."""
        if first.expected == TOO_LATE and not self.traffic.repeats_of_too_late:
            return TOO_LATE
        repeats = [
            first._replace(arrival_ms=self._repeat_arrival(first.arrival_ms), partition=self._repeat_partition(first))
            for _ in range(1 if self.rng.random() < 0.85 else 2)
        ]
        repeats.sort(key=lambda copy: copy.arrival_ms)
        expected = _expected([first, *repeats])
        for copy, what in zip(repeats, expected[1:], strict=True):
            self._push(copy._replace(expected=what))
        return expected[0]

    def _repeat_arrival(self, arrival_ms: int) -> int:
        roll = self.rng.random()
        low, high = next((low, high) for share, low, high in REPEAT_GAPS_MS if roll < share)
        longest = min(high, self.traffic.max_repeat_gap_ms, self.traffic.end_ms - arrival_ms)
        return arrival_ms + self.rng.randint(min(low, longest), longest)

    def _repeat_partition(self, first: _Copy) -> int:
        return self.rng.randrange(self.traffic.partitions) if self.rng.random() < 0.3 else first.partition

    def _push(self, copy: _Copy) -> None:
        self.pushed += 1
        heapq.heappush(self.pending, (copy.arrival_ms, self.pushed, copy))

    def _sent(self, copy: _Copy) -> Record:
        arrival_ms, partition, key, value, expected, intent = copy
        ordinal = self.ordinals[partition]
        self.ordinals[partition] = ordinal + 1
        return Record(partition, ordinal, key, value, arrival_ms, expected, is_late(intent, arrival_ms), intent)


def _expected(copies: Sequence[_Copy]) -> list[str]:
    """What becomes of each copy of one event, given in the order of arrival.

    Within a partition the first copy that can be placed wins; Kafka does not say which partition is read first.
    """
    outcomes = [outcome(copy.intent, copy.arrival_ms) for copy in copies]
    first_of: dict[int, int] = {}
    for index, copy in enumerate(copies):
        if outcomes[index] == EVENT:
            first_of.setdefault(copy.partition, index)
    winner = EVENT if len(first_of) == 1 else EVENT_OR_DUPLICATE
    return [
        what if what != EVENT else winner if first_of[copy.partition] == index else DUPLICATE
        for index, (what, copy) in enumerate(zip(outcomes, copies, strict=True))
    ]


def _minutes(traffic: Traffic) -> Iterator[tuple[int, int, int]]:
    """(start, length, number of events) of each minute of arrivals: most in the afternoon, few at night.

    The counts add up to exactly the number of events.
    """
    starts = range(traffic.start_ms, traffic.end_ms, MINUTE_MS)
    lengths = [min(MINUTE_MS, traffic.end_ms - start_ms) for start_ms in starts]
    loads = [
        length * (1 + 0.75 * math.sin(2 * math.pi * (start_ms % DAY_MS / HOUR_MS - 9) / 24))
        for start_ms, length in zip(starts, lengths, strict=True)
    ]
    total, so_far, done = math.fsum(loads), 0.0, 0
    for index, (start_ms, length, load) in enumerate(zip(starts, lengths, loads, strict=True)):
        so_far += load
        upto = (
            traffic.events if index == len(starts) - 1 else min(traffic.events, round(traffic.events * so_far / total))
        )
        yield start_ms, length, upto - done
        done = upto


def _delays(rng: random.Random) -> list[int]:
    """4,096 usual delays in milliseconds: mostly seconds, some minutes, a few events ahead of their arrival."""
    delays = [20 + int(rng.expovariate(1 / 3000)) for _ in range(3976)]
    delays += [rng.randint(30_000, 290_000) for _ in range(80)]
    delays += [-rng.randint(1, 240_000) for _ in range(40)]
    return [min(delay, 5 * MINUTE_MS) for delay in delays]
