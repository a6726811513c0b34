"""One leader among several replicas, by a Lease: the protocol that Kubernetes' own controllers use.

Nobody trusts another machine's clock. A candidate waits until the Lease has not changed for its whole duration by the
candidate's own clock; the leader gives up when it could not renew for two thirds of that time. The rest is the margin
in which the old leader must have stopped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakehouse_operator.cluster.errors import ClusterError, Conflict, NotFound
from lakehouse_operator.cluster.kinds import LEASE
from lakehouse_operator.cluster.port import Cluster, Resource


@dataclass(slots=True, kw_only=True)
class LeaderLease:
    """A replica's claim to lead.

    Attributes:
        cluster: where the Lease is.
        namespace: the operator's own namespace.
        name: of the Lease; replicas that compete use the same one.
        identity: of this replica; no two may share it, also not across restarts (a pod's name and UID will do).
        now: the wall clock. Nobody compares it, but every renewal must find it changed: that is how others see it.
        duration: seconds after which a Lease that is not renewed may be taken over; a whole number.
        monotonic: a clock that never jumps, in seconds.
        sleep: waits for some seconds.
    """

    cluster: Cluster
    namespace: str
    name: str
    identity: str
    now: Callable[[], datetime]
    duration: int = 15
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _renewed_at: float | None = None
    _watched: tuple[str, float] | None = field(default=None)

    @property
    def holds(self) -> bool:
        """Whether this replica leads: its last renewal is recent enough, by its own clock."""
        return self._renewed_at is not None and self.monotonic() - self._renewed_at < self._patience

    @property
    def _patience(self) -> float:
        return self.duration * 2 / 3

    @property
    def margin(self) -> float:
        """Seconds from when this replica gives up until another may lead."""
        return self.duration - self._patience

    @property
    def _pause(self) -> float:
        return self.duration / 5

    async def acquire(self) -> None:
        """Wait until this replica leads. Errors of the cluster only make it wait longer."""
        while not await self._try():
            await self.sleep(self._pause)

    async def keep(self) -> None:
        """Renew for as long as that works. Returns when this replica must not lead any more; it has to stop at once."""
        while self.holds:
            await self.sleep(self._pause)
            await self._try()

    async def release(self) -> None:
        """Let another replica lead at once, if this one does. Failing is no harm: the Lease runs out."""
        self._renewed_at = None
        try:
            async with asyncio.timeout(self.margin):
                seen = await self.cluster.read(LEASE, self.namespace, self.name)
                if _spec(seen).get("holderIdentity") == self.identity:
                    transitions = _spec(seen).get("leaseTransitions", 0)
                    await self._write(seen, {"leaseDurationSeconds": 1, "leaseTransitions": transitions})
        except (ClusterError, TimeoutError):
            return

    async def _try(self) -> bool:
        """Take or renew the Lease; whether this replica leads afterwards."""
        started = self.monotonic()
        # A renewal that comes too late is worth nothing, whatever the retries beneath would still do.
        left = self._patience if self._renewed_at is None else self._patience - (started - self._renewed_at)
        try:
            async with asyncio.timeout(left if left > 0 else self._patience):
                claimed = await self._claim()
        except (ClusterError, TimeoutError):
            claimed = False
        if claimed:
            # From before the request: a late answer must not make the claim last longer than the others think.
            self._renewed_at = started
        return self.holds

    async def _claim(self) -> bool:
        try:
            seen = await self.cluster.read(LEASE, self.namespace, self.name)
        except NotFound:
            # Created empty and then claimed, so that all its fields belong to applies and a release can remove them.
            seen = (await self.cluster.create_once(self._manifest({}, {}))).resource
        spec = _spec(seen)
        mine = spec.get("holderIdentity") == self.identity
        if not mine and not self._may_take_over(seen):
            return False
        # The first holder makes no transition.
        transitions = int(spec.get("leaseTransitions", -1)) + (0 if mine else 1)
        return await self._write(seen, self._claimed_spec(transitions, spec.get("acquireTime") if mine else None))

    def _may_take_over(self, seen: Resource) -> bool:
        spec, version = _spec(seen), str(seen["metadata"]["resourceVersion"])
        if not spec.get("holderIdentity"):
            return True
        if self._watched is None or self._watched[0] != version:
            self._watched = (version, self.monotonic())
        return self.monotonic() - self._watched[1] > float(spec.get("leaseDurationSeconds", self.duration))

    async def _write(self, seen: Resource, spec: dict[str, Any]) -> bool:
        metadata = {key: seen["metadata"][key] for key in ("uid", "resourceVersion")}
        try:
            await self.cluster.apply(self._manifest(metadata, spec))
        except Conflict:
            return False
        return True

    def _claimed_spec(self, transitions: int, acquired: str | None = None) -> dict[str, Any]:
        now = self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.duration,
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _manifest(self, metadata: dict[str, Any], spec: dict[str, Any]) -> Resource:
        place = {"namespace": self.namespace, "name": self.name}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": {**place, **metadata}, "spec": spec}


def _spec(lease: Resource) -> dict[str, Any]:
    return lease.get("spec") or {}
