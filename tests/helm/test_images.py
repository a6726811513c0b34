"""The Dockerfiles agree with the project: with what they copy, and with what the operator expects of the images."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from control_plane.api_server import REPOSITORY
from helm.chart import CHART
from lakehouse_operator.planning import image_layout

IMAGES = REPOSITORY / "images"
NAMES = ("operator", "flink", "spark")
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


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_is_on_a_base_that_can_be_chosen(name: str) -> None:
    first, *others = instructions(name)
    assert first == ("ARG", "BASE=docker.io/library/debian:bookworm-slim")
    assert {rest.split()[0] for keyword, rest in others if keyword == "FROM"} == {"${BASE}"}


@pytest.mark.parametrize("name", NAMES)
def test_packages_come_from_the_lock_and_labels_from_the_project(name: str) -> None:
    text = everything(name)
    assert "--locked" in text
    assert "--require-hashes" in text
    assert f"--extra {name}" in text
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in text
    assert f'org.opencontainers.image.title="lakehouse-{name}"' in text


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
    assert f"ln -s flink-python-{version}.jar {path}" in everything("flink")


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
    assert {each for each in known if each.startswith(name)} <= wanted


def test_the_interpreter_finds_the_jobs() -> None:
    for name in STAGES:
        assert "site-packages > /usr/lib/python3/dist-packages/lakehouse.pth" in everything(name)
        assert image_layout.PYTHON == "/usr/bin/python3"
