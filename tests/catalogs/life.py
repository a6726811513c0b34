"""A pipeline's life on a catalog, from its first event to a roll back; the tests ask what came of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from catalogs.lakehouse import (
    BRONZE,
    DAILY,
    DAILY_SQL,
    LATEST,
    LATEST_SQL,
    PEOPLE,
    SILVER,
    Kind,
    Lakehouse,
    command_line,
    until,
)
from catalogs.machine import Machine, Spark
from lakehouse_operator.planning.observed import TableView
from lakehouse_operator.planning.pipeline import BatchStageName
from lakehouse_operator.tables.move import roll_back, tag_snapshot

FIRST, MORE, BATCH, MANY = 50, 30, 10, 12
TAG, DISCARDED = "recovery-1", "discarded-1"
AGE = timedelta(days=4)
"""How old all files are made before maintenance: what no snapshot knows is to go then."""
BACKFILL = "mended"
_TURNS = re.compile("sf+s+f+s")
_DAILY = f"SELECT * EXCEPT (_audit_run_id, _audit_revision, _audit_loaded_at) FROM {DAILY} ORDER BY day"
_LATEST = f"SELECT * EXCEPT (_audit_run_id, _audit_revision, _audit_loaded_at) FROM {LATEST} ORDER BY who"
_FRESH = "SELECT model, is_fresh FROM gold.model_freshness ORDER BY model"


@dataclass(frozen=True)
class Backfill:
    """The days of silver again, as they are in bronze.

    Attributes:
        reports: What the run said of itself, and the same one once more.
        contents: Silver's rows before and after, without what says which run wrote them.
        heads: Silver's snapshots before, after, and after the same once more.
        refs: The branches and tags of silver afterwards, and their snapshots.
    """

    reports: tuple[dict[str, Any], dict[str, Any]]
    contents: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]
    heads: tuple[int, int, int]
    refs: Mapping[str, int]


@dataclass(frozen=True)
class Gold:
    """Gold as it was first, after silver's days had been computed again, and after a model had become another one.

    Attributes:
        reports: What the two runs said of themselves.
        daily: What the model by day held first and last.
        wanted: What its SQL said each time.
        latest: The same of the model of a dimension.
        fresh: What the view said before and after the second run.
    """

    reports: tuple[dict[str, Any], dict[str, Any]]
    daily: tuple[Any, Any]
    wanted: tuple[Any, Any]
    latest: tuple[Any, Any]
    fresh: tuple[Any, Any]


@dataclass(frozen=True)
class Upkeep:
    """Maintenance of tables all of whose files are old: the manifests first, then everything.

    Attributes:
        reports: What each run said of each table.
        contents: The rows of each table before and after.
        tagged: The rows of bronze under the tag, afterwards.
        snapshots: The snapshots of each table before and after.
        young: A file that no snapshot knows, left behind a moment before; an old one was beside it.
        lost: The files that metadata name and that are gone.
        unknown: The files that no metadata name and that are still there.
    """

    reports: tuple[dict[str, Any], dict[str, Any]]
    contents: tuple[Mapping[str, list[str]], Mapping[str, list[str]]]
    tagged: int
    snapshots: tuple[Mapping[str, set[int]], Mapping[str, set[int]]]
    young: str
    lost: set[str]
    unknown: set[str]


@dataclass(frozen=True)
class Life:
    """What was seen.

    Attributes:
        first: Bronze's snapshot that held the first events.
        silver: What the silver runs said: after the first events, with nothing new, after the restart, and after
            maintenance.
        outage: What the operator said of the catalog while it was away, and how a silver run ended then; None where it
            can't be away.
        people: The versions of the dimension after the restart.
        bronze: Bronze as the operator saw it when the stream had been stopped.
        appended: How many rows Spark wrote to bronze while Flink did.
        produced: How many events were sent.
        readable: The savepoints that the operator could read.
        savepoint: Where the last one lies.
        head: Bronze's last snapshot before the roll back.
        rolled_back: Whether the roll back, and the same once more, changed anything.
        seen_by_spark: How many rows Spark found then at the head, and under the tag of what was discarded.
        shown: What anybody may read: arguments of processes and logs.
    """

    lakehouse: Lakehouse
    first: int
    silver: tuple[dict[str, Any], ...]
    outage: tuple[str | None, int] | None
    people: list[dict[str, Any]]
    backfill: Backfill
    gold: Gold
    bronze: TableView
    appended: int
    produced: int
    readable: frozenset[str]
    savepoint: str
    upkeep: Upkeep
    head: int
    rolled_back: tuple[bool, bool]
    seen_by_spark: tuple[int, int]
    shown: str


def live(kind: Kind, machine: Machine) -> Life:
    """Let a pipeline live."""
    lake = Lakehouse(kind, machine)
    spark = machine.spark(f"spark-{kind.name}", lake.environment)
    lake.produce(FIRST // 2)
    submission = lake.submit()
    shown = [command_line(submission.process.pid), command_line(spark.run.process.pid)]
    job = submission.wait(300)
    lake.until_rows(FIRST // 2, job)
    lake.produce(FIRST - FIRST // 2)
    lake.until_rows(FIRST, job)
    first = lake.head()
    tag_snapshot(lake.observer.catalog(lake.look()), BRONZE, TAG, first)

    said = [_run(lake, spark, "silver") for _ in range(2)]
    outage = _outage(lake, spark)
    lake.until_rows(FIRST + MORE, job)
    said.append(_run(lake, spark, "silver"))
    people = lake.table(PEOPLE).scan().to_arrow().to_pylist()
    gold = _run(lake, spark, "gold")
    backfill = _backfill(lake, spark)
    gold_seen = _other_gold(lake, spark, gold)

    appended = _together(lake, spark)
    lake.until_rows(lake.produced + appended, job)
    savepoint = lake.stop(job)
    seen = lake.observer.observe(lake.look(savepoints=(savepoint,)))
    assert seen.tables is not None, seen.problem
    assert seen.savepoints is not None, seen.problem
    upkeep = _upkeep(lake, spark, first)
    said.append(_run(lake, spark, "silver"))

    head = lake.head()
    catalog = lake.observer.catalog(lake.look())
    rolled_back = [roll_back(catalog, BRONZE, to=first, expected_head=head, discarded_tag=DISCARDED) for _ in range(2)]
    sql = f"SELECT (SELECT count(*) FROM {BRONZE}), (SELECT count(*) FROM {BRONZE} VERSION AS OF '{DISCARDED}')"
    (((at_head, discarded),),) = _query(lake, spark, sql)
    spark.stop()
    # What a Python program says under spark-submit, errors too, is in its result.
    said_by_all = [*machine.directory.rglob("*.log"), *machine.directory.rglob("*.result")]
    shown += [file.read_text(errors="replace") for file in said_by_all]
    return Life(
        lake, first, tuple(said), outage, people, backfill, gold_seen, seen.tables[BRONZE], appended, lake.produced,
        frozenset(seen.savepoints), savepoint, upkeep, head, (rolled_back[0], rolled_back[1]), (at_head, discarded),
        "\n".join(shown),
    )  # fmt: skip


def _run(lake: Lakehouse, spark: Spark, stage: BatchStageName, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = spark.ask(do="run", stage=stage, settings=lake.settings_of(stage, **more))()
    return found


def _query(lake: Lakehouse, spark: Spark, *texts: str) -> list[Any]:
    found: list[Any] = spark.ask(do="query", catalog=lake.catalog, texts=[lake.sql(text) for text in texts])()
    return found


def _backfill(lake: Lakehouse, spark: Spark) -> Backfill:
    """Compute all days of silver again; and the same run once more."""
    days = {"first": min(lake.days), "last": max(lake.days), "atSnapshot": str(lake.head())}
    heads, contents, reports = [lake.head(SILVER)], [_events(lake)], []
    for _ in range(2):
        reports.append(_run(lake, spark, "silver", run=BACKFILL, days=days))
        heads.append(lake.head(SILVER))
    contents.append(_events(lake))
    refs = {name: ref.snapshot_id for name, ref in lake.table(SILVER).refs().items()}
    return Backfill((reports[0], reports[1]), (contents[0], contents[1]), (heads[0], heads[1], heads[2]), refs)


def _events(lake: Lakehouse) -> list[tuple[Any, ...]]:
    """Silver's rows, without what says which run wrote them."""
    rows = lake.table(SILVER).scan().to_arrow().to_pylist()
    return sorted(tuple(row[name] for name in row if not name.startswith("_audit")) for row in rows)


def _other_gold(lake: Lakehouse, spark: Spark, first: dict[str, Any]) -> Gold:
    """Give a model another definition and run gold again."""
    before = _query(lake, spark, _FRESH, _DAILY, f"{DAILY_SQL[0]} ORDER BY day", _LATEST, f"{LATEST_SQL} ORDER BY who")
    lake.other_gold()
    second = _run(lake, spark, "gold")
    after = _query(lake, spark, _FRESH, _DAILY, f"{DAILY_SQL[1]} ORDER BY day")
    return Gold(
        (first, second), (before[1], after[1]), (before[2], after[2]), (before[3], before[4]), (before[0], after[0])
    )


def _upkeep(lake: Lakehouse, spark: Spark, first: int) -> Upkeep:
    """Make all files old, and have the tables maintained."""
    tables = lake.written()

    def contents() -> dict[str, list[str]]:
        return {name: lake.contents(name) for name in tables}

    def snapshots() -> dict[str, set[int]]:
        return {name: {each.snapshot_id for each in lake.table(name).snapshots()} for name in tables}

    was, there = contents(), snapshots()
    manifests = _run(lake, spark, "maintenance")
    lake.leave_behind(BRONZE, "old.parquet")
    lake.age(tables, AGE)
    young = lake.leave_behind(BRONZE, "young.parquet")
    lake.other_maintenance()
    everything = _run(lake, spark, "maintenance")
    stored = {path for name in tables for path in lake.stored(name)}
    known = {path for name in tables for path in lake.known(name)}
    tagged = lake.table(BRONZE).scan(snapshot_id=first).to_arrow().num_rows
    return Upkeep(
        (manifests, everything), (was, contents()), tagged, (there, snapshots()), young, known - stored, stored - known
    )


def _outage(lake: Lakehouse, spark: Spark) -> tuple[str | None, int] | None:
    """Take the catalog away while events come, and give it back; answers what was said meanwhile (`Life.outage`)."""
    server = lake.kind.server
    if server is None:
        lake.produce(MORE, plan="pro")
        return None
    server.stop()
    lake.produce(MORE, plan="pro")
    problem = lake.observer.observe(lake.look()).problem
    code = _run(lake, spark, "silver")["code"]
    server.start()
    until(lambda: lake.observer.observe(lake.look()).tables is not None, lambda: "the operator does not see it again")
    return problem, code


def _together(lake: Lakehouse, spark: Spark) -> int:
    """Let Spark and the stream commit to bronze by turns, as often as is wanted; answers how often Spark did."""
    enough = lake.directory / "enough"
    wait = spark.ask(do="append", catalog=lake.catalog, table=BRONZE, until=str(enough))
    while not _TURNS.search(writers := lake.writers()) or writers.count("s") < MANY:
        lake.produce(BATCH, plan="pro")
        until(lake.caught_up, lambda: "the stream commits nothing any more")
    enough.touch()
    return int(wait())


__all__ = ["DISCARDED", "SILVER", "TAG", "Life", "live"]
