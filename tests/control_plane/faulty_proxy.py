"""A proxy in front of the API server that misbehaves as told: the failures that a client must live with."""

import asyncio
import contextlib
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from control_plane.api_server import ControlPlane

Fault = Callable[[web.Request, Callable[[], Awaitable[web.Response]]], Awaitable[web.StreamResponse]]
"""What happens to one request. It gets the request and a way to have it answered by the real server."""


@dataclass
class FaultyProxy:
    """A plain HTTP proxy on the loopback interface; requests go through unharmed unless a fault is waiting for them.

    Attributes:
        url: where it listens.
        kubeconfig: a file for clients that go through it.
        seen: method and path of every request, in order.
        faults: what happens to the next requests, one each, first come first served. A watch is no request here.
        muted: plurals of kinds of which watches tell nothing any more, and go on.
    """

    url: str
    kubeconfig: Path
    seen: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    muted: set[str] = field(default_factory=set)
    _watches: dict[web.StreamResponse, str] = field(default_factory=dict)

    @property
    def watches(self) -> Counter[str]:
        """How many watches of each kind are open, by the kind's plural."""
        return Counter(self._watches.values())

    async def break_watches(self, plural: str, code: int, message: str) -> None:
        """Tell an error in each open watch of a kind, as the API server does, which then ends the watch."""
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        line = json.dumps({"type": "ERROR", "object": told}).encode() + b"\n"
        for answer in [answer for answer, watched in self._watches.items() if watched == plural]:
            del self._watches[answer]
            await answer.write(line)
            await answer.write_eof()

    def then(self, *faults: Fault) -> None:
        """Let these happen to the next requests."""
        self.faults.extend(faults)


@contextlib.asynccontextmanager
async def faulty_proxy(plane: ControlPlane, folder: Path) -> AsyncIterator[FaultyProxy]:
    """Start a proxy that keeps its kubeconfig in a folder, and stop it at the end."""
    trust = ssl.create_default_context(cafile=str(plane.ca_file))
    async with ClientSession(connector=TCPConnector(ssl=trust), auto_decompress=False) as upstream:

        async def watch(request: web.Request) -> web.StreamResponse:
            headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
            async with upstream.get(plane.url + request.raw_path, headers=headers, timeout=_ENDLESS) as answer:
                passed_on = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                await passed_on.prepare(request)
                proxy._watches[passed_on] = request.path.rsplit("/", 1)[1]
                try:
                    async for chunk in answer.content.iter_any():
                        if passed_on not in proxy._watches:
                            break
                        if proxy._watches[passed_on] not in proxy.muted:
                            await passed_on.write(chunk)
                except ConnectionError:
                    pass  # whoever watched has gone
                finally:
                    proxy._watches.pop(passed_on, None)
                return passed_on

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            proxy.seen.append((request.method, request.path))
            if request.query.get("watch") == "true":
                return await watch(request)

            async def really() -> web.Response:
                headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
                target = plane.url + request.raw_path
                async with upstream.request(request.method, target, data=body or None, headers=headers) as answer:
                    content = await answer.read()
                    return web.Response(status=answer.status, body=content, content_type=answer.content_type)

            fault = proxy.faults.pop(0) if proxy.faults else unharmed
            return await fault(request, really)

        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            proxy = FaultyProxy(url, folder / "through-proxy.kubeconfig")
            write_kubeconfig(proxy.kubeconfig, url, plane.token)
            yield proxy
        finally:
            await runner.cleanup()


_ENDLESS = ClientTimeout(total=None)
_PASSED_ON = ("Authorization", "Content-Type", "Accept")


async def unharmed(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
    """The real answer."""
    return await really()


def answer_with(status: int, message: str = "as ordered", *, retry_after: str | None = None, reason: str = "") -> Fault:
    """Answer with an error of the API server's making, without asking it."""

    async def fault(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response({**body, "reason": reason}, status=status, headers=headers)

    return fault


def answer_json(body: object) -> Fault:
    """Answer well, without asking the server."""

    async def fault(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        return web.json_response(body)

    return fault


def answer_text(status: int, text: str) -> Fault:
    """Answer as something that is no API server at all."""

    async def fault(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type="text/html")

    return fault


async def drop(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
    """Cut the connection; the server never hears of it."""
    _cut(request)
    return web.Response()


async def lose_the_answer(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
    """Let the server do it, and cut the connection before it can say so."""
    await really()
    _cut(request)
    return web.Response()


async def hang(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    return web.Response()


def after(action: Callable[[], Awaitable[object]]) -> Fault:
    """Let something else happen first, then pass the request on: a race that is won by the other side."""

    async def fault(request: web.Request, really: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        await action()
        return await really()

    return fault


def write_kubeconfig(file: Path, url: str, token: str) -> None:
    """Write a kubeconfig for an address and a bearer token."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "users": [{"name": "it", "user": {"token": token}}],
    }
    file.write_text(json.dumps(content))


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
