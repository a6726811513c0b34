"""What the generator is asked for: how many events, from whom, when, and how many of them go wrong."""

from dataclasses import dataclass

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """When an event counts as late, by its Kafka timestamp; the defaults are those of the event format."""

    watermark_delay_ms: int = 5 * MINUTE_MS
    allowed_lateness_ms: int = HOUR_MS
    future_tolerance_ms: int = 5 * MINUTE_MS
    keep_too_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The parameters of one stream. Equal parameters give equal bytes.

    `repeated` to `without_key` are shares of `events`, from 0 to 1. Records that repeat an event, and the few that are
    sent in pairs, come on top of `events`. All times are in milliseconds; instants count from 1970 in UTC.
    """

    end_ms: int
    """When the last record arrives, at the latest."""
    seed: int = 0
    events: int = 300_000
    """How many records are sent, repeats not counted."""
    span_ms: int = 3 * DAY_MS
    """Over how long they arrive."""
    partitions: int = 4
    users: int = 2_000
    changes_per_user: float = 1.0
    """How often a user's plan, country or email domain changes within the span, on average."""
    repeated: float = 0.01
    """Events that are sent again, once or twice."""
    malformed: float = 0.005
    """Records that bronze can't place because of what is in them."""
    rule_breaking: float = 0.005
    """Events that bronze takes and silver's rules don't."""
    unusual: float = 0.02
    """Events that are valid but written in a way that few producers use."""
    late: float = 0.01
    """Events that arrive 5 to 65 minutes after they happened: flagged, and kept."""
    too_late: float = 0.005
    """Events that arrive 65 minutes to 30 hours after they happened."""
    without_key: float = 0.01
    """Records without a Kafka key."""
    max_repeat_gap_ms: int = 20 * HOUR_MS
    """The longest time between an event and its repeat. Beyond 24 hours no one promises to notice the repeat."""
    repeats_of_too_late: bool = False
    """Whether an event that arrived too late may be sent again."""
    oversized_bytes: int = 100_000
    """How large the records are that are far too large."""

    def __post_init__(self) -> None:
        for name in ("repeated", "malformed", "rule_breaking", "unusual", "late", "too_late", "without_key"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.malformed + self.rule_breaking + self.unusual > 1:
            raise ValueError("malformed, rule_breaking and unusual together are more than all events")
        if self.late + self.too_late > 1:
            raise ValueError("late and too_late together are more than all events")
        for name in ("span_ms", "partitions", "users", "oversized_bytes", "max_repeat_gap_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.events < 0 or self.changes_per_user < 0:
            raise ValueError("events and changes_per_user must not be negative")
        if self.end_ms - self.span_ms < 20 * 365 * DAY_MS:
            raise ValueError("end_ms must be an instant after 1990, in milliseconds since 1970")

    @property
    def start_ms(self) -> int:
        """When the first record arrives, at the earliest."""
        return self.end_ms - self.span_ms
