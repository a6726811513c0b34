"""Helm, as the tests use it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from control_plane.api_server import REPOSITORY

CHART = REPOSITORY / "helm" / "lakehouse-operator"
SAMPLE = REPOSITORY / "helm" / "lakehouse-sample"
Manifest = dict[str, Any]


@cache
def places() -> dict[str, str]:
    """Where the Helm program and the monitoring CRDs are; they are made first if need be."""
    script = REPOSITORY / "setup" / "helm_program.py"
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


class HelmRefused(Exception):
    """Helm ended with an error; the message is Helm's."""


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> str:
    """Run Helm, with some values, and return what it prints.

    Raises:
        HelmRefused: if it fails.
    """
    given = [] if values is None else ["--values=-"]
    done = subprocess.run(
        [places()["HELM"], *arguments, *given],
        input=None if values is None else json.dumps(values),
        env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise HelmRefused(done.stderr)
    return done.stdout


def render(
    values: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    release: str = "lakehouse",
    namespace: str = "lakehouse",
) -> list[Manifest]:
    """Everything that a release consists of, hooks too."""
    printed = helm("template", release, str(chart), f"--namespace={namespace}", values=values or {})
    return [document for document in yaml.safe_load_all(printed) if document]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [each for each in manifests if each["kind"] == kind]


def is_hook(manifest: Manifest) -> bool:
    """Whether Helm makes it only at a certain moment."""
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})
