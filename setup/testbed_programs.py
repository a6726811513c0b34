"""Build the Go programs of the tests from pinned modules: object stores, and the operator of Spark.

``PROGRAMS`` are those of the testbed's image; ``MINIO`` is for the tests of object stores on this machine alone.
They are made as ``pinned_go.py`` says: cached by the hash of all that goes in, and asked for their versions each time.
"""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pinned_go
from pinned_go import MODULES, SetupError


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        name: Its file name, and the name of the folder below ``setup/control-plane`` that pins its module.
        package: Its main package.
        stamp: What the linker is told beside to leave symbols out.
        question: What makes it say its version.
        answer: A line that it has to say then.
    """

    name: str
    package: str
    stamp: str
    question: tuple[str, ...]
    answer: str


PROGRAMS: Final = (
    Program(
        "versitygw",
        "github.com/versity/versitygw/cmd/versitygw",
        "-X main.Version=v1.8.0",
        ("--version",),
        "Version  : v1.8.0",
    ),
    Program(
        "spark-operator",
        "github.com/kubeflow/spark-operator/v2/cmd/operator",
        "-X github.com/kubeflow/spark-operator/v2.version=2.4.0",
        ("version", "--short"),
        "Spark Operator Version: 2.4.0+unknown",
    ),
)

MINIO: Final = Program(
    "minio",
    "github.com/minio/minio",
    "-X github.com/minio/minio/cmd.ReleaseTag=2026-02-12 -X github.com/minio/minio/cmd.CommitID=7aac2a2c5b7c",
    ("--version",),
    "minio version 2026-02-12 (commit-id=7aac2a2c5b7c)",
)
"""The project is archived; this is the last commit that can be had as a Go module."""


def main() -> int:
    """Build them and print where they are, one ``NAME=path`` per line."""
    try:
        for path in programs():
            print(f"{path.name}={path}")
    except SetupError as problem:
        print(f"setup/testbed_programs.py: {problem}", file=sys.stderr)
        return 1
    return 0


def programs(wanted: Sequence[Program] = PROGRAMS) -> list[Path]:
    """The programs, by default those of the testbed's image.

    Raises:
        SetupError: if one has to be built and that is impossible here.
    """
    go, version = pinned_go.find_go()
    return [_built(program, go, version) for program in wanted]


def _built(program: Program, go: Path, version: str) -> Path:
    inputs = [Path(__file__), *sorted(MODULES.glob(f"{program.name}/go.*"))]
    folder = pinned_go.cached(
        program.name,
        pinned_go.key_of(inputs, version, platform.machine()),
        make=lambda folder: _build(program, go, folder),
        is_good=lambda folder: (
            pinned_go.problem_with(folder / program.name, list(program.question), program.answer) is None
        ),
    )
    return folder / program.name


def _build(program: Program, go: Path, folder: Path) -> None:
    os.nice(5)
    pinned_go.build(go, program.name, folder / program.name, program.package, f"-s -w {program.stamp}")


if __name__ == "__main__":
    sys.exit(main())
