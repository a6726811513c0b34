"""The cgroups that a cluster lives in: one directory of its own in each hierarchy, with all its pods below.

With cgroup v1 the directory lies below that of the caller, so that limits on the caller hold for the cluster too.
With cgroup v2 that is impossible (a group with processes can't have groups with controllers below it): it lies at the
top. A cgroup namespace makes the directory the root for everything in the node.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from single_node.place import ClusterError

GONE_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A hierarchy of cgroups that is mounted on the host.

    Attributes:
        kind: ``cgroup`` (v1) or ``cgroup2``.
        mounted: Where.
        options: What to mount it with again, such as ``cpu,cpuacct`` or ``none,name=systemd``.
        own: The directory of the calling process in it.
    """

    kind: str
    mounted: Path
    options: str
    own: Path

    def parent(self, *, only_v2: bool) -> Path:
        """The directory that the cluster's is made in."""
        return self.mounted if only_v2 else self.own


def hierarchies() -> list[Hierarchy]:
    """Those of this host."""
    return parse(Path("/proc/self/mountinfo").read_text("utf-8"), Path("/proc/self/cgroup").read_text("utf-8"))


def parse(mountinfo: str, own: str) -> list[Hierarchy]:
    """Read the hierarchies out of ``/proc/self/mountinfo`` and ``/proc/self/cgroup``."""
    paths = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        paths[frozenset(names.split(",")) if names else frozenset({"cgroup2"})] = path
    found = {}
    for line in mountinfo.splitlines():
        before, after = (half.split() for half in line.split(" - ", 1))
        kind, options = after[0], after[2].split(",")
        if kind not in {"cgroup", "cgroup2"}:
            continue
        controllers = frozenset({"cgroup2"} if kind == "cgroup2" else set(options) - _NO_CONTROLLERS)
        if controllers not in paths:
            continue
        wanted = "" if kind == "cgroup2" else ",".join(_mount_options(sorted(controllers)))
        mounted = Path(before[4])
        own_directory = mounted / os.path.relpath(paths[controllers], before[3])
        found[mounted] = Hierarchy(kind, mounted, wanted, Path(os.path.normpath(own_directory)))
    return list(found.values())


_NO_CONTROLLERS = {"rw", "ro", "xattr", "clone_children", "noprefix", "none"}


def _mount_options(names: Sequence[str]) -> list[str]:
    return ["none", *names] if all(name.startswith("name=") for name in names) else list(names)


def directories(found: Sequence[Hierarchy], name: str) -> list[Path]:
    """The directories that a cluster of this name has.

    Raises:
        ClusterError: No cgroups are mounted.
    """
    if not found:
        raise ClusterError("no cgroups are mounted on this machine, so pods can't be limited: see docs/cluster.md")
    only_v2 = all(each.kind == "cgroup2" for each in found)
    return [each.parent(only_v2=only_v2) / name for each in found]


def make(directories: Sequence[Path]) -> None:
    """Make the directories."""
    for directory in directories:
        directory.mkdir(exist_ok=True)
        # Of cgroup v1: without them no process may come in.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            inherited = directory.parent / setting
            if (directory / setting).exists() and inherited.exists() and not (directory / setting).read_text().strip():
                (directory / setting).write_text(inherited.read_text())


def processes(directory: Path) -> list[int]:
    """The processes in a cgroup and in all below it."""
    found = []
    for folder, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
    return found


def remove(directories: Sequence[Path]) -> None:
    """End what is left in the directories, and remove them with all below.

    Raises:
        ClusterError: Something does not end.
    """
    deadline = time.monotonic() + GONE_WITHIN
    while left := [directory for directory in directories if not _is_removed(directory)]:
        if time.monotonic() > deadline:
            pids = sorted({pid for directory in left for pid in processes(directory)})
            raise ClusterError(f"can't remove {', '.join(map(str, left))}: the processes {pids} don't end")
        time.sleep(0.05)


def _is_removed(directory: Path) -> bool:
    for pid in processes(directory):
        # 0 is one that this namespace does not see.
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for folder, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not directory.exists()
