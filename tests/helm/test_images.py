"""The Dockerfiles agree with the project: with what they copy, and with what the operator expects of the images."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from control_plane.api_server import REPOSITORY
from helm.chart import CHART
from lakehouse_operator.planning import image_layout

IMAGES = REPOSITORY / "images"
NAMES = ("operator", "flink", "spark")
ALL = (*NAMES, "testbed")
STAGES = {"flink": {"bronze"}, "spark": {"silver", "gold", "maintenance"}}
USERS = {"flink": image_layout.FLINK_USER, "spark": image_layout.SPARK_USER}


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions: keyword and the rest, continued lines joined."""
    lines = [line for line in (IMAGES / name / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def copied(name: str) -> list[tuple[str, str]]:
    """Source in the repository and target of each COPY from it."""
    found = []
    for keyword, rest in instructions(name):
        if keyword == "COPY" and "--from=" not in rest:
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            found += [(source, target) for source in sources]
    return found


def last(name: str, keyword: str) -> str:
    return [rest for word, rest in instructions(name) if word == keyword][-1]


def everything(name: str) -> str:
    return "\n".join(" ".join(each) for each in instructions(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_exists_and_is_not_ignored(name: str) -> None:
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source, _ in copied(name):
        assert (REPOSITORY / source).exists(), source
        assert Path(source).parts[0] in let_in, source


@pytest.mark.parametrize("name", ALL)
def test_every_stage_is_on_a_base_that_can_be_chosen(name: str) -> None:
    first, *others = instructions(name)
    assert first == ("ARG", "BASE=docker.io/library/debian:bookworm-slim")
    assert {rest.split()[0] for keyword, rest in others if keyword == "FROM"} == {"${BASE}"}


@pytest.mark.parametrize("name", NAMES)
def test_packages_come_from_the_lock_and_labels_from_the_project(name: str) -> None:
    text = everything(name)
    (sync,) = re.findall(r"uv sync [^&]+", text)
    assert "--locked" in sync.split()
    assert f"--extra {name}" in sync
    (pip,) = re.findall(r"pip install [^&\n]+", text)
    assert {"--require-hashes", "--only-binary=:all:"} <= set(pip.split())


@pytest.mark.parametrize("name", ALL)
def test_labels_are_the_projects(name: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', last(name, "LABEL")))
    assert labels["version"] == tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert labels["title"] == f"lakehouse-{name}"
    assert {"description", "licenses"} <= set(labels)


@pytest.mark.parametrize("name", ALL)
def test_no_image_runs_as_root(name: str) -> None:
    assert re.fullmatch(r"([1-9]\d+):\1", last(name, "USER"))


@pytest.mark.parametrize("name", ALL)
def test_no_cache_stays_in_a_layer(name: str) -> None:
    for keyword, rest in instructions(name):
        if keyword == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
        for command, option in ((r"pip install", "--no-cache"), (r"uv sync", "--no-cache")):
            for call in re.findall(rf"{command} [^&]+", rest):
                assert option in call, call


@pytest.mark.parametrize("name", ALL)
def test_certificates_are_lent_to_the_steps_that_need_them_and_to_nothing_else(name: str) -> None:
    """They come as a secret, which is no part of the image, and no variable of the image speaks of them."""
    for keyword, rest in instructions(name):
        online = "with-certificates" in rest
        if keyword == "RUN":
            assert ("--mount=type=secret,id=certificates" in rest) == online, rest
            if re.search(r"/pip install|uv sync|setup/\w+\.py", rest):
                assert online, rest
        else:
            assert not online or rest.endswith("images/with_certificates.sh /usr/local/bin/with-certificates"), rest
        assert "SSL_CERT_FILE" not in rest


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_the_projects_code_redoes_nothing_else(name: str) -> None:
    """Code is copied after everything that takes long; what comes then is of a second or two."""
    after = [
        (keyword, rest)
        for number, (keyword, rest) in enumerate(instructions(name))
        if any(word == "COPY" and "lakehouse_contract" in told for word, told in instructions(name)[: number + 1])
    ]
    assert [rest.split()[:3] for keyword, rest in after if keyword == "RUN"] == [["python3", "-m", "compileall"]]
    assert not [rest for _, rest in after if "--from=" in rest]


@pytest.mark.parametrize("bundle", [True, False], ids=["given", "not given"])
def test_a_step_trusts_the_certificates_that_it_is_given(tmp_path: Path, bundle: bool) -> None:
    script = (IMAGES / "with_certificates.sh").read_text().replace("/run/secrets", str(tmp_path))
    if bundle:
        (tmp_path / "certificates").write_text("a bundle")
    clean = {"PATH": os.environ["PATH"]}
    answer = subprocess.run(
        ["sh", "-c", script, "sh", "env"], env=clean, capture_output=True, text=True, check=True
    ).stdout
    trusted = {line for line in answer.splitlines() if "_CERT" in line}
    assert trusted == {f"{name}={tmp_path}/certificates" for name in ("SSL_CERT_FILE", "PIP_CERT") if bundle}


@pytest.mark.parametrize("name", ["flink", "spark"])
def test_an_image_has_the_user_that_its_pods_run_as(name: str) -> None:
    assert last(name, "USER") == f"{USERS[name]}:{USERS[name]}"
    assert f"--uid {USERS[name]} " in everything(name)


def test_the_operators_image_has_the_user_that_the_chart_runs_it_as() -> None:
    context = yaml.safe_load((CHART / "values.yaml").read_text())["podSecurityContext"]
    assert last("operator", "USER") == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_every_entry_point_is_in_its_image_and_runs_a_job_that_there_is() -> None:
    places = {stage: {target for _, target in copied(image)} for image, stages in STAGES.items() for stage in stages}
    assert set(places) == set(image_layout.ENTRY_POINTS)
    for stage, path in image_layout.ENTRY_POINTS.items():
        assert path in places[stage]
        assert re.search(
            r"^def main\(", (REPOSITORY / "jobs" / "lakehouse_jobs" / f"{stage}.py").read_text(), re.MULTILINE
        )


def test_flinks_python_jar_is_where_the_manifest_looks_for_it() -> None:
    path = image_layout.PYFLINK_JAR.removeprefix("local://")
    dependencies = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = (each.partition("==")[2] for each in dependencies["flink"] if each.startswith("apache-flink=="))
    assert f"ln -s /opt/flink/opt/flink-python-{version}.jar {path}" in everything("flink")
    assert not path.startswith("/opt/flink/opt/")  # Flink refuses two such jars there


@pytest.mark.parametrize(
    ("name", "folders"), [("flink", image_layout.FLINK_WRITABLE), ("spark", image_layout.SPARK_WRITABLE)]
)
def test_writable_folders_are_there_to_be_mounted_over(name: str, folders: dict[str, str]) -> None:
    made = {word for keyword, rest in instructions(name) if keyword == "RUN" for word in rest.split()} | {"/tmp"}
    assert set(folders.values()) <= made


@pytest.mark.parametrize("name", ["flink", "spark"])
def test_the_sets_of_jars_are_those_of_the_lock(name: str) -> None:
    locked = tomllib.loads((REPOSITORY / "jobs" / "jars.lock").read_text())["jar"]
    known = {each for jar in locked for each in jar["sets"]}
    wanted = {
        word for words in re.findall(r"jars\.py ([a-z0-9 -]+?) --into", everything(name)) for word in words.split()
    }
    assert wanted
    assert wanted <= known
    assert {each for each in known if each.startswith(name) and not each.startswith("flink-operator")} <= wanted


def test_the_interpreter_finds_the_jobs() -> None:
    for name in STAGES:
        assert "site-packages > /usr/lib/python3/dist-packages/lakehouse.pth" in everything(name)
        assert image_layout.PYTHON == "/usr/bin/python3"
