"""Build the image that holds the namespaces of a pod, from the dozen lines of Go in `control-plane/pause`."""

import hashlib
import os
import platform
from pathlib import Path

import pinned_go
from single_node import archive
from single_node.node import Image

NAME = "localhost/lakehouse-pause"


def make() -> Image:
    """The image. It is built once, and its checksum is looked at each time.

    Raises:
        pinned_go.SetupError: if it has to be built and that is impossible here.
    """
    go, version = pinned_go.find_go()
    inputs = [Path(__file__), Path(archive.__file__), *sorted((pinned_go.MODULES / "pause").iterdir())]
    key = pinned_go.key_of(inputs, version, platform.machine())
    reference = f"{NAME}:{key}"
    folder = pinned_go.cached("pause", key, lambda folder: _make(go, folder, reference), _is_whole)
    return Image(reference, folder / "pause.tar")


def _make(go: Path, folder: Path, reference: str) -> None:
    os.nice(5)
    pinned_go.build(go, "pause", folder / "pause", ".", "-s -w")
    archive.pack(folder / "pause.tar", reference, folder / "pause")
    (folder / "pause.tar.sha256").write_text(_checksum(folder))


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / "pause.tar.sha256").read_text() == _checksum(folder)
    except FileNotFoundError:
        return False


def _checksum(folder: Path) -> str:
    return hashlib.sha256((folder / "pause.tar").read_bytes()).hexdigest()
