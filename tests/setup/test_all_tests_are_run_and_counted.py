import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import run_tests
from environments import Environment
from run_tests import Count, Part, judge

REPORT = """<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><failure message="no"/></testcase>
<testcase name="c"><error message="no"/></testcase>
<testcase name="d"><skipped message="no"/></testcase>
<testcase name="e"/>
</testsuite></testsuites>"""


@dataclasses.dataclass(frozen=True)
class ThisPython(Environment):
    """An environment whose Python is the one that runs."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)


@pytest.mark.parametrize(
    ("exit_code", "report", "count", "problem"),
    [
        (1, REPORT, Count(2, 2, 1), ""),
        (0, REPORT.replace("failure", "x").replace("error", "x"), Count(4, 0, 1), ""),
        (5, "<testsuites/>", Count(0, 1, 0), "it ran no test"),
        (0, '<s><testcase name="a"><skipped/></testcase></s>', Count(0, 1, 1), "it ran no test"),
        (3, '<s><testcase name="a"/></s>', Count(1, 1, 0), "it ended with exit code 3, though no test failed"),
        (-9, "<s><testcase", Count(0, 1, 0), "it broke off with exit code -9"),
        (4, None, Count(0, 1, 0), "it broke off with exit code 4"),
    ],
    ids=["failures", "none", "no test", "skipped only", "odd exit", "killed", "no report"],
)
def test_a_part_is_judged_by_its_report_and_its_exit_code(
    tmp_path: Path, exit_code: int, report: str | None, count: Count, problem: str
) -> None:
    path = tmp_path / "report.xml"
    if report is not None:
        path.write_text(report)

    assert judge(exit_code, path) == (count, problem)


def run_parts(monkeypatch: pytest.MonkeyPatch, folder: Path, *contents: str) -> int:
    parts = {}
    for number, content in enumerate(contents):
        (folder / f"test_part{number}.py").write_text(content)
        arguments = ("-c", "/dev/null", "--rootdir", str(folder), str(folder / f"test_part{number}.py"))
        parts[f"part{number}"] = Part(f"part{number}", ThisPython(f"part{number}", "dev"), arguments)
    monkeypatch.setattr(run_tests, "PARTS", parts)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take long to start and are not needed here
    return run_tests.main([])


def test_the_last_line_sums_all_parts_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run_parts(monkeypatch, tmp_path, "def test_a(): pass\ndef test_b(): pass\n", "def test_c(): pass\n")

    assert code == 0
    assert capfd.readouterr().out.splitlines()[-1] == "3 passed, 0 failed"


def test_a_part_that_fails_or_breaks_makes_the_whole_fail_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run_parts(
        monkeypatch,
        tmp_path,
        "def test_a(): assert False\n",
        "import os\nos._exit(0)\n",
        "def helper(): pass\n",
        "def test_b(): pass\n",
    )

    assert code == 1
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 3 failed"


MEETING = """
import os, time
from pathlib import Path

def note(name):
    (Path(__file__).parent / name).write_text(os.environ["PYTEST_XDIST_WORKER"])

def test_first():
    note("{mine}")
    deadline = time.monotonic() + 60
    while not (Path(__file__).parent / "{other}").exists():
        assert time.monotonic() < deadline, "the other file does not run"
        time.sleep(0.01)

def test_second():
    assert (Path(__file__).parent / "{mine}").read_text() == os.environ["PYTEST_XDIST_WORKER"]
"""


def test_files_run_at_once_and_the_tests_of_one_file_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_a.py").write_text(MEETING.format(mine="a", other="b"))
    (tmp_path / "test_b.py").write_text(MEETING.format(mine="b", other="a"))
    arguments = ("-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "xdist", str(tmp_path))
    monkeypatch.setattr(run_tests, "PARTS", {"both": Part("both", ThisPython("both", "dev"), arguments, workers=2)})
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    assert run_tests.main([]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "4 passed, 0 failed"


def test_a_part_that_cannot_run_here_is_told_of_and_fails_only_where_it_was_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "setup").mkdir()
    (tmp_path / "setup" / "check.py").write_text("import sys; sys.exit(f'it takes {sys.argv[1]}')")
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    part = Part("far", ThisPython("far", "dev"), ("tests",), check=("check.py", "a boat"))
    monkeypatch.setattr(run_tests, "PARTS", {"far": part})

    assert run_tests.main([]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 0 failed; far was not run: it takes a boat"
    assert run_tests.main(["far"]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 1 failed; far was not run: it takes a boat"


def test_every_test_belongs_to_one_part(root: Path) -> None:
    """What one part leaves out another runs."""
    left_out = {
        argument.removeprefix("--ignore=")
        for argument in run_tests.PARTS["operator"].arguments
        if argument.startswith("--ignore=")
    }
    others = (part.arguments for name, part in run_tests.PARTS.items() if name != "operator")
    run = {argument for arguments in others for argument in arguments if not argument.startswith("--ignore=")}

    assert left_out == run
    assert run_tests.PARTS["operator"].arguments[0] == "tests"
    assert all((root / folder).exists() for folder in run)


def test_a_part_that_is_not_there_is_refused(root: Path) -> None:
    answer = subprocess.run(
        [sys.executable, root / "setup" / "run_tests.py", "flnk"], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 2
    assert "there is no part called 'flnk'; the parts are operator, flink, spark" in answer.stderr
