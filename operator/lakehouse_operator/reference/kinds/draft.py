"""A record while it is being written: a plain event that a kind of record then changes.

The time of plain events is precious (millions are made), so they never come through here.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lakehouse_operator.reference import instants
from lakehouse_operator.reference.record import QUARANTINE, VALID, Intent, Typed

MINUTE_US = 60_000_000


@dataclass(slots=True, kw_only=True)
class Draft:
    """An event that is still being changed. `fields` holds the JSON text of each field, in the order of writing.

    `typed` holds what a valid event's fields mean; `put` keeps both alike. `value` replaces what `fields` would give.
    """

    rng: random.Random
    arrival_ms: int
    key: bytes | None
    event_id: str | None
    time_us: int | None
    time_text: str | None
    fields: dict[str, str]
    typed: dict[str, Any]
    oversized_bytes: int
    value: bytes | None = None
    is_null: bool = False

    def put(self, name: str, value: object, text: str | None = None) -> None:
        """Set a field to a value, written as `text` if that is not the usual way."""
        self.fields[name] = json.dumps(value, ensure_ascii=False) if text is None else text
        if name in self.typed:
            self.typed[name] = value

    def drop(self, *names: str) -> None:
        """Leave fields out."""
        for name in names:
            self.fields.pop(name, None)
            if name in self.typed:
                self.typed[name] = None

    def identify(self, event_id: str, text: str | None = None) -> None:
        """Give the event another id."""
        self.event_id = event_id
        self.put("event_id", event_id, text)

    def happen(self, time_us: int, text: str | None = None) -> None:
        """Give the event another time; `text` must say the same instant."""
        self.time_us = time_us
        self.time_text = instants.text(time_us, 6) if text is None else text
        self.put("event_time", self.time_text)

    def first(self, name: str, text: str) -> None:
        """Write a field before all others."""
        self.fields = {name: text} | self.fields

    def rendered(self) -> bytes:
        """The payload that the fields give."""
        return ("{" + ",".join(f'"{name}":{text}' for name, text in self.fields.items()) + "}").encode()

    def unique(self) -> str:
        """Sixteen hexadecimal digits that no other record has, for all practical purposes."""
        return f"{self.rng.getrandbits(64):016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of record that is not a plain event: how to make it, and what it deserves. See `record.Intent`."""

    name: str
    change: Callable[[Draft], None]
    flaw: str | None = None
    also_event: bool = False
    silver: str | None = VALID
    broken: tuple[str, ...] | None = None
    sibling: bool = field(default=False)
    """Whether a second event follows: the same user and instant, another plan."""

    def intent(self, draft: Draft) -> Intent:
        """What the sender means by the finished draft."""
        return Intent(
            kind=self.name,
            event_id=draft.event_id,
            event_time_text=draft.time_text,
            event_time_us=draft.time_us,
            flaw=self.flaw,
            also_event=self.also_event,
            silver=None if self.flaw and not self.also_event else self.silver,
            broken=self.broken if self.silver == QUARANTINE else None,
            typed=Typed(**draft.typed) if self.silver == VALID and self.flaw is None else None,
        )
