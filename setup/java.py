"""Find Java 17 or 21, or install it: ``python setup/java.py`` prints the JAVA_HOME.

Flink 2.1 and Spark 4.1 run on Java 17 and 21. A headless JRE is enough: nothing here needs a JDK.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import debian

SUPPORTED: Final = (17, 21)
PACKAGES: Final = ("openjdk-17-jre-headless", "openjdk-21-jre-headless")
"""Debian 12 has the first, Debian 13 the second, Ubuntu 22.04 and 24.04 both."""
NEEDED_MODULE: Final = "jdk.incubator.vector"
"""Spark's launcher asks for it, and trimmed runtimes lack it."""

_VERSION: Final = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)
_MODULES: Final = re.compile(r'^MODULES="([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime on this machine.

    Attributes:
        home: Its JAVA_HOME.
        version: Its major version, such as 17.
        complete: Whether it has the modules that the engines need.
    """

    home: Path
    version: int
    complete: bool

    @property
    def fits(self) -> bool:
        """Whether the engines run on it."""
        return self.version in SUPPORTED and self.complete


def choose(found: Iterable[Java]) -> Java | None:
    """Return the first Java that fits."""
    return next((java for java in found if java.fits), None)


def parse_release(home: Path, text: str) -> Java | None:
    """Read the ``release`` file that lies in every JAVA_HOME, or what Java says of itself in the same form."""
    version = _VERSION.search(text)
    modules = _MODULES.search(text)
    if version is None:
        return None
    return Java(home, int(version[1]), modules is None or NEEDED_MODULE in modules[1].split())


def candidates(environment: Mapping[str, str], folder: Path = Path("/usr/lib/jvm")) -> Iterator[Path]:
    """Yield each directory that may be a JAVA_HOME: the variable's, the one on the PATH, then the system's."""
    if environment.get("JAVA_HOME"):
        yield Path(environment["JAVA_HOME"])
    command = shutil.which("java", path=environment.get("PATH"))
    if command:
        yield Path(command).resolve().parent.parent
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def inspect(home: Path) -> Java | None:
    """Return what Java is in a directory, if there is one that runs."""
    command = home / "bin" / "java"
    if not os.access(command, os.X_OK):
        return None
    release = home / "release"
    if release.is_file():
        java = parse_release(home, release.read_text(encoding="utf-8", errors="replace"))
        if java is not None:
            return java
    return _ask(command)


def _ask(command: Path) -> Java | None:
    """Ask Java itself: on the PATH may be a wrapper script, which is not where its Java is."""
    try:
        answer = subprocess.run(
            [command, "-XshowSettings:properties", "-version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    home = re.search(r"^ *java\.home = (.+)$", answer.stderr, re.MULTILINE)
    version = re.search(r"^ *java\.specification\.version = (.+)$", answer.stderr, re.MULTILINE)
    if home is None or version is None:
        return None
    return parse_release(Path(home[1].strip()), f'JAVA_VERSION="{version[1].strip()}"')


def find(environment: Mapping[str, str]) -> Java | None:
    """Return a Java that fits and is on this machine."""
    return choose(java for path in candidates(environment) if (java := inspect(path)))


def find_or_install(environment: Mapping[str, str]) -> Java:
    """Return a Java that fits, after installing one if need be and if that may be done.

    Raises:
        debian.CannotInstall: There is none, and a person has to install one.
    """
    java = find(environment)
    if java is None:
        why = f"Flink and Spark need Java {' or '.join(str(version) for version in SUPPORTED)}, and there is none here"
        debian.install(PACKAGES, why)
        java = find(environment)
        if java is None:
            raise debian.CannotInstall(f"{why}, though apt-get has installed one: set JAVA_HOME to it")
    wished = environment.get("JAVA_HOME")
    if wished and java.home != Path(wished):
        print(f"JAVA_HOME ({wished}) is not a Java that the engines run on: using {java.home}", file=sys.stderr)
    return java


def main() -> int:
    """Print the JAVA_HOME. Return the exit code."""
    try:
        print(find_or_install(os.environ).home)
    except debian.CannotInstall as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
