"""Tell whether a recorded process is still the same one: numbers of processes are used again."""

from pathlib import Path


def start_of(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since boot, or None if there is none (or only a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_start(stat)


def parse_start(stat: str) -> int | None:
    """Read the start out of ``/proc/PID/stat``. The name in it may hold blanks and parentheses."""
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process with this number is still the one that started then."""
    return pid > 0 and start_of(pid) == started
