"""Maintenance changes files, and never a row, a mark, a recovery point, or the outcome of a run beside it.

What is kept and what goes is decided in `maintenance_retention`, which has tests without Spark.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.spark.lakehouse_world import (
    BRONZE,
    DAY,
    HOUR,
    PEOPLE,
    PURCHASES,
    QUARANTINE,
    START,
    Event,
    World,
    event,
)
from lakehouse_contract import commits, decoding
from lakehouse_contract.decoding import to_json
from lakehouse_contract.settings import MaintenanceSettings
from lakehouse_jobs import maintenance, maintenance_compaction, maintenance_removal
from lakehouse_jobs.iceberg_commits import Lakehouse

KEYED = (PURCHASES, QUARANTINE)
SILVER = (*KEYED, PEOPLE)
ALL = (BRONZE, *SILVER, "silver.quality_results", "gold.fact", "gold.model_refreshes")
COMPACTION = {"minAgeSeconds": 0, "minInputFiles": 2}
EXPIRY = {"retentionSeconds": 0, "keepSnapshots": 1}
DAYS = ["2026-01-31", "2026-01-30"]


def now() -> datetime:
    """The instant by the clock that Iceberg stamps its commits with."""
    return datetime.now(tz=UTC)  # noqa: TID251


def settings(world: World, *tables: str, **changes: Any) -> MaintenanceSettings:
    names = tables or (BRONZE,)
    raw = {
        "pipeline": "purchases",
        "catalog": decoding.encode(world.catalog),
        "run": {"id": "nightly"},
        "bronzeTable": BRONZE,
        "tables": [BRONZE, *names] if BRONZE not in names else list(names),
        "readers": [name for name in KEYED if name in names],
        "compaction": COMPACTION,
        "expiry": EXPIRY,
        **changes,
    }
    return decoding.decode(MaintenanceSettings, {key: value for key, value in raw.items() if value is not None})


def maintain(
    world: World, *tables: str, dry_run: bool = False, later: timedelta = timedelta(0), **changes: Any
) -> dict[str, dict[str, Any]]:
    """Run maintenance on bronze, or on these tables; answer its report by table."""
    found = maintenance.run(world.spark, settings(world, *tables, **changes), now() + later, dry_run=dry_run)
    return {report["table"]: report for report in found["tables"]}


def grown(world: World) -> list[Event]:
    """Bronze and silver after two rounds over two days, with people who move and a broken row each."""
    arrived: list[Event] = []
    for number in (0, 1):
        arriving = [
            event(10 * number + 1, START + number * HOUR, city=f"city {number}"),
            event(10 * number + 2, START + DAY + number * HOUR, who="bob", amount=number),
            event(10 * number + 3, START + number * HOUR, amount=-1),
        ]
        arrived += arriving
        world.arrive(*arriving)
        world.silver()
    return arrived


def from_flink(world: World, checkpoint: int, one: Event) -> int:
    """A row that arrives in bronze as Flink commits it."""
    writer = world.bronze_rows(one).writeTo(world.lakehouse.identifier(BRONZE))
    stamps = {commits.FLINK_JOB_ID: "job", commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID: str(checkpoint)}
    for key, value in stamps.items():
        writer = writer.option(f"snapshot-property.{key}", value)
    writer.append()
    return world.head(BRONZE)


def stored(world: World) -> set[Path]:
    """Every file of the warehouse."""
    warehouse = Path(world.catalog.warehouse.removeprefix("file:"))
    return {path for path in warehouse.rglob("*") if path.is_file() and not path.name.startswith(".")}


def data_folder(world: World) -> Path:
    """Where the data files of a day of bronze lie."""
    return next(path for path in stored(world) if path.suffix == ".parquet" and "bronze" in str(path)).parent


def left_behind(folder: Path, name: str, days: int) -> Path:
    path = folder / name
    path.write_text("written by a job that crashed before it could commit")
    aged(path, days)
    return path


def aged(path: Path, days: int) -> None:
    moment = (now() - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))


def rows(world: World, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    found = {name: world.spark.table(world.lakehouse.identifier(name)).collect() for name in tables}
    return {name: sorted(map(tuple, each), key=repr) for name, each in found.items()}


# --- a night in the life of a pipeline


def test_files_become_few_no_row_changes_and_silver_and_gold_go_on_where_they_were(world: World) -> None:
    events = grown(world)
    world.gold()
    was, there = rows(world, *ALL), stored(world)
    plan = maintain(world, PURCHASES, dry_run=True)
    assert stored(world) == there
    assert plan[BRONZE]["compacted"] == {"days": DAYS, "filesRewritten": 4}
    assert plan[PURCHASES]["expired"]["snapshots"] == 1

    report = maintain(world, *ALL)
    assert [report[name]["files"] for name in (BRONZE, PURCHASES)] == [{"before": 4, "after": 2}] * 2
    assert report[BRONZE]["bytes"]["after"] < report[BRONZE]["bytes"]["before"]
    assert report[PEOPLE]["files"]["after"] == 1, "with its deletes gone"
    assert report[PURCHASES]["expired"]["snapshots"] == 1
    assert there - stored(world), "what nobody needs is gone from the disk too"
    assert rows(world, *ALL) == was
    head = world.history(BRONZE).snapshots[world.head(BRONZE)]
    assert (head.operation, head.summary[commits.STAGE]) == ("replace", "maintenance")

    heads = [world.head(name) for name in (BRONZE, *SILVER)]
    again = maintain(world, BRONZE, *SILVER)
    assert [world.head(name) for name in (BRONZE, *SILVER)] == heads, "there is nothing left to rewrite"
    assert not any("gaveWay" in each for each in (*report.values(), *again.values()))

    more = [event(91, START + 2 * DAY), event(92, START, who="bob", city="late")]
    world.arrive(*more)
    silver = world.silver()
    assert [each.get("note") for each in [*silver["tables"], *silver["dimensions"]]] == [None, None]
    assert silver["tables"][0]["rowsRead"] == 2
    gold = {model["table"]: model for model in world.gold()["models"]}
    assert gold["gold.fact"]["days"] == ["2026-01-30", "2026-02-01"]
    world.check_gold(world.check_silver([*events, *more]))


def test_what_silver_has_not_read_yet_stays_readable(world: World) -> None:
    early = world.arrive(event(1, START))
    world.arrive(event(2, START))
    report = maintain(world, BRONZE, *KEYED)
    assert report[BRONZE]["expired"]["snapshots"] == 0
    assert "silver.purchases has not read it yet" in report[BRONZE]["kept"][0]
    assert report[PURCHASES] == {"table": PURCHASES, "skipped": "it does not exist yet"}
    assert world.silver(run_more={"snapshots": {"upto": early}}, dimensions=[])["tables"][0]["rowsRead"] == 1
    world.arrive(event(3, START))
    report = maintain(world, BRONZE, *KEYED)
    assert "silver.purchases has read up to there" in report[BRONZE]["kept"][0]
    silver = world.silver(dimensions=[])["tables"][0]
    assert (silver.get("note"), silver["rowsRead"]) == (None, 2)


# --- compaction


def test_a_day_that_just_got_rows_is_left_alone_and_one_run_rewrites_so_much(world: World) -> None:
    for number in range(2):
        world.arrive(event(number, START), event(number + 5, START + DAY))
    waiting = maintain(world, compaction={**COMPACTION, "minAgeSeconds": 3600}, expiry=None)[BRONZE]
    assert waiting["files"] == {"before": 4, "after": 4}
    assert waiting["kept"] == ["the files of 2026-01-31, 2026-01-30: got rows in the last 3600 s"]
    bounded = {**COMPACTION, "maxBytes": 1}
    nights = [maintain(world, compaction=bounded, expiry=None)[BRONZE] for _ in range(3)]
    assert [each["compacted"]["days"] for each in nights] == [DAYS[:1], DAYS[1:], []]
    assert [each["files"]["after"] for each in nights] == [3, 2, 2]


def test_many_manifests_become_few(world: World) -> None:
    for number in range(11):
        world.arrive(event(number, START + timedelta(minutes=number)))
    was = rows(world, BRONZE)
    report = maintain(world, compaction={"minAgeSeconds": 3600}, expiry=None)
    assert report[BRONZE]["manifestsRewritten"] == 11
    assert world.sql(f"SELECT * FROM lakehouse.{BRONZE}.manifests").count() == 1
    assert rows(world, BRONZE) == was


# --- what expiry keeps


def test_a_rewind_finds_its_way_and_flink_its_last_commit(world: World) -> None:
    ids = [from_flink(world, number, event(number, START)) for number in range(5)]
    world.lakehouse.loaded(BRONZE).manageSnapshots().createTag("audit", ids[0]).commit()
    maintain(world, expiry=None)  # the newest commit is not Flink's then
    world.lakehouse.loaded(BRONZE).manageSnapshots().createTag("recovery-manual-1", ids[2]).commit()
    report = maintain(world)[BRONZE]
    history = world.history(BRONZE)
    assert ids[0] in history.snapshots
    assert ids[1] not in history.snapshots
    assert ids[2:] == world.snapshots(BRONZE)[:3]
    assert "recovery-manual-1" in report["kept"][0]
    world.lakehouse.loaded(BRONZE).manageSnapshots().removeTag("recovery-manual-1").commit()
    assert maintain(world)[BRONZE]["snapshots"] == {"before": 5, "after": 3}
    assert world.history(BRONZE).newest(commits.FLINK_MAX_COMMITTED_CHECKPOINT_ID) == "4"
    world.lakehouse.loaded(BRONZE).manageSnapshots().rollbackTo(ids[4]).commit()
    assert len(world.rows(BRONZE, "event_id")) == 5


def test_a_new_tag_on_a_table_that_did_not_change_for_long_is_kept_for_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = world.arrive(event(1, START))
    real = Lakehouse._now
    with monkeypatch.context() as in_40_days:  # Iceberg counts a tag's age from the commit of its snapshot
        in_40_days.setattr(Lakehouse, "_now", lambda self: real(self) + 40 * 86_400_000)
        world.lakehouse.tag(BRONZE, "rel_x", head, 30)
    no_orphans = {**EXPIRY, "orphanRetentionSeconds": 100 * 86_400}
    maintain(world, compaction=None, expiry=no_orphans, later=timedelta(days=69))
    assert "rel_x" in world.history(BRONZE).tags
    maintain(world, compaction=None, expiry=no_orphans, later=timedelta(days=71))
    assert world.history(BRONZE).tags == {}


# --- runs beside it


def beside(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, other: Callable[[], object]) -> None:
    """Let something else happen just before the next call of a method."""
    original = getattr(owner, method)

    def call(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, method, original)
        other()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, method, call)


DISPLACING = [event(1, START, arrived=START - HOUR, amount=-1), event(12, START + DAY + HOUR, arrived=START, amount=5)]


def test_a_silver_run_succeeds_when_maintenance_comes_in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    events = grown(world)
    more = [*DISPLACING, event(91, START, city="elsewhere")]
    world.arrive(*more)
    reports = []
    beside(monkeypatch, Lakehouse, "replace", lambda: reports.append(maintain(world, *KEYED)))
    beside(monkeypatch, Lakehouse, "_publish", lambda: reports.append(maintain(world, PEOPLE)))
    world.silver("hourly")
    assert [report[name]["files"]["after"] for report, name in zip(reports, (PURCHASES, PEOPLE), strict=True)] == [2, 1]
    assert world.history(PURCHASES).newest(commits.RUN) == "hourly"
    world.check_silver([*events, *more])


def test_a_gold_run_succeeds_when_compaction_comes_in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(event(1, START), event(2, START + DAY, who="bob"))
    world.silver()
    world.gold()
    world.arrive(event(3, START))
    world.silver()

    def compact() -> None:
        options = "map('min-input-files', '1', 'rewrite-all', 'true')"
        world.sql(f"CALL lakehouse.system.rewrite_data_files(table => 'gold.person', options => {options})")
        world.sql(f"CALL lakehouse.system.rewrite_data_files(table => 'gold.fact', options => {options})")

    beside(monkeypatch, Lakehouse, "replace", compact)
    world.gold("daily")
    assert world.history("gold.fact").newest(commits.RUN) == "daily"
    world.check_gold(world.check_silver([event(1, START), event(2, START + DAY, who="bob"), event(3, START)]))


def test_maintenance_gives_way_to_a_run_that_changed_the_same_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = grown(world)
    world.arrive(*DISPLACING)
    rewrite = maintenance_compaction.rewrite

    def late(lakehouse: Lakehouse, table: Any, *rest: Any) -> Any:
        """The files to rewrite are those of before the run."""
        if "silver.purchases" in str(table.name()):
            world.silver("hourly")
        return rewrite(lakehouse, table, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(maintenance_compaction, "rewrite", late)
        report = maintain(world, PURCHASES, expiry=None)[PURCHASES]
    assert "another run changed" in report["gaveWay"][0]
    world.check_silver([*events, *DISPLACING])


def test_a_snapshot_that_is_named_at_the_last_moment_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.arrive(event(1, START))
    world.arrive(event(2, START))

    def name() -> None:
        world.lakehouse.loaded(BRONZE).manageSnapshots().createTag("recovery-x", first).commit()

    beside(monkeypatch, maintenance_removal, "expire", name)
    report = maintain(world, compaction=None)[BRONZE]
    assert "another run named a snapshot" in report["gaveWay"][0]
    assert world.history(BRONZE).tags == {"recovery-x": first}
    assert len(world.lakehouse.read(BRONZE, first).collect()) == 1


# --- files that no snapshot knows


def test_old_unknown_files_go_and_young_ones_stay(world: World) -> None:
    world.arrive(event(1, START))
    old, young = left_behind(data_folder(world), "old.parquet", 8), left_behind(data_folder(world), "young.parquet", 6)
    assert maintain(world, dry_run=True)[BRONZE]["orphansRemoved"] == 1
    assert old.exists()
    assert maintain(world)[BRONZE]["orphansRemoved"] == 1
    assert (old.exists(), young.exists(), len(world.rows(BRONZE, "event_id"))) == (False, True, 1)


def test_files_that_a_resting_stream_may_yet_commit_stay(world: World) -> None:
    from_flink(world, 1, event(1, START))
    written = left_behind(data_folder(world), "of-a-checkpoint-whose-commit-is-missing.parquet", 0)
    report = maintain(world, compaction=None, later=timedelta(days=30))[BRONZE]
    assert written.exists()
    assert report["kept"][-1].startswith("unknown files since the day before snapshot")


def test_a_table_whose_folder_holds_another_or_whose_files_are_shared_keeps_its_files(world: World) -> None:
    world.arrive(event(1, START))
    inner = world.lakehouse.loaded(BRONZE).location() + "/inner"
    world.sql("CREATE NAMESPACE lakehouse.silver")
    world.sql(f"CREATE TABLE lakehouse.{PURCHASES} (x int) USING iceberg LOCATION '{inner}'")
    world.sql(f"INSERT INTO lakehouse.{PURCHASES} VALUES (1)")
    for path in stored(world):
        aged(path, 30)
    report = maintain(world, PURCHASES, readers=[])
    assert report[BRONZE]["kept"] == ["unknown files: silver.purchases lies in the same folder"]
    assert rows(world, PURCHASES) == {PURCHASES: [(1,)]}
    world.sql(f"ALTER TABLE lakehouse.{BRONZE} SET TBLPROPERTIES ('gc.enabled' = 'false')")
    report = maintain(world)
    assert report[BRONZE]["kept"] == ["all snapshots and files: gc.enabled is false"]


# --- the run as a whole


def test_after_a_crash_between_two_steps_the_next_run_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        world.arrive(event(number, START))
    was = rows(world, BRONZE)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(maintenance_compaction, "are_too_many", lambda *_: True)
    for module, step in (
        (maintenance_compaction, "rewrite"),
        (maintenance_compaction, "rewrite_manifests"),
        (maintenance_removal, "expire"),
        (maintenance_removal, "remove_orphans"),
    ):
        with monkeypatch.context() as crash:
            crash.setattr(module, step, killed)
            with pytest.raises(KeyboardInterrupt):
                maintain(world)
        assert rows(world, BRONZE) == was
    report = maintain(world)[BRONZE]
    assert (report["files"]["after"], rows(world, BRONZE)) == (1, was)


def test_the_command_line_reports_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.arrive(event(1, START))
    text = to_json(settings(world))
    assert maintenance.main(["--settings", text, "--dry-run"]) == commits.ExitCode.SUCCEEDED
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (report["stage"], report["outcome"], report["dryRun"]) == ("maintenance", "succeeded", True)
    code = maintenance.main(["--settings", json.dumps({**json.loads(text), "readers": ["silver.other"]})])
    assert code == commits.ExitCode.SETTINGS_REFUSED
    assert "tables: must hold silver.other" in capsys.readouterr().err
