"""Which faults come, in which order, and when: all of it from a seed. Nothing here runs anything.

A fault hits at a *point*. Most points are moments of the stream itself that a kill has to meet exactly (the executor,
`faults`, waits for them or makes them last); `anytime` is a moment that the seed draws.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

T = TypeVar("T")
Victim = Literal["taskManager", "jobManager", "broker", "sparkDriver"]
Disturbance = Literal["change", "rewind", "upkeep", "catalogLock", "storeFaults"]
Point = Literal["anytime", "checkpoint", "commit", "betweenCommits", "beforeTables", "betweenTables"]
VICTIMS: Final[tuple[Victim, ...]] = ("taskManager", "jobManager", "broker", "sparkDriver")


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL, to one process or to several at the same moment.

    Attributes:
        victims: Whom it hits; what the point means is told by the first.
        point: `anytime`: after `seconds`. `checkpoint`: as soon as a checkpoint is complete, before its commits have
            been told to anybody. `commit`: as soon as the bronze table has moved. `betweenCommits`: the dead letters of
            a checkpoint are committed, its rows are written, and the table has not moved. `beforeTables`: a batch run
            has written its first table's files, and no table has moved. `betweenTables`: its first table has moved.
        seconds: See `anytime`.
        again: The same victims once more, each time so many seconds after they have been started again: while they
            still come up, or restore, or have just begun to work.
    """

    victims: tuple[Victim, ...]
    point: Point = "anytime"
    seconds: float = 0.0
    again: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """How reports call it, such as `taskManager+broker@commit`, or `broker@anytime x3`."""
        return f"{'+'.join(self.victims)}@{self.point}{f' x{1 + len(self.again)}' if self.again else ''}"

    @property
    def kills(self) -> int:
        """How many processes it kills."""
        return len(self.victims) * (1 + len(self.again))


@dataclass(frozen=True, slots=True)
class Disturb:
    """Something else that happens to a stream.

    Attributes:
        what: `change`: stopped with a savepoint, and goes on with other settings. `rewind`: back to an older savepoint.
            `upkeep`: the maintenance job compacts, and removes every snapshot that nobody needs. `catalogLock`: nobody
            can write to the catalog. `storeFaults`: the store answers 5xx, hangs, and loses answers, one after another.
        seconds: How long, for `catalogLock`, and each mood of the store.
    """

    what: Disturbance
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.what


Fault = Kill | Disturb

KILLS: Final[Sequence[tuple[tuple[Victim, ...], Point, int]]] = (
    (("taskManager",), "anytime", 4),
    (("taskManager",), "checkpoint", 0),
    (("taskManager",), "commit", 1),
    (("taskManager",), "betweenCommits", 0),
    (("broker",), "anytime", 3),
    (("broker",), "commit", 0),
    (("taskManager", "broker"), "checkpoint", 1),
    (("taskManager", "broker"), "betweenCommits", 0),
    (("jobManager",), "anytime", 1),
    (("jobManager",), "betweenCommits", 0),
    (("jobManager", "taskManager", "broker"), "checkpoint", 0),
    (("sparkDriver",), "anytime", 3),
    (("sparkDriver",), "beforeTables", 0),
    (("sparkDriver",), "betweenTables", 0),
)
"""One round of kills: whom, when, and how often again. What a lost machine takes with it goes together."""
DISTURBANCES: Final[Sequence[Disturbance]] = ("catalogLock", "change", "upkeep", "rewind")
KILLS_BETWEEN_DISTURBANCES = 5
LONGEST_WAIT_SECONDS = 2.5
"""A few checkpoint intervals: any phase of one is hit."""
AGAIN_SECONDS = (0.5, 5.0)
"""From a process that starts up to one that has just begun to work."""
DRIVER_SECONDS = 8.0
"""Most of a batch run, from its start."""
ON_STORE: Final[Sequence[Disturbance]] = (*DISTURBANCES, "storeFaults")
"""Those of a stream whose tables are on an object store."""
LOCK_SECONDS = (1.0, 8.0)
"""Shorter and longer than writers wait for the catalog (`arena.BUSY_SECONDS`)."""
_LASTING: Final = ("catalogLock", "storeFaults")


def make(seed: int, kills: int, disturbances: Sequence[Disturbance] = DISTURBANCES) -> tuple[Fault, ...]:
    """Faults with at least so many kills in them; equal arguments give equal faults.

    Every kill of `KILLS` comes once before any comes again, and so do the disturbances, after each few kills.
    """
    return tuple(_faults(random.Random(seed), kills, disturbances))


def _faults(rng: random.Random, kills: int, wanted: Sequence[Disturbance]) -> Iterator[Fault]:
    deck, disturbances = _deck(rng, KILLS), _deck(rng, wanted)
    killed = 0
    due = KILLS_BETWEEN_DISTURBANCES
    while killed < kills:
        victims, point, times = next(deck)
        longest = DRIVER_SECONDS if victims[0] == "sparkDriver" else LONGEST_WAIT_SECONDS
        wait = round(rng.uniform(0.0, longest), 3) if point == "anytime" else 0.0
        again = tuple(round(rng.uniform(*AGAIN_SECONDS), 3) for _ in range(times))
        fault = Kill(victims, point, wait, again)
        yield fault
        killed += fault.kills
        if wanted and killed >= due:
            due += KILLS_BETWEEN_DISTURBANCES
            what = next(disturbances)
            yield Disturb(what, round(rng.uniform(*LOCK_SECONDS), 3) if what in _LASTING else 0.0)


def _deck(rng: random.Random, cards: Sequence[T]) -> Iterator[T]:
    while True:
        shuffled = list(cards)
        rng.shuffle(shuffled)
        yield from shuffled


def count(faults: Sequence[Fault]) -> Counter[Victim]:
    """How many processes of each kind are killed."""
    kills = [fault for fault in faults if isinstance(fault, Kill)]
    return Counter(victim for fault in kills for victim in fault.victims * (1 + len(fault.again)))
