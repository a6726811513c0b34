"""A Maven repository on this machine that misbehaves as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class Repository:
    """What the server has, what it does wrong, and what it was asked.

    Attributes:
        files: The content by path, without the slash at the start.
        answers: For the next requests, one each: `cut:N` closes the connection after N bytes, `no-range` ignores the
            range, a number is a status. When there is none left, all goes well.
        requests: Path and range of each request so far.
        gate: A request waits until it is open.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    repository: ClassVar[Repository]

    def do_GET(self) -> None:
        repository = self.repository
        repository.requests.append((self.path[1:], self.headers.get("Range", "")))
        repository.gate.wait(30)
        answer = repository.answers.pop(0) if repository.answers else ""
        content = repository.files.get(self.path[1:])
        if content is None or answer.isdigit():
            self.send_error(int(answer or 404))
            return
        start = 0
        if "Range" in self.headers and answer != "no-range":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: int(answer.removeprefix("cut:"))] if answer.startswith("cut:") else body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Repository]:
    """Serve a repository, whose gate is open, on a free port."""
    repository = Repository()
    repository.gate.set()
    handler = type("Handler", (_Handler,), {"repository": repository})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        repository.url = f"http://127.0.0.1:{server.server_address[1]}/maven2"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield repository
        finally:
            repository.gate.set()
            server.shutdown()
            thread.join()
