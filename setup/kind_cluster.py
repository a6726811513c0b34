"""A cluster that kind makes, where Docker and kind are at hand: its command lines, and who runs them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from single_node.place import ClusterError, Place, Record, read, write

CONFIGURATION = Path(__file__).resolve().parent.parent / "tests" / "e2e" / "kind.yaml"
READY_WITHIN = "180s"


def is_possible() -> bool:
    """Whether kind is installed and Docker answers."""
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def command_to_create(place: Place) -> list[str]:
    """The command that makes the cluster and waits until its node is ready."""
    return [
        *("kind", "create", "cluster", f"--name={place.cgroup}", f"--config={CONFIGURATION}"),
        *(f"--kubeconfig={place.kubeconfig}", f"--wait={READY_WITHIN}"),
    ]


def command_to_delete(place: Place) -> list[str]:
    """The command that removes the cluster; it is content if there is none."""
    return ["kind", "delete", "cluster", f"--name={place.cgroup}", f"--kubeconfig={place.kubeconfig}"]


def command_to_load(place: Place, archive: Path) -> list[str]:
    """The command that gives the cluster's node the images of an archive."""
    return ["kind", "load", "image-archive", str(archive), f"--name={place.cgroup}"]


def is_up(place: Place) -> bool:
    """Whether kind knows the cluster, and its kubeconfig is there and answers."""
    said = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False).stdout.split()
    if place.cgroup not in said or not place.kubeconfig.is_file():
        return False
    node = ["docker", "exec", f"{place.cgroup}-control-plane"]
    ask = [*node, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "--raw=/readyz"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def up(place: Place) -> None:
    """Make the cluster.

    Raises:
        ClusterError: kind can't.
    """
    write(place, Record("kind"))
    _run(command_to_create(place))


def down(place: Place) -> bool:
    """Remove the cluster. Say whether there was one."""
    if read(place) is None:
        return False
    _run(command_to_delete(place))
    place.kubeconfig.unlink(missing_ok=True)
    place.record.unlink()
    return True


def load(place: Place, archive: Path) -> None:
    """Give the cluster the images of an archive.

    Raises:
        ClusterError: kind does not take it.
    """
    _run(command_to_load(place, archive))


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise ClusterError(f"'{' '.join(command)}' failed; its messages are above")
