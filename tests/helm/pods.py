"""What a kubelet would do with the chart's pods, as far as the tests need it: their processes, as their accounts."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.api_server import _DIES_WITH_PARENT


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Container:
    """The only container of a pod, as a process of its service account.

    Args:
        spec: the pod's spec.
        fields: what `fieldRef`s stand for, by their path.
        hosts: names of the cluster's DNS, and what they stand for here.
        kubeconfig: the login of the pod's service account.
        log: where its output goes.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        fields: Mapping[str, str],
        hosts: Mapping[str, str],
        kubeconfig: Path,
        log: Path,
    ) -> None:
        (container,) = spec["containers"]
        command = [_reachable(each, hosts) for each in (*container["command"], *container.get("args", []))]
        assert command[0] == "python"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", _DIES_WITH_PARENT, str(os.getpid()), sys.executable, *command[1:]],
                env=os.environ | {"KUBECONFIG": str(kubeconfig)} | _environment(container, fields, hosts),
                stdout=output,
                stderr=output,
            )

    def end(self, how: int = signal.SIGTERM) -> int:
        """Stop it, if it has not ended, and say how it ended."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=30)


def _environment(container: Mapping[str, Any], fields: Mapping[str, str], hosts: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for each in container.get("env", []):
        # The API server leaves an empty value out.
        value = fields[each["valueFrom"]["fieldRef"]["fieldPath"]] if "valueFrom" in each else each.get("value", "")
        values[each["name"]] = _reachable(value, hosts)
    return values


def _reachable(text: str, hosts: Mapping[str, str]) -> str:
    """A text whose URLs can be reached from here."""
    for name, address in hosts.items():
        text = text.replace(f"//{name}:", f"//{address}:")
    return text


def answer(port: int, path: str) -> tuple[int, str]:
    """What a pod's HTTP server says; code 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
