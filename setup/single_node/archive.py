"""Pack a static program as a container image, in a form that `docker load` and containerd read, without a builder."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pack(target: Path, reference: str, program: Path) -> None:
    """Write an image that holds one program and runs it. The same program makes the same bytes.

    Args:
        target: The archive to write.
        reference: What the image is called, such as ``localhost/pause:1``.
        program: A program that needs no library.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    machine = platform.machine()
    configuration = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    parts = {name: configuration, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    target.write_bytes(_tar(parts, mode=0o644))


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()
