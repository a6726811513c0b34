"""A release of the chart on the API server, with the operator as a process."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from control_plane.fixtures import new_namespace
from handlers.actors import Actors
from helm.chart import CHART, Manifest, helm
from helm.guarded import Guarded
from helm.pods import Container, free_port
from lakehouse_operator.cluster.errors import NotFound

DEADLINE = 90.0
DONE = {
    "startTime": "2026-01-01T00:00:00Z",
    "completionTime": "2026-01-01T00:00:01Z",
    "succeeded": 1,
    "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}],
}


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a check holds; what is not there yet does not hold."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                if await check():
                    return
            except NotFound:
                pass
            await asyncio.sleep(0.1)


async def reaches_ready(team: Actors) -> None:
    async def is_to_run() -> bool:
        # It is created suspended, and then told to run: until then the Flink operator runs nothing.
        return bool((await team.deployment())["spec"]["job"]["state"] == "running")

    async def is_ready() -> bool:
        await team.follow()
        return await team.condition("Ready") == "True"

    await eventually(is_to_run)
    await team.flink_runs()
    try:
        await eventually(is_ready)
    except TimeoutError:
        pytest.fail(f"not ready; its status: {json.dumps((await team.pipeline()).get('status'))}")


class Release:
    """A release in a namespace of its own. What controllers and the kubelet do is done here.

    Args:
        guarded: the API server.
        folder: for logs and logins.
        name: of the release and of everything in it.
        values: of the release.
    """

    def __init__(self, guarded: Guarded, folder: Path, name: str, **values: Any) -> None:
        self.guarded, self.folder, self.name = guarded, folder, name
        self.namespace = new_namespace(guarded.plane)
        self.ports = {"health": free_port(), "metrics": free_port()}
        self.values = {
            "fullnameOverride": name,
            "probes": {"port": self.ports["health"]},
            "metrics": {"port": self.ports["metrics"]},
            **values,
        }
        self.containers: dict[str, Container] = {}

    @property
    def account(self) -> str:
        """The operator's service account, as `namespace:name`."""
        return f"{self.namespace}:{self.name}"

    def helm(self, action: str, *options: str, chart: Path = CHART, **values: Any) -> str:
        """Run Helm on this release."""
        place = [f"--namespace={self.namespace}", f"--kubeconfig={self.guarded.plane.kubeconfig}"]
        if action in ("install", "upgrade"):
            return helm(action, self.name, str(chart), *place, *options, values=self.values | values)
        return helm(action, self.name, *place, *options)

    def start(self) -> Container:
        """Run one more of the Deployment's pods."""
        template = self._get("deployment", self.name)["spec"]["template"]
        name = f"{self.name}-{len(self.containers)}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
        }
        self.guarded.plane.kubectl("create", "--filename=-", stdin=json.dumps(pod))
        return self._run(name, template["spec"])

    def helm_while_the_cluster_works(self, *action: str) -> str:
        """Run Helm, and meanwhile run its hooks and stop the pods of a Deployment that is gone.

        Raises:
            HelmRefused: if it fails.
        """
        with ThreadPoolExecutor() as threads:
            helm = threads.submit(self.helm, *action)
            deadline = time.monotonic() + DEADLINE
            while not helm.done() and time.monotonic() < deadline:
                self._stop_what_is_deleted()
                self._run_hooks()
                time.sleep(0.2)
            return helm.result(timeout=1)

    def clean_up(self) -> None:
        """Stop everything and leave nothing in the way of the next release."""
        for container in self.containers.values():
            container.end(signal.SIGKILL)
        self.helm("uninstall", "--no-hooks", "--ignore-not-found")

    def _stop_what_is_deleted(self) -> None:
        if self.containers and self._get("deployment", self.name) == {}:
            for name, container in self.containers.items():
                if container.process.poll() is None:
                    container.end()
                    self.guarded.plane.kubectl("delete", "pod", name, f"--namespace={self.namespace}", "--now")

    def _run_hooks(self) -> None:
        for pod in self._get("pods", selector="app.kubernetes.io/component=test").get("items", []):
            name = pod["metadata"]["name"]
            if pod["status"]["phase"] == "Pending":
                ended = self._run(name, pod["spec"]).process.wait(timeout=DEADLINE)
                self._tell("pod", name, {"phase": "Failed" if ended else "Succeeded"})
        for job in self._get("jobs").get("items", []):
            name = job["metadata"]["name"]
            if not job["status"].get("conditions"):
                assert self._run(name, job["spec"]["template"]["spec"]).process.wait(timeout=DEADLINE) == 0
                self._tell("job", name, DONE)

    def _run(self, name: str, spec: Manifest) -> Container:
        fields = {"metadata.namespace": self.namespace, "metadata.name": name, "metadata.uid": f"uid-of-{name}"}
        login = self.guarded.login(f"{self.namespace}:{spec['serviceAccountName']}", self.folder)
        services = {f"{self.name}-metrics.{self.namespace}.svc": "127.0.0.1"}
        self.containers[name] = Container(spec, fields, services, login, self.folder / f"{name}.log")
        return self.containers[name]

    def _get(self, *what: str, selector: str = "") -> Manifest:
        options = ["--ignore-not-found", "--output=json", *([f"--selector={selector}"] if selector else [])]
        found: Manifest = json.loads(
            self.guarded.plane.kubectl("get", *what, f"--namespace={self.namespace}", *options) or "{}"
        )
        return found

    def _tell(self, kind: str, name: str, status: Manifest) -> None:
        patch = ["--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"]
        self.guarded.plane.kubectl("patch", kind, name, f"--namespace={self.namespace}", *patch)
