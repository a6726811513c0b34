"""Run all tests, each part in the environment that it belongs to: ``python setup/run_tests.py [PART...]``.

The last line sums the parts up, such as ``120 passed, 0 failed``. A part that breaks off, or that runs no test at all,
counts as one failure; the other parts still run. A part that can't run on this machine is not counted; the last line
says why, such as ``120 passed, 0 failed; e2e was not run: ...``; where it was named, it counts as one failure.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import engines
import environments
from environments import ROOT, Environment

WHOLE_WORLDS: Final = ("tests/local", "tests/catalogs", "tests/chaos")
"""Several engines at once: two such files beside each other would want more than two cores have."""
ELSEWHERE: Final = ("tests/jobs/flink", "tests/jobs/spark", *WHOLE_WORLDS, "tests/e2e")


@dataclass(frozen=True, slots=True)
class Part:
    """Tests that run together.

    Attributes:
        name: What it is called on the command line.
        environment: The environment that they run in.
        arguments: What pytest is told to run.
        asked_for: Whether it runs only where it is named.
        check: A script that says with exit code 0 whether it can run here, with its arguments.
        needs: Scripts, with arguments, that make what it needs and is not there yet: a build is no part of a test.
        workers: How many of its files run at once. Tests of one file never do: they share engines and worlds.
    """

    name: str
    environment: Environment
    arguments: tuple[str, ...]
    asked_for: bool = False
    check: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    workers: int = 1

    @property
    def distribution(self) -> tuple[str, ...]:
        """How pytest is told to share its files out, in the order of their names."""
        return ("-n", str(self.workers), "--dist=loadfile", "--no-loadscope-reorder") if self.workers > 1 else ()


PARTS: Final = {
    part.name: part
    for part in (
        Part("operator", environments.OPERATOR, ("tests", *(f"--ignore={folder}" for folder in ELSEWHERE)), workers=2),
        Part("flink", environments.FLINK, ("tests/jobs/flink",)),
        Part("spark", environments.SPARK, ("tests/jobs/spark",), workers=2),
        Part("worlds", environments.OPERATOR, WHOLE_WORLDS),
        Part(
            "e2e",
            environments.OPERATOR,
            ("tests/e2e",),
            asked_for=True,
            check=("cluster.py", "check"),
            needs=(("cluster.py", "prepare"), ("images.py",)),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Count:
    """How many tests had which outcome. An error in a fixture is a failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Count") -> "Count":
        """Sum two counts up."""
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def describe(self) -> str:
        """Say it as the closing line does."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def read_report(report: Path) -> Count:
    """Read the outcomes of one pytest run from its JUnit report."""
    passed = failed = skipped = 0
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        outcomes = {element.tag for element in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" in outcomes:
            skipped += 1
        else:
            passed += 1
    return Count(passed, failed, skipped)


def judge(exit_code: int, report: Path) -> tuple[Count, str]:
    """Return what one pytest run counts for, and what is wrong with it beside failed tests, if anything.

    Args:
        exit_code: What pytest ended with.
        report: Its JUnit report, which is missing when it broke off.
    """
    try:
        count = read_report(report)
    except (OSError, ET.ParseError):
        return Count(failed=1), f"it broke off with exit code {exit_code}"
    if count.passed + count.failed == 0:
        return count + Count(failed=1), "it ran no test"
    if exit_code != 0 and count.failed == 0:
        return count + Count(failed=1), f"it ended with exit code {exit_code}, though no test failed"
    return count, ""


def obstacle(part: Part) -> str:
    """Why a part can't run on this machine; empty where it can."""
    if not part.check:
        return ""
    answer = subprocess.run(_script(part.check), capture_output=True, text=True, check=False)
    return answer.stderr.strip() if answer.returncode else ""


def _script(words: Sequence[str]) -> list[str]:
    """The command that runs one of the scripts here."""
    return [sys.executable, str(ROOT / "setup" / words[0]), *words[1:]]


def run(part: Part, options: Sequence[str]) -> Count:
    """Run one part. What pytest prints goes to the terminal as it comes."""
    for needed in part.needs:
        # Where that fails, so do the tests, and the messages are above them.
        subprocess.run(_script(needed), stdout=subprocess.DEVNULL, check=False)
    name = part.name
    print(f"\n--- {name}: {' '.join(part.arguments)}", flush=True)
    variables = os.environ | {
        "JAVA_HOME": str(engines.JAVA_HOME),
        "PATH": os.pathsep.join((str(engines.JAVA_HOME / "bin"), os.environ.get("PATH", os.defpath))),
    }
    if part.environment == environments.FLINK:
        variables["FLINK_HOME"] = str(engines.FLINK_HOME)
    with tempfile.TemporaryDirectory(prefix="test-report-") as folder:
        report = Path(folder) / "report.xml"
        pytest = [str(part.environment.python), "-m", "pytest", "-o", "cache_dir=.lakehouse/cache/pytest"]
        command = [*pytest, f"--junitxml={report}", *part.distribution, *part.arguments, *options]
        answer = subprocess.run(command, cwd=ROOT, env=variables, check=False)
        count, problem = judge(answer.returncode, report)
    print(f"--- {name}: {problem or count.describe()}", flush=True)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the command line names, or all. Return the exit code."""
    parser = argparse.ArgumentParser(prog="run_tests.py", description="Run the tests.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all but e2e if none is named"
    )
    parser.add_argument(
        "--options",
        default="",
        help="further options for pytest, such as '-x -k savepoint', or '-n 0' for one after the other",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part called {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    total, left_out = Count(), ""
    try:
        for name in options.parts or [part.name for part in PARTS.values() if not part.asked_for]:
            if why := obstacle(PARTS[name]):
                left_out += f"; {name} was not run: {why}"
                total += Count(failed=1 if options.parts else 0)
            else:
                total += run(PARTS[name], shlex.split(options.options))
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    print(f"\n{total.describe()}{left_out}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
