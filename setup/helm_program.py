"""Build Helm from its pinned Go module, and fetch the CRDs of the Prometheus operator: what the chart's tests need.

Both are made once and then cached, beside what `control_plane.py` makes and in the same way. Run it with any
Python >= 3.11. It prints where things are, one ``NAME=path`` per line:

* ``HELM``: the program. If this variable is already set, the program there is used and nothing is built.
* ``LAKEHOUSE_MONITORING_CRDS``: the folder with the CRDs of ServiceMonitor and PrometheusRule.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pinned_go
from pinned_go import SetupError

HELM_VERSION = "3.19.5"
KUBERNETES = ("1", "34")
"""The version that it assumes where it is asked to render without a cluster: that of its own libraries."""
MONITORING_MODULE = "github.com/prometheus-operator/prometheus-operator"
MONITORING_CRDS = ("monitoring.coreos.com_servicemonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml")


def main() -> int:
    """Make both and print where they are."""
    try:
        print(f"HELM={helm()}")
        print(f"LAKEHOUSE_MONITORING_CRDS={monitoring_crds()}")
    except SetupError as problem:
        print(f"setup/helm_program.py: {problem}", file=sys.stderr)
        return 1
    return 0


def helm() -> Path:
    """The Helm program.

    Raises:
        SetupError: if it has to be built and that is impossible here, or the given one does not run.
    """
    if given := os.environ.get("HELM"):
        if _version_of(Path(given)) is None:
            raise SetupError(f"HELM is set to {given}, which does not say its version; unset it to build Helm")
        return Path(given)
    go, version = pinned_go.find_go()
    inputs = [Path(__file__), *sorted(pinned_go.MODULES.glob("helm/go.*"))]
    folder = pinned_go.cached(
        "helm",
        pinned_go.key_of(inputs, version, platform.machine()),
        make=lambda folder: _build(go, folder),
        is_good=lambda folder: _version_of(folder / "helm") == f"v{HELM_VERSION}",
    )
    return folder / "helm"


def monitoring_crds() -> Path:
    """The folder with the CRDs of the Prometheus operator that the chart has objects of.

    Raises:
        SetupError: if they are not in the cache and can't be fetched.
    """
    return pinned_go.cached(
        "monitoring-crds",
        pinned_go.key_of([Path(__file__), *sorted(pinned_go.MODULES.glob("monitoring/go.*"))]),
        make=_fetch_crds,
        is_good=lambda folder: all((folder / name).is_file() for name in MONITORING_CRDS),
    )


def _version_of(program: Path) -> str | None:
    try:
        answer = subprocess.run(
            [program, "version", "--template={{.Version}}"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 and answer.stdout.startswith("v") else None


def _build(go: Path, folder: Path) -> None:
    os.nice(5)
    stamps = {"internal/version.version": f"v{HELM_VERSION}"}
    for package in ("pkg/chartutil", "pkg/lint/rules"):
        stamps |= {f"{package}.k8sVersionMajor": KUBERNETES[0], f"{package}.k8sVersionMinor": KUBERNETES[1]}
    linker = " ".join(["-s -w", *(f"-X helm.sh/helm/v3/{name}={value}" for name, value in stamps.items())])
    pinned_go.build(go, "helm", folder / "helm", "helm.sh/helm/v3/cmd/helm", linker)


def _fetch_crds(folder: Path) -> None:
    go, _ = pinned_go.find_go()
    answer = pinned_go.run(go, "monitoring", "mod", "download", "-json", MONITORING_MODULE)
    for name in MONITORING_CRDS:
        shutil.copy(Path(json.loads(answer)["Dir"]) / "example" / "prometheus-operator-crd" / name, folder / name)


if __name__ == "__main__":
    sys.exit(main())
