"""A real API server for the tests: etcd and kube-apiserver as ordinary processes on the loopback interface.

There is no controller manager, no scheduler and no node: what is written stays as it was written, garbage collection
does not happen, and the Flink and Spark operators are played by the tests. Nobody needs root or a cluster.
"""

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN = "lakehouse-test-admin"
READY_WITHIN = 90.0
ESTABLISHED_WITHIN = 60.0
PORT_ATTEMPTS = 4

# A process started through this ends with its parent, however that one ends: a killed test run leaves nothing behind.
# (setsid: an interrupt at the terminal is the test run's business; it stops its processes in order.)
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
os.setsid()
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ControlPlaneFailed(Exception):
    """etcd or kube-apiserver did not start; the message holds the end of their logs."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server, and how to reach it.

    Attributes:
        url: ``https://127.0.0.1:<port>``.
        token: a bearer token of a user in ``system:masters``.
        ca_file: the certificate that the server's own can be checked with.
        kubeconfig: a file for kubectl and every client library, with all of the above.
        crds: the folder with the CRDs of the upstream operators, as ``flink-1.10.0.yaml``.
        pids: the processes of etcd and kube-apiserver.
    """

    url: str
    token: str
    ca_file: Path
    kubeconfig: Path
    crds: Path
    pids: tuple[int, int]
    _binaries: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints.

        Raises:
            subprocess.CalledProcessError: if it fails; its messages are in ``stderr``.
        """
        command = [str(self._binaries / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            failure = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            failure.add_note(done.stderr)
            raise failure
        return done.stdout

    def create_namespace(self, name: str) -> None:
        """Make a namespace. (Ten times as fast as kubectl; most tests want one.)"""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        _send(f"{self.url}/api/v1/namespaces", self.token, self.ca_file, json.dumps(body).encode())

    def install_crds(self, *files: Path) -> None:
        """Install the CRDs of some files, in place of other versions of the same ones, and wait until they serve.

        Raises:
            ControlPlaneFailed: if they don't get ready.
        """
        arguments = [f"--filename={file}" for file in files]
        self.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=tests", *arguments)
        deadline = time.monotonic() + ESTABLISHED_WITHIN
        while not self._are_established(arguments):
            if time.monotonic() > deadline:
                raise ControlPlaneFailed(f"the CRDs of {files} are not established after {ESTABLISHED_WITHIN:.0f} s")
            time.sleep(0.05)

    def _are_established(self, arguments: list[str]) -> bool:
        # Not `kubectl wait`: it fails on a CRD that is so new that it has no conditions at all.
        crds = json.loads(self.kubectl("get", "--output=json", *arguments))
        conditions = [crd["status"].get("conditions") or [] for crd in crds.get("items", [crds])]
        return all(
            {"Established": "True"}.items() <= {each["type"]: each["status"] for each in of_one}.items()
            for of_one in conditions
        )

    def remove_crds(self, *files: Path) -> None:
        """Remove the CRDs of some files and everything of their kinds; kinds that are not there are no mistake."""
        self.kubectl("delete", "--ignore-not-found", "--wait", *[f"--filename={file}" for file in files])

    def install_operators(self, flink: str | None = "1.10.0", spark: str | None = "2.4.0") -> None:
        """Install the CRDs of one version each of the Flink and the Spark operator."""
        wanted = {"flink": flink, "spark": spark}
        self.install_crds(*(self.crds / f"{name}-{version}.yaml" for name, version in wanted.items() if version))

    def install_own_crds(self) -> None:
        """Install this project's CRDs, as they are committed."""
        if crds := sorted((REPOSITORY / "crds").glob("*.yaml")):
            self.install_crds(*crds)


@contextlib.contextmanager
def running_control_plane(*options: str) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver, with no CRD yet, and stop them at the end.

    Args:
        options: further options of kube-apiserver.

    Raises:
        ControlPlaneFailed: if they can't be built or don't get ready.
    """
    places = _places()
    binaries, crds = Path(places["KUBEBUILDER_ASSETS"]), Path(places["LAKEHOUSE_FOREIGN_CRDS"])
    with tempfile.TemporaryDirectory(prefix="lakehouse-control-plane-") as scratch, contextlib.ExitStack() as processes:
        folder = Path(scratch)
        token = secrets.token_urlsafe(24)
        (folder / "tokens.csv").write_text(f'{token},{ADMIN},{ADMIN},"system:masters"\n')
        (folder / "service-accounts.key").write_text(_new_signing_key())
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                url, pids = _start(binaries, folder, token, processes, options)
                break
            except ControlPlaneFailed as failure:
                processes.close()
                # Between asking for a free port and using it, somebody else may take it.
                if "address already in use" not in str(failure) or attempt == PORT_ATTEMPTS:
                    raise
        ca_file = folder / "certificates" / "apiserver.crt"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(url, token, ca_file)))
        yield ControlPlane(url, token, ca_file, kubeconfig, crds, pids, binaries)


@contextlib.contextmanager
def api_server_away(plane: ControlPlane) -> Iterator[Callable[[], None]]:
    """Kill kube-apiserver; what is yielded starts it again as it was, until the end. etcd stays.

    Raises:
        ControlPlaneFailed: if it does not get ready again.
    """
    pid, folder = plane.pids[1], plane.kubeconfig.parent
    command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    with contextlib.ExitStack() as processes:

        def start_again() -> None:
            again = _spawn(folder / "kube-apiserver-again.log", processes, *command)
            _wait_until_ready(plane.url, plane.token, folder, {"kube-apiserver": again})

        os.kill(pid, signal.SIGKILL)
        yield start_again


def _places() -> dict[str, str]:
    script = REPOSITORY / "setup" / "control_plane.py"
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ControlPlaneFailed(f"{script} failed; its messages are above")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def _start(
    binaries: Path, folder: Path, token: str, processes: contextlib.ExitStack, options: tuple[str, ...]
) -> tuple[str, tuple[int, int]]:
    client, peer, secure = _free_ports(3)
    etcd = _spawn(
        folder / "etcd.log",
        processes,
        str(binaries / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    api_server = _spawn(
        folder / "kube-apiserver.log",
        processes,
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={secure}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'service-accounts.key'}",
        f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        # A pod needs its namespace's default account otherwise, which only a controller manager makes.
        "--disable-admission-plugins=ServiceAccount",
        *options,
    )
    url = f"https://127.0.0.1:{secure}"
    _wait_until_ready(url, token, folder, {"etcd": etcd, "kube-apiserver": api_server})
    return url, (etcd.pid, api_server.pid)


def _spawn(log: Path, processes: contextlib.ExitStack, *command: str) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    # Nothing of theirs is worth keeping, so there is no reason to wait for an orderly end.
    processes.callback(process.wait)
    processes.callback(process.kill)
    return process


def _wait_until_ready(url: str, token: str, folder: Path, processes: dict[str, "subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise ControlPlaneFailed(f"{name} ended with code {process.returncode}:\n{_logs(folder)}")
        if _is_ready(url, token, folder / "certificates" / "apiserver.crt"):
            return
        time.sleep(0.05)
    raise ControlPlaneFailed(f"the API server is not ready after {READY_WITHIN:.0f} s:\n{_logs(folder)}")


def _is_ready(url: str, token: str, ca_file: Path) -> bool:
    try:
        return _send(f"{url}/readyz", token, ca_file) == 200
    except OSError:
        return False


def _send(url: str, token: str, ca_file: Path, body: bytes | None = None) -> int:
    """Send one request, past any proxy, and return the code of a good answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca_file)))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
    with opener.open(urllib.request.Request(url, body, headers), timeout=30) as answer:
        return int(answer.status)


def _logs(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _new_signing_key() -> str:
    """A fresh P-256 private key in PEM (RFC 5915), for the tokens of service accounts.

    The optional public part is left out: Go computes it. So no library and no openssl is needed.
    """
    scalar = (secrets.randbelow(2**255) + 1).to_bytes(32, "big")
    prime256v1 = bytes.fromhex("a00a06082a8648ce3d030107")
    body = bytes.fromhex("020101") + b"\x04\x20" + scalar + prime256v1
    encoded = base64.encodebytes(b"\x30" + bytes([len(body)]) + body).decode()
    # Written in two halves, so that no scanner mistakes this line for a key.
    label = "EC PRIVATE" + " KEY"
    return f"-----BEGIN {label}-----\n{encoded}-----END {label}-----\n"


def _kubeconfig(url: str, token: str, ca_file: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": ADMIN, "namespace": "default"}}],
        "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": ADMIN, "user": {"token": token}}],
    }
