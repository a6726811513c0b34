"""Find uv, or install the pinned one into the user's cache: ``python setup/uv.py`` prints its path.

The pinned version and the checksums of its wheels are in ``setup/uv.txt``.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import debian

MINIMUM: Final = (0, 9)
"""The oldest uv that this project's lock file was tried with."""
REQUIREMENTS: Final = Path(__file__).resolve().parent / "uv.txt"

_VERSION: Final = re.compile(r"uv (\d+)\.(\d+)")
_PINNED: Final = re.compile(r"^uv==(\S+)", re.MULTILINE)


def new_enough(version: str) -> bool:
    """Say whether the answer of ``uv --version`` is that of a uv that fits."""
    match = _VERSION.match(version)
    return match is not None and (int(match[1]), int(match[2])) >= MINIMUM


def find_or_install() -> Path:
    """Return a uv that fits: the one on the PATH, the one installed before, or one installed now.

    Raises:
        debian.CannotInstall: There is none, and a person has to install one.
    """
    on_path = shutil.which("uv")
    if on_path and new_enough(_version(Path(on_path))):
        return Path(on_path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse"
    pinned = _pinned_version()
    own = cache / f"uv-{pinned}" / "uv"
    if _version(own) != f"uv {pinned}":
        print(f"installing uv {pinned} into {own.parent}", file=sys.stderr)
        _install(own)
    return own


def _pinned_version() -> str:
    match = _PINNED.search(REQUIREMENTS.read_text(encoding="utf-8"))
    if match is None:
        raise debian.CannotInstall(f"{REQUIREMENTS} does not pin uv")
    return match[1]


def _version(uv: Path) -> str:
    """Return ``uv 0.13.9`` of ``uv 0.13.9 (x86_64-unknown-linux-gnu)``, or nothing if it does not run."""
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(answer.stdout.split()[:2])


def _install(own: Path) -> None:
    """Install uv with pip into a scratch directory, and keep its program, which needs nothing beside it."""
    why = "uv is installed with pip, and this Python has neither pip nor venv"
    way = _way()
    if way is None:
        debian.install(("python3-venv",), why)
        way = _way()
    if way is None:
        raise debian.CannotInstall(f"{why}, though apt-get has installed python3-venv: install uv {_pinned_version()}")
    own.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=own.parent) as scratch:
        try:
            way(Path(scratch))
        except subprocess.CalledProcessError:
            raise debian.CannotInstall("pip could not install uv, see above: try again, or install uv") from None
        # Renamed, so that another run never sees half of it.
        (Path(scratch) / "bin" / "uv").replace(own)


def _way() -> Callable[[Path], None] | None:
    """Return how pip can be had: by this Python or by the system's, through venv or as it is."""
    for python in _pythons():
        if _has(python, "ensurepip"):
            return partial(_with_venv, python)
        if _has(python, "pip"):
            return partial(_with_pip, [python, "-m", "pip"], "--target")
    return None


def _pythons() -> Iterator[str]:
    yield sys.executable
    yield "/usr/bin/python3"


def _has(python: str, module: str) -> bool:
    check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _with_venv(python: str, scratch: Path) -> None:
    subprocess.run([python, "-m", "venv", scratch], stdout=sys.stderr, check=True)
    _with_pip([str(scratch / "bin" / "python"), "-m", "pip"])


def _with_pip(pip: list[str], *options: str | Path) -> None:
    # A target of its own is what pip allows in a Python that belongs to the system (PEP 668).
    command = [*pip, "--disable-pip-version-check", "install", "--quiet", "--require-hashes", "--only-binary=:all:"]
    subprocess.run([*command, *options, "-r", REQUIREMENTS], stdout=sys.stderr, check=True)


def main() -> int:
    """Print the path of uv. Return the exit code."""
    try:
        print(find_or_install())
    except debian.CannotInstall as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
