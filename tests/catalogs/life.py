"""A pipeline's life on a catalog, from its first event to a roll back; the tests ask what came of it."""

import re
from dataclasses import dataclass
from typing import Any

from catalogs.lakehouse import BRONZE, SILVER, Kind, Lakehouse, command_line, until
from catalogs.machine import Machine, Spark
from lakehouse_operator.planning.observed import TableView
from lakehouse_operator.tables.move import roll_back, tag_snapshot

FIRST, MORE, BATCH = 50, 30, 10
TAG, DISCARDED = "recovery-1", "discarded-1"
_TURNS = re.compile("sf+s+f+s")


@dataclass(frozen=True)
class Life:
    """What was seen.

    Attributes:
        first: Bronze's snapshot that held the first events.
        silver: What the silver runs said: after the first events, with nothing new, after the restart.
        outage: What the operator said of the catalog while it was away, and how a silver run ended then; None where it
            can't be away.
        bronze: Bronze as the operator saw it when the stream had been stopped.
        appended: How many rows Spark wrote to bronze while Flink did.
        produced: How many events were sent.
        readable: The savepoints that the operator could read.
        savepoint: Where the last one lies.
        rolled_back: Whether the roll back, and the same once more, changed anything.
        seen_by_spark: How many rows Spark found then at the head, and under the tag of what was discarded.
        shown: What anybody may read: arguments of processes and logs.
    """

    lakehouse: Lakehouse
    first: int
    silver: tuple[dict[str, Any], ...]
    outage: tuple[str | None, int] | None
    bronze: TableView
    appended: int
    produced: int
    readable: frozenset[str]
    savepoint: str
    rolled_back: tuple[bool, bool]
    seen_by_spark: tuple[int, int]
    shown: str


def live(kind: Kind, machine: Machine) -> Life:
    """Let a pipeline live."""
    lake = Lakehouse(kind, machine)
    spark = machine.spark(f"spark-{kind.name}", lake.environment)
    lake.produce(FIRST)
    submission = lake.submit()
    shown = [command_line(submission.process.pid), command_line(spark.run.process.pid)]
    job = submission.wait(300)
    lake.until_rows(FIRST, job)
    first = lake.head()
    tag_snapshot(lake.observer.catalog(lake.look()), BRONZE, TAG, first)

    said = [spark.ask(do="silver", settings=lake.silver_settings())()]
    said.append(spark.ask(do="silver", settings=lake.silver_settings())())
    outage = _outage(lake, spark)
    lake.until_rows(FIRST + MORE, job)
    said.append(spark.ask(do="silver", settings=lake.silver_settings())())

    appended = _together(lake, spark)
    lake.until_rows(lake.produced + appended, job)
    savepoint = lake.stop(job)
    seen = lake.observer.observe(lake.look(savepoints=(savepoint,)))
    assert seen.tables is not None, seen.problem
    assert seen.savepoints is not None, seen.problem

    head = lake.head()
    catalog = lake.observer.catalog(lake.look())
    rolled_back = [roll_back(catalog, BRONZE, to=first, expected_head=head, discarded_tag=DISCARDED) for _ in range(2)]
    sql = f"SELECT (SELECT count(*) FROM {BRONZE}), (SELECT count(*) FROM {BRONZE} VERSION AS OF '{DISCARDED}')"
    ((at_head, discarded),) = spark.ask(do="query", catalog=lake.catalog, sql=sql)()
    spark.stop()
    # What a Python program says under spark-submit, errors too, is in its result.
    said_by_all = [*machine.directory.rglob("*.log"), *machine.directory.rglob("*.result")]
    shown += [file.read_text(errors="replace") for file in said_by_all]
    return Life(
        lake, first, tuple(said), outage, seen.tables[BRONZE], appended, lake.produced,
        frozenset(seen.savepoints), savepoint, (rolled_back[0], rolled_back[1]), (at_head, discarded),
        "\n".join(shown),
    )  # fmt: skip


def _outage(lake: Lakehouse, spark: Spark) -> tuple[str | None, int] | None:
    """Take the catalog away while events come, and give it back; answers what was said meanwhile (`Life.outage`)."""
    server = lake.kind.server
    if server is None:
        lake.produce(MORE)
        return None
    server.stop()
    lake.produce(MORE)
    problem = lake.observer.observe(lake.look()).problem
    code = spark.ask(do="silver", settings=lake.silver_settings())()["code"]
    server.start()
    until(lambda: lake.observer.observe(lake.look()).tables is not None, lambda: "the operator does not see it again")
    return problem, code


def _together(lake: Lakehouse, spark: Spark) -> int:
    """Let Spark and the stream commit to bronze by turns, as fast as they can; answers how often Spark did."""
    enough = lake.directory / "enough"
    wait = spark.ask(do="append", catalog=lake.catalog, table=BRONZE, until=str(enough))
    while not _TURNS.search(lake.writers()):
        lake.produce(BATCH)
        until(lake.caught_up, lambda: "the stream commits nothing any more")
    enough.touch()
    return int(wait())


__all__ = ["DISCARDED", "SILVER", "TAG", "Life", "live"]
