"""An S3 store that misbehaves as told: versitygw, behind a proxy that answers 5xx, hangs, or loses answers.

The proxy relays bytes, so signatures stay whole. What it does to a connection is decided when that begins; a change of
mind cuts those that are there.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from lakehouse_operator.local import engines, ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Processes

Mood = Literal["well", "unavailable", "broken", "silent", "forgetful", "moody"]
"""`unavailable`: 503. `broken`: 500. `silent`: never an answer. `forgetful`: it does what it is asked, and the answer
gets lost. `moody`: any of these, or well."""
_ANSWERS: Final[Mapping[str, bytes]] = {"unavailable": b"503 Slow Down", "broken": b"500 Internal Server Error"}
_MOODS: Final[tuple[Mood, ...]] = ("well", "unavailable", "broken", "forgetful", "silent")
KEYS: Final[Mapping[str, str]] = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "of-no-use-elsewhere"}
BUCKET: Final = "lakehouse"
IMPATIENCE: Final[Mapping[str, str]] = {
    "http-client.apache.socket-timeout-ms": "2000",
    "http-client.apache.connection-timeout-ms": "2000",
    "s3.retry.num-retries": "2",
    "s3.retry.min-wait-ms": "100",
    "s3.retry.max-wait-ms": "500",
}
"""Properties of the catalog with which engines give a store up within seconds, so that faults outlast their retries."""
_HOST: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16
_READY_SECONDS: Final = 60.0


@dataclass
class Store:
    """A store, and the proxy in front of it.

    Attributes:
        folder: Where the objects lie as files.
        port: The proxy's.
        met: How many connections met each mood.
    """

    folder: Path
    behind: int
    seed: int
    port: int = field(default_factory=ports.choose)
    met: dict[str, int] = field(default_factory=dict)
    _mood: Mood = "well"
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://{_HOST}:{self.port}"

    def path_of(self, location: str) -> Path:
        """The file of an object, by its `s3://` address."""
        return self.folder / location.removeprefix("s3://")

    def be(self, mood: Mood) -> None:
        """Change the mood; connections that are there are cut."""

        def change() -> None:
            self._mood = mood
            for task in self._open:
                task.cancel()

        self._loop.call_soon_threadsafe(change)

    def start(self) -> None:
        """Begin to relay, in a thread of its own."""
        listening = threading.Event()

        async def serve() -> None:
            self._rng = random.Random(self.seed)
            server = await asyncio.start_server(self._accept, _HOST, self.port)
            listening.set()
            async with server:
                await server.serve_forever()

        def run() -> None:
            with contextlib.suppress(RuntimeError):
                self._loop.run_until_complete(serve())

        threading.Thread(target=run, daemon=True).start()
        if not listening.wait(_READY_SECONDS):
            raise RuntimeError("the proxy of the store does not listen")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            await task
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mood = self._mood if self._mood != "moody" else self._rng.choice(_MOODS)
        self.met[mood] = self.met.get(mood, 0) + 1
        match mood:
            case "unavailable" | "broken":
                await _refuse(reader, writer, _ANSWERS[mood])
            case "silent":
                await reader.read(_CHUNK)
                await asyncio.Event().wait()
            case _:
                await self._relay(reader, writer, answers=mood != "forgetful")

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(_HOST, self.behind)
        there = asyncio.create_task(_pump(reader, upstream_writer))
        back = asyncio.create_task(_pump(upstream_reader, writer if answers else None))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            upstream_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter | None) -> None:
    """Pass bytes on; without a sink until the final answer has begun, which nobody gets to see."""
    while data := await source.read(_CHUNK):
        if sink is None:
            if not data.startswith(b"HTTP/1.1 100"):
                return
            continue
        sink.write(data)
        await sink.drain()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: bytes) -> None:
    """Answer one request with an error, and hang up."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    if lengths and b"100-continue" not in head:
        await reader.readexactly(int(lengths[0]))
    writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


def start(processes: Processes, directory: Path, seed: int) -> Store:
    """Start versitygw and the proxy in front of it."""
    port = ports.choose()
    objects, attributes = directory / "objects", directory / "attributes"
    (objects / BUCKET).mkdir(parents=True)
    attributes.mkdir()
    process = processes.start(
        "versitygw",
        [_program(), "--port", f"{_HOST}:{port}", "--quiet", "posix", "--sidecar", attributes, objects],
        environment={"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]},
        directory=directory,
    )
    process.until(lambda: ports.listening(_HOST, port), what="listening", seconds=_READY_SECONDS)
    store = Store(objects, port, seed)
    store.start()
    return store


def _program() -> Path:
    code = (
        "import pinned_go, testbed_programs as t;"
        "print(t._built(next(p for p in t.PROGRAMS if p.name == 'versitygw'), *pinned_go.find_go()))"
    )
    folder = engines.find().root / "setup"
    told = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return Path(told.stdout.strip().splitlines()[-1])


def lay_out(directory: Path) -> Engines:
    """The engines of this checkout with the jars that their images add for S3, as links in a directory."""
    own = engines.find()
    laid = directory / ".lakehouse" / "engines"
    laid.mkdir(parents=True)
    for name in ("jobs", ".venv", "examples"):
        (directory / name).symlink_to(own.root / name)
    for name in ("java", "kafka"):
        (laid / name).symlink_to(own.home / "engines" / name)
    for kind, source in (("flink", own.flink_home), ("spark", own.spark_jars.parent)):
        (laid / kind).mkdir()
        jars = "lib" if kind == "flink" else "jars"
        for path in source.iterdir():
            if path.name != jars:
                (laid / kind / path.name).symlink_to(path)
        (laid / kind / jars).mkdir()
        for jar in (source / jars).iterdir():
            (laid / kind / jars / jar.name).symlink_to(jar.resolve())
        _add_jars(f"{kind}-aws", laid / kind / jars)
    return engines.find(directory)


def _add_jars(of: str, folder: Path) -> None:
    """Link the jars of a set of `jobs/jars.lock` into a folder, downloaded where they are not there yet."""
    code = (
        "import sys, jars;"
        "chosen = jars.choose(jars.read_lock(), (sys.argv[1],));"
        "print(*jars.Downloads().fetch(chosen).values(), sep='\\n')"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, of],
        cwd=engines.find().root / "setup",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in told.stdout.split():
        jar = Path(line)
        if jar.suffix == ".jar" and not (folder / jar.name).exists():
            (folder / jar.name).symlink_to(jar)


@contextlib.contextmanager
def keys() -> Iterator[None]:
    """The store's keys in this program's environment, where every engine that it starts finds them."""
    before = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
