"""What all that is built of pinned Go modules has in common: the modules, the Go toolchain and the cache.

A folder below ``CACHE`` carries in its name a hash of everything that went into it, so a change of a pin, of the script
or of the Go toolchain never meets old files. It appears by a rename when it is complete, and what is in it is checked
each time before it is offered.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

MODULES = Path(__file__).resolve().parent / "control-plane"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse"

OLDEST_GO = (1, 26)
# What an older Go fetches through the module proxy, checked against the public checksum database.
GO_TOOLCHAIN = "go1.26.8"


class SetupError(Exception):
    """Something is missing on this machine; the message says what to do."""


def cached(kind: str, key: str, make: Callable[[Path], None], is_good: Callable[[Path], bool]) -> Path:
    """The folder of this kind and key; made first if it is missing or no good. One process makes, others wait."""
    home = CACHE / kind
    folder = home / key
    if is_good(folder):
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / "lock"):
        if is_good(folder):
            return folder
        # With the lock in hand, a draft that lies around is one of a run that was killed.
        for old in (folder, *home.glob(".making-*")):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
            draft = Path(scratch) / key
            draft.mkdir()
            make(draft)
            if not is_good(draft):
                raise SetupError(f"what was made for {folder} does not pass its own check; this is a bug")
            draft.rename(folder)
    return folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def key_of(files: list[Path], *words: str) -> str:
    """The key of what is made of these files and words, with the rules of this module."""
    digest = hashlib.sha256()
    for part in [*(file.read_bytes() for file in (Path(__file__), *files)), *(word.encode() for word in words)]:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def problem_with(program: Path, arguments: list[str], expected: str | None) -> str | None:
    """Why a program can't be used, or None.

    Args:
        program: The program.
        arguments: What makes it say its version.
        expected: A line that it has to say then; None if any version will do.
    """
    try:
        answer = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program.name} does not run there ({error})"
    if answer.returncode != 0:
        return f"{program.name} ends with code {answer.returncode}"
    if expected is not None and expected not in answer.stdout.splitlines():
        return f"{program.name} does not say {expected!r}"
    return None


def build(go: Path, module: str, target: Path, package: str, linker: str) -> None:
    """Build one program.

    Args:
        go: The Go command.
        module: The folder below ``MODULES`` whose go.mod and go.sum say what is built.
        target: The program to write.
        package: Its main package.
        linker: What the linker is told.

    Raises:
        SetupError: if it does not compile.
    """
    print(f"building {target.name} ...", file=sys.stderr, flush=True)
    run(go, module, "build", "-trimpath", "-ldflags", linker, "-o", str(target), package)


def run(go: Path, module: str, *arguments: str) -> str:
    """Run the Go command in one of our modules: nothing but what its go.sum allows."""
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    environment.pop("GOROOT", None)
    done = subprocess.run(
        [go, *arguments], cwd=MODULES / module, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise SetupError(f"'go {' '.join(arguments)}' failed in {MODULES / module}; its messages are above")
    return done.stdout


def find_go() -> tuple[Path, str]:
    """A Go command that is new enough, and its version and platform.

    An older one can fetch a newer one: since Go 1.21 toolchains are modules, and any Go can download a module.
    """
    found = shutil.which("go")
    if found is None:
        raise SetupError(
            "needs Go: install Debian's 'golang-go' (any version will do, it fetches "
            f"{GO_TOOLCHAIN} itself) or Go from https://go.dev/dl/"
        )
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run([found, "version"], env=environment, capture_output=True, text=True, check=False).stdout
    version = re.fullmatch(r"go version go(\d+)\.(\d+)\S*.* (\w+)/(\w+)\s*", answer)
    if version is None:
        raise SetupError(f"{found} does not say its version (it says {answer!r}); install Go from https://go.dev/dl/")
    if (int(version[1]), int(version[2])) >= OLDEST_GO:
        return Path(found), answer.strip()
    system, machine = version[3], version[4]
    return _newer_go(Path(found), system, machine), f"go version {GO_TOOLCHAIN} {system}/{machine}"


def _newer_go(old_go: Path, system: str, machine: str) -> Path:
    module = f"golang.org/toolchain@v0.0.1-{GO_TOOLCHAIN}.{system}-{machine}"
    with tempfile.TemporaryDirectory() as outside_of_any_module:
        done = subprocess.run(
            [old_go, "mod", "download", "-json", module],
            cwd=outside_of_any_module,
            env=os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": ""},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    folder = json.loads(done.stdout or "{}").get("Dir")
    if done.returncode != 0 or not folder:
        oldest = ".".join(map(str, OLDEST_GO))
        raise SetupError(
            f"{old_go} is older than {oldest} and could not fetch {GO_TOOLCHAIN}; install Go from https://go.dev/dl/"
        )
    # A module's files are not executable; the go command does the same to a toolchain that it fetches for itself.
    for program in (*Path(folder).glob("bin/*"), *Path(folder).glob("pkg/tool/*/*")):
        if not os.access(program, os.X_OK):
            program.chmod(0o555)
    return Path(folder) / "bin" / "go"
