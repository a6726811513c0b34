"""Liveness that proves something: every pipeline that exists is tended. A silent watch makes it fail.

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
from lakehouse_operator.cluster.errors import ClusterError
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE
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
        stale_after: seconds after which an untended pipeline means that the watch is silent.
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
            exist = {
                key
                for namespace in (self.namespaces or (None,))
                for key in await self.cluster.names(LAKEHOUSE_PIPELINE, namespace)
            }
        except ClusterError as error:
            _log.warning("pipelines can't be listed: %s", error)
            return
        missing = exist - self.bells.keys
        now = self.monotonic()
        self._missing_since = {key: self._missing_since.get(key, now) for key in missing}
        metrics.WATCH_SILENT_SECONDS.set(self.silent_for)

    @property
    def silent_for(self) -> float:
        """For how many seconds a pipeline has existed that nobody tends."""
        return self.monotonic() - min(self._missing_since.values(), default=self.monotonic())

    @property
    def is_healthy(self) -> bool:
        """Whether the watches can be trusted."""
        return self.silent_for < self.stale_after

    async def keep(self) -> None:
        """Compare again and again, four times in the time that is allowed."""
        while True:
            await self.look()
            await asyncio.sleep(self.stale_after / 4)


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
