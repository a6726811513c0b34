"""Get what the tests of catalogs and object stores start: ``python setup/catalog_programs.py``.

It prints one ``NAME=path`` per line:

================= ====================================================================================================
``postgres``      The folder with PostgreSQL's programs. Debian's package is installed if there is none.
``hive``          The distribution of a Hive Metastore, unpacked, and a Hadoop for it.
``rest-catalog``  A folder with the jars of a server of Iceberg's REST protocol, ours among them.
``versitygw``     An object store.
``minio``         Another one.
``flink-lib``     A folder with the jars that the image of Flink has in its ``lib`` beside those of ``make setup``.
``flink-s3``      A folder with Flink's plugin for S3.
``spark-jars``    A folder with the jars that the image of Spark has beside those of ``make setup``.
================= ====================================================================================================

All but PostgreSQL lies in the user's cache, under a hash of what it is made of.
"""

import hashlib
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import debian
import envelope_format
import jars
import java
import pinned_go
import testbed_programs
from pinned_go import SetupError

REST_SOURCES: Final = Path(__file__).resolve().parent.parent / "tests" / "catalogs" / "rest-catalog"
REST_SETS: Final = ("rest-catalog", "flink-aws", "postgres")
HIVE_SETS: Final = ("hive-metastore", "postgres")
IMAGE_SETS: Final = {
    "flink-lib": ("flink-aws", "postgres", "flink-hive"),
    "flink-s3": ("flink-s3",),
    "spark-jars": ("spark-aws", "postgres"),
}
"""What the images get beside the engines that ``make setup`` lays out."""

_DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql")


def main() -> int:
    """Print where everything is. Return the exit code."""
    try:
        home = java.find_or_install(os.environ).home
        found = {"postgres": postgres(), "hive": hive_metastore(), "rest-catalog": rest_catalog(home)}
        found |= {name: jars_of(name, sets) for name, sets in IMAGE_SETS.items()}
        versitygw = next(each for each in testbed_programs.PROGRAMS if each.name == "versitygw")
        found |= {path.name: path for path in testbed_programs.programs((versitygw, testbed_programs.MINIO))}
    except (SetupError, debian.CannotInstall, envelope_format.DoesNotCompile, jars.JarError, OSError) as problem:
        print(f"setup/catalog_programs.py: {problem}", file=sys.stderr)
        return 1
    for name, path in found.items():
        print(f"{name}={path}")
    return 0


def postgres() -> Path:
    """The folder with ``initdb`` and ``postgres``: the newest that Debian's packages have put here, or one on the path.

    Raises:
        debian.CannotInstall: There is none, and a person has to install it.
    """
    for attempt in (1, 2):
        versions = [path for path in _DEBIAN_POSTGRES.glob("*/bin") if (path / "initdb").exists()]
        if versions:
            return max(versions, key=lambda path: int(re.sub(r"\D.*", "", path.parent.name) or 0))
        if (on_path := shutil.which("initdb")) and shutil.which("postgres"):
            return Path(on_path).resolve().parent
        if attempt == 1:
            debian.install(("postgresql",), "the tests of catalogs need PostgreSQL")
    raise debian.CannotInstall("PostgreSQL is installed, but its programs are not in /usr/lib/postgresql/*/bin")


def jars_of(name: str, sets: Sequence[str]) -> Path:
    """A folder with the jars of these sets and nothing else.

    Raises:
        jars.JarError: One of them can't be had.
    """
    chosen = jars.choose(jars.read_lock(), sets)
    return _cached(name, chosen, "", lambda folder: _copy(jars.Downloads().fetch(chosen), folder))


def rest_catalog(java_home: Path) -> Path:
    """A folder with the jars of the REST server; its main class is ``dev.lakehouse.testbed.RestCatalog``.

    Raises:
        jars.JarError: A jar can't be had.
        envelope_format.DoesNotCompile: Our part of it does not compile.
    """
    chosen = jars.choose(jars.read_lock(), REST_SETS)

    def make(folder: Path) -> None:
        files = jars.Downloads().fetch(chosen)
        envelope_format.build(folder / "rest-catalog.jar", files.values(), java_home, REST_SOURCES)
        _copy(files, folder)

    return _cached("rest-catalog", chosen, envelope_format.fingerprint(REST_SOURCES), make)


def hive_metastore() -> Path:
    """The unpacked distribution of Hive's Metastore: ``lib`` and ``scripts``, and ``hadoop`` for the class path's end.

    Raises:
        jars.JarError: It can't be had.
    """
    chosen = jars.choose(jars.read_lock(), HIVE_SETS)

    def make(folder: Path) -> None:
        files = jars.Downloads().fetch(chosen)
        (archive,) = [name for name in files if name.endswith(".tar.gz")]
        with tarfile.open(files.pop(archive)) as packed:
            for member in packed:
                if (content := packed.extractfile(member)) is not None:
                    target = folder / member.name.partition("/")[2]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
        hadoop = {name: files.pop(name) for name in list(files) if "hadoop" in name}
        _copy(hadoop, folder / "hadoop")
        _copy(files, folder / "lib")

    return _cached("hive-metastore", chosen, "", make)


def _cached(name: str, chosen: Sequence[jars.Jar], more: str, make: Callable[[Path], None]) -> Path:
    words = (name, more, *(jar.sha256 for jar in chosen))
    return pinned_go.cached(
        name,
        pinned_go.key_of([Path(__file__)], *words),
        make=lambda folder: _and_seal(make, folder),
        is_good=lambda folder: _seal_of(folder) == _read(folder / "seal"),
    )


def _and_seal(make: Callable[[Path], None], folder: Path) -> None:
    make(folder)
    (folder / "seal").write_text(_seal_of(folder), encoding="utf-8")


def _seal_of(folder: Path) -> str:
    """What files there are, and how large: jars are checked when they are fetched, here only whether all are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "seal")
    listing = "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _copy(files: dict[str, Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        try:
            (folder / name).hardlink_to(source)
        except OSError:  # another file system
            shutil.copyfile(source, folder / name)


if __name__ == "__main__":
    sys.exit(main())
