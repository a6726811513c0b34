"""Every kind of catalog behaves alike, from Flink, from Spark and from the operator: one configuration, one suite."""

from collections import Counter
from itertools import groupby
from typing import Any

import pytest

from catalogs.lakehouse import BRONZE, DAILY, LATEST, PEOPLE, SILVER, WHO
from catalogs.life import BACKFILL, DISCARDED, FIRST, MORE, TAG, Life
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


def test_silver_reads_what_is_new_and_nothing_twice_and_goes_on_after_compaction(life: Life) -> None:
    assert [said["outcome"] for said in life.silver] == ["succeeded"] * 4
    rest = life.produced + life.appended - FIRST - MORE
    # Whether the second run finds commits without rows or none at all is a matter of the moment.
    assert [said["tables"][0].get("rowsRead", 0) for said in life.silver] == [FIRST, 0, MORE, rest]
    assert "note" not in life.silver[-1]["tables"][0]
    assert life.lakehouse.rows(SILVER) == life.produced


def test_a_dimension_gets_its_new_versions_and_the_ends_of_old_ones_in_one_commit(life: Life) -> None:
    versions = {(row["who"], row["plan"]): row for row in life.people}
    assert len(versions) == len(life.people)
    assert {key: row["is_current"] for key, row in versions.items()} == {
        (who, plan): plan == "pro" for who in WHO for plan in ("free", "pro")
    }
    assert all(versions[who, "free"]["valid_to"] == versions[who, "pro"]["valid_from"] for who in WHO)
    (report,) = life.silver[2]["dimensions"]
    assert (report["inserted"], report["updated"], report["deleted"]) == (len(WHO), len(WHO), 0)
    assert set(life.lakehouse.table(PEOPLE).refs()) == {"main", f"rel_{BACKFILL}"}, "the branch is gone"


def test_days_again_are_audited_published_and_released_and_the_same_run_does_so_once(life: Life) -> None:
    done = life.backfill
    assert [said["outcome"] for said in done.reports] == ["succeeded"] * 2
    assert [said["release"] for said in done.reports] == [f"rel_{BACKFILL}", None]
    assert done.reports[1]["tables"][0]["skipped"] == "already done"
    assert len(done.contents[0]) == FIRST + MORE
    assert done.contents[1] == done.contents[0]
    before, after, again = done.heads
    assert before != after == again
    assert done.refs == {"main": after, f"rel_{BACKFILL}": after}, "the branch is gone"
    audits = life.lakehouse.table("silver.backfill_audits").scan().to_arrow().to_pylist()
    assert {row["check_name"] for row in audits} >= {"keys_unique", "reconciles_with_bronze", "versions_unbroken"}
    assert all(row["passed"] for row in audits)


def test_gold_is_what_its_sql_says_though_a_model_became_another(life: Life) -> None:
    assert [said["outcome"] for said in life.gold.reports] == ["succeeded"] * 2
    assert [model.get("reason") for model in life.gold.reports[1]["models"]] == [None, "the model changed"]
    assert all(said["release"] for said in life.gold.reports)
    assert life.gold.latest[0] == life.gold.latest[1]
    assert len(life.gold.latest[0]) == len(WHO)
    assert life.gold.daily == life.gold.wanted
    assert sum(row[1] for row in life.gold.daily[1]) == FIRST + MORE
    names = [field.name for field in life.lakehouse.table(DAILY).schema().fields]
    assert names[:3] == ["day", "events", "largest"]
    assert {f"rel_{said['run']}" for said in life.gold.reports} <= life.lakehouse.table(DAILY).refs().keys()


def test_the_view_says_which_models_lag_behind_silver(life: Life) -> None:
    assert [said["freshness"] for said in life.gold.reports] == ["gold.model_freshness"] * 2
    assert life.gold.fresh == ([[DAILY, False], [LATEST, True]], [[DAILY, True], [LATEST, True]])


def by_table(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert report["outcome"] == "succeeded", report
    found = {each["table"]: each for each in report["tables"]}
    assert not [each for each in found.values() if "gaveWay" in each]
    return found


def test_maintenance_makes_few_files_of_many_and_changes_no_row(life: Life) -> None:
    manifests, everything = map(by_table, life.upkeep.reports)
    assert manifests[BRONZE]["manifestsRewritten"] > 10
    assert everything[BRONZE]["files"] == {
        "before": manifests[BRONZE]["files"]["after"],
        "after": len(life.lakehouse.days),
    }
    assert everything[BRONZE]["files"]["before"] > 10
    assert (everything[PEOPLE]["files"]["before"] > 1, everything[PEOPLE]["files"]["after"]) == (True, 1)
    before, after = life.upkeep.contents
    assert len(before[BRONZE]) == life.produced + life.appended
    assert after == before


def test_maintenance_removes_the_snapshots_that_nobody_needs(life: Life) -> None:
    before, after = life.upkeep.snapshots
    line = [commit.id for commit in life.bronze.commits]
    assert before[BRONZE] - after[BRONZE] == set(line[: line.index(life.first)]) != set()
    assert life.upkeep.tagged == FIRST
    # One says how far silver has come, the other is released; its files came with a snapshot on a branch: that is gone.
    assert after[SILVER] == set(life.backfill.heads)
    assert before[SILVER] > after[SILVER]
    assert by_table(life.upkeep.reports[1])["gold.model_refreshes"]["expired"]["dataFiles"] == 1


def test_maintenance_removes_old_files_that_no_snapshot_knows_and_no_others(life: Life) -> None:
    assert life.upkeep.lost == set()
    assert life.upkeep.unknown == {life.upkeep.young}
    assert by_table(life.upkeep.reports[1])[BRONZE]["orphansRemoved"] >= 1


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
        DISCARDED: life.head,
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
