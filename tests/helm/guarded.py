"""An API server that grants what the chart grants and nothing else, and writes down who did what."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from control_plane.api_server import ControlPlane, running_control_plane
from helm.chart import places

_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "omitStages": ["RequestReceived"]},
        {"level": "None"},
    ],
}


class Right(NamedTuple):
    """One thing that somebody may do, or did."""

    verb: str
    group: str
    resource: str
    """With its subresource: `lakehousepipelines/status`."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """The API server, and its audit log."""

    plane: ControlPlane
    _log: Path

    def used_by(self, account: str) -> set[Right]:
        """What an account has done so far that was not forbidden. Discovery is no right, so it does not count."""
        return {_right(each) for each in self._entries(account) if each["responseStatus"]["code"] != 403}

    def refused_to(self, account: str) -> set[Right]:
        """What an account has tried and was forbidden."""
        return {_right(each) for each in self._entries(account) if each["responseStatus"]["code"] == 403}

    def _entries(self, account: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        entries = (json.loads(line) for line in lines if line.endswith("}"))
        return [
            each
            for each in entries
            if each["user"]["username"] == f"system:serviceaccount:{account}"
            and "objectRef" in each
            and each["objectRef"].get("resource")
        ]

    def login(self, account: str, folder: Path) -> Path:
        """A kubeconfig with a token of a service account, given as `namespace:name`."""
        namespace, name = account.split(":")
        token = self.plane.kubectl("create", "token", name, f"--namespace={namespace}", "--duration=1h").strip()
        kubeconfig = json.loads(self.plane.kubeconfig.read_text())
        kubeconfig["users"] = [{"name": account, "user": {"token": token}}]
        kubeconfig["contexts"][0]["context"] |= {"user": account, "namespace": namespace}
        file = folder / f"{name}.kubeconfig"
        file.write_text(json.dumps(kubeconfig))
        return file

    def may(self, account: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether an account may do something to a resource, given as `resource.group` or `resource/name`."""
        try:
            answer = self.plane.kubectl(
                "auth", "can-i", verb, resource, f"--namespace={namespace}", f"--as=system:serviceaccount:{account}"
            )
        except subprocess.CalledProcessError as refused:
            if refused.stdout.strip() != "no":
                raise
            return False
        return answer.strip() == "yes"


def _right(entry: dict[str, Any]) -> Right:
    reference = entry["objectRef"]
    parts = [reference["resource"], reference.get("subresource", "")]
    return Right(entry["verb"], reference.get("apiGroup", ""), "/".join(part for part in parts if part))


@contextlib.contextmanager
def guarded_plane(folder: Path) -> Iterator[Guarded]:
    """Start it with the CRDs of the operators that the chart works with, and without our own: those come by the chart.

    Owner references are guarded as on OpenShift: to block an owner's deletion takes a right.
    """
    policy, log = folder / "audit-policy.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(_POLICY))
    with running_control_plane(
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    ) as plane:
        plane.install_operators()
        plane.install_crds(*sorted(Path(places()["LAKEHOUSE_MONITORING_CRDS"]).glob("*.yaml")))
        yield Guarded(plane, log)


def wait_until(check: Any, within: float = 60.0) -> None:
    """Wait until a check holds."""
    deadline = time.monotonic() + within
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {within:.0f} s")
        time.sleep(0.1)
