"""Compile the envelope format for Flink: ``python setup/envelope_format.py --classpath DIR... --into FILE``.

Its Java sources are in ``jobs/envelope-format``. The compiler is a pinned jar (set ``build`` of ``jobs/jars.lock``)
that runs on a JRE. The same sources, compiler and class path give the same bytes.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import debian
import jars
import java

SOURCES: Final = Path(__file__).resolve().parent.parent / "jobs" / "envelope-format" / "src" / "main"
JAVA_RELEASE: Final = "17"
"""The oldest Java that has to run it."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MANIFEST: Final = "Manifest-Version: 1.0\r\n\r\n"


class DoesNotCompile(Exception):
    """The compiler refused the sources. It has said why on standard error."""


def fingerprint(sources: Path = SOURCES) -> str:
    """Return a checksum of all that goes into the jar: sources, resources, and this script with its settings."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in _files(sources):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(sources)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build(target: Path, classpath: Iterable[Path], java_home: Path, sources: Path = SOURCES) -> None:
    """Compile the sources and write the jar.

    Args:
        target: The jar to write.
        classpath: The jars to compile against: those of Flink.
        java_home: The Java that runs the compiler.
        sources: The directory with ``java`` and ``resources``.

    Raises:
        DoesNotCompile: The compiler refused the sources.
        jars.JarError: The compiler could not be had.
    """
    compiler = jars.Downloads().fetch(jars.choose(jars.read_lock(), ["build"])).values()
    with tempfile.TemporaryDirectory(prefix="envelope-format-") as scratch:
        classes = Path(scratch)
        command: list[str | Path] = [
            # One compilation of a few files: the quick start counts, not the speed later.
            *(java_home / "bin" / "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            *("-cp", os.pathsep.join(str(path) for path in compiler), "org.eclipse.jdt.internal.compiler.batch.Main"),
            *("-source", JAVA_RELEASE, "-target", JAVA_RELEASE, "-encoding", "UTF-8", "-proc:none", "-g", "-nowarn"),
            *("-classpath", os.pathsep.join(str(path) for path in classpath), "-d", classes),
            *(path for path in _files(sources / "java") if path.suffix == ".java"),
        ]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise DoesNotCompile(f"the Java sources in {sources} do not compile, see above")
        _pack(target, [classes, sources / "resources"])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _pack(target: Path, folders: Sequence[Path]) -> None:
    """Write a jar whose bytes depend on the files alone: sorted, of one date, and not compressed."""
    entries = {path.relative_to(folder).as_posix(): path for folder in folders for path in _files(folder)}
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as jar:
        jar.writestr(_entry("META-INF/MANIFEST.MF"), _MANIFEST)
        for name in sorted(entries):
            jar.writestr(_entry(name), entries[name].read_bytes())
    temporary.replace(target)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the jar that the command line asks for. Return the exit code."""
    parser = argparse.ArgumentParser(prog="envelope_format.py", description="Compile the envelope format for Flink.")
    parser.add_argument(
        "--classpath", type=Path, nargs="+", required=True, metavar="DIR", help="directories with the jars of Flink"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="FILE", help="the jar to write")
    options = parser.parse_args(arguments)
    classpath = [path for folder in options.classpath for path in sorted(folder.glob("*.jar"))]
    try:
        build(options.into, classpath, java.find_or_install(os.environ).home)
    except (DoesNotCompile, jars.JarError, debian.CannotInstall, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
