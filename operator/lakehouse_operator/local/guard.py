"""Holds one process and everything that it starts, and ends them all when whoever asked for it is gone.

Runs as a script of its own between the starter and the engine:

    python -I -S guard.py LIFELINE RECORD GRACE NAME -- COMMAND...

`LIFELINE` is the number of an inherited socket. When its other end closes, the starter is dead, even by SIGKILL, and
the guard kills what it holds. (`PR_SET_PDEATHSIG` alone would not do: it fires when the *thread* that started the
process ends, and it does not reach grandchildren.) The starter writes `keep` into it to let the process outlive it.
`RECORD` is the file that says which process this is, written before the command starts; see `processes.Record`. On
SIGTERM the guard passes SIGTERM to the command, and kills it after `GRACE` seconds. It ends with the command's code
(128 + n for signal n), after nothing of the command's family is left.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KEEP = b"keep"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ENDED = "ZX"
"""The states of a process that has ended and only waits to be collected."""
_KILL_SECONDS = 10.0
"""How long killed processes may take to vanish: one that waits for a disk can take a while."""


def boot_id() -> str:
    """Names this boot of the machine: start times of processes mean nothing after the next."""
    return _BOOT_ID.read_text().strip()


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it does not run. With the pid it names one process."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if fields[0] in _ENDED else int(fields[19])


def _stat(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the name (which may hold blanks and parentheses): state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def descendants(pid: int) -> set[int]:
    """Every living process below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, parent, *_ = _stat(int(entry.name))
                if state not in _ENDED:
                    children.setdefault(int(parent), []).append(int(entry.name))
    found: set[int] = set()
    unseen = [pid]
    while unseen:
        below = children.get(unseen.pop(), [])
        unseen += below
        found.update(below)
    return found


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def _spawn(command: list[str]) -> tuple[int, int]:
    """Fork the command, which waits until the returned descriptor is written to: first it must be on record."""
    guard = os.getpid()
    gate, go = os.pipe()
    pid = os.fork()
    if pid:
        os.close(gate)
        return pid, go
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(go)
        if os.getppid() == guard and os.read(gate, 1):
            os.setpgid(0, 0)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.execvp(command[0], command)  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        print(f"{command[0]} can't be started: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _write_record(record: Path, name: str, pid: int) -> None:
    """Write the record whole or not at all: a half-written one could not be cleaned up."""
    content = {
        "name": name,
        "boot": boot_id(),
        "guard": {"pid": os.getpid(), "started": started(os.getpid())},
        "process": {"pid": pid, "started": started(pid)},
    }
    draft = record.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(record)


def _reap(main: int) -> int | None:
    """Collect what has ended; answer the exit code of `main` if it is among it."""
    code = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == main:
                raw = os.waitstatus_to_exitcode(status)
                code = 128 - raw if raw < 0 else raw
    return code


def _kill_family() -> None:
    """Kill everything below this process, again and again until nothing new has appeared."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (family := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _hold(main: int, lifeline: int, wakeup: int, grace: float) -> int:
    """Wait until the command ends, is asked to end, or nobody is left who wants it; answer its exit code."""
    watched = [lifeline, wakeup]
    deadline: float | None = None
    while True:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        if not ready:
            return 128 + signal.SIGKILL
        if lifeline in ready:
            if os.read(lifeline, 16) != _KEEP:
                return 128 + signal.SIGKILL
            watched.remove(lifeline)
        if wakeup in ready:
            numbers = os.read(wakeup, 64)
            if (code := _reap(main)) is not None:
                return code
            if signal.SIGTERM in numbers and deadline is None:
                os.kill(main, signal.SIGTERM)
                deadline = time.monotonic() + grace


def main(arguments: list[str]) -> NoReturn:
    """Hold the command of `arguments` until it ends."""
    lifeline, record, grace, name, _, *command = arguments
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # a daemon that forks itself away still ends up below this process
    wakeup, note = os.pipe()
    os.set_blocking(note, False)
    os.set_blocking(wakeup, True)
    signal.set_wakeup_fd(note)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the terminal's business is with the starter
    os.set_inheritable(int(lifeline), False)
    pid, go = _spawn(command)
    try:
        _write_record(Path(record), name, pid)
        os.write(int(lifeline), b"%d\n" % pid)
        os.write(go, b"!")
        os.close(go)
        code = _hold(pid, int(lifeline), wakeup, float(grace))
    finally:
        _kill_family()
        Path(record).unlink(missing_ok=True)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
