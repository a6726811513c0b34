"""Install packages with apt-get, where that may be done without asking anybody for a password."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence


class CannotInstall(Exception):
    """Packages are missing and can't be installed. The message says what a person can do."""


def install(alternatives: Sequence[str], why: str) -> None:
    """Install the first of these packages that the system's package lists know.

    Args:
        alternatives: Package names, the preferred one first.
        why: What is missing, as the start of a sentence.

    Raises:
        CannotInstall: This is not Debian or Ubuntu, there is no right to install, or the installation failed.
    """
    advice = f"{why}. On Debian and Ubuntu: sudo apt-get install {alternatives[0]}"
    if alternatives[1:]:
        advice += f", or {' or '.join(alternatives[1:])}"
    apt = shutil.which("apt-get")
    if apt is None:
        raise CannotInstall(f"{why}. Install it with the package manager of this system")
    command = [*_become_root(advice), "env", "DEBIAN_FRONTEND=noninteractive", apt]
    print(f"{why}: installing it with apt-get", file=sys.stderr)
    _run([*command, "-qq", "update"], advice)
    for package in alternatives:
        if _is_offered(package):
            _run([*command, "-qq", "install", "--yes", "--no-install-recommends", package], advice)
            return
    raise CannotInstall(f"{why}, and apt-get does not know {' or '.join(alternatives)}")


def _become_root(advice: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    try:
        # -n: never ask for a password.
        subprocess.run(["sudo", "-n", "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise CannotInstall(advice) from None
    return ["sudo", "-n"]


def _run(command: Sequence[str], advice: str) -> None:
    # apt-get has much to say, of which only a failure is of interest.
    answer = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if answer.returncode != 0:
        print(answer.stdout, file=sys.stderr)
        raise CannotInstall(f"apt-get failed, see above. {advice}")


def _is_offered(package: str) -> bool:
    """Whether there is something to install: Debian 13 knows the name of openjdk-17, but offers no version of it."""
    answer = subprocess.run(["apt-get", "install", "--simulate", package], capture_output=True, check=False)
    return answer.returncode == 0
