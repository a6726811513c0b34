"""The commands that the pages in `docs/` tell people, run as they stand there.

Names are changed and nothing else: `NAME` is the reference pipeline, the namespaces `data` and `lakehouse` are the
suite's. `tests/docs/test_commands.py` compares the pages with what the suite runs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from control_plane.api_server import REPOSITORY
from e2e.cluster import Cluster
from helm.chart import places

DOCS = REPOSITORY / "docs"
SERVERS = re.compile(r"^(kubectl port-forward [^#\n]*)", re.MULTILINE)
"""What never ends: it runs in the background until the rest is done."""


def sections(page: str) -> dict[str, list[str]]:
    """The commands of a page: the blocks of shell commands under each heading."""
    found: dict[str, list[str]] = {}
    heading, is_command = "", False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            is_command = line == "```bash"
            if is_command:
                found.setdefault(heading, []).append("")
        elif is_command:
            found[heading][-1] += line + "\n"
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return found


def run(cluster: Cluster, script: str, names: Mapping[str, str], seconds: float = 900) -> str:
    """Run a block of commands in the folder of the repository, and return what they print.

    Args:
        cluster: What kubectl, helm and lakehouse talk to.
        script: The commands as they stand on the page.
        names: What stands there -> what is meant here. All of it must stand there.
        seconds: How long it may take.
    """
    for told in names:
        assert told in script, f"there is no {told!r} any more in\n{script}"
    script = _renamed(script, names)
    script = SERVERS.sub(r"\1 &", script)
    programs = (cluster.program.parent, Path(places()["HELM"]).parent, Path(sys.executable).parent)
    path = os.pathsep.join((*map(str, programs), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}\n"],
        cwd=REPOSITORY,
        env={**cluster.environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def _renamed(script: str, names: Mapping[str, str]) -> str:
    """The script with other names, each where it stands as a whole word."""
    if not names:
        return script
    # `-n data` is another namespace than `-n data-staging`.
    told = (re.escape(each) + (r"(?![\w-])" if each.startswith("-n ") else r"(?!\w)") for each in names)
    return re.sub(rf"(?<!\w)(?:{'|'.join(told)})", lambda found: names[found[0]], script)
