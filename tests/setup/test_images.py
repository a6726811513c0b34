"""`setup/images.py` builds what is not there, and never offers what is stale or damaged."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import catalog_programs
import debian
import images
import jars
import testbed_programs
from images import Image, Recipe, Tool
from pinned_go import SetupError

DOCKERFILE = """\
ARG BASE=x
FROM ${BASE} AS build
ARG MAVEN_REPOSITORY=
COPY --chmod=0755 setup/tool.py \\
  setup/
FROM ${BASE}
COPY --from=build /opt /opt
COPY code/ /code/
"""

# What it is told goes into a log; `save` writes an archive; the images are those that were built and not removed.
FAKE_DOCKER = """\
#!/bin/sh
cd {folder}
echo "$@" >>calls
case $1 in
  info) exit {answers} ;;
  build) for word; do test "$before" = -t && echo "$word" >>images; before=$word; done ;;
  save) echo "archive of $4" >"$3" ;;
  images) test ! -e images || cat images ;;
  rmi) sed -i "\\\\#^$2\\$#d" images ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one image, `operator`, and a cache of its own."""
    root = tmp_path / "checkout"
    for name, content in {
        "images/operator/Dockerfile": DOCKERFILE,
        "setup/tool.py": "a tool",
        "code/one.py": "1",
        "code/inner/two.py": "2",
        "code/__pycache__/one.pyc": "cache",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    monkeypatch.setattr(images, "ROOT", root)
    monkeypatch.setattr(images, "ARCHIVES", tmp_path / "cache" / "images")
    monkeypatch.setattr(images, "CACHE", tmp_path / "cache")
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "MAVEN_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LAKEHOUSE_BASE_IMAGE", raising=False)
    return root


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A Docker that answers and builds nothing; returns what it was told since it was last asked."""
    programs = tmp_path / "programs"
    install(programs / "docker", tmp_path, answers=0)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def calls() -> list[str]:
        log = tmp_path / "calls"
        told = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [call for call in told if call != "info"]

    return calls


def install(program: Path, folder: Path, *, answers: int) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(FAKE_DOCKER.format(folder=folder, answers=answers))
    program.chmod(0o755)


def operator() -> Image:
    return images.built(["operator"])["operator"]


class TestRecipe:
    def test_it_holds_what_the_dockerfile_copies_and_no_caches(self, checkout: Path) -> None:
        assert set(images.recipe_of("operator").files) == {"setup/tool.py", "code/one.py", "code/inner/two.py"}

    def test_what_is_not_there_is_named(self, checkout: Path) -> None:
        (checkout / "setup" / "tool.py").unlink()
        with pytest.raises(SetupError, match=r"copies setup/tool\.py, which is not there"):
            images.recipe_of("operator")

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: (root / "code/one.py").write_text("11"),
            lambda root: (root / "code/one.py").rename(root / "code/uno.py"),
            lambda root: (root / "code/one.py").chmod(0o755),
            lambda root: (root / "code/three.py").write_text(""),
            lambda root: (root / "code/inner/two.py").unlink(),
            lambda root: (root / "setup/tool.py").write_text("another"),
            lambda root: (root / "images/operator/Dockerfile").write_text(DOCKERFILE + "\n"),
        ],
        ids=["content", "name", "mode", "one more", "one less", "script", "Dockerfile"],
    )
    def test_another_input_means_another_hash(self, checkout: Path, change: Callable[[Path], object]) -> None:
        before = images.recipe_of("operator").key("base")
        change(checkout)
        assert images.recipe_of("operator").key("base") != before

    def test_another_base_means_another_hash_and_another_time_does_not(self, checkout: Path) -> None:
        before = images.recipe_of("operator").key("base")
        os.utime(checkout / "code/one.py", (0, 0))
        (checkout / "code/__pycache__/two.pyc").write_text("cache")
        assert images.recipe_of("operator").key("base") == before
        assert images.recipe_of("operator").key("another") != before

    def test_what_is_laid_out_can_be_read_by_all(self, checkout: Path, tmp_path: Path) -> None:
        (checkout / "code/one.py").chmod(0o600)
        (checkout / "setup/tool.py").chmod(0o700)
        images.recipe_of("operator").lay_out(tmp_path / "laid")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "laid").rglob("*") if path.is_file()}
        assert modes == {"one.py": 0o644, "two.py": 0o644, "tool.py": 0o755, "Dockerfile": 0o644}

    def test_what_is_laid_out_has_the_hash_of_what_it_is_whatever_is_edited_then(
        self, checkout: Path, tmp_path: Path
    ) -> None:
        laid = images.recipe_of("operator").lay_out(tmp_path / "laid")
        before = images.recipe_of("operator").key("base")
        (checkout / "code/one.py").write_text("edited")
        assert laid.key("base") == before
        (checkout / "images/operator/Dockerfile").write_text("edited")
        assert laid.key("base") == before

    @pytest.mark.parametrize("name", images.PRODUCT)
    def test_the_locks_are_part_of_each_image_that_uses_them(self, name: str) -> None:
        files = set(images.recipe_of(name).files)
        assert {"uv.lock", "pyproject.toml", "setup/uv.txt"} <= files
        assert ("jobs/jars.lock" in files) == (name != "operator")

    def test_the_testbed_gets_jars_and_programs_beside_what_lies_in_the_repository(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "versitygw").write_text("a program")
        monkeypatch.setattr(testbed_programs, "programs", lambda: [tmp_path / "versitygw"])
        (tmp_path / "rest").mkdir()
        (tmp_path / "rest" / "rest-catalog.jar").write_text("a jar")
        monkeypatch.setattr(catalog_programs, "rest_catalog", lambda _: tmp_path / "rest")

        def fetch(_: jars.Downloads, chosen: Sequence[jars.Jar]) -> dict[str, Path]:
            return {jar.file_name: tmp_path / "versitygw" for jar in chosen}

        monkeypatch.setattr(jars.Downloads, "fetch", fetch)
        files = set(images.recipe_of("testbed").files)
        assert {"bin/versitygw", "scripts/kafka", "lib/log4j-operator.properties", "uv.lock"} <= files
        assert "lib/rest-catalog/rest-catalog.jar" in files
        assert {f"lib/kafka/{jar.file_name}" for jar in jars.choose(jars.read_lock(), ["kafka"])} <= files
        operator_of_flink = {name for name in files if name.startswith("lib/flink-operator/")}
        assert "lib/flink-operator/flink-kubernetes-operator-1.7.0.jar" in operator_of_flink
        assert "lib/flink-operator/flink-shaded-guava-30.1.1-jre-16.1.jar" in operator_of_flink
        dockerfile = (images.ROOT / "images" / "testbed" / "Dockerfile").read_text()
        for source in images.copied(dockerfile):
            assert any(name == source or name.startswith(source) for name in files), source


@pytest.mark.usefixtures("checkout")
class TestBuilt:
    def test_an_image_is_built_once(self, docker: Callable[[], list[str]]) -> None:
        image = operator()
        key = image.reference.rpartition(":")[2]
        assert image.reference == f"localhost/lakehouse-operator:{key}"
        assert image.archive.name == f"operator-{key}.tar"
        assert image.archive.read_text() == f"archive of {image.reference}\n"
        stage, whole, save = (call for call in docker() if not call.startswith("images"))
        assert "--target=build" in stage
        assert f"-t localhost/lakehouse-operator-build:{key}" in stage
        assert f"-t {image.reference}" in whole
        assert "--target" not in whole
        assert save.endswith(image.reference)
        assert operator() == image
        assert docker() == []
        assert sorted(path.name for path in images.ARCHIVES.iterdir()) == sorted(
            ["lock", image.archive.name, image.archive.with_suffix(".json").name]
        )

    @pytest.mark.parametrize(
        "damage",
        [
            lambda archive: archive.write_bytes(archive.read_bytes()[:-1]),
            lambda archive: archive.write_bytes(archive.read_bytes()[:-2] + b"!\n"),
            lambda archive: archive.unlink(),
            lambda archive: archive.with_suffix(".json").unlink(),
            lambda archive: archive.with_suffix(".json").write_text("{"),
            lambda archive: archive.with_suffix(".json").write_text("[]"),
        ],
        ids=["cut", "changed", "gone", "no checksum", "half a checksum", "no record"],
    )
    def test_a_damaged_archive_is_made_again(
        self, docker: Callable[[], list[str]], damage: Callable[[Path], object]
    ) -> None:
        image = operator()
        whole = image.archive.read_bytes()
        docker()
        damage(image.archive)
        assert not images.is_whole(image.archive, image.reference)
        assert operator() == image
        assert image.archive.read_bytes() == whole
        assert [call for call in docker() if call.startswith("save")]

    def test_the_archive_of_another_image_is_not_taken_for_this_one(self, docker: Callable[[], list[str]]) -> None:
        image = operator()
        assert not images.is_whole(image.archive, "localhost/lakehouse-operator:0000000000000000")

    def test_the_last_two_are_kept_and_in_use_means_last(
        self, docker: Callable[[], list[str]], checkout: Path, tmp_path: Path
    ) -> None:
        made = []
        for content in ("a", "b", "c"):
            (checkout / "code/one.py").write_text(content)
            made.append(operator())
            os.utime(made[-1].archive, (len(made), len(made)))
            if content == "b":
                (checkout / "code/one.py").write_text("a")
                assert operator() == made[0]  # used again, so that b is the oldest
        assert [image.archive.exists() for image in made] == [True, False, True]
        kept = {image.reference.rpartition(":")[2] for image in (made[0], made[2])}
        assert {line.rpartition(":")[2] for line in (tmp_path / "images").read_text().split()} == kept

    def test_what_a_killed_run_left_is_removed(self, docker: Callable[[], list[str]]) -> None:
        left = images.ARCHIVES / ".making-abc"
        left.mkdir(parents=True)
        (left / "operator-0.tar").write_text("half")
        operator()
        assert not left.exists()

    def test_what_is_edited_during_a_build_is_for_the_next_one(
        self, docker: Callable[[], list[str]], checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = images.recipe_of("operator").key(images.PUBLIC_BASE)
        lay_out = Recipe.lay_out

        def lay_out_and_edit(recipe: Recipe, folder: Path) -> Recipe:
            laid = lay_out(recipe, folder)
            (checkout / "code/one.py").write_text("edited")
            return laid

        monkeypatch.setattr(Recipe, "lay_out", lay_out_and_edit)
        assert operator().reference.endswith(before)
        assert not operator().reference.endswith(before)

    def test_a_build_that_fails_leaves_nothing_and_says_so(
        self, docker: Callable[[], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake = tmp_path / "programs" / "docker"
        fake.write_text(fake.read_text().replace("  build)", "  build) echo no such package; exit 3 ;;\n  other)"))
        with pytest.raises(SetupError, match=r"build .*ended with code 3"):
            operator()
        assert "no such package" in capsys.readouterr().err
        assert [path.name for path in images.ARCHIVES.iterdir()] == ["lock"]

    def test_the_base_and_the_network_are_those_of_this_machine(
        self, docker: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        operator()
        assert all("certificates" not in call for call in docker())
        bundle = tmp_path / "bundle.crt"
        bundle.write_text("certificates")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone"))
        monkeypatch.setenv("PIP_CERT", str(bundle))
        monkeypatch.setenv("MAVEN_REPOSITORY", "https://maven.example")
        monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example")
        monkeypatch.setenv("LAKEHOUSE_BASE_IMAGE", "registry.example/debian@sha256:0")
        operator()
        for call in (call for call in docker() if call.startswith("build")):
            assert f"--secret=id=certificates,src={bundle}" in call
            assert "--build-arg=BASE=registry.example/debian@sha256:0" in call
            assert "--build-arg=MAVEN_REPOSITORY=https://maven.example" in call
            assert "PIP_INDEX_URL" not in call  # this Dockerfile does not ask for it


class TestTool:
    @pytest.mark.parametrize(
        ("name", "build", "save"),
        [
            (
                "docker",
                "docker build --network=host --target=x -f F -t n:1 C",
                "docker save -o n.tar n:1",
            ),
            (
                "podman",
                "podman build --network=host --format=docker --layers --target=x -f F -t n:1 C",
                "podman save --format=docker-archive -o n.tar n:1",
            ),
            (
                "buildah",
                "buildah bud --isolation=chroot --network=host --format=docker --layers --target=x -f F -t n:1 C",
                "buildah push -q n:1 docker-archive:n.tar:n:1",
            ),
        ],
    )
    def test_its_commands(self, name: str, build: str, save: str) -> None:
        tool = Tool(name, (name,))
        assert tool.build("n:1", Path("F"), Path("C"), "--target=x") == build.split()
        assert tool.save("n:1", Path("n.tar")) == save.split()

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", str(tmp_path / "programs"))
        monkeypatch.setattr(images, "CACHE", tmp_path / "cache")
        return tmp_path / "programs"

    def test_docker_and_podman_are_used_if_they_answer(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin")
        install(path / "podman", path, answers=0)
        install(path / "docker", path, answers=0)
        assert images.find_tool() == Tool("docker", (str(path / "docker"),))
        install(path / "docker", path, answers=1)
        assert images.find_tool() == Tool("podman", (str(path / "podman"),))

    def test_buildah_has_a_store_of_its_own(self, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        install(path / "buildah", path, answers=0)
        home = tmp_path / "cache" / "buildah"
        assert images.find_tool() == Tool("buildah", ("buildah", f"--root={home}/storage", f"--runroot={home}/run"))

    @pytest.mark.parametrize(
        ("name", "told"),
        [("buildah", ["rm --all", "rmi n:1", "rmi n:2", "rmi --prune"]), ("docker", ["rmi n:1", "rmi n:2"])],
    )
    def test_what_is_not_its_own_is_left_alone(self, tmp_path: Path, name: str, told: list[str]) -> None:
        (tmp_path / "images").write_text("n:1\nn:2\nn:3\n")
        install(tmp_path / name, tmp_path, answers=0)
        Tool(name, (str(tmp_path / name),)).remove(["n:1", "n:2"])
        assert (tmp_path / "calls").read_text().splitlines() == told
        assert (tmp_path / "images").read_text() == "n:3\n"

    def test_without_root_it_says_what_is_needed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        install(path / "buildah", path, answers=0)
        with pytest.raises(debian.CannotInstall, match="Docker or Podman that answers, or Buildah with the rights"):
            images.find_tool()


def test_a_name_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        images.main(["flnk"])
    assert "there is no image called 'flnk'; the images are operator, flink, spark, testbed" in capsys.readouterr().err


@pytest.mark.usefixtures("checkout", "docker")
def test_it_prints_the_reference_and_the_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["operator"]) == 0
    image = operator()
    assert capsys.readouterr().out == f"operator={image.reference} {image.archive}\n"


def test_the_docs_tell_the_versions_that_are_pinned(root: Path) -> None:
    told = (root / "docs" / "images.md").read_text()
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    versions = {jar.parts[1]: jar.parts[2] for jar in jars.read_lock()}
    modules = "".join(path.read_text() for path in (root / "setup" / "control-plane").glob("*/go.mod"))

    for sentence in (
        f"Flink {extras['flink'][0].partition('==')[2]} with PyFlink",
        f"Spark {extras['spark'][0].partition('==')[2]} with PySpark",
        f"Iceberg {versions['iceberg-flink-runtime-2.1']}, Kafka",
        f"Kafka connector {versions['flink-sql-connector-kafka'].partition('-')[0]}",
        f"Iceberg {versions['iceberg-spark-runtime-4.1_2.13']}, the PostgreSQL driver",
        f"Kafka {versions['kafka_2.13']}, PostgreSQL 15",
        f"Flink operator {versions['flink-kubernetes-operator']} (with libraries of Flink",
    ):
        assert sentence in " ".join(told.split())
    for module, said in (("versity/versitygw", "versitygw"), ("kubeflow/spark-operator/v2", "Spark operator")):
        (version,) = re.findall(rf"^\s*(?:require )?github\.com/{module} v(\S+)", modules, re.MULTILINE)
        assert f"{said} {version}" in " ".join(told.split())
        assert version in "".join(program.stamp for program in testbed_programs.PROGRAMS)


@pytest.mark.parametrize("script", sorted((images.ROOT / "images").rglob("scripts/*")), ids=lambda path: path.name)
def test_the_scripts_of_the_testbed_are_shell(script: Path) -> None:
    subprocess.run([shutil.which("bash") or "bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_the_sidecar_says_what_the_archive_must_be(tmp_path: Path) -> None:
    archive = tmp_path / "operator-0.tar"
    archive.write_bytes(b"abc")
    record = {
        "reference": "n:1",
        "size": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    archive.with_suffix(".json").write_text(json.dumps(record))
    assert images.is_whole(archive, "n:1")
