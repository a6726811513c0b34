"""RFC 3339 texts of instants, written from integers so that nothing is lost in floats."""

import datetime
from functools import lru_cache

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@lru_cache(maxsize=10_000)  # a week of minutes: late events reach back 30 hours
def minute_text(epoch_minute: int) -> str:
    """`2026-03-01T12:34:` of a minute since 1970."""
    return (_EPOCH + datetime.timedelta(minutes=epoch_minute)).strftime("%Y-%m-%dT%H:%M:")


def text(epoch_us: int, digits: int = 3, offset_minutes: int = 0, zone: str | None = None, more: str = "") -> str:
    """An instant as RFC 3339.

    Args:
        epoch_us: Microseconds since 1970 in UTC.
        digits: How many digits of the fraction to write, 0 to 6; the rest must be zero to keep the instant.
        offset_minutes: The offset from UTC at which to write it.
        zone: What to write for the zone; by default `Z`, or the offset.
        more: Digits after the sixth.
    """
    seconds, fraction = divmod(epoch_us + offset_minutes * 60_000_000, 1_000_000)
    minutes, second = divmod(seconds, 60)
    decimals = (f".{fraction:06d}"[: digits + 1] if digits else "") + more
    return f"{minute_text(minutes)}{second:02d}{decimals}{_zone(offset_minutes) if zone is None else zone}"


def _zone(offset_minutes: int) -> str:
    if offset_minutes == 0:
        return "Z"
    hours, minutes = divmod(abs(offset_minutes), 60)
    return f"{'+' if offset_minutes > 0 else '-'}{hours:02d}:{minutes:02d}"
