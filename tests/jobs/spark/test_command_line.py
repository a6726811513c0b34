"""The jobs as they are started: the exit code says what kind of end it was, the last line of output what was done."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.spark.lakehouse_world import DAY, START, TABLE, World, event
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import encode, to_json
from lakehouse_jobs import batch_job, gold, silver
from lakehouse_jobs.iceberg_commits import Conflict
from lakehouse_operator.local import engines

JOBS = Path(__file__).parents[3] / "jobs" / "lakehouse_jobs"


def last_line(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


def test_spark_submit_runs_the_file_as_it_is(world: World, tmp_path: Path) -> None:
    world.arrive(event(1, START), event(2, START + DAY))
    installed = engines.find()
    command = [str(installed.spark_python.with_name("spark-submit")), "--master", "local[2]"]
    options = {
        "spark.jars": ",".join(str(jar) for jar in sorted(installed.spark_jars.glob("*.jar"))),
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(tmp_path),
        "spark.ui.enabled": "false",
    }
    for key, value in options.items():
        command += ["--conf", f"{key}={value}"]
    settings = to_json(world.silver_settings("by-hand", dimensions=[]))
    command += [str(JOBS / "silver.py"), "--settings", settings, "--date", "2026-01-31"]
    # The variables of the Spark that this test itself runs in would lead spark-submit astray.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "_PYSPARK"))}
    variables = own | {
        **installed.java_environment(),
        "PATH": f"{installed.spark_python.parent}:{installed.java.parent}:{os.environ['PATH']}",
        "PYSPARK_PYTHON": str(installed.spark_python),
    }
    ended = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == ExitCode.SUCCEEDED, ended.stderr
    result = last_line(ended.stdout)
    assert (result["stage"], result["outcome"], result["run"]) == ("silver", "succeeded", "by-hand")
    assert (result["tables"][0]["rowsWritten"], result["tables"][0]["touchedDays"]) == (1, ["2026-01-31"])
    world.spark.catalog.setCurrentCatalog(world.catalog.name)
    assert {key[1] for key in world.purchases()} == {"2026-01-31"}


def started(
    capsys: pytest.CaptureFixture[str], settings: Any, *arguments: str, job: Any = silver
) -> tuple[int, dict[str, Any], str]:
    text = settings if isinstance(settings, str) else to_json(settings)
    code = job.main(["--settings", text, *arguments])
    said = capsys.readouterr()
    return code, last_line(said.out), said.err


def test_what_can_not_be_used_ends_with_64_and_says_where(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, said = started(capsys, "{")
    assert (code, result["outcome"]) == (64, "settings_refused")
    assert "the settings are not JSON" in said
    raw = {**encode(world.silver_settings()), "tables": []}
    assert started(capsys, json.dumps(raw))[1]["problems"] == ["tables: must not be empty"]
    code, result, _ = started(capsys, world.silver_settings(), "--date", "2026-1-31")
    assert (code, result["problems"][0]) == (64, 'run.days.first: "2026-1-31" is not a day such as 2026-01-31')
    code, result, _ = started(capsys, world.silver_settings(), "--from", "2026-02-01", "--to", "2026-01-01")
    assert (code, result["problems"]) == (64, ["run.days.last: 2026-01-01 lies before first, 2026-02-01"])
    code, result, _ = started(capsys, world.silver_settings(), "--from", "2026-02-01")
    assert (code, result["problems"]) == (64, ["--from: --from and --to go together"])


def test_a_missing_secret_ends_with_64(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    raw = encode(world.silver_settings())
    raw["catalog"]["secretProperties"] = {"jdbc.password": "NO_SUCH_VARIABLE"}
    code, result, _ = started(capsys, json.dumps(raw))
    assert code == ExitCode.SETTINGS_REFUSED
    assert result["problems"] == [
        "catalog.secretProperties.jdbc.password: the environment variable NO_SUCH_VARIABLE is not set"
    ]


def test_bad_data_ends_with_65(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.arrive(event(1, START, amount=-1))
    strict = {**TABLE, "rules": [{"name": "no_debts", "expression": "amount >= 0", "severity": "fail"}]}
    code, result, said = started(capsys, world.silver_settings(tables=[strict], dimensions=[]))
    assert (code, result["outcome"]) == (65, "bad_data")
    assert "1 of 1 rows of silver.purchases break the rule no_debts" in said


def test_data_that_a_model_can_not_compute_with_ends_with_65(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.arrive(event(1, START, amount=0))
    world.silver()
    model = {"name": "gold.x", "kind": "full", "sql": "SELECT 1 / amount AS x FROM silver.purchases"}
    code, result, _ = started(capsys, world.gold_settings(models=[model]), job=gold)
    assert (code, result["stage"]) == (65, "gold")
    assert "Division by zero" in result["problems"][0]


def test_what_may_be_there_later_ends_with_69(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, result, _ = started(capsys, world.gold_settings(), job=gold)
    assert (code, result["problems"]) == (69, ["silver.purchases does not exist yet"])

    def beaten(*_: object) -> None:
        raise Conflict("another run changed silver.purchases meanwhile")

    monkeypatch.setattr(silver, "run", beaten)
    assert started(capsys, world.silver_settings())[0] == ExitCode.UNAVAILABLE


def test_a_catalog_that_does_not_answer_ends_with_69(
    spark: SparkSession, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = encode(world.silver_settings())
    raw["catalog"] = {"type": "rest", "uri": "http://127.0.0.1:1", "warehouse": "s3://x", "name": "nobody_there"}
    code, result, _ = started(capsys, json.dumps(raw))
    spark.catalog.setCurrentCatalog(world.catalog.name)
    assert (code, result["outcome"]) == (69, "unavailable")


def test_its_last_words_are_where_kubernetes_looks_for_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "termination-log"
    monkeypatch.setattr(batch_job, "TERMINATION_LOG", place)
    raw = encode(world.silver_settings())
    raw["tables"][0]["columns"][0]["expression"] = "no_such_column"
    code, result, _ = started(capsys, json.dumps(raw))
    assert (code, place.exists()) == (ExitCode.SETTINGS_REFUSED, False), "there is none outside a container"
    place.touch()
    started(capsys, json.dumps(raw))
    assert place.read_text() == "; ".join(result["problems"])
    assert "tables[0].columns[0].expression" in place.read_text()


def test_no_secret_is_in_what_a_job_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    raw = encode(world.silver_settings())
    raw["catalog"]["secretProperties"] = {"jdbc.password": "SECRET"}
    code = batch_job.run_from_command_line(
        type(world.silver_settings()), "silver", silver.run, ["--settings", json.dumps(raw)], {"SECRET": "hunter2"}
    )
    said = capsys.readouterr()
    assert code == ExitCode.SUCCEEDED
    assert "hunter2" not in said.out + said.err
    shown = dict(world.spark.sql("SET").collect())
    assert "hunter2" not in str(shown.get(f"spark.sql.catalog.{world.catalog.name}.jdbc.password"))
