"""The users of the service: how active each is, and how plan, country and email domain change over time."""

import json
import math
import random
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from lakehouse_operator.reference.traffic import Traffic

PLANS = ("free", "free", "free", "free", "pro", "pro", "enterprise")
COUNTRIES = ("US", "US", "US", "DE", "DE", "IN", "IN", "GB", "FR", "BR", "JP", "CA", "IT", "NL", "SE", "KE", "NZ", None)
DOMAINS = (
    "example.com", "example.com", "example.org", "example.net", "mail.example.com", "rome.example", "forum.example",
    "xn--rmisch-wxa.example", None,
)  # fmt: skip


class Attributes(NamedTuple):
    """What is tracked of a user, from one instant on."""

    plan: str
    country: str | None
    domain: str | None


class Version(NamedTuple):
    """A user's attributes with the part of the payload that says them, rendered once for all events."""

    attributes: Attributes
    payload_part: str


class User(NamedTuple):
    """A user: `versions[i]` holds from `changes_ms[i - 1]` (inclusive) to `changes_ms[i]` (exclusive)."""

    user_id: str
    key: bytes
    partition: int
    changes_ms: tuple[int, ...]
    versions: tuple[Version, ...]

    def at(self, instant_ms: int) -> Version:
        """The version that holds at an instant."""
        if not self.changes_ms:
            return self.versions[0]
        return self.versions[bisect_right(self.changes_ms, instant_ms)]

    def on_another_plan(self, instant_ms: int) -> "User":
        """The same user as at an instant, but for the plan."""
        attributes = self.at(instant_ms).attributes
        other = attributes._replace(plan=next(plan for plan in sorted(set(PLANS)) if plan != attributes.plan))
        return self._replace(changes_ms=(), versions=(Version(other, _payload_part(self.user_id, other)),))


class Population(NamedTuple):
    """All users, with their cumulated activity for `random.choices`."""

    users: Sequence[User]
    cumulated_activity: Sequence[float]


def population(traffic: Traffic, rng: random.Random) -> Population:
    """Draw the users of a stream. Activity falls with the rank, as in Zipf's law."""
    users = [_user(f"user-{number:06d}", traffic, rng) for number in range(traffic.users)]
    rng.shuffle(users)
    return Population(users, list(accumulate(1 / rank**1.1 for rank in range(1, len(users) + 1))))


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: librdkafka's `consistent` choice, the same on every machine."""
    return zlib.crc32(key) % partitions


def _user(user_id: str, traffic: Traffic, rng: random.Random) -> User:
    attributes = Attributes(rng.choice(PLANS), rng.choice(COUNTRIES), rng.choice(DOMAINS))
    history = [attributes]
    changes = sorted(
        traffic.start_ms + rng.randrange(traffic.span_ms) for _ in range(_poisson(traffic.changes_per_user, rng))
    )
    for _ in changes:
        history.append(_changed(history[-1], rng))  # by chance what was before: a version of its own all the same
    key = user_id.encode()
    versions = tuple(Version(past, _payload_part(user_id, past)) for past in history)
    return User(user_id, key, partition_of(key, traffic.partitions), tuple(changes), versions)


def _changed(now: Attributes, rng: random.Random) -> Attributes:
    """Other attributes. Who never tells a country or domain goes on like that: silence is not a move."""
    while True:
        roll = rng.random()
        after = now
        if roll < 0.7:
            after = after._replace(plan=rng.choice(PLANS))
        if roll > 0.6 and now.country:
            after = after._replace(country=rng.choice([country for country in COUNTRIES if country]))
        if roll > 0.8 and now.domain:
            after = after._replace(domain=rng.choice([domain for domain in DOMAINS if domain]))
        if after != now:
            return after


def _payload_part(user_id: str, attributes: Attributes) -> str:
    told = {
        "user_id": user_id,
        "user_plan": attributes.plan,
        "user_country": attributes.country,
        "user_email_domain": attributes.domain,
    }
    return ",".join(f'"{name}":{json.dumps(value)}' for name, value in told.items() if value is not None)


def _poisson(mean: float, rng: random.Random) -> int:
    """A Poisson number by Knuth's method; the mean is small."""
    count, product, limit = 0, rng.random(), math.exp(-mean)
    while product > limit:
        count += 1
        product *= rng.random()
    return count
