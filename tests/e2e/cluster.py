"""A cluster as a person sees it: through kubectl, on whatever kubeconfig the suite was given."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

Manifest = dict[str, Any]
Seen = TypeVar("Seen")
BETWEEN_LOOKS = 0.5
PATIENCE = 2.0
"""How often as long as on a quiet machine something may take."""


class Refused(Exception):
    """Kubectl ended with an error; the message is its own."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl and return what it printed."""
        done = subprocess.run(
            [self.program, *arguments],
            input=given,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise Refused(f"kubectl {' '.join(arguments[:6])}: {done.stderr.strip()}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that should meet this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def apply(self, *manifests: Manifest, **options: str) -> None:
        """Apply manifests, as a person would: client-side apply can't hold large CRDs, so server-side."""
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        given = yaml.safe_dump_all(manifests)
        self.kubectl("apply", "--server-side", "--force-conflicts", *flags, "-f", "-", given=given)

    def get(self, namespace: str, kind: str, name: str) -> Manifest | None:
        """One object, or None."""
        found = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return cast("Manifest", json.loads(found)) if found.strip() else None

    def find(self, namespace: str, kind: str, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """All objects of a kind in a namespace."""
        selector = ["-l", ",".join(f"{name}={value}" for name, value in labels.items())] if labels else []
        return cast(
            "list[Manifest]", json.loads(self.kubectl("get", kind, "-n", namespace, *selector, "-o", "json"))["items"]
        )

    def exec(
        self, namespace: str, pod: str, container: str, *command: str, given: str | None = None, seconds: float = 300
    ) -> str:
        """Run a command in a container."""
        flags = ["-i"] if given is not None else []
        return self.kubectl(
            "exec", *flags, pod, "-n", namespace, "-c", container, "--", *command, given=given, seconds=seconds
        )

    def attempt(self, namespace: str, pod: str, container: str, *command: str) -> None:
        """Run a command that may take its container down with it."""
        with contextlib.suppress(Refused, subprocess.TimeoutExpired):
            self.exec(namespace, pod, container, *command, seconds=60)

    def kill(self, namespace: str, pod: str) -> None:
        """SIGKILL for everything in a pod, at once."""
        self.kubectl("delete", "pod", pod, "-n", namespace, "--grace-period=0", "--force", "--wait=false")

    def pods(self, namespace: str, **labels: str) -> list[str]:
        """The names of the pods with these labels that are not being deleted."""
        found = self.find(namespace, "pods", {name.replace("_", "-"): value for name, value in labels.items()})
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def until(
        self, look: Callable[[], Seen | None], what: str, *, seconds: float, tell: Callable[[], object] = lambda: ""
    ) -> Seen:
        """Look until there is something to see, and return it.

        Args:
            look: What is looked at; a false answer means not yet, and so does a refusal.
            what: What is waited for, for the message.
            seconds: How long at most, on a quiet machine.
            tell: More for the message.
        """
        deadline = time.monotonic() + seconds * PATIENCE
        last: object = None
        while True:
            try:
                if seen := look():
                    return seen
                last = None
            except (Refused, subprocess.TimeoutExpired) as error:
                last = error
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {what}\n{last or ''}\n{tell()}")
            time.sleep(BETWEEN_LOOKS)


def rolled_out(cluster: Cluster, namespace: str, names: Iterable[str], seconds: float = 600) -> None:
    """Wait until Deployments are available."""
    for name in names:
        cluster.kubectl(
            "rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={seconds:.0f}s",
            seconds=seconds + 30,
        )  # fmt: skip
