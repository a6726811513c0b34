"""Bring the node up and down, and reach into it. All of it needs root."""

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from single_node import api, cgroups, configuration, network, processes
from single_node.configuration import ADMIN, CONTAINERD_SOCKET, IMAGES_NAMESPACE, NODE_NAME, USERS
from single_node.place import ClusterError, Place, Record, read, write

READY_WITHIN = 240.0
RECOVERED_WITHIN = 60.0
INSIDE = Path(__file__).with_name("inside.py")
NAMESPACES = ("--net", "--mount", "--cgroup", "--uts", "--ipc", "--pid")
OTHER_WAYS = "install Docker and kind, or name the kubeconfig of a cluster of your own in LAKEHOUSE_E2E_KUBECONFIG"


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A container image in a file.

    Attributes:
        reference: What it is called.
        archive: The file.
    """

    reference: str
    archive: Path


@contextlib.contextmanager
def alone(place: Place) -> Iterator[None]:
    """Wait until nobody else brings the cluster of this folder up or down.

    Raises:
        ClusterError: The folder is root's, and this is not root.
    """
    try:
        place.state.mkdir(parents=True, exist_ok=True)
        lock = (place.state / "lock").open("w")
    except PermissionError:
        # It is root's.
        check_root()
        raise
    with lock as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def check_root() -> None:
    """See whether this is root.

    Raises:
        ClusterError: It is not.
    """
    if os.geteuid() != 0:
        raise ClusterError(f"a cluster without Docker needs root: run it with sudo, or {OTHER_WAYS}")


def check_rights() -> None:
    """See whether a node can be made here.

    Raises:
        ClusterError: It can't, and why.
    """
    check_root()
    command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "true"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = answer.stderr.strip()
        raise ClusterError(f"root may not make namespaces here ({said}), perhaps in a container: {OTHER_WAYS}")


def is_up(place: Place, record: Record) -> bool:
    """Whether the node runs and the cluster answers. One that is slow, or just starts a program again, gets a while."""
    deadline = time.monotonic() + RECOVERED_WITHIN
    while processes.is_alive(record.pid, record.started) and time.monotonic() < deadline:
        if all(is_met() for _, is_met in conditions(place, record)):
            return True
        time.sleep(0.5)
    return False


def conditions(place: Place, record: Record) -> list[tuple[str, Callable[[], bool]]]:
    """What a cluster that is up has, in the order in which it gets it."""
    server = api.read(place.kubeconfig)
    if server is None:
        return [("a kubeconfig", lambda: False)]
    dns = f"http://{configuration.address(record.subnet)}:{configuration.READY_PORT}/ready"
    return [
        ("an API server that is ready", lambda: server.get("/readyz") == "ok"),
        ("a node that is ready", lambda: is_ready(server.get(f"/api/v1/nodes/{NODE_NAME}"))),
        ("a service account", lambda: server.get("/api/v1/namespaces/default/serviceaccounts/default") is not None),
        ("a DNS server", lambda: api.is_answered(dns)),
    ]


def is_ready(node: object) -> bool:
    """Whether a node of the API server says that it is ready."""
    if not isinstance(node, dict):
        return False
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


def up(place: Place, programs: Mapping[str, Path], sandbox: Image) -> Record:
    """Start a node in a folder where there is none, and wait until pods can run on it.

    Args:
        place: Its folder.
        programs: All programs of `configuration.services`, and kubectl.
        sandbox: The image that holds the namespaces of pods.

    Raises:
        ClusterError: It does not get ready. Then nothing but its logs is left.
    """
    try:
        record = _start(place, programs, sandbox)
        _wait(place, record, "containerd", lambda: _import(record, sandbox.archive, quiet=True))
        _wait(place, record, "an API server", lambda: _grant(place, programs["kubectl"]))
        for what, is_met in conditions(place, record):
            _wait(place, record, what, is_met)
    except BaseException:
        down(place)
        raise
    return record


def _start(place: Place, programs: Mapping[str, Path], sandbox: Image) -> Record:
    subnet = network.free_subnet(network.routes(), network.start_for(place.key))
    hierarchies = cgroups.hierarchies()
    directories = cgroups.directories(hierarchies, place.cgroup)
    # From here on `down` knows of all that may be there.
    record = Record("node", subnet, tuple(map(str, directories)))
    write(place, record)
    _write_files(place, subnet, hierarchies, sandbox)
    cgroups.make(directories)
    process = _spawn(place, directories, programs)
    started = processes.start_of(process.pid)
    record = dataclasses.replace(record, pid=process.pid, started=started or 0)
    write(place, record)
    _wait(place, record, "namespaces", lambda: _has_own_network(record.pid))
    network.join(place.link, subnet, record.pid)
    if not any(each.kind == "cgroup" for each in hierarchies):
        _make_room(place, record, directories[0])
    return record


def _write_files(place: Place, subnet: str, hierarchies: Sequence[cgroups.Hierarchy], sandbox: Image) -> None:
    shutil.rmtree(place.logs, ignore_errors=True)
    for folder in (place.logs, place.files / "var" / "lib", place.files / "var" / "log", place.files / "var" / "tmp"):
        folder.mkdir(parents=True)
    # Tokens and keys lie there.
    place.files.chmod(0o700)
    (place.files / "var" / "run").symlink_to("/run")
    certificate, key = place.files / "certificate.pem", place.files / "key.pem"
    command = configuration.certificate_command(subnet, str(key), str(certificate))
    subprocess.run(command, capture_output=True, check=True)
    tokens = {user: secrets.token_urlsafe(24) for user in USERS}
    authority = certificate.read_text(encoding="ascii")
    for name, content in configuration.files(subnet, tokens, authority, sandbox.reference).items():
        file = place.files / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    plan = configuration.plan(subnet, [(each.kind, each.mounted.name, each.options) for each in hierarchies])
    (place.files / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    place.kubeconfig.touch(mode=0o600)
    place.kubeconfig.write_text((place.files / "kubeconfigs" / ADMIN).read_text(encoding="utf-8"), encoding="utf-8")


def command_to_start(place: Place, directories: Sequence[Path], programs: Mapping[str, Path]) -> list[str]:
    """The command that makes the node: join the cgroups, make the namespaces, be process 1 in them."""
    join_and_go_on = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
    return [
        *("/bin/sh", "-c", join_and_go_on, "join", *map(str, directories), "--"),
        *("unshare", *NAMESPACES, "--propagation", "private", "--fork", "--kill-child", "--mount-proc", "--"),
        *(sys.executable, "-I", str(INSIDE), str(place.files), str(place.logs)),
        *(f"{name}={path.resolve()}" for name, path in programs.items()),
    ]


def _spawn(place: Place, directories: Sequence[Path], programs: Mapping[str, Path]) -> "subprocess.Popen[bytes]":
    with (place.logs / "node.log").open("wb") as log:
        return subprocess.Popen(
            command_to_start(place, directories, programs),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # An interrupt at the terminal is none of its business.
            start_new_session=True,
            cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/var/lib"},
        )


def _has_own_network(pid: int) -> bool:
    namespaces = ("net", "mnt", "pid_for_children")
    return all(
        Path(f"/proc/{pid}/ns/{each}").readlink() != Path(f"/proc/self/ns/{each}").readlink() for each in namespaces
    )


def _make_room(place: Place, record: Record, directory: Path) -> None:
    """With cgroup v2 nothing may be in the directory itself. The node can't see the process that holds it."""

    def move() -> bool:
        if not (directory / "node").is_dir():
            return False
        (directory / "node" / "cgroup.procs").write_text(str(record.pid))
        return True

    _wait(place, record, "a cgroup", move)


def _grant(place: Place, kubectl: Path) -> bool:
    command = [str(kubectl), f"--kubeconfig={place.kubeconfig}", "apply", "--request-timeout=5s", "--filename=-"]
    rights = json.dumps(configuration.rights())
    return subprocess.run(command, input=rights, capture_output=True, text=True, check=False).returncode == 0


def _wait(place: Place, record: Record, what: str, is_met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not is_met():
        if not processes.is_alive(record.pid, record.started):
            raise ClusterError(f"the node has ended before it had {what}:\n{_ends_of_logs(place)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"the node has not got {what} after {READY_WITHIN:.0f} s:\n{_ends_of_logs(place)}")
        time.sleep(0.1)


def _ends_of_logs(place: Place) -> str:
    logs = sorted(place.logs.glob("*.log"))
    ends = (f"--- {log}\n{log.read_text(encoding='utf-8', errors='replace')[-1500:]}" for log in logs)
    return "\n".join(ends)


def down(place: Place) -> bool:
    """Take the node down and remove all of it but its logs. Works at any point, also after a crash.

    Returns:
        Whether there was anything to take down.

    Raises:
        ClusterError: Something of it does not end.
    """
    record = read(place)
    if record is None:
        return False
    check_root()
    if processes.is_alive(record.pid, record.started):
        os.kill(record.pid, signal.SIGKILL)
    # Its child, process 1 of the node, is killed with it, and the kernel ends the rest. Whoever is left is in a cgroup.
    cgroups.remove([Path(directory) for directory in record.cgroups])
    network.cut(place.link)
    shutil.rmtree(place.files, ignore_errors=True)
    place.kubeconfig.unlink(missing_ok=True)
    place.record.unlink()
    return True


def load(record: Record, archive: Path) -> None:
    """Give the node the images of an archive.

    Raises:
        ClusterError: Containerd does not take it, or the node is not up.
    """
    check_root()
    check_alive(record)
    _import(record, archive, quiet=False)


def command_to_import(pid: int) -> list[str]:
    """The command that imports the archive on its standard input."""
    ctr = ["ctr", f"--address={CONTAINERD_SOCKET}", f"--namespace={IMAGES_NAMESPACE}", "images", "import", "-"]
    return ["nsenter", f"--target={pid}", "--mount", "--", *ctr]


def check_alive(record: Record) -> None:
    """See whether the node's process is there.

    Raises:
        ClusterError: It has ended.
    """
    if not processes.is_alive(record.pid, record.started):
        raise ClusterError("the cluster has failed: make it anew with 'setup/cluster.py up'")


def _import(record: Record, archive: Path, *, quiet: bool) -> bool:
    with archive.open("rb") as content:
        answer = subprocess.run(
            command_to_import(record.pid), stdin=content, capture_output=True, text=True, check=False
        )
    if answer.returncode != 0 and not quiet:
        raise ClusterError(f"the node does not take {archive}: {answer.stderr.strip()}")
    return answer.returncode == 0


def command_to_execute(place: Place, pid: int, command: Sequence[str]) -> list[str]:
    """The command that runs another one in the cluster's network, with the cluster's DNS."""
    look_up_and_go_on = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return [
        *("nsenter", f"--target={pid}", "--net", "--"),
        *("unshare", "--mount", "--propagation", "private", "--"),
        *("/bin/sh", "-c", look_up_and_go_on, str(place.resolv_conf), *command),
    ]
