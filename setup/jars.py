"""Download the pinned jars: ``python setup/jars.py SET... [--into DIR]``.

The names, sizes and checksums come from ``jobs/jars.lock``; ``setup/lock_jars.py`` makes that file. This script uses
the standard library alone and reads nothing else of the project, so that a Dockerfile can run it by itself.

A jar is kept in the user's cache under its checksum. It is checked every time it is used, cached or not. A download
that was cut is taken up where it stopped. Two runs at the same time do not disturb each other.

Environment:
    MAVEN_REPOSITORY: Where to download from, in place of Maven Central. The checksums stay the same.
    XDG_CACHE_HOME: Where caches live, by default ``~/.cache``. The jars are in ``lakehouse/jars`` there.
"""

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import itertools
import json
import os
import re
import shutil
import ssl
import sys
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

MAVEN_CENTRAL: Final = "https://repo1.maven.org/maven2"
LOCK_FILE: Final = Path(__file__).resolve().parent.parent / "jobs" / "jars.lock"
BENCHMARK_LOCK_FILE: Final = LOCK_FILE.parent.parent / "benchmarks" / "jars.lock"
"""What only benchmarks need; set-up does not get it."""
LOCK_VERSION: Final = 1
PLACED_FILE: Final = ".jars.json"
"""In a directory filled with ``--into``: which jars this script put there, so that it can take them away again."""

_CHUNK: Final = 1 << 18
_COORDINATES: Final = re.compile(r"([\w.\-]+):([\w.\-]+):([\w.\-]+)(?::([\w.\-]+))?(?:@([\w.]+))?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SET_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class JarError(Exception):
    """Something is wrong with a jar, the lock file or the cache. The message is for the person at the terminal."""


class _CutShort(Exception):
    """A download ended early for a reason that may pass: try again."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar.

    Attributes:
        coordinates: ``group:artifact:version``, or ``group:artifact:version:classifier`` for a further file of it, with
            ``@extension`` at the end if that is no jar.
        sha256: Checksum of the file, 64 lower-case hexadecimal digits.
        size: Length of the file in bytes.
        sets: Names of the sets that need the jar.
    """

    coordinates: str
    sha256: str
    size: int
    sets: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        """Group, artifact, version, classifier (empty for none) and extension."""
        match = _COORDINATES.fullmatch(self.coordinates)
        if match is None:
            raise JarError(f"{self.coordinates!r} are no coordinates of a jar")
        return match[1], match[2], match[3], match[4] or "", match[5] or "jar"

    @property
    def file_name(self) -> str:
        """The jar's file name, as Maven Central has it."""
        _, artifact, version, classifier, extension = self.parts
        return f"{artifact}-{version}{f'-{classifier}' if classifier else ''}.{extension}"

    @property
    def path(self) -> str:
        """Where the jar is, relative to the root of a Maven repository."""
        group, artifact, version, *_ = self.parts
        return f"{group.replace('.', '/')}/{artifact}/{version}/{self.file_name}"


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """Read the lock file and check its form.

    Raises:
        JarError: The file is missing or not a well-formed lock.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JarError(f"there is no lock file {path}: name it with --lock") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JarError(f"{path} is not TOML: {error}") from None
    if content.get("version") != LOCK_VERSION:
        raise JarError(f"{path}: version must be {LOCK_VERSION}, but it is {content.get('version')!r}")
    jars = tuple(_jar(entry, f"{path}: jar {number}") for number, entry in enumerate(content.get("jar", []), start=1))
    names = [jar.file_name for jar in jars]
    for name in names:
        if names.count(name) > 1:
            raise JarError(f"{path}: {name} stands there more than once")
    return jars


def _jar(entry: Mapping[str, Any], where: str) -> Jar:
    """Check one entry of the lock file. What passes here is safe to be part of a path."""
    coordinates, sha256, size, sets = (entry.get(key) for key in ("coordinates", "sha256", "size", "sets"))
    if not isinstance(coordinates, str) or not _COORDINATES.fullmatch(coordinates) or ".." in coordinates:
        raise JarError(f"{where}: coordinates must be group:artifact:version, but they are {coordinates!r}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise JarError(f"{where}: sha256 must be 64 lower-case hexadecimal digits, but it is {sha256!r}")
    if not isinstance(size, int) or size <= 0:
        raise JarError(f"{where}: size must be a number of bytes, but it is {size!r}")
    if not isinstance(sets, list) or not sets or not all(_is_set_name(name) for name in sets):
        raise JarError(f"{where}: sets must be names such as ['flink'], but they are {sets!r}")
    return Jar(coordinates, sha256, size, tuple(sets))


def _is_set_name(name: object) -> bool:
    return isinstance(name, str) and _SET_NAME.fullmatch(name) is not None


def choose(jars: Sequence[Jar], sets: Sequence[str]) -> tuple[Jar, ...]:
    """Return the jars of the named sets, each once, in the order of the lock file.

    Raises:
        JarError: A set is not in the lock file.
    """
    known = {name for jar in jars for name in jar.sets}
    for name in sets:
        if name not in known:
            raise JarError(f"there is no set of jars called {name!r}; the sets are {', '.join(sorted(known))}")
    return tuple(jar for jar in jars if set(jar.sets) & set(sets))


def cache_directory() -> Path:
    """Return the directory in which jars are cached."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse" / "jars"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def alone(lock_file: Path, if_not: str) -> Iterator[None]:
    """Let one process at a time do what follows. The system frees the lock when the process ends, however it ends.

    Args:
        lock_file: The file that stands for the work. It stays.
        if_not: What to say when another process is at it and this one waits.
    """
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(if_not, file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(slots=True)
class Progress:
    """Shows a person how far the downloads are: a bar on a terminal, else one line for each file.

    Attributes:
        stream: Where to write.
        total: How many files there are to download.
    """

    stream: IO[str]
    total: int = 0
    _number: int = 0
    _label: str = ""
    _size: int = 0
    _here: int = 0
    _started: float = 0.0
    _started_with: int = 0
    _drawn: float = 0.0

    def say(self, text: str) -> None:
        """Write one line."""
        self._erase()
        print(text, file=self.stream, flush=True)

    def start(self, jar: Jar, here: int) -> None:
        """Begin to show one file, of which ``here`` bytes have arrived in an earlier run."""
        self._number += 1
        self._label = f"[{self._number}/{self.total}] {jar.file_name}"
        self._size, self._here, self._started_with, self._started = jar.size, here, here, time.monotonic()
        if not self.stream.isatty():
            resumed = f", {_megabytes(here)} of it from an earlier try" if here else ""
            self.say(f"{self._label} ({_megabytes(jar.size)}{resumed})")

    def reached(self, here: int) -> None:
        """Say that ``here`` bytes of the file have arrived."""
        self._here = here
        if self.stream.isatty() and time.monotonic() - self._drawn > 0.1:
            self._drawn = time.monotonic()
            self._draw()

    def done(self) -> None:
        """Say that the file is complete and has the right checksum."""
        if self.stream.isatty():
            self.say(f"{self._label} ({_megabytes(self._size)})")

    def _draw(self) -> None:
        share = min(self._here / self._size, 1.0)
        seconds = max(time.monotonic() - self._started, 0.1)
        speed = _megabytes(int((self._here - self._started_with) / seconds))
        bar = ("#" * int(share * 20)).ljust(20, ".")
        line = f"{self._label} [{bar}] {share:4.0%} of {_megabytes(self._size)}, {speed}/s"
        self.stream.write("\r\x1b[2K" + line[-(shutil.get_terminal_size().columns - 1) :])
        self.stream.flush()

    def _erase(self) -> None:
        if self.stream.isatty():
            self.stream.write("\r\x1b[2K")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@dataclass(frozen=True, slots=True)
class Downloads:
    """Downloads jars into a cache, in which a jar lies under its checksum.

    Attributes:
        cache: The cache's directory; it is made when it is not there.
        repository: Root of a Maven repository, as http or https URL.
        attempts: How often in a row a download may fail without getting further.
        pause_seconds: Pause after the first failure; it doubles with each further one.
        timeout_seconds: How long the server may be silent.
        progress: What shows the progress.
    """

    cache: Path = field(default_factory=cache_directory)
    repository: str = field(default_factory=lambda: os.environ.get("MAVEN_REPOSITORY") or MAVEN_CENTRAL)
    attempts: int = 5
    pause_seconds: float = 1.0
    timeout_seconds: float = 60.0
    progress: Progress = field(default_factory=lambda: Progress(sys.stderr))

    def fetch(self, jars: Sequence[Jar]) -> dict[str, Path]:
        """Return the file of each jar, by file name, after downloading what the cache does not hold.

        Raises:
            JarError: A jar can't be had, or has the wrong checksum.
        """
        if not self.repository.startswith(("https://", "http://")):
            raise JarError(f"MAVEN_REPOSITORY must be an http or https address, but it is {self.repository!r}")
        missing = [jar for jar in jars if not self._is_cached(jar)]
        if missing:
            self.cache.mkdir(parents=True, exist_ok=True)
            with alone(self.cache / "download.lock", "another run is downloading jars: waiting for it"):
                # Another run may have downloaded some of them while this one waited.
                missing = [jar for jar in missing if not self._is_cached(jar)]
                self.progress.total = len(missing)
                for jar in missing:
                    self._download(jar)
        return {jar.file_name: self._cached(jar) for jar in jars}

    def _cached(self, jar: Jar) -> Path:
        return self.cache / f"{jar.sha256}.jar"

    def _url(self, jar: Jar) -> str:
        return f"{self.repository.rstrip('/')}/{urllib.parse.quote(jar.path)}"

    def _is_cached(self, jar: Jar) -> bool:
        path = self._cached(jar)
        if not path.is_file():
            return False
        found = sha256_of(path)
        if found == jar.sha256:
            return True
        self.progress.say(
            f"{jar.file_name} is damaged in the cache: expected sha256 {jar.sha256}, found {found}; getting it again"
        )
        path.unlink(missing_ok=True)
        return False

    def _download(self, jar: Jar) -> None:
        part = self.cache / f"{jar.sha256}.part"
        resumed = part.exists()
        self.progress.start(jar, _size(part))
        self._complete(jar, part)
        found = sha256_of(part)
        if found != jar.sha256 and resumed:
            # What an earlier run left may have been bad: judge a download of this run alone.
            part.unlink()
            self._complete(jar, part)
            found = sha256_of(part)
        if found != jar.sha256:
            size = _size(part)
            part.unlink()
            raise JarError(
                f"{jar.file_name} has the wrong checksum.\n"
                f"  expected sha256 {jar.sha256} ({jar.size} bytes), as the lock file says\n"
                f"  found    sha256 {found} ({size} bytes) at {self._url(jar)}\n"
                "The file was thrown away. Run the command again; if it stays wrong, a proxy or mirror alters the file"
                " (see MAVEN_REPOSITORY) or the lock file is wrong."
            )
        part.chmod(0o444)  # it may be hard-linked elsewhere, so nobody should write into it
        part.replace(self._cached(jar))
        self.progress.done()

    def _complete(self, jar: Jar, part: Path) -> None:
        """Append to the partial file until the server says that it is complete."""
        failures = 0
        while True:
            before = _size(part)
            try:
                self._append(jar, part)
                return
            except _CutShort as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= self.attempts:
                    raise JarError(
                        f"{jar.file_name} could not be downloaded from {self._url(jar)}: {error} ({failures} tries)."
                        " What has arrived is kept: run the command again to go on."
                    ) from None
                self.progress.say(f"{jar.file_name}: {error}, trying again")
                time.sleep(self.pause_seconds * 2 ** (failures - 1))

    def _append(self, jar: Jar, part: Path) -> None:
        """Ask once for what is missing of the partial file.

        Raises:
            _CutShort: The download ended before its end.
        """
        here = _size(part)
        if here > jar.size:
            part.unlink()
            here = 0
        if here == jar.size:
            return
        headers = {"User-Agent": "lakehouse-setup", "Accept-Encoding": "identity"}
        if here:
            headers["Range"] = f"bytes={here}-"
        try:
            request = urllib.request.Request(self._url(jar), headers=headers)
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
                self._save(response, jar, part, here)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            elif error.code not in _TRANSIENT_STATUS:
                raise JarError(f"{jar.file_name}: {self._url(jar)} answers {error.code} {error.reason}") from None
            raise _CutShort(f"the server answered {error.code}") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise JarError(
                    f"the certificate of {self.repository} can't be verified ({error.reason.verify_message});"
                    " on Debian and Ubuntu the known ones come with: apt-get install ca-certificates"
                ) from None
            raise _CutShort(f"no connection ({error.reason})") from None
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise _CutShort(f"the connection broke ({type(error).__name__})") from None

    def _save(self, response: http.client.HTTPResponse, jar: Jar, part: Path, here: int) -> None:
        if here and not (response.headers["Content-Range"] or "").startswith(f"bytes {here}-"):
            part.unlink()
            raise _CutShort("the server does not send the rest alone")
        promised, starts_at = response.headers["Content-Length"], here
        with part.open("ab") as file:
            # One byte more than there may be shows that the file is too long, without filling the disk with it.
            while chunk := response.read(min(_CHUNK, jar.size + 1 - here)):
                file.write(chunk)
                here += len(chunk)
                self.progress.reached(here)
        if promised and here < starts_at + int(promised) and here <= jar.size:
            raise _CutShort(f"the connection broke after {_megabytes(here)}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def place(files: Mapping[str, Path], sets: Sequence[str], directory: Path, jars: Sequence[Jar]) -> None:
    """Put files into a directory, and take away what this script put there before and the lock no longer names.

    Other files in the directory are left alone, so it may be an engine's own ``lib``.

    Args:
        files: The file of each jar of the sets, by file name.
        sets: The sets that the files belong to. What earlier calls placed for other sets stays.
        directory: Where to put them; it is made when it is not there.
        jars: All jars of the lock file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    record = directory / PLACED_FILE
    before: dict[str, list[str]] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    after = {name: names for name, names in before.items() if name not in sets}
    after |= {name: [jar.file_name for jar in jars if name in jar.sets] for name in sets}
    # What may lie there is written down first: a run that is cut then leaves nothing that no later run would remove.
    _record(record, {name: sorted({*before.get(name, []), *after[name]}) for name in after})
    for name, source in files.items():
        _link_or_copy(source, directory / name)
    for name in set(itertools.chain(*before.values())) - set(itertools.chain(*after.values())):
        (directory / name).unlink(missing_ok=True)
    _record(record, after)


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists() and (target.samefile(source) or sha256_of(target) == sha256_of(source)):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _record(path: Path, placed: Mapping[str, Sequence[str]]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(placed, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Download what the command line names. Return the exit code."""
    parser = argparse.ArgumentParser(prog="jars.py", description="Download pinned jars from Maven Central.")
    parser.add_argument("sets", nargs="+", metavar="SET", help="a set of jars that the lock file names, such as flink")
    parser.add_argument("--into", type=Path, metavar="DIR", help="put the jars into DIR; else their paths are printed")
    parser.add_argument("--lock", type=Path, default=LOCK_FILE, metavar="FILE", help="the lock file (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        jars = read_lock(options.lock)
        chosen = choose(jars, options.sets)
        files = Downloads().fetch(chosen)
        if options.into:
            place(files, options.sets, options.into, jars)
            print(f"{len(files)} jars are in {options.into}", file=sys.stderr)
        else:
            print(*files.values(), sep="\n")
    except JarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; the jars are cached in {cache_directory()} (see XDG_CACHE_HOME)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what has arrived is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
