"""How much a set of processes works, looked at from outside, the same for every engine."""

import itertools
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.25
AT_WORK_CORES = 0.2
"""From so many cores on, processes count as at work rather than waiting for a commit that is not due yet."""


@dataclass(frozen=True, slots=True)
class Work:
    """What processes did.

    Attributes:
        cpu_seconds: CPU time of all of them.
        active_seconds: Of wall clock, in which they were at work.
    """

    cpu_seconds: float
    active_seconds: float


def active(samples: Sequence[tuple[float, float]]) -> float:
    """The seconds in which processes were at work.

    Args:
        samples: Pairs of an instant and the CPU time used until then, both in seconds, in the order of time.
    """
    pairs = itertools.pairwise(samples)
    return sum(then - now for (now, before), (then, after) in pairs if after - before > AT_WORK_CORES * (then - now))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share of all values (the nearest-rank definition)."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def family(pid: int) -> tuple[int, ...]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return tuple(found)


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that processes have used since they started."""
    return sum((int(fields[11]) + int(fields[12])) / _TICKS for pid in pids if (fields := _stat(pid)))


class Watch:
    """Watches processes while the `with` block runs; `work` is there when it has ended."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = tuple(member for pid in pids for member in family(pid))
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._ended.is_set():
            self._samples.append((time.monotonic(), cpu_seconds(self._pids)))
            self._ended.wait(_SAMPLE_SECONDS)
        self._samples.append((time.monotonic(), cpu_seconds(self._pids)))

    def resting(self) -> bool:
        """Whether they were not at work in the last two samples."""
        last = self._samples[-3:]
        return len(last) == 3 and active(last) == 0

    @property
    def work(self) -> Work:
        """What they did."""
        return Work(self._samples[-1][1] - self._samples[0][1], active(self._samples))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
