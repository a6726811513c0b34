"""Every kind of catalog behaves alike, from Flink, from Spark and from the operator: one configuration, one suite."""

from collections import Counter
from itertools import groupby

import pytest

from catalogs.lakehouse import BRONZE, SILVER
from catalogs.life import DISCARDED, FIRST, MORE, TAG, Life
from catalogs.machine import AWS_KEYS
from lakehouse_contract import layout
from lakehouse_contract.commits import FLINK_JOB_ID, ExitCode
from lakehouse_operator.observation.observe import Observer

pytestmark = pytest.mark.timeout(1800)  # a whole life is part of the first test that asks about it


def test_every_event_is_in_the_table_once_though_the_catalog_was_away_for_a_while(life: Life) -> None:
    places = Counter(life.lakehouse.places(life.bronze.commits[-1].id))
    assert {place: count for place, count in places.items() if place[0] == 0} == {
        (0, offset): 1 for offset in range(life.produced)
    }


def test_no_commit_is_lost_when_flink_and_spark_write_the_same_table(life: Life) -> None:
    places = Counter(life.lakehouse.places(life.bronze.commits[-1].id))
    assert [count for (partition, _), count in places.items() if partition == -1] == [1] * life.appended
    writers = ["flink" if FLINK_JOB_ID in commit.properties else "spark" for commit in life.bronze.commits]
    assert writers.count("spark") == life.appended
    turns = [writer for writer, _ in groupby(writers)]
    assert turns.count("spark") > 1, "they did not take turns"


def test_flink_makes_the_table_that_is_declared(life: Life) -> None:
    table = life.lakehouse.table(BRONZE)
    declared = layout.bronze(BRONZE, life.lakehouse.settings.compression)
    assert [(field.name, field.required) for field in table.schema().fields] == [
        (column.name, column.required) for column in declared.columns
    ]
    assert declared.properties.items() - {("format-version", "2")} <= table.properties.items()
    assert table.format_version == 2
    assert [(field.name, str(field.transform)) for field in table.spec().fields] == [("event_time_day", "day")]


def test_silver_reads_what_is_new_and_nothing_twice(life: Life) -> None:
    assert [said["outcome"] for said in life.silver] == ["succeeded"] * 3
    # Whether the second run finds commits without rows or none at all is a matter of the moment.
    assert [said["tables"][0].get("rowsRead", 0) for said in life.silver] == [FIRST, 0, MORE]
    assert life.lakehouse.rows(SILVER) == FIRST + MORE


def test_a_catalog_that_is_away_is_told_by_the_operator_and_by_a_job_that_needs_it(life: Life) -> None:
    if life.lakehouse.kind.server is None:
        assert life.outage is None
    else:
        assert life.outage is not None
        problem, code = life.outage
        assert "the catalog can't be read: " in (problem or "")
        assert code == ExitCode.UNAVAILABLE


def test_the_operator_can_read_the_savepoint(life: Life) -> None:
    assert life.readable == {life.savepoint}


def test_a_roll_back_is_seen_by_spark_and_what_it_discards_is_kept(life: Life) -> None:
    assert life.rolled_back == (True, False)
    assert life.seen_by_spark == (FIRST, life.produced + life.appended)
    refs = life.lakehouse.table(BRONZE).refs()
    assert {name: refs[name].snapshot_id for name in (TAG, DISCARDED, "main")} == {
        TAG: life.first,
        DISCARDED: life.bronze.commits[-1].id,
        "main": life.first,
    }


def test_both_engines_write_parquet_with_the_codec_of_the_pipeline(life: Life) -> None:
    wanted = (life.lakehouse.kind.compression or "zstd").upper()
    assert life.lakehouse.codecs(BRONZE) == {wanted}
    assert life.lakehouse.codecs(SILVER) == {wanted}


def test_no_secret_is_in_arguments_or_logs(life: Life) -> None:
    assert "lakehouse_jobs.bronze" in life.shown
    assert "spark_worker" in life.shown
    for secret in (*life.lakehouse.kind.secret.values(), AWS_KEYS["AWS_SECRET_ACCESS_KEY"]):
        found = [line[:300] for line in life.shown.splitlines() if secret in line and secret != "lakehouse"]
        assert not found


def test_a_wrong_secret_is_refused_and_not_told(life: Life) -> None:
    lake = life.lakehouse
    secret = {name for name in lake.environment if name.startswith("CATALOG_")} - {"CATALOG_JDBC_USER"}
    seen = Observer().observe(
        lake.look(environment={**lake.environment, **dict.fromkeys(secret, "lakehouse:a-wrong-secret")})
    )
    assert (seen.tables is None) == bool(lake.kind.secret)
    assert "a-wrong-secret" not in (seen.problem or "")
