"""Nothing outlives its starter unless it is told to, and nothing else is ever touched."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse_contract import flink_logging
from lakehouse_operator.local import guard, ports
from lakehouse_operator.local.processes import (
    GRACE_SECONDS,
    Process,
    Processes,
    ProcessFailed,
    alive,
    end_recorded,
    recorded,
)

FAMILY = """
import os, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if os.fork() == 0:  # a daemon: forked twice, in a session of its own, and deaf to SIGTERM
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("daemon", os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
print("child", os.getpid(), flush=True)
print("grandchild", below.pid, flush=True)
time.sleep(600)
"""
PYTHON = sys.executable


def eventually(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def gone(pids: list[int]) -> bool:
    return all(guard.started(pid) is None for pid in pids)


def family_of(log: Path) -> list[int]:
    """The pids that FAMILY has logged: child, grandchild and daemon."""
    eventually(lambda: log.exists() and log.read_text().count("\n") == 3, "the family has started")
    return [int(line.split()[1]) for line in log.read_text().splitlines()]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "records", tmp_path / "logs") as processes:
        yield processes


def sleeper(processes: Processes, name: str = "sleeper") -> Process:
    process = processes.start(name, [PYTHON, "-c", "print('up', flush=True); import time; time.sleep(600)"])
    process.until_logged("up", what="up", seconds=15)
    return process


STARTER = """
import sys, threading
from pathlib import Path
from lakehouse_operator.local.processes import Processes
here = Path(sys.argv[1])
processes = Processes(here / "records", here / "logs")
# From a thread that ends: the process must live as long as the program, not as long as the thread.
thread = threading.Thread(target=lambda: processes.start("family", [sys.executable, here / "family.py"]))
thread.start()
thread.join()
if "keep" in sys.argv:
    processes.keep()
    sys.exit()
print("started", flush=True)
sys.stdin.read()
"""


def start_elsewhere(tmp_path: Path, *more: str) -> "subprocess.Popen[bytes]":
    (tmp_path / "family.py").write_text(FAMILY)
    (tmp_path / "starter.py").write_text(STARTER)
    return subprocess.Popen(
        [PYTHON, tmp_path / "starter.py", tmp_path, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_starter_that_is_killed_leaves_neither_child_nor_grandchild_nor_daemon(
    tmp_path: Path, number: signal.Signals
) -> None:
    starter = start_elsewhere(tmp_path)
    assert starter.stdout is not None
    starter.stdout.readline()
    family = family_of(tmp_path / "logs" / "family.log")
    assert not any(gone([pid]) for pid in family)
    starter.send_signal(number)
    starter.wait()
    eventually(lambda: gone(family), f"all of {family} are gone")
    eventually(lambda: not recorded(tmp_path / "records"), "the record is removed")


def test_a_killed_guard_takes_its_process_with_it(processes: Processes, tmp_path: Path) -> None:
    process = sleeper(processes)
    [(_, record)] = recorded(tmp_path / "records")
    os.kill(record.guard.pid, signal.SIGKILL)
    eventually(lambda: gone([process.pid]), "the process is gone")
    assert process.exit_code() == -signal.SIGKILL


def test_what_is_kept_outlives_its_starter_and_is_ended_by_its_record(tmp_path: Path) -> None:
    starter = start_elsewhere(tmp_path, "keep")
    starter.communicate(timeout=15)
    family = family_of(tmp_path / "logs" / "family.log")
    [(_, record)] = recorded(tmp_path / "records")
    assert alive(record)
    assert not any(gone([pid]) for pid in family)
    assert end_recorded(tmp_path / "records") == ["family"]
    assert gone(family)
    assert end_recorded(tmp_path / "records") == []


def test_a_pid_that_another_program_has_by_now_is_never_touched(processes: Processes, tmp_path: Path) -> None:
    process = sleeper(processes)
    [(path, record)] = recorded(tmp_path / "records")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    forged = json.loads(path.read_text())
    for part in ("guard", "process"):
        forged[part]["started"] -= 1
    (elsewhere / "forged.json").write_text(json.dumps(forged))
    forged = json.loads(path.read_text()) | {"boot": "another boot of the machine"}
    (elsewhere / "old.json").write_text(json.dumps(forged))
    assert end_recorded(elsewhere) == []
    assert process.exit_code() is None
    assert alive(record)


def test_a_record_whose_guard_still_runs_does_not_endanger_another_process(
    processes: Processes, tmp_path: Path
) -> None:
    bystander, _ = sleeper(processes, "bystander"), sleeper(processes, "held")
    path = tmp_path / "records" / "held.json"
    forged = json.loads(path.read_text())
    forged["process"] = {"pid": bystander.pid, "started": 1}
    path.write_text(json.dumps(forged))
    others = tmp_path / "records" / "bystander.json"
    others.rename(tmp_path / "bystander.json")
    assert end_recorded(tmp_path / "records") == ["held"]
    with pytest.raises(ProcessFailed, match="still runs"):
        bystander.wait(0.5)


def test_what_is_on_record_ends_in_reverse_order(processes: Processes, tmp_path: Path) -> None:
    for name in "bca":
        sleeper(processes, name)
    assert end_recorded(tmp_path / "records") == ["a", "c", "b"]


def test_processes_end_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    says_goodbye = (
        "import signal, sys, time\n"
        f"def leave(*_):\n  open({str(order)!r}, 'a').write(sys.argv[1]); sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, leave)\nprint('up', flush=True)\ntime.sleep(600)"
    )
    with Processes(tmp_path / "records", tmp_path / "logs") as processes:
        started = [processes.start(name, [PYTHON, "-c", says_goodbye, name]) for name in "abc"]
        for process in started:
            process.until_logged("up", what="up", seconds=15)
    assert order.read_text() == "cba"
    assert [process.exit_code() for process in started] == [3, 3, 3]


def test_who_ignores_sigterm_is_killed_after_the_grace_period(processes: Processes) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    process = processes.start("deaf", [PYTHON, "-c", deaf], grace=0.3)
    process.until_logged("up", what="up", seconds=15)
    began = time.monotonic()
    assert process.stop() == 128 + signal.SIGKILL
    assert time.monotonic() - began < GRACE_SECONDS
    assert gone([process.pid])


def test_a_process_that_ends_early_is_an_error_that_quotes_its_log(processes: Processes) -> None:
    script = "import sys; print('line one', flush=True); sys.exit('no room for the catalog')"
    process = processes.start("bad", [PYTHON, "-c", script])
    with pytest.raises(ProcessFailed, match=r"(?s)^bad ended with exit code 1 before it was up.*line one.*no room for"):
        process.until(lambda: False, what="up", seconds=15)


def test_a_process_that_is_not_ready_in_time_is_an_error_that_quotes_only_what_it_logged_itself(
    processes: Processes,
) -> None:
    (processes.logs / "slow.log").write_text("of an earlier run\n")
    process = processes.start("slow", [PYTHON, "-c", "print('warming up', flush=True); import time; time.sleep(600)"])
    process.until_logged("warming", what="up", seconds=15)
    with pytest.raises(ProcessFailed, match=r"slow was not ready within 0\.1 s") as caught:
        process.until(lambda: False, what="ready", seconds=0.1)
    assert "warming up" in str(caught.value)
    assert "earlier" not in str(caught.value)


def test_a_program_that_does_not_exist_is_named(processes: Processes) -> None:
    with pytest.raises(FileNotFoundError, match="kafka can't be started: there is no program /no/java"):
        processes.start("kafka", ["/no/java"])


def test_standard_output_can_have_a_file_of_its_own(processes: Processes, tmp_path: Path) -> None:
    script = "import sys; print('result', flush=True); print('noise', file=sys.stderr)"
    process = processes.start("job", [PYTHON, "-c", script], output=tmp_path / "result", environment={"A": "B"})
    assert process.wait(15) == 0
    assert (tmp_path / "result").read_text() == "result\n"
    assert process.written() == "noise\n"


def test_a_port_that_is_taken_gives_way_to_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        chosen = ports.choose(taken)
        assert chosen != taken
        assert ports.free("127.0.0.1", chosen)
        assert ports.listening("127.0.0.1", taken)
        assert not ports.listening("127.0.0.1", chosen)
        assert ports.choose(chosen, taken=frozenset({chosen})) != chosen
        monkeypatch.setattr(ports, "_RANGE", range(taken, taken + 1))
        with pytest.raises(OSError, match="no free port"):
            ports.choose()
    assert ports.choose(taken) == taken


def test_the_supervision_needs_nothing_but_the_standard_library() -> None:
    names = "guard processes ports engines kafka flink flink_rest spark"
    script = textwrap.dedent(f"""
        import sys
        sys.path = [path for path in sys.path if "site-packages" not in path]
        sys.path[:0] = {[str(Path(guard.__file__).parents[2]), str(Path(flink_logging.__file__).parents[1])]!r}
        import importlib
        for name in {names!r}.split():
            importlib.import_module("lakehouse_operator.local." + name)
    """)
    subprocess.run([PYTHON, "-I", "-S", "-c", script], check=True)
