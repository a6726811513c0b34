"""A record as it is sent, with what its sender meant by it.

These are named tuples, not dataclasses: one of each is made for every record of millions, and they cost a third.
"""

from typing import NamedTuple

from lakehouse_operator.reference.traffic import Lateness

NULL_PAYLOAD = "NULL_PAYLOAD"
INVALID_ENCODING = "INVALID_ENCODING"
INVALID_JSON = "INVALID_JSON"
MISSING_FIELD = "MISSING_FIELD"
INVALID_FIELD = "INVALID_FIELD"
FUTURE_EVENT_TIME = "FUTURE_EVENT_TIME"
TOO_LATE = "TOO_LATE"

EVENT = "event"
"""The record becomes a row of bronze."""
DUPLICATE = "duplicate"
"""An earlier copy in the same partition becomes the row."""
EVENT_OR_DUPLICATE = "event_or_duplicate"
"""Copies lie in several partitions, and Kafka does not say which of them is read first."""

VALID = "valid"
QUARANTINE = "quarantine"
OPEN = "open"
"""The event format does not say; the row must only be in exactly one place."""


class Typed(NamedTuple):
    """The values of a valid event, as silver should read them. A missing schema version is 1."""

    user_id: str
    user_plan: str
    user_country: str | None
    user_email_domain: str | None
    input_number: int
    output_numeral: str | None
    status: str
    error_code: str | None
    duration_ms: float
    channel: str | None
    client_version: str | None
    schema_version: int


class Intent(NamedTuple):
    """What the sender meant by an event; its copies share it."""

    kind: str
    """Which kind of record this is: `plain`, or a name from the tables in `kinds`."""
    event_id: str | None
    """The id, where one can be read; copies of one event are known by it."""
    event_time_text: str | None
    event_time_us: int | None
    """When it happened: microseconds since 1970 in UTC, further digits cut off. None where no time can be read."""
    flaw: str | None
    """The error type that the content alone deserves, whenever the record arrives."""
    also_event: bool
    """Whether bronze may take the record all the same, because only a strict parser notices the flaw."""
    silver: str | None
    """`valid`, `quarantine` or `open`, should the record become a row of bronze; None if it can't."""
    broken: tuple[str, ...] | None
    """The rules that a quarantined row breaks, sorted; None where the format leaves them open."""
    typed: Typed | None
    """The values, of a valid event only."""


class Record(NamedTuple):
    """One Kafka record and what should become of it."""

    partition: int
    ordinal: int
    """The how-manieth record of its partition this is, from 0."""
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    """When it arrives: the Kafka timestamp."""
    expected: str
    """`event`, `duplicate`, `event_or_duplicate` or an error type, with the lateness of the event format."""
    is_late: bool
    """Whether it arrives more than the watermark delay after it happened."""
    intent: Intent


FORMAT_LATENESS = Lateness()


def outcome(intent: Intent, arrival_ms: int, lateness: Lateness = FORMAT_LATENESS) -> str:
    """`event`, or the error type of a copy of the event that arrives at `arrival_ms`."""
    if intent.flaw is not None:
        return intent.flaw
    if intent.event_time_us is None:
        raise ValueError(f"an event of kind {intent.kind} has neither a time nor a flaw")
    delay_us = arrival_ms * 1000 - intent.event_time_us
    if -delay_us > lateness.future_tolerance_ms * 1000:
        return FUTURE_EVENT_TIME
    if delay_us > (lateness.watermark_delay_ms + lateness.allowed_lateness_ms) * 1000 and not lateness.keep_too_late:
        return TOO_LATE
    return EVENT


def is_late(intent: Intent, arrival_ms: int, lateness: Lateness = FORMAT_LATENESS) -> bool:
    """Whether a copy that arrives at `arrival_ms` is late; False where there is no time to compare with."""
    if intent.event_time_us is None:
        return False
    return arrival_ms * 1000 - intent.event_time_us > lateness.watermark_delay_ms * 1000
