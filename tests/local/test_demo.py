"""The demo runs the reference pipeline on real engines, checks it, and leaves running only what it was asked to."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lakehouse_operator.local import engines as find_engines
from lakehouse_operator.local.directory import WorldDirectory, world_directory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import end_recorded, recorded

EVENTS = 20_000
WORLD = "test-demo"
DEADLINE_SECONDS = 900
"""A machine that does other things at the same time may take many times the usual minute and a half."""


@pytest.fixture(scope="module")
def engines() -> Engines:
    return find_engines.find()


@pytest.fixture(scope="module")
def world(engines: Engines) -> Iterator[WorldDirectory]:
    directory = world_directory(engines.home, WORLD)
    yield directory
    if directory.records.exists():
        end_recorded(directory.records)
    directory.clear()
    directory.root.with_suffix(".lock").unlink(missing_ok=True)


def start_demo(engines: Engines, *options: str) -> "subprocess.Popen[str]":
    command = [
        engines.operator_python,
        "-m",
        "lakehouse_operator.cli",
        "demo",
        "--events",
        str(EVENTS),
        "--world",
        WORLD,
    ]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def read_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read the output up to the line that matches, or to the end."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            break
    return "".join(lines)


def processes_of(world: WorldDirectory) -> dict[int, str]:
    """Every process whose command line or environment names the world."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(world.root).encode() in told:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return found


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_a_demo_that_is_interrupted_leaves_nothing_running(engines: Engines, world: WorldDirectory) -> None:
    process = start_demo(engines)
    output = read_until(process, r"produced [1-9]")
    assert process.poll() is None, output
    assert processes_of(world)

    other = start_demo(engines)
    assert "another program works on" in read_until(other, "$never")
    assert other.wait() == 1

    process.send_signal(signal.SIGINT)
    rest = read_until(process, "$never")
    assert process.wait() == 130, output + rest
    assert "interrupted" in rest
    assert "Traceback" not in output + rest
    assert processes_of(world) == {}
    assert list(world.records.iterdir()) == []


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_an_operator_that_dies_ends_the_demo_with_its_name_and_nothing_running(
    engines: Engines, world: WorldDirectory
) -> None:
    process = start_demo(engines)
    output = read_until(process, r"produced [1-9]")
    assert process.poll() is None, output
    [operator] = [record for _, record in recorded(world.records) if record.name == "operator"]
    os.kill(operator.process.pid, signal.SIGKILL)
    rest = read_until(process, "$never")
    assert process.wait() == 1, output + rest
    assert "error: operator ended with exit code 137" in rest
    assert "Traceback" not in rest
    eventually(lambda: processes_of(world) == {}, "everything that it had started is ended")


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_the_demo_passes_every_check_and_keeps_the_engines_if_asked(
    engines: Engines, world: WorldDirectory, tmp_path: Path
) -> None:
    """Also where others were interrupted or died before, as those above were."""
    result = tmp_path / "result.json"
    process = start_demo(engines, "--keep", "--json", str(result))
    output = read_until(process, "$never")
    assert process.wait() == 0, output
    told = json.loads(result.read_text())

    assert told["passed"]
    assert all(check["passed"] for check in told["checks"])
    assert len(told["checks"]) > 20
    rows = told["tables"]
    assert rows["bronze.conversion_events"] > 0.9 * EVENTS
    assert rows["silver.conversions"] + rows["silver.conversions_quarantine"] == rows["bronze.conversion_events"]
    assert sum(day["conversions"] for day in told["daily"]) == rows["silver.conversions"]
    assert told["deadLetters"]
    assert told["quarantined"]
    assert f"{rows['silver.conversions']:,}" in output
    assert f"{len(told['checks'])} of {len(told['checks'])} checks passed" in output

    flink, spark = re.findall(r"Flink UI (\S+), Spark UI (\S+)", output)[0]
    jobs = json.loads(get(f"{flink}/jobs/overview"))["jobs"]
    assert [job["state"] for job in jobs] == ["RUNNING"]
    eventually(lambda: "gold" in get(f"{spark}/api/v1/applications"), "the history server shows the runs")
    assert processes_of(world)

    for query in re.findall(r"^(?:DuckDB|pyiceberg|Spark SQL):\n  (.+)$", output, re.MULTILINE):
        shown = subprocess.run(query, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert shown.returncode == 0, f"{query}\n{shown.stderr}"
        assert str(told["daily"][0]["event_date"]) in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]

    down = [engines.operator_python, "-m", "lakehouse_operator.cli", "local", "down", WORLD]
    ended = subprocess.run(down, capture_output=True, text=True, check=True).stdout
    assert ended.startswith("ended operator, ")
    assert "spark-history-server" in ended
    assert processes_of(world) == {}
