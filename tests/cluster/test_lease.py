"""Of several replicas one leads; another takes over when it is gone; two never lead at once."""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from cluster.worlds import World
from lakehouse_operator.cluster.errors import NotFound, Unavailable
from lakehouse_operator.cluster.kinds import LEASE, Kind
from lakehouse_operator.cluster.lease import LeaderLease
from lakehouse_operator.cluster.port import Cluster, Created, Manifest, Resource

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DURATION = 15


class Clock:
    """A clock that moves only when all who live by it are asleep; then to the moment when the first must wake."""

    def __init__(self, sleepers: int = 1) -> None:
        self.seconds = 1000.0
        self._sleepers = sleepers
        self._asleep: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._asleep, (self.seconds + seconds, next(self._numbers), awake))
        if len(self._asleep) == self._sleepers:
            self.seconds, _, first = heapq.heappop(self._asleep)
            first.set_result(None)
        await awake
        await asyncio.sleep(0)


class Broken:
    """A cluster that can't be reached."""

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        raise Unavailable("nobody there")


class Interrupted:
    """A cluster in which something happens before each apply."""

    def __init__(self, cluster: Cluster, before_apply: Callable[[], Awaitable[None]]) -> None:
        self._cluster = cluster
        self._before_apply = before_apply

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        return await self._cluster.read(kind, namespace, name)

    async def create_once(self, manifest: Manifest) -> Created:
        return await self._cluster.create_once(manifest)

    async def apply(self, manifest: Manifest) -> Resource:
        await self._before_apply()
        return await self._cluster.apply(manifest)


def candidate(world: World, identity: str, clock: Clock, cluster: Cluster | None = None) -> LeaderLease:
    return LeaderLease(
        cluster=cluster or world.cluster,
        namespace=world.namespace,
        name="lakehouse-operator",
        identity=identity,
        now=clock.now,
        duration=DURATION,
        monotonic=clock.monotonic,
        sleep=clock.sleep,
    )


async def holder(world: World) -> Resource:
    spec: Resource = (await world.cluster.read(LEASE, world.namespace, "lakehouse-operator"))["spec"]
    return spec


async def test_the_first_candidate_leads_at_once(world: World) -> None:
    clock = Clock()
    first = candidate(world, "first", clock)
    assert not first.holds
    await first.acquire()
    assert first.holds
    assert clock.seconds == 1000.0
    spec = await holder(world)
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("first", DURATION, 0)
    assert spec["acquireTime"] == spec["renewTime"] == "2026-06-01T12:00:00.000000Z"


async def test_a_second_candidate_waits_for_the_whole_duration_by_its_own_clock(world: World) -> None:
    await candidate(world, "first", Clock()).acquire()
    clock = Clock()
    second = candidate(world, "second", clock)
    await second.acquire()
    assert second.holds
    assert clock.seconds - 1000.0 > DURATION
    assert (await holder(world))["holderIdentity"] == "second"
    assert (await holder(world))["leaseTransitions"] == 1


async def test_a_leader_that_renews_is_never_displaced(world: World) -> None:
    clock = Clock(sleepers=2)
    first, second = candidate(world, "first", clock), candidate(world, "second", clock)
    await first.acquire()
    keeping, waiting = asyncio.create_task(first.keep()), asyncio.create_task(second.acquire())
    while clock.seconds < 1000.0 + 10 * DURATION:
        done, _ = await asyncio.wait([keeping, waiting], timeout=0.001)
        assert not done
    keeping.cancel()
    waiting.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)
    assert (await holder(world))["holderIdentity"] == "first"
    assert (await holder(world))["leaseTransitions"] == 0


async def test_of_many_at_once_one_leads(world: World) -> None:
    clocks = [Clock() for _ in range(6)]
    candidates = [candidate(world, f"number-{number}", clock) for number, clock in enumerate(clocks)]
    racing = [asyncio.create_task(each.acquire()) for each in candidates]
    done, waiting = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(done) == 1
    assert sum(each.holds for each in candidates) == 1


async def test_a_leader_that_cannot_renew_stops_before_another_may_begin(world: World) -> None:
    clock = Clock()
    first = candidate(world, "first", clock)
    await first.acquire()
    first.cluster = Broken()  # type: ignore[assignment]
    await first.keep()
    assert not first.holds
    assert clock.seconds - 1000.0 < DURATION


async def test_of_two_who_saw_the_same_free_lease_one_leads(world: World) -> None:
    clock = Clock()
    quick = candidate(world, "quick", clock)
    raced: list[bool] = []

    async def let_the_other_win() -> None:
        if not raced:
            raced.append(True)
            await quick.acquire()

    slow = candidate(world, "slow", clock, Interrupted(world.cluster, let_the_other_win))  # type: ignore[arg-type]
    assert not await slow._try()
    assert raced
    assert (await holder(world))["holderIdentity"] == "quick"


async def test_a_slow_renewal_counts_from_when_it_was_asked_for(world: World) -> None:
    clock = Clock()

    async def take_long() -> None:
        clock.seconds += 9

    first = candidate(world, "first", clock, Interrupted(world.cluster, take_long))  # type: ignore[arg-type]
    await first.acquire()
    assert first.holds
    clock.seconds += 2
    assert not first.holds


async def test_a_leader_that_was_displaced_stops(world: World) -> None:
    slow, quick = Clock(), Clock()
    first, second = candidate(world, "first", slow), candidate(world, "second", quick)
    await first.acquire()
    await second.acquire()
    await first.keep()
    assert not first.holds
    assert (await holder(world))["holderIdentity"] == "second"


async def test_the_same_replica_leads_again_at_once(world: World) -> None:
    await candidate(world, "first", Clock()).acquire()
    clock = Clock()
    await candidate(world, "first", clock).acquire()
    assert clock.seconds == 1000.0
    assert (await holder(world))["leaseTransitions"] == 0


async def test_a_released_lease_is_taken_at_once(world: World) -> None:
    clock = Clock()
    first, second = candidate(world, "first", clock), candidate(world, "second", clock)
    await first.acquire()
    await first.release()
    assert not first.holds
    assert "holderIdentity" not in await holder(world)
    await second.acquire()
    assert clock.seconds == 1000.0
    assert (await holder(world))["leaseTransitions"] == 1


async def test_who_does_not_lead_releases_nothing(world: World) -> None:
    first, second = candidate(world, "first", Clock()), candidate(world, "second", Clock())
    await first.acquire()
    await second.release()
    assert (await holder(world))["holderIdentity"] == "first"


async def test_a_candidate_outlives_an_unreachable_cluster(world: World) -> None:
    clock = Clock()
    first = candidate(world, "first", clock, Broken())  # type: ignore[arg-type]
    waiting = asyncio.create_task(first.acquire())
    while clock.seconds < 1000.0 + DURATION:
        done, _ = await asyncio.wait([waiting], timeout=0.001)
        assert not done
    with pytest.raises(NotFound):
        await holder(world)
    first.cluster = world.cluster
    await asyncio.wait_for(waiting, 30)
    assert first.holds
