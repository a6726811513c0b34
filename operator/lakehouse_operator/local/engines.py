"""Where the engines lie that `make setup` has put on this machine."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~-]+")
"""Paths become URIs, class paths, properties and SQL literals, each with rules of its own about other characters."""


class EngineMissing(Exception):
    """Something that the local world needs is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The parts that local runs are made of.

    Attributes:
        root: The checkout of the repository.
    """

    root: Path

    @property
    def home(self) -> Path:
        """Where set-up and worlds are kept."""
        return self.root / ".lakehouse"

    @property
    def java(self) -> Path:
        """The `java` program."""
        return self.home / "engines" / "java" / "bin" / "java"

    @property
    def jobs(self) -> Path:
        """The folder that the jobs' Python packages are imported from."""
        return self.root / "jobs"

    @property
    def kafka_libraries(self) -> Path:
        """The broker's jars."""
        return self.home / "engines" / "kafka" / "libs"

    @property
    def flink_home(self) -> Path:
        """PyFlink's distribution with the connector jars added."""
        return self.home / "engines" / "flink"

    @property
    def flink_python(self) -> Path:
        """The Python that has PyFlink."""
        return self.root / ".venv" / "flink" / "bin" / "python"

    @property
    def operator_python(self) -> Path:
        """The Python that has this package, pyiceberg and DuckDB."""
        return self.root / ".venv" / "operator" / "bin" / "python"

    @property
    def command(self) -> Path:
        """The `lakehouse` command."""
        return self.operator_python.with_name("lakehouse")

    @property
    def spark_jars(self) -> Path:
        """The jars that Spark needs on top of its own."""
        return self.home / "engines" / "spark" / "jars"

    @property
    def spark_python(self) -> Path:
        """The Python that has PySpark."""
        return self.root / ".venv" / "spark" / "bin" / "python"

    def java_environment(self) -> Mapping[str, str]:
        """Variables with which every engine's own scripts use this Java."""
        return MappingProxyType({"JAVA_HOME": str(self.java.parent.parent)})


def find(root: Path | None = None) -> Engines:
    """Find the engines of a checkout (by default the one that this package is in).

    Raises:
        EngineMissing: There is no checkout, it lies where engines can't work, or set-up has not been run in it.
    """
    root = root or Path(os.environ.get("LAKEHOUSE_ROOT") or Path(__file__).resolve().parents[3])
    if not (root / "jobs" / "lakehouse_jobs").is_dir():
        raise EngineMissing(f"{root} is not a checkout of the repository, which local runs need: set LAKEHOUSE_ROOT")
    if not _PLAIN_PATH.fullmatch(str(root)):
        raise EngineMissing(
            f"the engines can't work in {root!s}: move the checkout to a path of letters, digits and ._+@~-"
        )
    engines = Engines(root)
    needed = (
        engines.java, engines.kafka_libraries, engines.flink_home, engines.spark_jars,
        engines.flink_python, engines.spark_python,
    )  # fmt: skip
    missing = [str(path.relative_to(root)) for path in needed if not path.exists()]
    if missing:
        raise EngineMissing(f"not in {root}: {', '.join(missing)}; run `make setup`")
    return engines
