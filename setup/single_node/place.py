"""Where a cluster keeps its files, what it is called on this machine, and what is known of it while it is up."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path


class ClusterError(Exception):
    """There can be no cluster here, or it does not get ready; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """The state folder of a cluster.

    Attributes:
        state: The folder, absolute. Clusters with different folders do not meet: all names come from it.
    """

    state: Path

    @property
    def key(self) -> str:
        """Eight characters that stand for the folder in names."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def link(self) -> str:
        """The host's end of the cable to the node. (The kernel allows 15 characters.)"""
        return f"lakeh-{self.key}"

    @property
    def cgroup(self) -> str:
        """The directory that the cluster has in each hierarchy of cgroups."""
        return f"lakehouse-{self.key}"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and every client library, on this host."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file for each program of the node. They stay when it is taken down."""
        return self.state / "logs"

    @property
    def files(self) -> Path:
        """What the node works with: its configuration, its disk."""
        return self.state / "node"

    @property
    def resolv_conf(self) -> Path:
        """Names are looked up as this file says by what `exec` runs."""
        return self.files / "resolv.conf"

    @property
    def record(self) -> Path:
        """What is known of the cluster. It is there from before the first thing is made until the last is gone."""
        return self.state / "cluster.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What has to be known of a cluster to take it down, and to find out whether it is still up.

    Attributes:
        kind: ``node`` for one of ours, ``kind`` for one that the program of this name has made.
        subnet: The first three bytes of the addresses of host and node, such as ``10.99.7``.
        cgroups: The cluster's directory in each hierarchy.
        pid: The process that holds the node's namespaces; it takes the node with it. 0 while there is none yet.
        started: When that process started, in the kernel's ticks. A number that is used again has another start.
    """

    kind: str
    subnet: str = ""
    cgroups: tuple[str, ...] = ()
    pid: int = 0
    started: int = 0


def read(place: Place) -> Record | None:
    """Read what is known of a cluster, or None if there is none."""
    try:
        fields = json.loads(place.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Record(**fields | {"cgroups": tuple(fields["cgroups"])})


def write(place: Place, record: Record) -> None:
    """Write down what is known, all or nothing."""
    place.state.mkdir(parents=True, exist_ok=True)
    draft = place.record.with_suffix(".new")
    draft.write_text(json.dumps(asdict(record)), encoding="utf-8")
    draft.replace(place.record)
