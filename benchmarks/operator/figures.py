"""What is measured: spans of time, a process's CPU and memory, and what the API server says that it was asked."""

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_READS = frozenset({"GET", "LIST"})
_TICKS = os.sysconf("SC_CLK_TCK")
_REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds that the same thing took again and again."""

    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """The smallest span that 99 of 100 don't exceed."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1]

    def __str__(self) -> str:
        longest = max(self.seconds)
        return (
            f"p50 {1000 * self.p50:,.0f} ms, p99 {1000 * self.p99:,.0f} ms, longest {1000 * longest:,.0f} ms"
            f" (of {len(self.seconds)})"
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it started, and what it holds. Memory in MiB (`resident`, and its `peak`)."""

    cpu_seconds: float
    resident: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read it from /proc."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        resident, peak = (
            int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]
            for name in ("VmRSS", "VmHWM")
        )
        return cls((int(fields[11]) + int(fields[12])) / _TICKS, resident, peak)


Requests = Counter[tuple[str, str]]
"""How often the API server was asked, by verb and resource (with its subresource). Watches are left out."""


def requests(metrics: str) -> Requests:
    """Read the API server's own metrics."""
    found: Requests = Counter()
    for line in _REQUESTS.finditer(metrics):
        labels = dict(_LABEL.findall(line["labels"]))
        if labels["verb"] in WRITES | _READS:
            resource = "/".join(part for part in (labels["resource"], labels["subresource"]) if part)
            found[labels["verb"], resource] += int(float(line["count"]))
    return found


def split(asked: Requests) -> tuple[int, int]:
    """How many of the requests read, and how many wrote."""
    reads = sum(count for (verb, _), count in asked.items() if verb in _READS)
    return reads, sum(asked.values()) - reads


def table(per_minute: Sequence[tuple[tuple[str, str], float]]) -> str:
    """Requests as lines of a table."""
    return "\n".join(f"    {verb:7} {resource:32} {count:9,.1f}" for (verb, resource), count in per_minute)
