"""The Lease is renewed whatever else the process does, and whoever loses it does nothing more."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from cluster.fake_cluster import FakeCluster
from lakehouse_operator.cluster.errors import Unavailable
from lakehouse_operator.cluster.kinds import LEASE, Kind
from lakehouse_operator.cluster.lease import LeaderLease
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.handlers.leadership import Leadership

NAMESPACE, NAME = "one", "lakehouse-operator"
DURATION = 3
"""Seconds; a Lease that is not renewed for two of them is given up."""
DEADLINE = 30.0


class Leaving:
    """A cluster that can't be reached any more once it is `gone`."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.gone = threading.Event()

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        if self.gone.is_set():
            raise Unavailable("nobody there")
        return await self.cluster.read(kind, namespace, name)

    def __getattr__(self, name: str) -> object:
        return getattr(self.cluster, name)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(namespaces=(NAMESPACE,))


def leadership(
    cluster: object, ended: threading.Event | None = None, identity: str = "me", duration: int = DURATION
) -> Leadership:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Cluster]:
        yield cluster  # type: ignore[misc]

    return Leadership(
        connect,
        lambda opened: LeaderLease(
            cluster=opened,
            namespace=NAMESPACE,
            name=NAME,
            identity=identity,
            now=lambda: datetime.now(UTC),  # noqa: TID251 - a thread lives by the real clock
            duration=duration,
        ),
        (ended or threading.Event()).set,
    )


async def holder(cluster: FakeCluster) -> str | None:
    spec: Resource = (await cluster.read(LEASE, NAMESPACE, NAME))["spec"]
    return spec.get("holderIdentity")


async def test_a_busy_event_loop_does_not_cost_the_lease(cluster: FakeCluster) -> None:
    async with leadership(cluster) as leads:
        await leads.acquired()
        lost = asyncio.ensure_future(leads.lost())
        renewed = (await cluster.read(LEASE, NAMESPACE, NAME))["spec"]["renewTime"]
        busy_until = time.monotonic() + DURATION
        while time.monotonic() < busy_until:
            sum(range(1000))  # nothing else runs on this loop meanwhile
        await asyncio.sleep(0)
        assert not lost.done()
        assert (await cluster.read(LEASE, NAMESPACE, NAME))["spec"]["renewTime"] > renewed
        lost.cancel()


async def test_who_leaves_lets_another_lead_at_once(cluster: FakeCluster) -> None:
    async with leadership(cluster) as leads:
        await leads.acquired()
        assert await holder(cluster) == "me"
    assert await holder(cluster) is None


async def test_who_stops_while_waiting_to_lead_takes_nothing(cluster: FakeCluster) -> None:
    async with leadership(cluster, identity="first") as first:
        await first.acquired()
        async with leadership(cluster, identity="second") as second:
            waiting = asyncio.ensure_future(second.acquired())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            waiting.cancel()
        assert await holder(cluster) == "first"


async def test_who_loses_the_lease_and_comes_to_rest_ends_in_order(cluster: FakeCluster) -> None:
    there, ended = Leaving(cluster), threading.Event()
    async with leadership(there, ended, duration=2 * DURATION) as leads:
        await leads.acquired()
        there.gone.set()
        async with asyncio.timeout(DEADLINE):
            await leads.lost()
    assert not ended.is_set()


async def test_who_goes_on_acting_after_the_lease_was_lost_is_ended(cluster: FakeCluster) -> None:
    there, ended = Leaving(cluster), threading.Event()
    async with leadership(there, ended, duration=1) as leads:
        await leads.acquired()
        there.gone.set()
        # This thread does not come to the event loop any more.
        assert ended.wait(DEADLINE)
        assert leads is not None


async def test_an_unexpected_error_reaches_whoever_waits_to_lead() -> None:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Cluster]:
        raise RuntimeError("no such thing")
        yield

    async with Leadership(connect, lambda _: pytest.fail("never")) as leads:
        with pytest.raises(RuntimeError, match="no such thing"):
            await leads.acquired()
        await leads.lost()
