"""Make the virtual environments ``.venv/operator``, ``.venv/flink`` and ``.venv/spark``.

PyFlink, PySpark and the Kubernetes client can't live in one environment. ``uv.lock`` says what each of them holds.
An environment that is up to date is recognized by a stamp in it, without asking uv.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import debian
import uv

ROOT: Final = Path(__file__).resolve().parent.parent
STAMP: Final = "set-up.stamp"
FALLBACK_PYTHON: Final = "3.12"
"""What uv fetches when the machine has only newer Pythons."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: Its directory in ``.venv``, and the extra of ``pyproject.toml`` that it holds.
        group: The dependency group with what its tests need.
    """

    name: str
    group: str

    @property
    def path(self) -> Path:
        """Its directory."""
        return ROOT / ".venv" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"


OPERATOR: Final = Environment("operator", "dev")
FLINK: Final = Environment("flink", "engine-tests")
SPARK: Final = Environment("spark", "engine-tests")
ENVIRONMENTS: Final = (OPERATOR, FLINK, SPARK)


def make() -> None:
    """Bring all environments up to date.

    Raises:
        debian.CannotInstall: Something is missing that a person has to install.
    """
    stale = [environment for environment in ENVIRONMENTS if not is_current(environment)]
    if not stale:
        return
    command = uv.find_or_install()
    for environment in stale:
        _sync(environment, command)


def stamp_of(environment: Environment, root: Path = ROOT) -> str:
    """Return what must stand in the environment's stamp for it to be up to date."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "uv.lock"):
        digest.update((root / name).read_bytes())
    # Scripts in an environment hold its absolute path: a moved or copied one is a stale one.
    return f"{digest.hexdigest()} {environment.name} {environment.group} {root}\n"


def is_current(environment: Environment) -> bool:
    """Say whether the environment is up to date."""
    stamp = environment.path / STAMP
    if not environment.python.exists() or not stamp.is_file():
        return False
    return stamp.read_text(encoding="utf-8") == stamp_of(environment)


def interpreter(executable: str, version: tuple[int, int]) -> dict[str, str]:
    """Return what to tell uv about the Python to use.

    Args:
        executable: The Python that runs the set-up.
        version: Its version.
    """
    if (3, 11) <= version < (3, 13):
        return {"UV_PYTHON": executable, "UV_PYTHON_DOWNLOADS": "never"}
    return {"UV_PYTHON": FALLBACK_PYTHON, "UV_PYTHON_DOWNLOADS": "automatic"}


def _sync(environment: Environment, command: Path) -> None:
    print(f"making the environment .venv/{environment.name}", file=sys.stderr)
    stamp = environment.path / STAMP
    wanted = stamp_of(environment)
    # The last word of a stamp is where the environment was made.
    if stamp.is_file() and not stamp.read_text(encoding="utf-8").endswith(f" {ROOT}\n"):
        shutil.rmtree(environment.path)
    stamp.unlink(missing_ok=True)
    python = interpreter(sys.executable, sys.version_info[:2])
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    answer = subprocess.run(
        [command, "sync", "--frozen", "--extra", environment.name, "--group", environment.group, "--no-default-groups"],
        cwd=ROOT,
        env=variables | python | {"UV_PROJECT_ENVIRONMENT": str(environment.path)},
        stdout=sys.stderr,
        check=False,
    )
    if answer.returncode != 0:
        raise debian.CannotInstall(_advice(environment, python["UV_PYTHON"]))
    stamp.write_text(wanted, encoding="utf-8")


def _advice(environment: Environment, python: str) -> str:
    failed = f"the environment .venv/{environment.name} could not be made, see above"
    if python != FALLBACK_PYTHON:
        return f"{failed}; run the command again when the network is back: what has arrived is kept"
    return (
        f"{failed}. The project needs Python 3.11 or 3.12, this machine has {platform.python_version()}, and uv tried"
        f" to fetch {python}: install Python 3.11 or 3.12"
    )
