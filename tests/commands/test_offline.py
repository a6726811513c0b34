"""The commands that ask no cluster, as a person or a pull request runs them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from lakehouse_operator.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
REFERENCE = EXAMPLES / "roman-numerals.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = REFERENCE.read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    result = run("validate", "-f", path)
    assert (result.exit_code, "refused" in result.output) == (0, False)


def test_what_is_wrong_is_listed_with_paths_and_exit_code_1(tmp_path: Path) -> None:
    result = run(
        "validate", "-f", changed(tmp_path, "status in ('OK', 'ERROR')", "statsu in ('OK', 'ERROR')"), "-o", "json"
    )
    (report,) = json.loads(result.output)
    assert result.exit_code == 1
    assert any("rules" in problem["path"] and "statsu" in problem["message"] for problem in report["problems"])


def test_a_file_that_is_not_yaml_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [")
    result = run("validate", "-f", path)
    assert (result.exit_code, result.output.startswith("error: ")) == (1, True)


def test_render_prints_the_children() -> None:
    result = run("render", "-f", REFERENCE)
    kinds = [document["kind"] for document in yaml.safe_load_all(result.output)]
    assert kinds == ["FlinkDeployment", "SparkApplication", "SparkApplication"]


def test_render_shows_no_secret() -> None:
    rendered = run("render", "-f", REFERENCE).output
    assert "secretKeyRef" in rendered
    assert "password:" not in rendered.lower().replace("key: password", "")


def test_explain_says_what_a_new_pipeline_needs() -> None:
    assert "FlinkDeployment roman-numerals-bronze" in run("explain", "-f", REFERENCE).output


@pytest.mark.parametrize(
    ("old", "new", "effect", "exit_code"),
    [
        ("watermarkDelay: 5m", "watermarkDelay: 6m", "restart", 0),
        ('schedule: "0 * * * *"', 'schedule: "30 * * * *"', "hot", 0),
        ("topic: roman-numeral-events\n", "topic: other-events\n", "newState", 3),
    ],
)
def test_explain_classifies_a_change_and_fails_where_the_operator_would_refuse_it(
    tmp_path: Path, old: str, new: str, effect: str, exit_code: int
) -> None:
    arguments = ("explain", "-f", changed(tmp_path, old, new), "--from", REFERENCE)
    result = run(*arguments)
    assert (result.exit_code, f"({effect})" in result.output) == (exit_code, True)

    result = run(*arguments, "-o", "json")
    told = json.loads(result.output)
    assert (result.exit_code, told["effect"], [each["effect"] for each in told["changes"]]) == (
        exit_code,
        effect,
        [effect],
    )


def test_explain_of_a_new_pipeline_is_there_for_programs_too() -> None:
    text = run("explain", "-f", REFERENCE).output.splitlines()
    assert yaml.safe_load(run("explain", "-f", REFERENCE, "-o", "yaml").output) == {"sentences": text}


def test_explain_of_the_same_file_says_that_nothing_changes() -> None:
    assert "Nothing changes." in run("explain", "-f", REFERENCE, "--from", REFERENCE).output


def test_generate_writes_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = run("generate", "--into", tmp_path / name, "--events", 500, "--end", "2026-01-31T00:00:00Z")
        assert result.exit_code == 0, result.output
    files = [sorted((tmp_path / name).glob("records-*.parquet")) for name in ("one", "two")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]] != []


def test_generate_writes_over_nothing(tmp_path: Path) -> None:
    for expected in (0, 1):
        result = run("generate", "--into", tmp_path / "one", "--events", 100, "--end", "2026-01-31T00:00:00Z")
        assert result.exit_code == expected
