"""One task per pipeline, woken by its bell."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from weakref import ref

from lakehouse_operator.handlers.bells import Bells, Key

ONE, TWO = ("data", "one"), ("data", "two")


class Rounds:
    """Counts rounds, and how many of one pipeline went on at once."""

    def __init__(self, pause: float | None = 3600.0) -> None:
        self.pause = pause
        self.count: dict[Key, int] = {}
        self.going_on: dict[Key, int] = {}
        self.most_at_once = 0
        self.changed = asyncio.Condition()
        self.begun = asyncio.Event()

    async def __call__(self, key: Key) -> float | None:
        self.going_on[key] = self.going_on.get(key, 0) + 1
        assert self.going_on[key] == 1, "two rounds of one pipeline at once"
        self.begun.set()
        self.most_at_once = max(self.most_at_once, sum(self.going_on.values()))
        await asyncio.sleep(0.001)
        self.going_on[key] -= 1
        async with self.changed:
            self.count[key] = self.count.get(key, 0) + 1
            self.changed.notify_all()
        return self.pause

    async def reached(self, key: Key, count: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.count.get(key, 0) >= count)


@asynccontextmanager
async def bells(rounds: Rounds, concurrency: int = 4) -> AsyncIterator[Bells]:
    tended = Bells(rounds, concurrency)
    try:
        yield tended
    finally:
        await tended.stop()


async def test_a_pipeline_is_looked_at_when_it_is_seen_first() -> None:
    rounds = Rounds()
    async with bells(rounds) as tended:
        tended.begin(ONE)
        await rounds.reached(ONE, 1)


async def test_a_ring_wakes_a_sleeping_pipeline_and_no_other() -> None:
    rounds = Rounds()
    async with bells(rounds) as tended:
        for key in (ONE, TWO):
            tended.begin(key)
            await rounds.reached(key, 1)
        tended.ring(ONE)
        await rounds.reached(ONE, 2)
        assert rounds.count[TWO] == 1


async def test_a_ring_during_a_round_leads_to_another_one() -> None:
    rounds = Rounds()
    async with bells(rounds) as tended:
        tended.begin(ONE)
        await rounds.begun.wait()
        tended.ring(ONE)
        await rounds.reached(ONE, 2)


async def test_many_rings_never_lead_to_two_rounds_at_once() -> None:
    rounds = Rounds()
    async with bells(rounds) as tended:
        tended.begin(ONE)
        for _ in range(50):
            tended.ring(ONE)
            tended.begin(ONE)
            await asyncio.sleep(0)
        await rounds.reached(ONE, 2)


async def test_the_alarm_goes_without_a_ring() -> None:
    rounds = Rounds(pause=0.01)
    async with bells(rounds) as tended:
        tended.begin(ONE)
        await rounds.reached(ONE, 3)


async def test_no_more_rounds_go_on_at_once_than_allowed() -> None:
    rounds = Rounds()
    async with bells(rounds, concurrency=2) as tended:
        keys = [("data", str(number)) for number in range(10)]
        for key in keys:
            tended.begin(key)
        for key in keys:
            await rounds.reached(key, 1)
    assert rounds.most_at_once == 2


async def test_a_pipeline_that_is_gone_is_tended_no_more() -> None:
    rounds = Rounds(pause=None)
    async with bells(rounds) as tended:
        tended.begin(ONE)
        await rounds.reached(ONE, 1)
        await asyncio.sleep(0)  # the round has answered; now its task ends
        assert tended.keys == frozenset()


async def test_a_pipeline_that_is_created_anew_while_the_old_one_is_found_gone_is_tended() -> None:
    rounds = Rounds(pause=None)
    async with bells(rounds) as tended:
        tended.begin(ONE)
        await rounds.begun.wait()
        tended.begin(ONE)
        await rounds.reached(ONE, 1)
        rounds.pause = 3600.0
        await rounds.reached(ONE, 2)
        await asyncio.sleep(0)
        assert tended.keys == {ONE}


async def test_a_task_keeps_nothing_alive_of_whoever_began_it() -> None:
    class Body:
        """What a watch told of."""

    cause: ContextVar[Body] = ContextVar("cause")
    rounds = Rounds()
    async with bells(rounds) as tended:

        async def handler() -> "ref[Body]":
            body = Body()
            cause.set(body)
            tended.begin(ONE)
            return ref(body)

        told = await asyncio.create_task(handler())
        await rounds.reached(ONE, 1)
        gc.collect()
        assert told() is None


async def test_a_pipeline_whose_task_was_cancelled_is_tended_again_when_it_is_seen_again() -> None:
    rounds = Rounds()
    async with bells(rounds) as tended:
        before = asyncio.all_tasks()
        tended.begin(ONE)
        await rounds.reached(ONE, 1)
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not tended.knows(ONE, 0)
        tended.begin(ONE)
        await rounds.reached(ONE, 2)
