"""Rounds over a cluster, one after the other, with a clock of the tests' own."""

from datetime import UTC, datetime, timedelta

from handlers.actors import NAME, Actors
from lakehouse_operator.handlers.tender import Tender

BEGAN = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now

    def go(self, **span: float) -> None:
        self.now += timedelta(**span)


async def settle(tender: Tender, actors: Actors, clock: Clock, rounds: int = 12) -> float | None:
    """Rounds, a second apart, until nothing is left to do at once."""
    pause: float | None = 0.0
    for _ in range(rounds):
        pause = await tender.round((actors.namespace, NAME))
        await actors.follow()
        if pause is None or pause > 2:
            return pause
        clock.go(seconds=max(pause, 1))
    return pause


async def running(tender: Tender, actors: Actors, clock: Clock) -> None:
    """Bring a created pipeline to rest, with its job running."""
    await settle(tender, actors, clock)
    await actors.flink_runs()
    await settle(tender, actors, clock)
    clock.go(minutes=3)
    await settle(tender, actors, clock)
