"""`setup/control_plane.py` never offers what is stale, half made or not what was pinned."""

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from control_plane.api_server import REPOSITORY


@pytest.fixture
def setup_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setitem(sys.modules, "pinned_go", loaded("pinned_go"))
    return loaded("control_plane")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"setup_{name}", REPOSITORY / "setup" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(folder: Path, name: str, says: str, code: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {code}\n")
    file.chmod(0o755)


def good_binaries(folder: Path) -> None:
    program(folder, "etcd", "etcd Version: 3.6.8\nGit SHA: unknown")
    program(folder, "kube-apiserver", "Kubernetes v1.34.4")
    program(folder, "kubectl", "Client Version: v1.34.4\nKustomize Version: v5.7.1")


class TestBinaries:
    def test_they_are_built_once(self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        builds: list[Path] = []

        def build(go: Path, folder: Path) -> None:
            builds.append(folder)
            good_binaries(folder)

        monkeypatch.setattr(setup_script, "_build", build)
        first, second = setup_script.binaries(), setup_script.binaries()
        assert first == second
        assert (first / "kube-apiserver").is_file()
        assert len(builds) == 1
        assert not builds[0].exists()

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("kube-apiserver", "Kubernetes v1.34.3"),
            ("etcd", "etcd Version: 3.4.23"),
            ("kubectl", "Client Version: v0.0.0-master+$Format:%H$"),
        ],
    )
    def test_those_of_another_version_are_built_again(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, says: str
    ) -> None:
        monkeypatch.setattr(setup_script, "_build", lambda go, folder: good_binaries(folder))
        folder = setup_script.binaries()
        program(folder, name, says)
        assert says not in (setup_script.binaries() / name).read_text()

    def test_those_that_do_not_run_are_built_again(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(setup_script, "_build", lambda go, folder: good_binaries(folder))
        folder = setup_script.binaries()
        (folder / "etcd").write_bytes(b"\x7fELF cut off")
        assert setup_script.binaries() == folder
        assert b"Version" in (folder / "etcd").read_bytes()

    def test_a_failed_build_leaves_nothing(self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(go: Path, folder: Path) -> None:
            program(folder, "etcd", "etcd Version: 3.6.8")
            raise setup_script.SetupError("no network")

        monkeypatch.setattr(setup_script, "_build", fail)
        with pytest.raises(setup_script.SetupError, match="no network"):
            setup_script.binaries()
        assert [file.name for file in (setup_script.pinned_go.CACHE / "control-plane").iterdir()] == ["lock"]

    def test_what_a_killed_build_left_is_removed(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(setup_script, "_build", lambda go, folder: good_binaries(folder))
        program(setup_script.pinned_go.CACHE / "control-plane" / ".making-abc" / "0123", "etcd", "half")
        folder = setup_script.binaries()
        assert sorted(file.name for file in folder.parent.iterdir()) == sorted([folder.name, "lock"])

    def test_a_build_that_is_not_what_was_pinned_is_not_offered(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(setup_script, "_build", lambda go, folder: program(folder, "etcd", "etcd Version: 3.6.9"))
        with pytest.raises(setup_script.SetupError):
            setup_script.binaries()

    def test_of_two_at_once_one_builds_and_the_other_waits(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builds: list[Path] = []

        def build(go: Path, folder: Path) -> None:
            builds.append(folder)
            time.sleep(0.2)
            good_binaries(folder)

        monkeypatch.setattr(setup_script, "_build", build)
        threads = [threading.Thread(target=setup_script.binaries) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(builds) == 1

    def test_another_go_or_another_pin_means_another_folder(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(setup_script, "_build", lambda go, folder: good_binaries(folder))
        folders = {setup_script.binaries()}
        monkeypatch.setattr(setup_script.pinned_go, "find_go", lambda: (Path("go"), "go version go1.99.0 linux/amd64"))
        folders.add(setup_script.binaries())
        modules = tmp_path / "modules"
        for name in ("etcd/go.mod", "etcd/go.sum", "kubernetes/go.mod", "kubernetes/go.sum"):
            (modules / name).parent.mkdir(parents=True, exist_ok=True)
            (modules / name).write_bytes((setup_script.MODULES / name).read_bytes())
        monkeypatch.setattr(setup_script, "MODULES", modules)
        with (modules / "etcd" / "go.sum").open("a") as file:
            file.write("\n")
        folders.add(setup_script.binaries())
        assert len(folders) == 3

    def test_ones_own_are_used_and_nothing_is_built(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        program(tmp_path / "own", "etcd", "etcd Version: 3.6.5")
        program(tmp_path / "own", "kube-apiserver", "Kubernetes v1.33.0")
        program(tmp_path / "own", "kubectl", "Client Version: v1.33.0")
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "own"))
        assert setup_script.binaries() == tmp_path / "own"
        (tmp_path / "own" / "kubectl").unlink()
        with pytest.raises(setup_script.SetupError, match=r"KUBEBUILDER_ASSETS is set to .*, but kubectl does not run"):
            setup_script.binaries()


class TestGo:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return folder

    def test_without_go_it_says_what_to_install(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(setup_script.SetupError, match="golang-go"):
            setup_script.binaries()

    def test_a_new_one_is_used(self, setup_script: ModuleType, path: Path) -> None:
        program(path, "go", "go version go1.26.1 linux/arm64")
        assert setup_script.pinned_go.find_go() == (path / "go", "go version go1.26.1 linux/arm64")

    @pytest.mark.parametrize("version", ["go1.19.8", "go1.25.12", "go1.22.5 X:nocoverageredesign"])
    def test_an_old_one_fetches_a_new_one(
        self, setup_script: ModuleType, path: Path, tmp_path: Path, version: str
    ) -> None:
        toolchain = tmp_path / "toolchain"
        program(toolchain / "bin", "go", "the new one")
        (toolchain / "bin" / "go").chmod(0o444)
        answer = f'{{"Dir": "{toolchain}"}}'
        program(path, "go", "")
        (path / "go").write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n'
            f"case $1 in version) echo 'go version {version} linux/amd64';; mod) echo '{answer}';; esac\n"
        )
        go, said = setup_script.pinned_go.find_go()
        assert go == toolchain / "bin" / "go"
        assert os.access(go, os.X_OK)
        assert said == f"go version {setup_script.pinned_go.GO_TOOLCHAIN} linux/amd64"
        expected = f"mod download -json golang.org/toolchain@v0.0.1-{setup_script.pinned_go.GO_TOOLCHAIN}.linux-amd64"
        assert expected in (tmp_path / "calls").read_text()

    def test_an_old_one_that_cannot_fetch_says_what_to_install(self, setup_script: ModuleType, path: Path) -> None:
        program(path, "go", "go version go1.19.8 linux/amd64")
        (path / "go").write_text("#!/bin/sh\ntest $1 = version && echo go version go1.19.8 linux/amd64\n")
        with pytest.raises(setup_script.SetupError, match=r"older than 1\.26"):
            setup_script.pinned_go.find_go()

    def test_something_else_called_go_is_named(self, setup_script: ModuleType, path: Path) -> None:
        program(path, "go", "a board game")
        with pytest.raises(setup_script.SetupError, match="a board game"):
            setup_script.pinned_go.find_go()


class TestForeignCrds:
    def test_a_jar_that_is_not_the_pinned_one_is_refused(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(setup_script, "_download", lambda url: b"somebody else's jar")
        with pytest.raises(setup_script.SetupError, match="not the one that is pinned"):
            setup_script.foreign_crds()
        assert list((setup_script.pinned_go.CACHE / "foreign-crds").glob("*/*")) == []

    def test_without_a_network_it_names_the_address(
        self, setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MAVEN_REPOSITORY", "http://127.0.0.1:9/")
        with pytest.raises(setup_script.SetupError, match=r"can't fetch http://127\.0\.0\.1:9/org/apache"):
            setup_script.foreign_crds()


def test_a_problem_is_one_sentence_and_no_traceback(
    setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["control_plane.py"])
    assert setup_script.main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("setup/control_plane.py: needs Go")
    assert err.count("\n") == 1
