"""Build what a Kubernetes node needs beside its control plane, from pinned Go modules: kubelet, coredns and others.

They are made once and then cached, beside what `control_plane.py` makes and in the same way. Run it with any Python
>= 3.11. It prints where each program is, one ``name=path`` per line, also those of `control_plane.py`.
"""

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import control_plane
import pinned_go
from pinned_go import MODULES, SetupError

COREDNS_VERSION = "1.15.0"
OF_THE_CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
OF_THE_NODE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


def main() -> int:
    """Build all and print where they are."""
    try:
        for name, path in programs().items():
            print(f"{name}={path}")
    except SetupError as problem:
        print(f"setup/cluster_programs.py: {problem}", file=sys.stderr)
        return 1
    return 0


def programs() -> dict[str, Path]:
    """Every program of a cluster by its name.

    Raises:
        SetupError: if one has to be built and that is impossible here.
    """
    return (
        _in(control_plane.binaries(), OF_THE_CONTROL_PLANE)
        | _in(_node_programs(), OF_THE_NODE)
        | _in(_coredns(), ("coredns",))
    )


def _in(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: folder / name for name in names}


def _node_programs() -> Path:
    go, version = pinned_go.find_go()
    # How Kubernetes is built stands in that script.
    inputs = [Path(__file__), Path(control_plane.__file__), *sorted(MODULES.glob("kubernetes/go.*"))]
    expected = f"Kubernetes v{control_plane.KUBERNETES_VERSION}"
    return pinned_go.cached(
        "cluster-programs",
        pinned_go.key_of(inputs, version, platform.machine()),
        make=lambda folder: _build_node_programs(go, folder),
        is_good=lambda folder: all(
            pinned_go.problem_with(folder / name, ["--version"], expected) is None for name in OF_THE_NODE
        ),
    )


def _build_node_programs(go: Path, folder: Path) -> None:
    os.nice(5)
    for name in OF_THE_NODE:
        control_plane.build_of_kubernetes(go, folder / name)


def _coredns() -> Path:
    go, version = pinned_go.find_go()
    inputs = [Path(__file__), *sorted(MODULES.glob("coredns/go.*"))]
    return pinned_go.cached(
        "coredns",
        pinned_go.key_of(inputs, version, platform.machine()),
        make=lambda folder: _build_coredns(go, folder),
        is_good=lambda folder: (
            pinned_go.problem_with(folder / "coredns", ["-version"], f"CoreDNS-{COREDNS_VERSION}") is None
        ),
    )


def _build_coredns(go: Path, folder: Path) -> None:
    os.nice(5)
    pinned_go.build(go, "coredns", folder / "coredns", "github.com/coredns/coredns", "-s -w")


if __name__ == "__main__":
    sys.exit(main())
