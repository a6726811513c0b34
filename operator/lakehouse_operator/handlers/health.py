"""Liveness that proves something: every pipeline is tended as it is by now. A silent watch of them makes it fail.

The watches of runs, backfills and children are not judged: what they should have told, a round sees some minutes later.
Watches of a busy or restarted API server have been seen to end without a word (kopf #1145, #1276). A probe that only
says that the process runs would keep such an operator alive for ever.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from lakehouse_operator import metrics
from lakehouse_operator.cluster.errors import ClusterError, Throttled, Unavailable
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, LEASE
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.handlers.bells import Bells, Key

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watchdog:
    """Compares what exists with what is tended.

    Attributes:
        cluster: where to look.
        namespaces: the namespaces that are cared for; empty means all.
        bells: what is tended.
        stale_after: seconds after which a pipeline that is untended, or a change that no watch told of, means that the
            watch is silent.
    """

    cluster: Cluster
    namespaces: tuple[str, ...]
    bells: Bells
    stale_after: float
    monotonic: Callable[[], float] = time.monotonic
    _missing_since: dict[Key, float] = field(default_factory=dict)

    async def look(self) -> None:
        """Compare once. An API server that does not answer proves nothing about the watch."""
        try:
            exist = [
                each
                for namespace in (self.namespaces or (None,))
                for each in (await self.cluster.generations(LAKEHOUSE_PIPELINE, namespace)).items()
            ]
        except ClusterError as error:
            _log.warning("pipelines can't be listed: %s", error)
            return
        missing = [key for key, generation in exist if not self.bells.knows(key, generation)]
        now = self.monotonic()
        self._missing_since = {key: self._missing_since.get(key, now) for key in missing}
        metrics.WATCH_SILENT_SECONDS.set(self.silent_for)

    @property
    def silent_for(self) -> float:
        """For how many seconds there has been a pipeline, or a change of one, that no watch has told of."""
        return self.monotonic() - min(self._missing_since.values(), default=self.monotonic())

    @property
    def is_healthy(self) -> bool:
        """Whether the watch of the pipelines can be trusted."""
        return self.silent_for < self.stale_after

    async def keep(self) -> None:
        """Compare again and again, four times in the time that is allowed."""
        while True:
            await self.look()
            await asyncio.sleep(self.stale_after / 4)


@dataclass(slots=True)
class Reach:
    """Readiness: the API server answers this replica, whether it leads or waits to lead. A refusal is an answer.

    Attributes:
        cluster: whom to ask.
        namespace: the operator's own.
        lease: the name of the Lease there, which is asked for.
        stale_after: seconds after which an answer counts no more.
    """

    cluster: Cluster
    namespace: str
    lease: str
    stale_after: float
    monotonic: Callable[[], float] = time.monotonic
    _answered_at: float | None = None

    async def look(self) -> None:
        """Ask once, for one small object."""
        try:
            await self.cluster.read(LEASE, self.namespace, self.lease)
        except (Unavailable, Throttled):
            return
        except ClusterError:
            pass
        self._answered_at = self.monotonic()

    @property
    def is_there(self) -> bool:
        """Whether there was an answer not long ago."""
        return self._answered_at is not None and self.monotonic() - self._answered_at < self.stale_after

    async def keep(self) -> None:
        """Ask again and again, four times in the time that is allowed; more often while there is no answer."""
        while True:
            await self.look()
            await asyncio.sleep(self.stale_after / 4 if self.is_there else min(1.0, self.stale_after / 4))


async def serve_health(port: int, is_healthy: Callable[[], bool], is_ready: Callable[[], bool]) -> web.AppRunner:
    """Answer /healthz and /readyz on a port."""

    def answer(check: Callable[[], bool]) -> Callable[[web.Request], web.Response]:
        async def handler(_: web.Request) -> web.Response:
            good = check()
            return web.Response(text="ok\n" if good else "failing\n", status=200 if good else 503)

        return handler  # type: ignore[return-value]

    app = web.Application()
    app.router.add_get("/healthz", answer(is_healthy))  # type: ignore[arg-type]
    app.router.add_get("/readyz", answer(is_ready))  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104 - the kubelet asks from outside the pod
    return runner
