"""The cluster without Docker comes up, runs pods as a cluster should, survives a crash and leaves nothing behind.

It has a folder of its own, so that it can be up beside another cluster.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.api_server import REPOSITORY

PROBE = Path(__file__).parent / "probe"
IMAGE = "localhost/lakehouse-probe:1"
SOON = 60.0

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("kind") is not None,
    reason="it is about the cluster without Docker, which needs root and is not used where kind is installed",
)


@dataclass(frozen=True, slots=True)
class OwnCluster:
    """A cluster in a folder of its own."""

    state: Path

    def run(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run an action of `setup/cluster.py`."""
        action, *operands = arguments
        command = [sys.executable, REPOSITORY / "setup" / "cluster.py", action, "--state", self.state, *operands]
        environment = {name: value for name, value in os.environ.items() if name != "LAKEHOUSE_E2E_KUBECONFIG"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
        assert done.returncode == code, done.stderr
        return done

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl as the administrator."""
        command = [kubectl(), f"--kubeconfig={self.state / 'kubeconfig'}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create objects."""
        self.kubectl("create", "--filename=-", given=yaml.safe_dump_all(manifests))

    def ended(self, pod: str) -> dict[str, Any]:
        """How the container of a pod has ended."""

        def look() -> dict[str, Any] | None:
            statuses = json.loads(self.kubectl("get", "pod", pod, "--output=json"))["status"].get("containerStatuses")
            return statuses[0]["state"].get("terminated") if statuses else None

        return until(look)

    def processes(self, name: str) -> list[int]:
        """The numbers of the node's processes of a name."""
        groups = [Path(each) for each in self.record()["cgroups"] if "/pids/" in each or each.count("/") == 4]
        pids = {
            int(pid) for group in groups for file in group.rglob("cgroup.procs") for pid in file.read_text().split()
        }
        return [pid for pid in pids if name_of(pid) == name]

    def record(self) -> dict[str, Any]:
        """What the cluster knows of itself."""
        record: dict[str, Any] = json.loads((self.state / "cluster.json").read_text())
        return record


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SOON
    while not (seen := look()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)
    return seen


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def kubectl() -> str:
    script = REPOSITORY / "setup" / "control_plane.py"
    said = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"{said.split('KUBEBUILDER_ASSETS=')[1].splitlines()[0]}/kubectl"


def pod(name: str, *arguments: str, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    made = {"name": "probe", "image": IMAGE, "args": list(arguments)} | (container or {})
    metadata = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "containers": [made]} | spec,
    }


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an image with one small program."""
    folder = tmp_path_factory.mktemp("probe")
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    subprocess.run(["go", "build", "-trimpath", "-o", folder / "probe", "."], cwd=PROBE, env=environment, check=True)
    pack = (
        "import sys; from pathlib import Path; from single_node import archive;"
        "archive.pack(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", pack, str(folder / "probe.tar"), IMAGE, str(folder / "probe")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY / "setup")}, check=True)
    return folder / "probe.tar"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, probe: Path) -> Iterator[OwnCluster]:
    """One cluster for all tests that leave it as it is."""
    made = OwnCluster(tmp_path_factory.mktemp("cluster") / "state")
    made.run("up")
    try:
        made.run("load", str(probe))
        yield made
    finally:
        made.run("down")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[OwnCluster]:
    """A folder for a cluster that is to suffer. Whatever happens, nothing of it stays."""
    made = OwnCluster(tmp_path / "state")
    yield made
    made.run("down")


def test_it_is_ready_and_says_so_when_asked_again(cluster: OwnCluster) -> None:
    again = cluster.run("up")
    assert again.stdout == f"KUBECONFIG={cluster.state / 'kubeconfig'}\n"
    assert again.stderr == "the cluster is already up\n"
    assert cluster.run("kubeconfig").stdout == again.stdout
    assert (cluster.state / "kubeconfig").stat().st_mode & 0o077 == 0


def test_pods_reach_services_by_name_and_are_seen_from_outside(cluster: OwnCluster) -> None:
    safe = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "secret", "secret": {"secretName": "word"}},
        {"name": "config", "configMap": {"name": "word"}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    served = {
        "securityContext": safe,
        "volumeMounts": mounts,
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
    }
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "word"}, "stringData": {"it": "hidden"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "word"}, "data": {"it": "shown"}},
        pod("server", "serve", ":8080", container=served, volumes=volumes, securityContext={"runAsNonRoot": True}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        pod("client", "fetch", "http://web.default.svc/"),
    )
    assert cluster.ended("client")["exitCode"] == 0
    assert cluster.kubectl("logs", "client") == "served\n"

    def within(*command: str) -> str:
        return cluster.kubectl("exec", "server", "--", "/probe", *command)

    address = cluster.kubectl("get", "service", "web", "--output=jsonpath={.spec.clusterIP}")
    assert within("resolve", "web") == f"[{address}]\n"
    assert within("read", "/secret/it") == "hidden"
    assert within("read", "/config/it") == "shown"
    assert within("read", "/var/run/secrets/kubernetes.io/serviceaccount/token").count(".") == 2
    within("write", "/scratch/file")
    with pytest.raises(AssertionError, match="exit code 1"):
        within("write", "/file")
    with pytest.raises(AssertionError, match="exit code 1"):
        within("resolve", "example.org")

    # A program of the host in the cluster's network, and without it.
    fetch = (
        "import urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open('http://web/', timeout=20).read())"
    )
    assert cluster.run("exec", "--", sys.executable, "-c", fetch).stdout == "b'served'\n"
    assert subprocess.run([sys.executable, "-c", fetch], capture_output=True, check=False).returncode != 0


def test_a_pod_that_takes_more_memory_than_it_may_is_killed_alone(cluster: OwnCluster) -> None:
    cluster.apply(pod("eater", "eat", container={"resources": {"limits": {"memory": "32Mi"}}}))
    end = cluster.ended("eater")
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "containerd", "kubelet"])
def test_a_program_of_the_node_that_is_killed_is_started_again(cluster: OwnCluster, name: str) -> None:
    cluster.apply(pod(f"before-{name}", "idle"))
    (old,) = cluster.processes(name)
    os.kill(old, signal.SIGKILL)
    until(lambda: [pid for pid in cluster.processes(name) if pid != old])
    assert "already up" in cluster.run("up").stderr
    cluster.apply(pod(f"after-{name}", "idle"))
    names = [f"pod/{when}-{name}" for when in ("before", "after")]
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *names)
    cluster.kubectl("delete", "--grace-period=0", "--force", *names)


def test_a_cluster_whose_process_is_killed_is_made_anew_and_leaves_nothing(fresh: OwnCluster) -> None:
    before = Traces.now()
    fresh.run("up")
    assert Traces.now().beyond(before)
    fresh.kubectl("create", "configmap", "mine")
    os.kill(fresh.record()["pid"], signal.SIGKILL)
    assert "removed what was left" in fresh.run("up").stderr
    assert "mine" not in fresh.kubectl("get", "configmaps")
    cgroups = fresh.record()["cgroups"]
    with in_its_network(fresh) as guest:
        fresh.run("down")
        assert_nothing_is_left(fresh, before, cgroups)
        # It was somebody's own program, which keeps the network alive, but not the way to it.
        assert guest.poll() is None


@contextlib.contextmanager
def in_its_network(cluster: OwnCluster) -> "Iterator[subprocess.Popen[str]]":
    """A program of the host that is in the cluster's network, and stays there."""
    script = REPOSITORY / "setup" / "cluster.py"
    command = [sys.executable, script, "exec", "--state", cluster.state, "--", "sh", "-c", "echo in; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guest:
        try:
            assert guest.stdout is not None
            assert guest.stdout.readline() == "in\n"
            yield guest
        finally:
            guest.kill()


def test_a_start_that_is_killed_half_way_leaves_nothing_after_down(fresh: OwnCluster) -> None:
    before = Traces.now()
    script = REPOSITORY / "setup" / "cluster.py"
    with subprocess.Popen([sys.executable, script, "up", "--state", fresh.state], stdout=subprocess.DEVNULL) as start:
        until((fresh.state / "logs" / "kube-apiserver.log").exists)
        start.kill()
    cgroups = fresh.record()["cgroups"]
    assert any(Path(each).exists() for each in cgroups)
    fresh.run("down")
    assert_nothing_is_left(fresh, before, cgroups)


@dataclass(frozen=True, slots=True)
class Traces:
    """What of the machine a cluster could leave changed."""

    links: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    settings: frozenset[tuple[str, str]]

    @classmethod
    def now(cls) -> "Traces":
        """As it is."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        named = Path("/run/netns")
        files = ["net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "net/netfilter/nf_conntrack_max"]
        settings = [Path("/proc/sys", file) for file in files]
        return cls(
            frozenset(each.name for each in Path("/sys/class/net").iterdir()),
            frozenset(each.name for each in named.iterdir()) if named.is_dir() else frozenset(),
            frozenset(mount.split()[4] for mount in mounts),
            frozenset((str(file), file.read_text()) for file in settings if file.exists()),
        )

    def beyond(self, before: "Traces") -> list[object]:
        """What was not there before."""
        return [
            *(self.links - before.links),
            *(self.namespaces - before.namespaces),
            *(self.mounts - before.mounts),
            *(self.settings - before.settings),
        ]


def assert_nothing_is_left(cluster: OwnCluster, before: Traces, cgroups: list[str]) -> None:
    assert sorted(file.name for file in cluster.state.iterdir()) == ["lock", "logs"]
    assert [each for each in cgroups if Path(each).exists()] == []
    # Other programs of the machine come and go; what this cluster leaves would stay.
    until(lambda: not Traces.now().beyond(before))
    in_use = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and str(cluster.state) in command_of(pid)]
    assert [command_of(pid) for pid in in_use] == []


def command_of(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_text()
    return ""
