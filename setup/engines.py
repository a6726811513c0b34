"""Lay out the engines of this machine under ``.lakehouse/engines``.

======================= ============================================================================================
``java``                A link to the JAVA_HOME.
``flink``               A FLINK_HOME: PyFlink's distribution, the jars of the set ``flink`` and the envelope format.
``kafka/libs``          The class path of a broker.
``spark/jars``          What Spark needs beside PySpark's own jars.
``envelope-format.jar`` This project's format for Flink, compiled from ``jobs/envelope-format``.
======================= ============================================================================================

Each part has a stamp and is made again only when something that goes into it has changed.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import envelope_format
import environments
import jars
from environments import ROOT

ENGINES: Final = ROOT / ".lakehouse" / "engines"
JAVA_HOME: Final = ENGINES / "java"
FLINK_HOME: Final = ENGINES / "flink"
KAFKA_LIBS: Final = ENGINES / "kafka" / "libs"
SPARK_JARS: Final = ENGINES / "spark" / "jars"
ENVELOPE_FORMAT: Final = ENGINES / "envelope-format.jar"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the layout.

    Attributes:
        name: Its name, for the stamp.
        result: What there is when it has been made.
        sets: The sets of jars that go into it.
        inputs: What else goes into it, in words that change when it does.
        build: Makes it, given the jars of its sets by file name.
    """

    name: str
    result: Path
    sets: tuple[str, ...]
    inputs: tuple[str, ...]
    build: Callable[[Mapping[str, Path]], None]

    @property
    def stamp(self) -> Path:
        """The file that says with what the part was made."""
        return ENGINES / f"{self.name}.stamp"

    def wanted(self, locked: Sequence[jars.Jar]) -> str:
        """Return what must stand in the stamp for the part to be up to date."""
        ingredients = (*self.inputs, *(jar.sha256 for jar in jars.choose(locked, self.sets)))
        return hashlib.sha256("\n".join((_HERE, *ingredients)).encode()).hexdigest()

    def is_current(self, locked: Sequence[jars.Jar]) -> bool:
        """Say whether the part is up to date."""
        if not self.result.exists() or not self.stamp.is_file():
            return False
        return self.stamp.read_text(encoding="utf-8") == self.wanted(locked)


_HERE: Final = f"{ROOT} {jars.sha256_of(Path(__file__))}"
"""Goes into each stamp: links are absolute, and this script decides what is made."""


def make(java_home: Path) -> None:
    """Bring all engines up to date. The environments have to be there.

    Args:
        java_home: The Java that the engines run on.

    Raises:
        jars.JarError: A jar can't be had.
        envelope_format.DoesNotCompile: The Java sources do not compile.
    """
    locked = jars.read_lock()
    _link(JAVA_HOME, java_home.resolve())  # the variable may name this very link
    stale = [part for part in _parts(locked) if not part.is_current(locked)]
    if not stale:
        return
    files = jars.Downloads().fetch(jars.choose(locked, [name for part in stale for name in part.sets]))
    for part in stale:
        part.stamp.unlink(missing_ok=True)
        wanted = part.wanted(locked)
        part.build({jar.file_name: files[jar.file_name] for jar in jars.choose(locked, part.sets)})
        part.stamp.write_text(wanted, encoding="utf-8")


def _parts(locked: Sequence[jars.Jar]) -> tuple[Part, ...]:
    flink = environments.stamp_of(environments.FLINK)
    return (
        Part("kafka", KAFKA_LIBS, ("kafka",), (), lambda files: jars.place(files, ["kafka"], KAFKA_LIBS, locked)),
        Part("spark", SPARK_JARS, ("spark",), (), lambda files: jars.place(files, ["spark"], SPARK_JARS, locked)),
        # Before Flink, whose lib links to it.
        Part("envelope-format", ENVELOPE_FORMAT, ("flink",), (flink, envelope_format.fingerprint()), _compile),
        Part("flink", FLINK_HOME, ("flink",), (flink,), _make_flink_home),
    )


def _compile(files: Mapping[str, Path]) -> None:
    print("compiling the envelope format", file=sys.stderr)
    classpath = [*sorted((_pyflink() / "lib").glob("*.jar")), *files.values()]
    envelope_format.build(ENVELOPE_FORMAT, classpath, JAVA_HOME)


def _make_flink_home(files: Mapping[str, Path]) -> None:
    """Make a FLINK_HOME beside the old one and put it in its place.

    Flink's scripts find their home by where they really are, so they are copied, as is the configuration; the rest is
    linked.
    """
    print("making the FLINK_HOME", file=sys.stderr)
    new = FLINK_HOME.with_name("flink.new")
    shutil.rmtree(new, ignore_errors=True)  # what a run left that was stopped here
    pyflink = _pyflink()
    for name in ("bin", "conf"):
        shutil.copytree(pyflink / name, new / name)
    for name in ("lib", "opt", "plugins"):
        shutil.copytree(pyflink / name, new / name, copy_function=_link_to)
    (new / "log").mkdir()
    jars.place(files, ["flink"], new / "lib", jars.read_lock())
    (new / "lib" / ENVELOPE_FORMAT.name).symlink_to(ENVELOPE_FORMAT)
    if FLINK_HOME.exists():
        shutil.rmtree(FLINK_HOME)
    new.replace(FLINK_HOME)


def _pyflink() -> Path:
    return next(environments.FLINK.path.glob("lib/python3.*/site-packages/pyflink"))


def _link_to(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f"{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
