import os
import subprocess
import sys
from pathlib import Path

import pytest

import debian
import environments
import java
import uv
from java import Java

HOME = Path("/opt/java")


def a_java(version: int, complete: bool = True, home: str = "/opt/java") -> Java:
    return Java(Path(home), version, complete)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([], None),
        ([a_java(17)], a_java(17)),
        ([a_java(21), a_java(17)], a_java(21)),
        ([a_java(25), a_java(11), a_java(17)], a_java(17)),
        ([a_java(17, complete=False), a_java(21)], a_java(21)),
        ([a_java(8), a_java(11), a_java(25)], None),
    ],
    ids=["none", "17", "the first that fits", "too new and too old", "trimmed", "none that fits"],
)
def test_the_first_java_that_fits_is_chosen(found: list[Java], chosen: Java | None) -> None:
    assert java.choose(found) == chosen


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ('JAVA_VERSION="17.0.15"\nMODULES="java.base jdk.incubator.vector"\n', a_java(17)),
        ('IMPLEMENTOR="X"\nJAVA_VERSION="21.0.8"\nMODULES="java.base java.sql"\n', a_java(21, complete=False)),
        ('JAVA_VERSION="21"\n', a_java(21)),
        ('JAVA_VERSION="1.8.0_452"\n', a_java(8)),
        ('SOURCE=""\n', None),
        ("", None),
    ],
    ids=["17", "trimmed", "no list of modules", "8", "no version", "empty"],
)
def test_the_release_file_says_what_a_java_is(release: str, expected: Java | None) -> None:
    assert java.parse_release(HOME, release) == expected


def make_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return home


def test_java_home_comes_first_then_the_path_then_the_system(tmp_path: Path) -> None:
    mine, on_path = make_java(tmp_path / "mine", "17"), make_java(tmp_path / "on-path", "17")
    system = [make_java(tmp_path / "jvm" / name, "17") for name in ("java-17", "java-21")]
    (tmp_path / "jvm" / "default-java").symlink_to(system[0])
    (tmp_path / "usr-bin").mkdir()
    (tmp_path / "usr-bin" / "java").symlink_to(on_path / "bin" / "java")

    environment = {"JAVA_HOME": str(mine), "PATH": str(tmp_path / "usr-bin")}
    assert list(java.candidates(environment, tmp_path / "jvm")) == [mine, on_path, *system]
    assert list(java.candidates({"PATH": ""}, tmp_path / "jvm")) == system
    assert list(java.candidates({"PATH": ""}, tmp_path / "no-such")) == []


def test_a_java_behind_a_wrapper_script_is_asked_where_it_is(tmp_path: Path) -> None:
    real = java.find(os.environ)
    assert real is not None
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "java"
    wrapper.write_text(f'#!/bin/sh\nexec {real.home}/bin/java "$@"\n')
    wrapper.chmod(0o755)

    found = java.inspect(tmp_path)

    assert found is not None
    assert (found.home.resolve(), found.version) == (real.home.resolve(), real.version)


def test_a_directory_without_a_java_that_runs_is_none(tmp_path: Path) -> None:
    assert java.inspect(tmp_path) is None
    home = make_java(tmp_path / "broken", "17")
    (home / "release").unlink()
    assert java.inspect(home) is None


def test_where_java_may_not_be_installed_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find", lambda environment: None)
    forbid_installing(monkeypatch)

    with pytest.raises(debian.CannotInstall) as refused:
        java.find_or_install({})
    assert str(refused.value) == (
        "Flink and Spark need Java 17 or 21, and there is none here."
        " On Debian and Ubuntu: sudo apt-get install openjdk-17-jre-headless, or openjdk-21-jre-headless"
    )


def forbid_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sudo(command: list[str], **options: object) -> None:
        assert command[0] == "sudo", f"ran {command}"
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(debian.subprocess, "run", no_sudo)


class Apt:
    """Stands for the commands that root may run. Debian 13 offers Java 21 and no 17."""

    def __init__(self, offers: str) -> None:
        self.offers = offers
        self.installed: list[str] = []

    def run(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        if "install" in command and command[-1] != self.offers:
            return subprocess.CompletedProcess(
                command, 100, f"E: Package '{command[-1]}' has no installation candidate"
            )
        if "install" in command and "--simulate" not in command:
            self.installed.append(command[-1])
        return subprocess.CompletedProcess(command, 0, "")


@pytest.mark.parametrize("offers", java.PACKAGES)
def test_the_java_that_the_distribution_has_is_installed(monkeypatch: pytest.MonkeyPatch, offers: str) -> None:
    apt = Apt(offers)
    found = iter([None, a_java(21)])
    monkeypatch.setattr(java, "find", lambda environment: next(found))
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian.subprocess, "run", apt.run)

    assert java.find_or_install({}) == a_java(21)
    assert apt.installed == [offers]


def test_a_java_home_that_does_not_fit_is_said_to_be_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(java, "find", lambda environment: a_java(17))

    java.find_or_install({"JAVA_HOME": "/opt/java-25"})
    assert "JAVA_HOME (/opt/java-25) is not a Java that the engines run on: using /opt/java" in capsys.readouterr().err
    java.find_or_install({"JAVA_HOME": "/opt/java"})
    assert capsys.readouterr().err == ""


def pythons(folder: Path, **versions: str) -> dict[str, str]:
    """A PATH with nothing but Pythons that pretend to be of another version; `broken` is a shim with none behind it."""
    for name, version in versions.items():
        path = folder / name.replace("_", ".")
        lie = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); sys.executable = {str(path)!r}; "
        lie += f"import platform; platform.python_version = lambda: {version!r}; exec(sys.argv[1])"
        path.write_text(
            "#!/bin/sh\nexit 127\n" if version == "broken" else f'#!/bin/sh\nexec {sys.executable} -c "{lie}" "$2"\n'
        )
        path.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3": "3.11"}, "python3"),
        ({"python3": "3.12", "python3_11": "3.11"}, "python3"),
        ({"python3": "3.10", "python3_11": "3.11"}, "python3.11"),
        ({"python3": "3.13", "python3_12": "3.12"}, "python3.12"),
        ({"python3": "3.9", "python3_12": "broken", "python3_11": "3.11"}, "python3.11"),
        ({"python3": "3.13"}, "python3"),
        ({"python3": "3.10", "python3_13": "3.13"}, "python3.13"),
    ],
)
def test_a_python_that_fits_is_found(root: Path, tmp_path: Path, there: dict[str, str], chosen: str) -> None:
    environment = pythons(tmp_path, **there)
    answer = subprocess.run(
        ["/bin/sh", root / "setup" / "python.sh"], env=environment, capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"{tmp_path / chosen}\n", "")


@pytest.mark.parametrize(
    ("there", "said"), [({"python3": "3.10"}, "python3 is 3.10"), ({}, "there is no python3")], ids=["too old", "none"]
)
def test_without_a_python_that_fits_one_sentence_says_so(
    root: Path, tmp_path: Path, there: dict[str, str], said: str
) -> None:
    answer = subprocess.run(
        ["/bin/sh", root / "setup" / "python.sh"],
        env=pythons(tmp_path, **there),
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith(
        f"error: this needs Python 3.11 or 3.12, and {said}; on Debian 12 and Ubuntu 24.04:"
    )
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_the_python_that_runs_the_setup_is_the_projects_if_it_fits(version: tuple[int, int]) -> None:
    assert environments.interpreter("/usr/bin/python3", version) == {
        "UV_PYTHON": "/usr/bin/python3",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_a_newer_python_makes_uv_fetch_one_that_fits() -> None:
    assert environments.interpreter("/usr/bin/python3", (3, 13)) == {
        "UV_PYTHON": "3.12",
        "UV_PYTHON_DOWNLOADS": "automatic",
    }


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("uv 0.13.9 (x86_64-unknown-linux-gnu)", True),
        ("uv 0.9.0", True),
        ("uv 1.0.0", True),
        ("uv 0.8.24", False),
        ("", False),
    ],
)
def test_a_uv_that_is_too_old_or_does_not_run_is_not_used(version: str, fits: bool) -> None:
    assert uv.new_enough(version) is fits


def test_the_pinned_uv_is_new_enough_and_has_checksums() -> None:
    assert uv.new_enough(f"uv {uv._pinned_version()}")
    assert uv.REQUIREMENTS.read_text().count("--hash=sha256:") > 1


def test_where_pip_may_not_be_installed_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(uv, "_has", lambda python, module: False)
    forbid_installing(monkeypatch)

    with pytest.raises(debian.CannotInstall, match=r"uv is installed with pip, .* sudo apt-get install python3-venv$"):
        uv._install(tmp_path / "uv")


def test_a_stamp_changes_with_what_the_environment_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("1")
    (tmp_path / "pyproject.toml").write_text("1")
    first = environments.stamp_of(environments.FLINK, tmp_path)

    assert environments.stamp_of(environments.FLINK, tmp_path) == first
    assert environments.stamp_of(environments.SPARK, tmp_path) != first
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).write_text("2")
        assert environments.stamp_of(environments.FLINK, tmp_path) != first
        (tmp_path / name).write_text("1")


def test_a_stamp_changes_with_the_place_of_the_environment(tmp_path: Path) -> None:
    """Its scripts hold absolute paths: what was moved or copied has to be made again."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "uv.lock").write_text("1")
        (tmp_path / name / "pyproject.toml").write_text("1")

    old = environments.stamp_of(environments.FLINK, tmp_path / "old")
    assert environments.stamp_of(environments.FLINK, tmp_path / "new") != old


def test_an_environment_is_current_while_it_is_there_and_its_stamp_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "stamp_of", lambda environment: "wanted")
    environment = environments.FLINK
    stamp = environment.path / environments.STAMP
    environment.python.parent.mkdir(parents=True)

    assert not environments.is_current(environment)
    environment.python.touch()
    assert not environments.is_current(environment)
    stamp.write_text("other")
    assert not environments.is_current(environment)
    stamp.write_text("wanted")
    assert environments.is_current(environment)
    environment.python.unlink()
    assert not environments.is_current(environment)
