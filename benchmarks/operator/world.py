"""A real API server and the operator as a process of its own, as in production but for the pods."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from benchmarks.operator.figures import Requests, Usage, requests

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tests"))

from control_plane.api_server import ControlPlane, running_control_plane  # noqa: E402 - it lies with the tests

NAMESPACE = "benchmark"
_CONDITION = re.compile(r'^lakehouse_pipeline_condition\{condition="Ready",', re.MULTILINE)
_ROUNDS = re.compile(r'^lakehouse_reconciles_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)
_LOOK = 0.25


@dataclass(slots=True)
class Server:
    """The API server over plain HTTP requests: its metrics, and its watches."""

    plane: ControlPlane
    session: aiohttp.ClientSession

    async def asked(self) -> Requests:
        """All that the API server was asked since it started."""
        async with self.session.get(f"{self.plane.url}/metrics") as answer:
            answer.raise_for_status()
            return requests(await answer.text())


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """Start etcd and kube-apiserver with all CRDs, and stop them at the end."""
    async with bare_server() as made:
        made.plane.install_own_crds()
        yield made


@contextlib.asynccontextmanager
async def bare_server(flink: str = "1.10.0") -> AsyncIterator[Server]:
    """The same with the CRDs of the upstream operators alone, of one version of Flink's."""
    with running_control_plane() as plane:
        plane.install_operators(flink=flink)
        plane.create_namespace(NAMESPACE)
        trust = ssl.create_default_context(cafile=str(plane.ca_file))
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {plane.token}"},
            connector=aiohttp.TCPConnector(ssl=trust),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**24,  # an event of a watch is one line
        ) as session:
            yield Server(plane, session)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Operator:
    """The operator's process. With `profile`, it runs under cProfile, which writes there when it is stopped.

    `allowed` are the endpoints that it may look at.
    """

    server: Server
    log: Path
    profile: Path | None = None
    allowed: tuple[str, ...] = ()
    metrics: int = field(default_factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None
    _started: float = 0.0

    def start(self) -> None:
        """Start it, with its defaults but for the ports."""
        wrapper = ["-m", "cProfile", "-o", str(self.profile)] if self.profile else []
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.server.plane.kubeconfig),
            "POD_NAMESPACE": NAMESPACE,
            "METRICS_PORT": str(self.metrics),
            "HEALTH_PORT": str(free_port()),
            "ALLOWED_ENDPOINTS": ",".join(self.allowed),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *wrapper, "-m", "lakehouse_operator.handlers"], env=environment, stdout=log, stderr=log
            )
        self._started = time.monotonic()

    def stop(self) -> None:
        """Stop it as Kubernetes does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
            finally:
                self._process = None

    def usage(self) -> Usage:
        """What it has used so far."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the operator has ended; its log is {self.log}")
        return Usage.of(self._process.pid)

    async def rounds(self) -> dict[str, int]:
        """How many rounds it has made, by outcome."""
        text = await self._metrics("lakehouse_reconciles_total")
        return {outcome: int(float(count)) for outcome, count in _ROUNDS.findall(text)}

    async def leads(self, within: float) -> None:
        """Wait until it leads."""
        async with asyncio.timeout(within):
            while "lakehouse_leading 1.0" not in await self._metrics("lakehouse_leading"):
                self.usage()
                await asyncio.sleep(_LOOK)

    async def caught_up(self, pipelines: int, within: float) -> float:
        """Wait until it has looked at that many pipelines; answer the seconds since it was started."""
        async with asyncio.timeout(within):
            while True:
                self.usage()
                # The cheap question first: a scrape of all series would take time from what is measured.
                if (await self.rounds()).get("done", 0) >= pipelines:
                    seen = len(_CONDITION.findall(await self._metrics("lakehouse_pipeline_condition")))
                    if seen >= pipelines:
                        return time.monotonic() - self._started
                await asyncio.sleep(_LOOK)

    async def _metrics(self, name: str) -> str:
        try:
            url = f"http://127.0.0.1:{self.metrics}/metrics"
            async with self.server.session.get(url, params={"name[]": name}) as answer:
                return await answer.text()
        except aiohttp.ClientConnectionError:
            return ""
