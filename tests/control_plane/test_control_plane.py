"""The control plane of the tests is a real one, and leaves nothing behind however the tests end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from control_plane.api_server import REPOSITORY, ControlPlane

TESTS = REPOSITORY / "tests"
GONE_WITHIN = 30.0


def is_running(pid: int) -> bool:
    try:
        # A zombie waits to be collected by whoever inherited it; it holds no port and no memory any more.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_api_server_has_the_version_that_is_pinned(control_plane: ControlPlane) -> None:
    versions = json.loads(control_plane.kubectl("version", "--output=json"))
    assert versions["serverVersion"]["gitVersion"].startswith("v1.")
    if "KUBEBUILDER_ASSETS" not in os.environ:
        assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == "v1.34.4"


def test_the_operators_crds_are_served(control_plane: ControlPlane) -> None:
    kinds = control_plane.kubectl("api-resources", "--output=name").split()
    assert {
        "flinkdeployments.flink.apache.org",
        "flinkstatesnapshots.flink.apache.org",
        "sparkapplications.sparkoperator.k8s.io",
    } <= set(kinds)


def test_rights_are_enforced(control_plane: ControlPlane, namespace: str) -> None:
    account = f"system:serviceaccount:{namespace}:nobody"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        control_plane.kubectl("get", "secrets", f"--namespace={namespace}", f"--as={account}")
    assert "forbidden" in caught.value.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_test_run_leaves_no_process_behind(how: signal.Signals, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import signal
        import time
        # A shell that starts something in the background lets it inherit that SIGINT is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from control_plane.api_server import running_control_plane
        with running_control_plane() as plane:
            print(*plane.pids, flush=True)
            time.sleep(600)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        run.send_signal(how)
    deadline = time.monotonic() + GONE_WITHIN
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.02)
