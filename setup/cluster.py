"""A Kubernetes cluster for tests and for trying things out: up, down, load images, run a program in its network.

    python setup/cluster.py up                 make it, or say that it is there; prints KUBECONFIG=path
    python setup/cluster.py load ARCHIVE...    give it the images of docker-archives
    python setup/cluster.py kubeconfig         print KUBECONFIG=path
    python setup/cluster.py exec -- COMMAND    run a program of this host in the cluster's network
    python setup/cluster.py down               remove all of it but its logs
    python setup/cluster.py check              say whether `up` can make one here
    python setup/cluster.py prepare            get and build what `up` needs, once, and make nothing yet

It is one of three, and each has a kubeconfig on which the same things run:

* With LAKEHOUSE_E2E_KUBECONFIG set: the user's own cluster. Nothing is done to it here.
* With kind on the PATH and a Docker that answers: a cluster of kind, by ``tests/e2e/kind.yaml``.
* Otherwise: a node of our own in namespaces of this machine, without Docker (`single_node/`). It needs root.

What belongs to the cluster lies in a folder, by default ``.lakehouse/cluster`` of the checkout; ``--state`` names
another one, and clusters with different folders can be up side by side.

``exec`` gives a program the pods' view of the network: it reaches pods, services and cluster names such as
``kafka.default.svc``, and nothing outside of the cluster. Its files, its user and its rights stay those of the host.
Only the node of our own has it; on other clusters, such a program has to run in a pod.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cluster_programs
import debian
import kind_cluster
import pause_image
from pinned_go import SetupError
from single_node import node
from single_node.place import ClusterError, Place, Record, read

ROOT = Path(__file__).resolve().parent.parent
OWN_CLUSTER = "LAKEHOUSE_E2E_KUBECONFIG"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What has to be there, and the Debian package that has it.
NEEDED = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "openssl": "openssl",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for.

    Attributes:
        place: Where the cluster is.
        operands: Archives, or a command.
    """

    place: Place
    operands: Sequence[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Return the exit code."""
    options = parse(arguments)
    request = Request(Place(Path(options.state).resolve()), getattr(options, "operands", ()))
    try:
        if own := os.environ.get(OWN_CLUSTER):
            return leave_alone(own, options.action)
        return ACTIONS[options.action](request)
    except (ClusterError, SetupError, debian.CannotInstall) as problem:
        print(f"setup/cluster.py: {problem}", file=sys.stderr)
        return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    state = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    state.add_argument("--state", metavar="DIR", help="the cluster's folder, by default .lakehouse/cluster")
    parser = argparse.ArgumentParser(prog="cluster.py", parents=[state], description="A cluster on this machine.")
    actions = parser.add_subparsers(dest="action", required=True)
    for name, does in (
        ("up", "make it"),
        ("down", "remove it"),
        ("kubeconfig", "print its kubeconfig"),
        ("check", "say whether it can be made"),
        ("prepare", "get what it needs"),
    ):
        actions.add_parser(name, parents=[state], help=does)
    load = actions.add_parser("load", parents=[state], help="give it the images of docker-archives")
    load.add_argument("operands", nargs="+", metavar="ARCHIVE")
    execute = actions.add_parser("exec", parents=[state], help="run a program of this host in its network")
    execute.add_argument("operands", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    options.state = getattr(options, "state", ROOT / ".lakehouse" / "cluster")
    return options


def leave_alone(kubeconfig: str, action: str) -> int:
    """Say that a cluster is the user's own."""
    if action in {"up", "kubeconfig"}:
        print(f"KUBECONFIG={kubeconfig}")
    if action in {"kubeconfig", "check", "prepare"}:
        return 0
    print(f"{OWN_CLUSTER} names a cluster of your own, {kubeconfig}: '{action}' does nothing to it", file=sys.stderr)
    # A program that was to run there has not run.
    return 1 if action == "exec" else 0


def up(request: Request) -> int:
    """Make the cluster if it is not up."""
    place = request.place
    with node.alone(place):
        record = read(place)
        if record is not None and _is_up(place, record):
            print("the cluster is already up", file=sys.stderr)
        elif (record is not None and record.kind == "kind") or (record is None and kind_cluster.is_possible()):
            kind_cluster.down(place)
            kind_cluster.up(place)
        else:
            _make_node(place)
    print(f"KUBECONFIG={place.kubeconfig}")
    return 0


def _is_up(place: Place, record: Record) -> bool:
    return kind_cluster.is_up(place) if record.kind == "kind" else node.is_up(place, record)


def _make_node(place: Place) -> None:
    programs, sandbox = _ingredients()
    if node.down(place):
        print("removed what was left of a cluster that has failed", file=sys.stderr)
    node.up(place, programs, sandbox)


def _ingredients() -> tuple[dict[str, Path], node.Image]:
    """The programs and the image that a node is made of, built where they are not there yet."""
    node.check_rights()
    install_packages()
    return cluster_programs.programs(), pause_image.make()


def install_packages() -> None:
    """Install the Debian packages that are missing.

    Raises:
        debian.CannotInstall: A person has to.
    """
    for program, package in NEEDED.items():
        if shutil.which(program, path=SYSTEM_PATH) is None:
            debian.install((package,), f"a cluster without Docker needs {Path(program).name}")


def down(request: Request) -> int:
    """Remove the cluster."""
    place = request.place
    with node.alone(place):
        record = read(place)
        is_gone = kind_cluster.down(place) if record and record.kind == "kind" else node.down(place)
    print("the cluster is down" if is_gone else "there is no cluster", file=sys.stderr)
    return 0


def load(request: Request) -> int:
    """Give the cluster images."""
    record = read(request.place)
    if record is None:
        raise ClusterError("there is no cluster to load images into: make one with 'setup/cluster.py up'")
    for archive in map(Path, request.operands):
        if not archive.is_file():
            raise ClusterError(f"there is no archive {archive}")
        if record.kind == "kind":
            kind_cluster.load(request.place, archive)
        else:
            node.load(record, archive)
        print(f"loaded {archive}", file=sys.stderr)
    return 0


def check(_: Request) -> int:
    """See whether a cluster can be made here."""
    if not kind_cluster.is_possible():
        node.check_rights()
    return 0


def prepare(_: Request) -> int:
    """Get what `up` needs, so that it takes seconds."""
    if not kind_cluster.is_possible():
        _ingredients()
    return 0


def kubeconfig(request: Request) -> int:
    """Print where the kubeconfig is."""
    if not request.place.kubeconfig.is_file():
        raise ClusterError("there is no cluster: make one with 'setup/cluster.py up'")
    print(f"KUBECONFIG={request.place.kubeconfig}")
    return 0


def execute(request: Request) -> int:
    """Become a program in the cluster's network."""
    record = read(request.place)
    if record is None:
        raise ClusterError("there is no cluster: make one with 'setup/cluster.py up'")
    if record.kind == "kind":
        raise ClusterError("a program of the host can't join the network of a kind cluster: run it in a pod")
    node.check_root()
    node.check_alive(record)
    command = node.command_to_execute(request.place, record.pid, request.operands)
    os.execvp(command[0], command)  # noqa: S606 - the arguments are a list


ACTIONS: dict[str, Callable[[Request], int]] = {
    "up": up,
    "down": down,
    "load": load,
    "kubeconfig": kubeconfig,
    "exec": execute,
    "check": check,
    "prepare": prepare,
}

if __name__ == "__main__":
    sys.exit(main())
