"""`setup/helm_program.py` offers the Helm that is pinned, or one's own, or says in a sentence what is wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from control_plane.api_server import REPOSITORY


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HELM", raising=False)
    monkeypatch.setitem(sys.modules, "pinned_go", loaded("pinned_go"))
    return loaded("helm_program")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"setup_{name}", REPOSITORY / "setup" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(file: Path, says: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{says}'\n")
    file.chmod(0o755)


def test_the_pinned_one_is_built_once(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[Path] = []

    def build(go: Path, folder: Path) -> None:
        builds.append(folder)
        program(folder / "helm", f"v{script.HELM_VERSION}")

    monkeypatch.setattr(script, "_build", build)
    assert script.helm() == script.helm()
    assert len(builds) == 1


def test_one_of_another_version_is_built_again(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_build", lambda go, folder: program(folder / "helm", f"v{script.HELM_VERSION}"))
    found = script.helm()
    program(found, "v3.0.0")
    assert script.helm() == found
    assert "v3.0.0" not in found.read_text()


def test_a_build_that_is_not_what_was_pinned_is_not_offered(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_build", lambda go, folder: program(folder / "helm", "v3.0.0"))
    with pytest.raises(script.SetupError):
        script.helm()


def test_ones_own_is_used_and_a_broken_one_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own" / "helm"
    program(own, "v4.0.0")
    monkeypatch.setenv("HELM", str(own))
    assert script.helm() == own
    program(own, "a rudder")
    assert script.main() == 1
    assert capsys.readouterr().err == (
        f"setup/helm_program.py: HELM is set to {own}, which does not say its version; unset it to build Helm\n"
    )
