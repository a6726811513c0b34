import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("folder", ["operator", "jobs"])
def test_a_workshop_folder_is_no_package(root: Path, folder: str) -> None:
    """A package called `operator` hides the standard library's and breaks `collections`."""
    assert (root / folder).is_dir()
    assert not (root / folder / "__init__.py").exists()


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_setup_needs_nothing_but_python(root: Path) -> None:
    scripts = list((root / "setup").glob("*.py"))
    parts = list((root / "setup").glob("*/*.py"))
    assert scripts
    assert parts
    own = {script.stem for script in scripts} | {part.parent.name for part in parts}
    for path in (*scripts, *parts):
        foreign = imported(path) - sys.stdlib_module_names - own
        assert not foreign, f"{path.name} imports {foreign}"


def test_the_downloader_needs_none_of_the_other_scripts(root: Path) -> None:
    """An image is built with `setup/jars.py` and the lock alone."""
    assert imported(root / "setup" / "jars.py") <= sys.stdlib_module_names


def make(root: Path, *arguments: str) -> str:
    # As from a shell, also where these tests themselves were started by make.
    shell = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(["make", *arguments], cwd=root, env=shell, capture_output=True, text=True, check=True).stdout


def test_the_benchmark_of_bronze_runs_where_pyflink_is(root: Path) -> None:
    assert "\n.venv/flink/bin/python -W ignore -m benchmarks.bronze" in make(root, "--dry-run", "bench-bronze")


def test_the_contract_needs_nothing_but_python(root: Path) -> None:
    """Three environments import it, and so do the images."""
    for path in (root / "jobs" / "lakehouse_contract").glob("*.py"):
        assert imported(path) - sys.stdlib_module_names <= {"lakehouse_contract"}, path.name


def test_make_alone_lists_every_target(root: Path) -> None:
    help_text = make(root)

    listed = {line.split()[1] for line in help_text.splitlines() if line.startswith("  make ")}
    phony = {
        name
        for line in (root / "Makefile").read_text().splitlines()
        if line.startswith(".PHONY:")
        for name in line.removeprefix(".PHONY:").split()
    }
    assert listed == phony
    assert {"demo", "test", "check", "format", "setup", "clean"} <= listed


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ([], "lakehouse demo"),
        (["EVENTS=1000"], "lakehouse demo --events '1000'"),
        (["EVENTS=1000", "KEEP=1"], "lakehouse demo --events '1000' --keep"),
        (["KEEP=0"], "lakehouse demo"),
    ],
)
def test_the_demo_is_told_how_many_events_and_whether_to_stay(root: Path, variables: list[str], command: str) -> None:
    last = make(root, "--dry-run", "demo", *variables).splitlines()[-1]

    assert " ".join(last.split()).endswith(command)
