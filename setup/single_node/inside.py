"""Process 1 of the node: mount what is its own, start the programs, and start again what ends.

It is run by `node.py` in new namespaces, with the plan of `configuration.py` in the node's folder, and imports nothing
of the project. What it mounts, nobody outside sees. When it ends, the kernel ends everything in the node.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 0x100000, 2
LINKED_WITHIN = 60.0
TURN = 0.1
"""How often it looks, in seconds."""
MOST_FILES = 1_048_576
"""Some programs close every file that could be open when they start: a limit of a billion takes them minutes."""
REST = 1.0
"""How long it waits before it starts a program again, in seconds."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> int:
    """Be the node.

    Args:
        arguments: The node's folder, the folder for logs, then ``name=path`` of each program, as the host sees them.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder, logs, *programs = arguments
    plan = json.loads(Path(folder, "plan.json").read_text(encoding="utf-8"))
    log_folder = os.open(logs, os.O_PATH)
    mount_own(folder, dict(program.split("=", 1) for program in programs), plan)
    mount_cgroups(plan["cgroups"])
    # For pods that want to see mounts of the node that are made after their start.
    mount("none", "/", "", MS_SHARED | MS_REC)
    socket.sethostname(plan["hostname"])
    raise_limits()
    join_network(plan["address"], plan["link"], plan["service_addresses"])
    keep_running(plan, log_folder)
    return 0


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Attach a file system. Unlike the command, the system call uses a link of /proc/self/fd as it is."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"can't mount {source} on {target}: {os.strerror(number)}")


def mount_own(folder: str, programs: dict[str, str], plan: dict[str, Any]) -> None:
    """Give the node a /run, /var and /sys of its own, with its files and programs in fixed places."""
    # Open all first: any of them may lie below what is hidden by the next mount.
    files = os.open(folder, os.O_PATH)
    opened = {name: os.open(path, os.O_PATH) for name, path in programs.items()}
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    Path(plan["files"]).mkdir()
    mount(f"/proc/self/fd/{files}", plan["files"], flags=MS_BIND)
    Path(plan["programs"]).mkdir()
    for name, descriptor in opened.items():
        target = Path(plan["programs"], name)
        target.touch()
        mount(f"/proc/self/fd/{descriptor}", str(target), flags=MS_BIND)
        os.close(descriptor)
    os.close(files)
    mount(f"{plan['files']}/var", "/var", flags=MS_BIND)
    _libc.umount2(b"/sys", MNT_DETACH)
    mount("sysfs", "/sys", "sysfs")
    for setting in Path(plan["files"], "sysctl").rglob("*"):
        shown = Path("/proc/sys", setting.relative_to(Path(plan["files"], "sysctl")))
        if setting.is_file() and shown.exists():
            mount(str(setting), str(shown), flags=MS_BIND)


def mount_cgroups(hierarchies: list[list[str]]) -> None:
    """Mount the hierarchies of the host again: in this namespace their roots are the cluster's own directories."""
    top = Path("/sys/fs/cgroup")
    if [kind for kind, _, _ in hierarchies] == ["cgroup2"]:
        mount("cgroup2", str(top), "cgroup2")
        make_room(top)
        return
    mount("tmpfs", str(top), "tmpfs", data="mode=755")
    for kind, name, options in hierarchies:
        (top / name).mkdir()
        mount(kind, str(top / name), kind, data=options)


def make_room(top: Path) -> None:
    """Hand the controllers of cgroup v2 down. That needs a group without processes: they move into one below."""
    inner = top / "node"
    inner.mkdir(exist_ok=True)
    (inner / "cgroup.procs").write_text(str(os.getpid()))
    wanted = " ".join(f"+{name}" for name in (top / "cgroup.controllers").read_text().split())
    deadline = time.monotonic() + LINKED_WITHIN
    while True:
        try:
            (top / "cgroup.subtree_control").write_text(wanted)
        except OSError:
            # The process that holds the namespaces is moved by the host.
            if time.monotonic() > deadline:
                raise
            time.sleep(TURN)
        else:
            return


def raise_limits() -> None:
    """Let pods have as many open files and processes as they may: a shell has a low limit, and they inherit it."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    # -1 is no limit.
    most = min(files, MOST_FILES) if files >= 0 else MOST_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, files))
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def join_network(address: str, link: str, services: str) -> None:
    """Wait for the cable, give its end an address, and let the node route between pods."""
    deadline = time.monotonic() + LINKED_WITHIN
    while not Path("/sys/class/net", link).exists():
        if time.monotonic() > deadline:
            sys.exit(f"there is no {link} after {LINKED_WITHIN:.0f} s")
        time.sleep(TURN)
    for command in (
        ["link", "set", "lo", "up"],
        ["address", "add", f"{address}/24", "dev", link],
        ["link", "set", link, "up"],
        # Where a packet to a service really goes is decided after it has found some way.
        ["route", "add", services, "dev", link],
    ):
        subprocess.run(["ip", *command], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def keep_running(plan: dict[str, Any], log_folder: int) -> None:
    """Start the programs, and again one that has ended. Reap what has lost its parent. Never returns."""
    waiting = {name: (command, needs_api, 0.0) for name, command, needs_api in plan["services"]}
    commands = dict(waiting)
    running: dict[int, str] = {}
    api_answers = False
    while True:
        now = time.monotonic()
        for name, (command, needs_api, not_before) in list(waiting.items()):
            if now >= not_before and (api_answers or not needs_api):
                running[start(name, command, log_folder)] = name
                del waiting[name]
        if not api_answers:
            api_answers = subprocess.run(plan["ready"], capture_output=True, check=False).returncode == 0
        for pid, code in reap():
            if pid in running:
                name = running.pop(pid)
                print(f"{name} has ended with code {code}: starting it again", flush=True)
                command, needs_api, _ = commands[name]
                waiting[name] = (command, needs_api, time.monotonic() + REST)
        time.sleep(TURN)


def start(name: str, command: list[str], log_folder: int) -> int:
    """Start a program, with a log of its own."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log = os.open(f"{name}.log", flags, 0o600, dir_fd=log_folder)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    finally:
        os.close(log)
    # It is reaped below.
    process.returncode = 0
    return process.pid


def reap() -> list[tuple[int, int]]:
    """All processes that have ended since the last call, with their exit codes."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
