"""Build a Kubernetes control plane from pinned Go modules, and fetch the CRDs of the Flink and Spark operators.

The tests run the operator against a real API server. Nothing here needs Docker, root or a cluster: etcd,
kube-apiserver and kubectl are compiled with the ordinary Go toolchain (about four minutes once, then they are
cached), and the CRDs come out of the artifacts that the upstream projects publish.

Run it with any Python >= 3.11. It prints where things are, one ``NAME=folder`` per line:

* ``KUBEBUILDER_ASSETS``: the folder with ``etcd``, ``kube-apiserver`` and ``kubectl``. If this variable is already
  set (for instance by ``setup-envtest``), the binaries there are used and nothing is built.
* ``LAKEHOUSE_FOREIGN_CRDS``: the folder with one YAML file per operator version.

Both folders lie in ``${XDG_CACHE_HOME:-~/.cache}/lakehouse`` and carry in their name a hash of everything that went
into them, so a change of a pin, of the scripts or of the Go toolchain never meets old files. They appear by a rename
when they are complete, and the binaries are asked for their versions each time before they are offered.

``MAVEN_REPOSITORY`` may name a place to download from instead of Maven Central; the checksums stay the same.
"""

import hashlib
import io
import json
import os
import platform
import re
import sys
import urllib.request
import zipfile
from pathlib import Path

import pinned_go
from pinned_go import MODULES, SetupError

ETCD_VERSION = "3.6.8"
KUBERNETES_VERSION = "1.34.4"
SPARK_OPERATOR_MODULE = "github.com/kubeflow/spark-operator/v2"
SPARK_OPERATOR_VERSION = "2.4.0"

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
FLINK_OPERATOR_API = "org/apache/flink/flink-kubernetes-operator-api"
# The sha256 of the jar, by the version of the Flink operator whose CRDs it holds.
FLINK_OPERATOR_JARS = {
    "1.7.0": "3965f6dc59d258fbd03176eacd213b57a49523892ecf3ab1be31d7f266c5b68a",
    "1.10.0": "b1f44814e17514fa8395c61b329a3ee9087123a5bda5b21fe1a495d5182c30b6",
}


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
    go, version = pinned_go.find_go()
    inputs = [Path(__file__), *sorted(MODULES.glob("etcd/go.*")), *sorted(MODULES.glob("kubernetes/go.*"))]
    return pinned_go.cached(
        "control-plane",
        pinned_go.key_of(inputs, version, platform.machine()),
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
    return pinned_go.cached(
        "foreign-crds",
        pinned_go.key_of(inputs),
        make=_fetch_crds,
        is_good=lambda folder: all((folder / name).is_file() for name in names),
    )


def _first_problem(folder: Path, *, exact: bool) -> str | None:
    """Why the binaries in a folder can't be used, or None. ``exact`` asks for the very versions pinned here."""
    questions = {
        "etcd": (["--version"], f"etcd Version: {ETCD_VERSION}"),
        "kube-apiserver": (["--version"], f"Kubernetes v{KUBERNETES_VERSION}"),
        "kubectl": (["version", "--client"], f"Client Version: v{KUBERNETES_VERSION}"),
    }
    for name, (arguments, expected) in questions.items():
        if problem := pinned_go.problem_with(folder / name, arguments, expected if exact else None):
            return problem
    return None


def _build(go: Path, folder: Path) -> None:
    os.nice(5)
    pinned_go.build(go, "etcd", folder / "etcd", "go.etcd.io/etcd/server/v3", "-s -w")
    for name in ("kube-apiserver", "kubectl"):
        build_of_kubernetes(go, folder / name)


def build_of_kubernetes(go: Path, target: Path) -> None:
    """Build the program of Kubernetes that the target is named for; it knows its version then.

    Raises:
        SetupError: if it does not compile.
    """
    major, minor, _ = KUBERNETES_VERSION.split(".")
    facts = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in facts.items()
    )
    pinned_go.build(go, "kubernetes", target, f"k8s.io/kubernetes/cmd/{target.name}", f"-s -w {stamps}")


def _fetch_crds(folder: Path) -> None:
    repository = (os.environ.get("MAVEN_REPOSITORY") or MAVEN_CENTRAL).rstrip("/")
    for version, sha256 in FLINK_OPERATOR_JARS.items():
        jar = _download(f"{repository}/{FLINK_OPERATOR_API}/{version}/{Path(FLINK_OPERATOR_API).name}-{version}.jar")
        if hashlib.sha256(jar).hexdigest() != sha256:
            raise SetupError(f"the jar of the Flink operator {version} is not the one that is pinned here")
        with zipfile.ZipFile(io.BytesIO(jar)) as archive:
            crds = sorted(name for name in archive.namelist() if re.fullmatch(r"META-INF/fabric8/.*-v1\.yml", name))
            _join(folder / f"flink-{version}.yaml", [archive.read(name) for name in crds])
    go, _ = pinned_go.find_go()
    answer = pinned_go.run(go, "spark-operator", "mod", "download", "-json", SPARK_OPERATOR_MODULE)
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
