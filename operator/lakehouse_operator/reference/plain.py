"""The plain event, as most producers write it: in bulk as bytes, and one by one as a draft for the other kinds.

The events of a stream are made of tables that are drawn once; writing one is a few look-ups.
"""

import json
import random

from lakehouse_operator.reference import instants
from lakehouse_operator.reference.kinds import Draft
from lakehouse_operator.reference.numerals import NUMERALS
from lakehouse_operator.reference.record import VALID, Intent, Typed
from lakehouse_operator.reference.traffic import MINUTE_MS
from lakehouse_operator.reference.users import User

CHANNELS = ("web", "web", "web", "api", "api", "mobile", None)
CLIENT_VERSIONS = ("1.0.0", "1.4.2", "2.0.0", "2.1.0", "2.1.1", "3.0.0-beta.2", None)
REFUSALS = (
    (0, "OUT_OF_RANGE"), (-7, "OUT_OF_RANGE"), (4000, "OUT_OF_RANGE"), (10_000, "OUT_OF_RANGE"),
    (2_147_483_648, "OUT_OF_RANGE"), (1984, "TIMEOUT"), (7, "RATE_LIMITED"),
)  # fmt: skip
SECOND_TEXTS = tuple(f"{ms // 1000:02d}.{ms % 1000:03d}Z" for ms in range(MINUTE_MS))
"""The end of the text of each millisecond of a minute."""


class PlainEvents:
    """Writes plain events with the randomness of `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.numbers = _numbers(rng)
        self.durations = _durations(rng)
        self.clients = _clients(rng)

    def event(self, time_ms: int, user: User, bits: int) -> tuple[bytes, Intent]:
        """A plain event of a user at an instant; `bits` are 52 random ones that choose the rest."""
        version = user.at(time_ms)
        time_text = self._time_text(time_ms)
        event_id = self._event_id()
        duration_text, duration = self.durations[bits & 4095]
        client_part, channel, client_version = self.clients[(bits >> 12) & 255]
        number = self.numbers[(bits >> 20) & 8191]
        numeral: str | None
        if (bits >> 33) & 63:
            status, error_code, numeral = "OK", None, NUMERALS[number]
            result_part = f'"output_numeral":"{numeral}","status":"OK"'
        else:
            number, error_code = REFUSALS[bits % len(REFUSALS)]
            status, numeral = "ERROR", None
            result_part = f'"status":"ERROR","error_code":"{error_code}"'
        value = (
            f'{{"event_id":"{event_id}","event_time":"{time_text}","event_type":"CONVERSION",{version.payload_part},'
            f'"input_number":{number},{result_part},"duration_ms":{duration_text},{client_part}"schema_version":1}}'
        )
        plan, country, domain = version.attributes
        typed = Typed(
            user.user_id, plan, country, domain, number, numeral, status, error_code, duration, channel,
            client_version, 1,
        )  # fmt: skip
        return value.encode(), Intent("plain", event_id, time_text, time_ms * 1000, None, False, VALID, None, typed)

    def _time_text(self, time_ms: int) -> str:
        minute, rest = divmod(time_ms, MINUTE_MS)
        return instants.minute_text(minute) + SECOND_TEXTS[rest]

    def _event_id(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def draft(self, arrival_ms: int, time_ms: int, user: User, oversized_bytes: int) -> Draft:
        """A plain, successful event, open to changes."""
        version = user.at(time_ms)
        time_text, event_id = self._time_text(time_ms), self._event_id()
        bits = self.rng.getrandbits(64)
        _, channel, client_version = self.clients[bits & 255]
        number = self.numbers[(bits >> 8) & 8191]
        duration_text, duration = self.durations[(bits >> 21) & 4095]
        plan, country, domain = version.attributes
        numeral = NUMERALS[number]
        typed = Typed(
            user.user_id, plan, country, domain, number, numeral, "OK", None, duration, channel, client_version, 1
        )  # fmt: skip
        told = {"event_id": event_id, "event_time": time_text, "event_type": "CONVERSION", **typed._asdict()}
        fields = {name: json.dumps(value) for name, value in told.items() if value is not None}
        return Draft(
            rng=self.rng,
            arrival_ms=arrival_ms,
            key=user.key,
            event_id=event_id,
            time_us=time_ms * 1000,
            time_text=time_text,
            fields=fields | {"duration_ms": duration_text},
            typed=typed._asdict(),
            oversized_bytes=oversized_bytes,
        )


def _numbers(rng: random.Random) -> list[int]:
    """8,192 numbers: each from 1 to 3999 once, small ones and years again and again."""
    popular = [
        rng.choice((rng.randint(1, 20), rng.randint(1900, 2030), rng.randint(1, 3999))) for _ in range(8192 - 3999)
    ]
    return [*range(1, 4000), *popular]


def _durations(rng: random.Random) -> list[tuple[str, float]]:
    """4,096 durations in milliseconds, as text and as number."""
    texts = [f"{rng.lognormvariate(1.5, 1.0):.3f}" for _ in range(3584)]
    texts += [str(rng.randint(0, 400)) for _ in range(512)]
    return [(text, float(text)) for text in texts]


def _clients(rng: random.Random) -> list[tuple[str, str | None, str | None]]:
    """256 clients: the part of the payload that tells channel and version, and both."""
    clients = []
    for _ in range(256):
        channel, version = rng.choice(CHANNELS), rng.choice(CLIENT_VERSIONS)
        told = {"channel": channel, "client_version": version}
        part = "".join(f'"{name}":"{value}",' for name, value in told.items() if value is not None)
        clients.append((part, channel, version))
    return clients
