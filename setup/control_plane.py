"""Build a Kubernetes control plane from pinned Go modules, and fetch the CRDs of the Flink and Spark operators.

The tests run the operator against a real API server. Nothing here needs Docker, root or a cluster: etcd,
kube-apiserver and kubectl are compiled with the ordinary Go toolchain (about four minutes once, then they are
cached), and the CRDs come out of the artifacts that the upstream projects publish.

Run it with any Python >= 3.11. It prints where things are, one ``NAME=folder`` per line:

* ``KUBEBUILDER_ASSETS``: the folder with ``etcd``, ``kube-apiserver`` and ``kubectl``. If this variable is already
  set (for instance by ``setup-envtest``), the binaries there are used and nothing is built.
* ``LAKEHOUSE_FOREIGN_CRDS``: the folder with one YAML file per operator version.

Both folders lie in ``${XDG_CACHE_HOME:-~/.cache}/lakehouse`` and carry in their name a hash of everything that went
into them, so a change of a pin, of this script or of the Go toolchain never meets old files. They appear by a rename
when they are complete, and the binaries are asked for their versions each time before they are offered.

``MAVEN_REPOSITORY`` may name a place to download from instead of Maven Central; the checksums stay the same.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "control-plane"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse"

ETCD_VERSION = "3.6.8"
KUBERNETES_VERSION = "1.34.4"
SPARK_OPERATOR_MODULE = "github.com/kubeflow/spark-operator/v2"
SPARK_OPERATOR_VERSION = "2.4.0"

OLDEST_GO = (1, 24)
# What an older Go fetches through the module proxy, checked against the public checksum database.
GO_TOOLCHAIN = "go1.26.8"

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
FLINK_OPERATOR_API = "org/apache/flink/flink-kubernetes-operator-api"
# The sha256 of the jar, by the version of the Flink operator whose CRDs it holds.
FLINK_OPERATOR_JARS = {
    "1.7.0": "3965f6dc59d258fbd03176eacd213b57a49523892ecf3ab1be31d7f266c5b68a",
    "1.10.0": "b1f44814e17514fa8395c61b329a3ee9087123a5bda5b21fe1a495d5182c30b6",
}


class SetupError(Exception):
    """Something is missing on this machine; the message says what to do."""


def main() -> int:
    """Make both folders and print where they are."""
    try:
        print(f"KUBEBUILDER_ASSETS={binaries()}")
        print(f"LAKEHOUSE_FOREIGN_CRDS={foreign_crds()}")
    except SetupError as problem:
        print(f"setup/control_plane.py: {problem}", file=sys.stderr)
        return 1
    return 0


def binaries() -> Path:
    """The folder with etcd, kube-apiserver and kubectl.

    Raises:
        SetupError: if they have to be built and that is impossible here.
    """
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        folder = Path(given)
        if problem := _first_problem(folder, exact=False):
            raise SetupError(f"KUBEBUILDER_ASSETS is set to {folder}, but {problem}; unset it to build them")
        return folder
    go, version = _find_go()
    inputs = [Path(__file__), *sorted(MODULES.glob("etcd/go.*")), *sorted(MODULES.glob("kubernetes/go.*"))]
    return _cached(
        "control-plane",
        _hash(inputs, version, platform.machine()),
        make=lambda folder: _build(go, folder),
        is_good=lambda folder: _first_problem(folder, exact=True) is None,
    )


def foreign_crds() -> Path:
    """The folder with ``flink-<version>.yaml`` and ``spark-<version>.yaml``: the CRDs as upstream ships them.

    Raises:
        SetupError: if they are not in the cache and can't be fetched.
    """
    inputs = [Path(__file__), *sorted(MODULES.glob("spark-operator/go.*"))]
    names = [*(f"flink-{version}.yaml" for version in FLINK_OPERATOR_JARS), f"spark-{SPARK_OPERATOR_VERSION}.yaml"]
    return _cached(
        "foreign-crds",
        _hash(inputs),
        make=_fetch_crds,
        is_good=lambda folder: all((folder / name).is_file() for name in names),
    )


def _cached(kind: str, key: str, make: Callable[[Path], None], is_good: Callable[[Path], bool]) -> Path:
    """The folder of this kind and key; made first if it is missing or no good. One process makes, others wait."""
    home = CACHE / kind
    folder = home / key
    if is_good(folder):
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / "lock"):
        if is_good(folder):
            return folder
        # With the lock in hand, a draft that lies around is one of a run that was killed.
        for old in (folder, *home.glob(".making-*")):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
            draft = Path(scratch) / key
            draft.mkdir()
            make(draft)
            if not is_good(draft):
                raise SetupError(f"what was made for {folder} does not pass its own check; this is a bug")
            draft.rename(folder)
    return folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _hash(files: list[Path], *words: str) -> str:
    digest = hashlib.sha256()
    for part in [*(file.read_bytes() for file in files), *(word.encode() for word in words)]:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def _first_problem(folder: Path, *, exact: bool) -> str | None:
    """Why the binaries in a folder can't be used, or None. ``exact`` asks for the very versions pinned here."""
    questions = {
        "etcd": (["--version"], f"etcd Version: {ETCD_VERSION}"),
        "kube-apiserver": (["--version"], f"Kubernetes v{KUBERNETES_VERSION}"),
        "kubectl": (["version", "--client"], f"Client Version: v{KUBERNETES_VERSION}"),
    }
    for name, (arguments, expected) in questions.items():
        try:
            answer = subprocess.run(
                [folder / name, *arguments], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{name} does not run there ({error})"
        if answer.returncode != 0:
            return f"{name} ends with code {answer.returncode}"
        if exact and expected not in answer.stdout.splitlines():
            return f"{name} does not say {expected!r}"
    return None


def _build(go: Path, folder: Path) -> None:
    os.nice(5)
    version = f"v{KUBERNETES_VERSION}"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in facts.items()
    )
    _go_build(go, "etcd", folder / "etcd", "go.etcd.io/etcd/server/v3", "-s -w")
    for name in ("kube-apiserver", "kubectl"):
        _go_build(go, "kubernetes", folder / name, f"k8s.io/kubernetes/cmd/{name}", f"-s -w {stamps}")


def _go_build(go: Path, module: str, target: Path, package: str, linker: str) -> None:
    print(f"building {target.name} ...", file=sys.stderr, flush=True)
    _run_go(go, module, "build", "-trimpath", "-ldflags", linker, "-o", str(target), package)


def _run_go(go: Path, module: str, *arguments: str) -> str:
    """Run the Go command in one of our modules: nothing but what its go.sum allows."""
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    environment.pop("GOROOT", None)
    done = subprocess.run(
        [go, *arguments], cwd=MODULES / module, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise SetupError(f"'go {' '.join(arguments)}' failed in {MODULES / module}; its messages are above")
    return done.stdout


def _find_go() -> tuple[Path, str]:
    """A Go command that is new enough, and its version and platform.

    An older one can fetch a newer one: since Go 1.21 toolchains are modules, and any Go can download a module.
    """
    found = shutil.which("go")
    if found is None:
        raise SetupError(
            "needs Go to build the API server: install Debian's 'golang-go' (any version will do, it fetches "
            f"{GO_TOOLCHAIN} itself) or Go from https://go.dev/dl/"
        )
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run([found, "version"], env=environment, capture_output=True, text=True, check=False).stdout
    version = re.fullmatch(r"go version go(\d+)\.(\d+)\S*.* (\w+)/(\w+)\s*", answer)
    if version is None:
        raise SetupError(f"{found} does not say its version (it says {answer!r}); install Go from https://go.dev/dl/")
    if (int(version[1]), int(version[2])) >= OLDEST_GO:
        return Path(found), answer.strip()
    system, machine = version[3], version[4]
    return _newer_go(Path(found), system, machine), f"go version {GO_TOOLCHAIN} {system}/{machine}"


def _newer_go(old_go: Path, system: str, machine: str) -> Path:
    module = f"golang.org/toolchain@v0.0.1-{GO_TOOLCHAIN}.{system}-{machine}"
    with tempfile.TemporaryDirectory() as outside_of_any_module:
        done = subprocess.run(
            [old_go, "mod", "download", "-json", module],
            cwd=outside_of_any_module,
            env=os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": ""},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    folder = json.loads(done.stdout or "{}").get("Dir")
    if done.returncode != 0 or not folder:
        oldest = ".".join(map(str, OLDEST_GO))
        raise SetupError(
            f"{old_go} is older than {oldest} and could not fetch {GO_TOOLCHAIN}; install Go from https://go.dev/dl/"
        )
    # A module's files are not executable; the go command does the same to a toolchain that it fetches for itself.
    for program in (*Path(folder).glob("bin/*"), *Path(folder).glob("pkg/tool/*/*")):
        if not os.access(program, os.X_OK):
            program.chmod(0o555)
    return Path(folder) / "bin" / "go"


def _fetch_crds(folder: Path) -> None:
    repository = (os.environ.get("MAVEN_REPOSITORY") or MAVEN_CENTRAL).rstrip("/")
    for version, sha256 in FLINK_OPERATOR_JARS.items():
        jar = _download(f"{repository}/{FLINK_OPERATOR_API}/{version}/{Path(FLINK_OPERATOR_API).name}-{version}.jar")
        if hashlib.sha256(jar).hexdigest() != sha256:
            raise SetupError(f"the jar of the Flink operator {version} is not the one that is pinned here")
        with zipfile.ZipFile(io.BytesIO(jar)) as archive:
            crds = sorted(name for name in archive.namelist() if re.fullmatch(r"META-INF/fabric8/.*-v1\.yml", name))
            _join(folder / f"flink-{version}.yaml", [archive.read(name) for name in crds])
    go, _ = _find_go()
    answer = _run_go(go, "spark-operator", "mod", "download", "-json", SPARK_OPERATOR_MODULE)
    bases = sorted(Path(json.loads(answer)["Dir"]).glob("config/crd/bases/*.yaml"))
    _join(folder / f"spark-{SPARK_OPERATOR_VERSION}.yaml", [base.read_bytes() for base in bases])


def _download(url: str) -> bytes:
    print(f"fetching {url} ...", file=sys.stderr, flush=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content: bytes = response.read()
    except OSError as error:
        raise SetupError(f"can't fetch {url}: {error}") from error
    return content


def _join(target: Path, documents: list[bytes]) -> None:
    if not documents:
        raise SetupError(f"found no CRD for {target.name}; this is a bug")
    parts = [document.strip().removeprefix(b"---").strip() for document in documents]
    target.write_bytes(b"\n---\n".join(parts) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
